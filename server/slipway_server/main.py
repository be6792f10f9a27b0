"""The ``slipway-server`` command: one model behind the Open Inference Protocol."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import NoReturn

import uvloop

from slipway_server.http.listen import Sockets, bind
from slipway_server.logs import set_up
from slipway_server.metrics.board import Board
from slipway_server.monitoring.reference import Reference, read_reference
from slipway_server.runtime.cpus import usable_cpus
from slipway_server.settings import Settings, SettingsError, read_settings
from slipway_server.supervisor import WORKER_ENV, supervise


def main() -> None:
    """Serve until SIGTERM, then exit with 0; with 1 for a model that cannot be served, 2 for bad settings."""
    try:
        settings = read_settings()
        set_up(settings.log_level)
        code = _run(settings)
    except (SettingsError, ValueError) as error:
        _give_up(f"{error}")
    except OSError as error:
        ports = f"{settings.http_port}, {settings.grpc_port} and {settings.admin_port}"
        _give_up(f"cannot listen on ports {ports}: {error}")
    logging.shutdown()
    # Not sys.exit: a thread deep in native code, past its deadline, must not hold up the pod's end.
    os._exit(code)


def _run(settings: Settings) -> int:
    reference = read_reference(settings.model_dir, settings.serving)
    counts = len(reference.series)
    place = os.environ.pop(WORKER_ENV, None)
    if place is not None:
        position, rows, descriptor, replaces = (int(part) for part in place.split(","))
        board = Board(rows, descriptor, counts)
        return _serve(settings, reference, board, None, position, bool(replaces))
    processes = settings.serving.processes or max(1, usable_cpus() // settings.serving.threads)
    admin = bind(settings.host, settings.admin_port)
    if processes == 1:
        return _serve(settings, reference, Board(1, None, counts), admin)
    return uvloop.run(supervise(settings, reference, admin, processes))


def _serve(
    settings: Settings,
    reference: Reference,
    board: Board,
    admin: socket.socket | None,
    position: int = 0,
    replaces: bool = False,
) -> int:
    def listen() -> Sockets:
        shared = board.rows > 1
        return bind(settings.host, settings.http_port, shared), bind(
            settings.host, settings.grpc_port, shared
        )

    first = None if replaces else listen()
    # Only now: these bring numpy and onnxruntime, and a port that is taken should be said at once.
    from slipway_server.worker import Place, serve

    return uvloop.run(
        serve(
            settings,
            listen if first is None else lambda: first,
            admin,
            Place(board, position, replaces, reference),
        )
    )


def _give_up(message: str) -> NoReturn:
    print(f"slipway-server: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
