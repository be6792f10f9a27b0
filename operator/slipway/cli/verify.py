"""``slipway verify``: who signed a model, by the code of the resolver."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.cli.errors import CommandError
from slipway.cli.sign import not_installed
from slipway.contract import (
    AUTHORITIES_ENV,
    PUBLIC_KEYS_ENV,
    TRUST_ROOT_ENV,
    BuiltBy,
    Hazards,
    Identity,
    Resolution,
    ResolveTask,
)
from slipway.models.faults import ModelError
from slipway.models.trust import SIGNATURE_FILE, Trust
from slipway.names import NO_PROFILE, PROFILE_FILE, ModelFault

if TYPE_CHECKING:
    from slipway.models.source import Source


def run(arguments: Namespace) -> int:
    """Verify, and say who signed what.

    Raises:
        CommandError: where nobody who is trusted signed the model as it is, or it cannot be read.
    """
    trust, built = _trust(arguments), _built(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    try:
        found = _resolved(arguments.model, trust, built, arguments.all)
    except ImportError as error:
        raise not_installed(error) from error
    except ModelError as error:
        if error.reason == ModelFault.SIGNATURE_MISSING:
            what = f"there is no {SIGNATURE_FILE} next to it; slipway sign makes one"
            if arguments.model.startswith("oci://"):
                what += ", and cosign has not signed its manifest"
            raise CommandError(f"{arguments.model} is not signed: {what}") from error
        raise CommandError(str(error)) from error
    print(f"{arguments.model}: signed by {found.signedBy}")
    print(f"  {'all its files' if found.folder else 'the model'}: {found.digest}")
    if found.provenance is not None:
        commit = f"@{found.provenance.commit}" if found.provenance.commit else ""
        print(f"  built by {found.provenance.builder} from {found.provenance.source}{commit}")
    if not found.folder:
        print(f"  {PROFILE_FILE}: {'none that is used' if found.profile == NO_PROFILE else found.profile}")
    return 0


def _built(arguments: Namespace) -> BuiltBy | None:
    if (arguments.builder is None) != (arguments.source is None):
        raise CommandError("--builder and --source go together: say which builder, and from what repository")
    if arguments.builder is None:
        return None
    return BuiltBy(builder=arguments.builder, source=arguments.source)


def _trust(arguments: Namespace) -> Trust:
    by = {
        PUBLIC_KEYS_ENV: arguments.key,
        AUTHORITIES_ENV: arguments.authorities,
        TRUST_ROOT_ENV: arguments.trust_root,
    }
    env, file = next((env, file) for env, file in by.items() if file is not None)
    if (env == PUBLIC_KEYS_ENV) != (not arguments.identity):
        raise CommandError(
            "--authorities and --trust-root need --identity, such as email:release@example.com; "
            "--key takes none"
        )
    if (env == TRUST_ROOT_ENV) != (arguments.issuer is not None):
        raise CommandError(
            "--trust-root needs --issuer, such as https://token.actions.githubusercontent.com; the "
            "others take none"
        )
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error
    identities = tuple(
        Identity(kind=kind, value=value, issuer=arguments.issuer) for kind, value in arguments.identity
    )
    return Trust.of(identities, {env: text}, str(file))


def _resolved(model: str, trust: Trust, built: BuiltBy | None, every_file: bool) -> Resolution:
    from slipway.local.bringing import surroundings
    from slipway.local.files import FileSource
    from slipway.models.source import resolve
    from slipway.models.sources import source_of
    from slipway.models.whole import resolve_whole

    path = Path(model)
    source: Source = source_of(model, surroundings({})) if "://" in model else FileSource(path)
    is_folder = "://" not in model and path.is_dir()
    if every_file and not is_folder and "://" not in model:
        raise CommandError(f"--all is for folders, and {model} is none")
    whole = every_file or (is_folder and not any(path.glob("*.onnx")))
    # What a graph may do is another question than whose it is.
    task = ResolveTask(
        uri=model,
        isSigned=True,
        provenance=built,
        hazards=Hazards(onFinding="Report"),
        folder=whole or None,
    )
    return (resolve_whole if whole else resolve)(task, source, trust)
