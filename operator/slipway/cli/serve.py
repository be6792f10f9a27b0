"""``slipway serve``: a model, or a canary of one, on this machine."""

from __future__ import annotations

import logging
import re
import shutil
import signal
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from slipway.cli.errors import CommandError
from slipway.cli.manifests import read_all
from slipway.cli.schema import complaints
from slipway.names import DISTRIBUTION

if TYPE_CHECKING:
    from slipway.local.serving import Reader
    from slipway.local.wanted import Wanted


def run(arguments: Namespace) -> int:
    """Serve until interrupted or terminated.

    Raises:
        CommandError: where a model cannot be had or served.
    """
    weight = _canarys_percent(arguments)
    try:
        from slipway.local.alone import Listening, serve_one
        from slipway.local.errors import LocalError
        from slipway.local.server import check_installed
        from slipway.local.stand_ins import StandIns
    except ImportError as error:
        raise _not_installed(error) from error
    ports = arguments.port, arguments.grpc_port, arguments.metrics_port
    stand_ins = StandIns(_volumes(arguments.volume), _config_maps(arguments.config_map))
    where = Listening(arguments.host, *ports, stand_ins)
    _log_warnings()
    folder = Path(tempfile.mkdtemp(prefix="slipway-serve-"))
    # By name: what a script starts in the background ignores Ctrl-C otherwise.
    before = {number: signal.signal(number, _interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        check_installed()
        if weight is None:
            serve_one(_reader(arguments, 0), where, folder)
        from slipway.local.canary import serve_canary

        stable = _reader(arguments, 0, arguments.name)
        name = stable.read().name
        serve_canary(stable, _reader(arguments, 1, name), weight, where, folder)
    except ImportError as error:
        raise _not_installed(error) from error
    except LocalError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(folder, ignore_errors=True)


def _canarys_percent(arguments: Namespace) -> int | None:
    """Of the requests, or None where there is no canary."""
    models, files, split = arguments.model, arguments.filename, arguments.split
    if not models and not files:
        raise CommandError(
            "nothing to serve: name a model, such as model.onnx, or a file, such as -f fraud.yaml"
        )
    if "-" in files:
        raise CommandError("standard input cannot be followed: write the ModelDeployment to a file")
    if split is None and max(len(files), len(models)) > 1:
        raise CommandError(
            "two models need --split, such as --split 90/10; else serve each by its own command"
        )
    if split is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]?)/([1-9][0-9]?)", split)
    if not found or int(found[1]) + int(found[2]) != 100:
        raise CommandError(f"--split {split}: write the shares of stable and canary, such as 90/10")
    if sorted((len(files), len(models))) != [0, 2]:
        raise CommandError("--split compares two: name two models, or give -f twice, the stable one first")
    return int(found[2])


def _reader(arguments: Namespace, place: int, name: str | None = None) -> Reader:
    """Reads what the arguments name at a place."""
    from slipway.local.errors import LocalError
    from slipway.local.serving import Reader
    from slipway.local.wanted import of_manifest, of_model

    models, files = arguments.model, arguments.filename
    name = name or arguments.name
    if not files:
        return Reader(lambda: of_model(models[place], name))

    def read() -> Wanted:
        try:
            return of_manifest(_manifest(files[place]), models[0] if models else None, name)
        except CommandError as error:
            raise LocalError(str(error)) from error

    return Reader(read, (Path(files[place]),))


def _manifest(file: str) -> dict[str, Any]:
    found = read_all([file], recursive=False)
    if len(found) != 1:
        names = ", ".join(one.manifest["metadata"]["name"] for one in found)
        raise CommandError(
            f"{file} holds {len(found)} ModelDeployments ({names}): write one to a file of its own"
        )
    wrong = complaints(found[0].manifest)
    if wrong:
        raise CommandError(f"{file}: {'; '.join(wrong)}")
    return found[0].manifest


def _volumes(given: list[str]) -> dict[str, Path]:
    found = {}
    for one in given:
        claim, is_pair, folder = one.partition("=")
        if not is_pair or not Path(folder).is_dir():
            raise CommandError(f"--volume {one}: write CLAIM=FOLDER, with a folder that is there")
        found[claim] = Path(folder).resolve()
    return found


def _config_maps(given: list[str]) -> dict[str, Path]:
    found = {}
    for one in given:
        name, is_pair, file = one.partition("=")
        if not is_pair or name.count("/") != 1 or not Path(file).is_file():
            raise CommandError(f"--config-map {one}: write NAME/KEY=FILE, with a file that is there")
        found[name] = Path(file).resolve()
    return found


def _log_warnings() -> None:
    """What the sources of models warn of is for the user; what else they log is not."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def _not_installed(error: ImportError) -> CommandError:
    return CommandError(f"{error.name} is not installed: pip install '{DISTRIBUTION}[serve]'")
