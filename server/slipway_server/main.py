"""The ``slipway-server`` command: one model behind the Open Inference Protocol."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import NoReturn

import uvloop

from slipway.names import WITHOUT_CREDENTIALS_ENV, ModelFault
from slipway_server.board import Board
from slipway_server.door.listen import Sockets, bind, duplicate
from slipway_server.injected import injected
from slipway_server.last_words import say_last_words
from slipway_server.logs import set_up
from slipway_server.monitoring.cohorts import count_cohorts
from slipway_server.monitoring.reference import read_reference
from slipway_server.runtime.cpus import usable_cpus
from slipway_server.settings import Settings, SettingsError, read_settings
from slipway_server.supervisor import Supervisor


def main() -> None:
    """Serve until SIGTERM, then exit with 0; with 1 for a model that cannot be served, 2 for bad settings."""
    try:
        settings = read_settings()
        set_up(settings.log_level)
        code = _refuse_credentials(settings) or _run(settings)
    except (SettingsError, ValueError) as error:
        _give_up(f"{error}")
    except OSError as error:
        ports = f"{settings.http_port}, {settings.grpc_port} and {settings.admin_port}"
        _give_up(f"cannot listen on ports {ports}: {error}")
    logging.shutdown()
    # Not sys.exit: a thread deep in native code, past its deadline, must not hold up the pod's end.
    os._exit(code)


def _refuse_credentials(settings: Settings) -> int:
    """1 where credentials are in a container that is to have none, else 0."""
    found = injected(os.environ) if WITHOUT_CREDENTIALS_ENV in os.environ else ""
    if found:
        words = (
            f"the container that serves was given credentials of the pod's ServiceAccount ({found}), and "
            "must have none: keep the webhook that puts them there away from the container 'server', or "
            "give model.credentials.secretRef instead of serviceAccountName"
        )
        say_last_words(settings.termination_path, ModelFault.CREDENTIALS_INJECTED, words)
    return 1 if found else 0


def _run(settings: Settings) -> int:
    reference = read_reference(settings.model_dir, settings.serving)
    processes = settings.serving.processes or max(1, usable_cpus() // settings.serving.threads)
    shared = processes > 1
    inherited = settings.inherited
    if inherited is None:
        admin = bind(settings.host, settings.admin_port)
        sockets: list[Sockets] = [
            (bind(settings.host, settings.http_port, shared), bind(settings.host, settings.grpc_port, shared))
            for _ in range(processes)
        ]
    else:
        http, grpc, own = inherited.sockets
        admin = socket.socket(fileno=own)
        sockets = [(duplicate(http), duplicate(grpc)) for _ in range(processes)]
        os.close(http)
        os.close(grpc)
    cohorts = count_cohorts(settings.serving, reference)
    board = Board(processes, len(reference.series) * (1 + cohorts))

    def work(position: int, replaces: bool) -> int:
        # Only now: these bring numpy and onnxruntime, and a port that is taken should be said at once.
        from slipway_server.worker import Place, serve

        place = Place(board, position, replaces, reference, inherited is not None)
        try:
            return uvloop.run(serve(settings, sockets[position], admin, place))
        except (SettingsError, ValueError, OSError) as error:
            print(f"slipway-server: {error}", file=sys.stderr)
            return 2

    return Supervisor(board, sockets, work, settings).run()


def _give_up(message: str) -> NoReturn:
    print(f"slipway-server: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
