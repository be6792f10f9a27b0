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
from collections.abc import Mapping, Sequence
from itertools import count as numbers
from pathlib import Path
from typing import Protocol as Interface
from uuid import UUID

import h2.connection
import h2.events

from bench.server.callers import KEYS, TOKENS, guard
from bench.server.cases import GRPC_PATH, INFER_PATH, Case, Protocol, make_case
from bench.server.servers import SLIPWAY, serving_environment
from tests.ports import free_ports

_STRETCHED = """
from slipway_server import worker
from slipway_server.wire.limits import LIMITS
from slipway_server.engine import engine
from slipway_server.runtime import profile
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


#: What our own router adds to every request: the last one is another each time.
_ROUTED = {"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "http", "x-envoy-external-address": "10.1.2.3"}
_IDS = (str(UUID(int=0x3EA7A6C654084CCDA61FA6945905EA98 * number % 2**128)) for number in numbers(1))


def count(models: Path, scratch: Path, model: str = "gbt") -> dict[str, int]:
    """Instructions a request, alone or of several that arrive together, direct and as a router sends them."""
    lone = make_case(models, model, Protocol.JSON, 1)
    binary = make_case(models, model, Protocol.BINARY, 32)
    grpc = make_case(models, model, Protocol.GRPC, 1)
    guarded = {}
    for name in (KEYS, TOKENS):
        with _Callgrind(models / model, scratch, name) as server:
            guarded[f"json_1_row_{_TOGETHER}_together_{name.partition('-')[2]}"] = server.count(
                lone, _TOGETHER, 20
            )
    with _Callgrind(models / model, scratch) as server:
        return {
            "json_1_row_lone": server.count(lone, 1, 200),
            "json_1_row_routed": server.count(lone, 1, 200, is_routed=True),
            f"json_1_row_{_TOGETHER}_together": server.count(lone, _TOGETHER, 20),
            f"binary_32_rows_{_TOGETHER}_together": server.count(binary, _TOGETHER, 10),
            "grpc_1_row_lone": server.count(grpc, 1, 200),
            "grpc_1_row_routed": server.count(grpc, 1, 200, is_routed=True),
            f"grpc_1_row_{_TOGETHER}_together": server.count(grpc, _TOGETHER, 20),
            **guarded,
        }


class _Client(Interface):
    """One connection that asks the same again and again."""

    def ask(self) -> None:
        """Send the request."""

    def answer(self) -> None:
        """Read the answer to it, which has to be a good one."""

    def close(self) -> None: ...


class _Callgrind:
    def __init__(self, model: Path, scratch: Path, name: str = SLIPWAY) -> None:
        self._port, self._grpc_port, metrics_port = free_ports(3)
        ports = {
            "port": str(self._port),
            "metrics_port": str(metrics_port),
            "grpc_port": str(self._grpc_port),
        }
        guarded = guard(name, scratch)
        self._shown = guarded.headers
        given = serving_environment(model, ports, 1, scratch, guarded)
        given["SLIPWAY_SERVING_CONFIG"] = given["SLIPWAY_SERVING_CONFIG"].replace(
            "{", '{"requestTimeoutMilliseconds": 600000, ', 1
        )
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

    def count(self, case: Case, together: int, times: int, is_routed: bool = False) -> int:
        """Instructions a request, where ``together`` of them arrive at once, ``times`` times over."""
        extra = {**(_ROUTED if is_routed else {}), **self._shown}
        clients: list[_Client] = [
            _Grpc(self._grpc_port, case, extra, is_routed)
            if case.protocol is Protocol.GRPC
            else _Rest(self._port, case, extra, is_routed)
            for _ in range(together)
        ]
        try:
            # Longer where ids come along: what bytes of theirs say is found out once for each pair of digits.
            for _ in range(max(3, (1000 if is_routed else 80) // together)):
                self._ask(clients)
            self._tell("-i", "on")
            self._ask(clients)
            self._dump()
            for _ in range(times):
                self._ask(clients)
            total = self._dump()
            self._tell("-i", "off")
            return round(total / times / together)
        finally:
            for each in clients:
                each.close()

    def _ask(self, clients: Sequence[_Client]) -> None:
        if len(clients) > 1:
            # All of it is there before the server looks: one turn of its loop, each time.
            os.kill(self._process.pid, signal.SIGSTOP)
        for each in clients:
            each.ask()
        os.kill(self._process.pid, signal.SIGCONT)
        for each in clients:
            each.answer()

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


class _Rest:
    """HTTP/1.1, as far as our server's answers need it."""

    def __init__(self, port: int, case: Case, extra: Mapping[str, str], is_routed: bool) -> None:
        self._socket = _connect(port)
        headers = {"Host": "bench", **case.headers, "Content-Length": str(len(case.body)), **extra}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._is_routed, self._body = is_routed, case.body

    def ask(self) -> None:
        own = f"x-request-id: {next(_IDS)}\r\n" if self._is_routed else ""
        self._socket.sendall(f"POST {INFER_PATH} HTTP/1.1\r\n{self._head}{own}\r\n".encode() + self._body)

    def answer(self) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _some(self._socket)
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"not an answer: {answer[:200]!r}")
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0:
            missing -= len(_some(self._socket))

    def close(self) -> None:
        self._socket.close()


class _Grpc:
    """gRPC whose headers are indexed wherever they can be, as libraries do; our own router keeps no table."""

    def __init__(self, port: int, case: Case, extra: Mapping[str, str], is_routed: bool) -> None:
        self._socket = _connect(port)
        self._http = h2.connection.H2Connection()
        if is_routed:
            self._http.encoder.header_table_size = 0
        self._http.initiate_connection()
        fixed = {":method": "POST", ":scheme": "http", ":path": GRPC_PATH, ":authority": "bench"}
        self._headers = {**fixed, "te": "trailers", "content-type": "application/grpc", **extra}
        self._is_routed = is_routed
        self._message = b"\0" + len(case.body).to_bytes(4, "big") + case.body

    def ask(self) -> None:
        if self._is_routed:
            self._headers["x-request-id"] = next(_IDS)
        stream = self._http.get_next_available_stream_id()
        self._http.send_headers(stream, list(self._headers.items()))
        self._http.send_data(stream, self._message, end_stream=True)
        self._socket.sendall(self._http.data_to_send())

    def answer(self) -> None:
        status = None
        while True:
            for event in self._http.receive_data(_some(self._socket)):
                if isinstance(event, h2.events.TrailersReceived):
                    status = dict(event.headers).get(b"grpc-status")
                elif isinstance(event, h2.events.DataReceived):
                    self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    if status != b"0":
                        raise RuntimeError(f"not an answer: {event}, status {status!r}")
                    return

    def close(self) -> None:
        self._socket.close()


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data
