"""Several worker processes on one port: started, watched, started again, and told to leave together.

The kernel deals connections out among the workers (``SO_REUSEPORT``); they share nothing but a board of
counters. This process serves the admin port and imports neither numpy nor onnxruntime.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time

from slipway_server.admin import Admin
from slipway_server.http.server import HttpServer
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.board import IN_FLIGHT, LAST, PID, Board
from slipway_server.monitoring.reference import Reference
from slipway_server.settings import Settings

log = logging.getLogger("slipway_server")

#: Tells a worker its place: row, rows, file descriptor of the board, 1 if it replaces one that died.
WORKER_ENV = "SLIPWAY_WORKER"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: A worker that lived so long was sound, and the next one may start at once.
_SOUND_SECONDS = 30.0


async def supervise(settings: Settings, reference: Reference, admin: socket.socket, processes: int) -> int:
    """Run the workers until told to stop; the exit code is 1 if the model cannot be served."""
    return await _Supervisor(settings, reference, processes).run(admin)


class _Drain(Lifecycle):
    """A drain of all workers, seen on the board."""

    def __init__(self, board: Board, drain_seconds: float) -> None:
        super().__init__(drain_seconds)
        self._board = board

    def quiet_since(self) -> float | None:
        return None if self._board.total(IN_FLIGHT) > 0 else max(self._board.all(LAST))


class _Supervisor:
    def __init__(self, settings: Settings, reference: Reference, processes: int) -> None:
        self._board = Board(processes, None, len(reference.series))
        self._drain_all = _Drain(self._board, settings.serving.drainSeconds)
        self._admin = HttpServer(Admin(self._board, settings.serving, reference, self._drain))
        self._workers: dict[int, asyncio.subprocess.Process] = {}
        self._leaving = False
        self._code = 0

    async def run(self, admin: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave, number)
        await self._admin.start(admin)
        await asyncio.gather(*(self._keep(position) for position in range(self._board.rows)))
        await self._admin.stop(1.0)
        return self._code

    async def _keep(self, position: int) -> None:
        """Keep one worker running until all leave."""
        replaces, pause = False, _FIRST_PAUSE
        while not self._leaving:
            began = time.monotonic()
            worker = await self._start(position, replaces)
            code = await worker.wait()
            del self._workers[position]
            if self._leaving:
                return
            if code in (1, 2):
                # It left its last words: the model, not the process, is what is wrong.
                self._code = code
                self._leave(signal.SIGINT)
                return
            self._board.row(position)[IN_FLIGHT] = 0
            self._board.row(position)[PID] = 0
            log.error("a worker process died and is started again", extra={"worker": position, "code": code})
            pause = (
                _FIRST_PAUSE if time.monotonic() - began > _SOUND_SECONDS else min(pause * 2, _LONGEST_PAUSE)
            )
            await asyncio.sleep(pause)
            replaces = True

    async def _start(self, position: int, replaces: bool) -> asyncio.subprocess.Process:
        descriptor = self._board.descriptor
        place = f"{position},{self._board.rows},{descriptor},{int(replaces)}"
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "slipway_server.main",
            env=os.environ | {WORKER_ENV: place},
            pass_fds=(descriptor,),
        )
        self._workers[position] = worker
        return worker

    def _leave(self, number: int) -> None:
        self._leaving = True
        self._tell(number)

    def _tell(self, number: int) -> None:
        for worker in self._workers.values():
            if worker.returncode is None:
                worker.send_signal(number)

    async def _drain(self) -> dict[str, object]:
        self._tell(signal.SIGUSR1)
        seconds = await self._drain_all.drain()
        return {"drained": self._board.total(IN_FLIGHT) <= 0, "seconds": round(seconds, 3)}
