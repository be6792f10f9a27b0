"""Instructions a request in our server's process, counted by callgrind.

Time on a shared machine says little about a small change; these counts hardly move from run to run. Work of
the kernel is not in them. Callgrind's machine has no AVX-512, so onnxruntime takes other kernels than it
would; and it is some fifty times slower, so the server's own limits of time are stretched as much,
and what it does by the clock is left out.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.server.cases import INFER_PATH, Case, Protocol, make_case
from bench.server.servers import serving_environment
from tests.ports import free_ports

_STRETCHED = """
from slipway_server import worker
from slipway_server.wire.limits import LIMITS
from slipway_server.runtime import engine, profile
object.__setattr__(LIMITS, "sweep_seconds", 1000.0)
worker._PULSE_SECONDS = engine._WATCH_SECONDS = 1000.0
engine._SURPRISE_SECONDS *= 1000
profile.INLINE_SECONDS *= 1000
profile.INLINE_BATCH_SECONDS = engine.INLINE_BATCH_SECONDS = 5.0
profile._PATIENCE_SECONDS *= 1000
from slipway_server import main


class Alone:
    # In place of the supervisor: callgrind hears of the process that was started, so that one has to serve.
    def __init__(self, _board, _sockets, work, _settings):
        self.run = lambda: work(0, False)


main.Supervisor = Alone
main.main()
"""
_TOGETHER = 32
_START_SECONDS = 120.0


def count(models: Path, scratch: Path, model: str = "gbt") -> dict[str, int]:
    """Instructions a request: one row in JSON alone, 32 of them together, and 32 rows as binary data."""
    lone = make_case(models, model, Protocol.JSON, 1)
    binary = make_case(models, model, Protocol.BINARY, 32)
    with _Callgrind(models / model, scratch) as server:
        return {
            "json_1_row_lone": server.count(lone, 1, 200),
            f"json_1_row_{_TOGETHER}_together": server.count(lone, _TOGETHER, 20),
            f"binary_32_rows_{_TOGETHER}_together": server.count(binary, _TOGETHER, 10),
        }


class _Callgrind:
    def __init__(self, model: Path, scratch: Path) -> None:
        self._port, metrics_port = free_ports(2)
        ports = {"port": str(self._port), "metrics_port": str(metrics_port), "grpc_port": "0"}
        given = serving_environment(model, ports, 1, scratch)
        given["SLIPWAY_SERVING_CONFIG"] = given["SLIPWAY_SERVING_CONFIG"].replace(
            "{", '{"requestTimeoutMilliseconds": 600000, ', 1
        )
        del given["SLIPWAY_GRPC_PORT"]
        self._scratch = scratch
        self._log = scratch / "callgrind.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
                    f"--callgrind-out-file={scratch / 'callgrind'}",
                    *(sys.executable, "-c", _STRETCHED),
                ],
                env={"PATH": os.environ["PATH"], "HOME": str(scratch), "PYTHONHASHSEED": "0", **given},
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> _Callgrind:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self._port)) as connection:
                    connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: bench\r\n\r\n")
                    if b" 200 " in connection.recv(1000):
                        return self
            except OSError:
                pass
            time.sleep(0.3)
        self._process.kill()
        raise RuntimeError(f"the server did not start under valgrind: {self._log.read_text()[-800:]}")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def count(self, case: Case, together: int, times: int) -> int:
        """Instructions a request, where ``together`` of them arrive at once, ``times`` times over."""
        headers = "".join(f"{name}: {value}\r\n" for name, value in case.headers.items())
        head = (
            f"POST {INFER_PATH} HTTP/1.1\r\nHost: bench\r\n{headers}Content-Length: {len(case.body)}\r\n\r\n"
        )
        request = head.encode() + case.body
        connections = [socket.create_connection(("127.0.0.1", self._port)) for _ in range(together)]
        try:
            for each in connections:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._count(lambda: self._ask(connections, request), together, times)
        finally:
            for each in connections:
                each.close()

    def _count(self, ask: Callable[[], None], together: int, times: int) -> int:
        for _ in range(max(3, 80 // together)):
            ask()
        self._tell("-i", "on")
        ask()
        self._dump()
        for _ in range(times):
            ask()
        total = self._dump()
        self._tell("-i", "off")
        return round(total / times / together)

    def _ask(self, connections: Sequence[socket.socket], request: bytes) -> None:
        if len(connections) > 1:
            # All of it is there before the server looks: one turn of its loop, each time.
            os.kill(self._process.pid, signal.SIGSTOP)
        for each in connections:
            each.sendall(request)
        os.kill(self._process.pid, signal.SIGCONT)
        for each in connections:
            _receive(each)

    def _tell(self, *words: str) -> None:
        quiet = subprocess.DEVNULL
        subprocess.run(
            ["callgrind_control", *words, str(self._process.pid)], stdout=quiet, stderr=quiet, check=True
        )

    def _dump(self) -> int:
        """All instructions since the last dump."""
        before = set(self._scratch.glob("callgrind.*"))
        self._tell("-d")
        (dump,) = set(self._scratch.glob("callgrind.*")) - before
        found = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)
        if found is None:
            raise RuntimeError(f"{dump} has no total")
        return int(found[1])


def _receive(connection: socket.socket) -> None:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _some(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"not an answer: {answer[:200]!r}")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0:
        missing -= len(_some(connection))


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data
