"""A client that closes its connection before its answer is there has left: nothing runs for it any more."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.running import Server, tensor
from tests.server.test_limits import BODY, head

Servers = Callable[[str], Server]
#: Of the model ``slow``: some ten seconds.
LONG = 3_000_000


def asked(server: Server, roots: int = LONG, path: str | None = None) -> bytes:
    inputs = [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [roots])]
    body: dict[str, object] = {"inputs": inputs}
    if path is not None:
        body = {"inputs": {"x": [4.0], "n": [roots]}}
    text = json.dumps(body).encode()
    whole = head(server, f"content-length: {len(text)}") + text
    return whole.replace(server.infer_path.encode(), (path or server.infer_path).encode(), 1)


def spent(server: Server) -> float:
    """Seconds of CPU that the server's processes took, of those that are there."""
    total = 0
    for pid in server.processes():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def count(server: Server, name: str, **labels: str) -> float:
    every = {"model": "fraud", "model_version": "3", **labels}
    return server.metrics()[name, tuple(sorted(every.items()))]


def wait_until_runs(server: Server, calls: int) -> None:
    deadline = time.monotonic() + 10
    while count(server, "slipway_inference_in_flight") < calls:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)


def assert_it_rests(server: Server, gone: float) -> None:
    deadline = time.monotonic() + 5
    while count(server, "slipway_inference_rejected_total", reason="client_gone") < gone:
        assert time.monotonic() < deadline, "nobody noticed that the client left"
        time.sleep(0.02)
    assert count(server, "slipway_inference_in_flight") == 0
    time.sleep(0.3)
    before = spent(server)
    time.sleep(1)
    assert spent(server) - before < 0.4, "the model still runs"


@pytest.mark.parametrize("path", [None, "/v1/models/fraud:predict", "/invocations"])
@pytest.mark.parametrize("how", ["close", "half", "reset"])
def test_a_client_that_closes_stops_its_run(servers: Servers, how: str, path: str | None) -> None:
    server = servers("slow")
    before = count(server, "slipway_inference_rejected_total", reason="client_gone")
    connection = socket.create_connection(("127.0.0.1", server.http_port), timeout=10)
    with connection:
        connection.sendall(asked(server, path=path))
        wait_until_runs(server, 1)
        if how == "half":
            connection.shutdown(socket.SHUT_WR)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "half":
            connection.close()
        assert_it_rests(server, before + 1)


def test_a_short_run_is_answered_though_the_client_ends_its_half_with_the_request(
    servers: Servers, stack: str
) -> None:
    server = servers("identity")
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
            connection.sendall(head(server, f"content-length: {len(BODY)}") + BODY)
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        # The twin's server closes as soon as it sees the end.
        assert answer[:13] in ((b"HTTP/1.1 200 ",) if stack == "own" else (b"HTTP/1.1 200 ", b""))


def test_retries_of_a_client_that_closes_each_time_do_not_pile_up(servers: Servers) -> None:
    server = servers("slow")
    before = count(server, "slipway_inference_rejected_total", reason="client_gone")
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
            connection.sendall(asked(server))
            time.sleep(0.1)
    assert_it_rests(server, before + 8)
    inputs = tensor("x", "FP32", [1], [16.0]), tensor("n", "INT64", [1], [2])
    assert server.infer(*inputs).json()["outputs"][0]["data"] == [2.0]


def test_pipelined_requests_all_end_with_their_client(servers: Servers, stack: str) -> None:
    server = servers("slow")
    before = count(server, "slipway_inference_rejected_total", reason="client_gone")
    calls = 3 if stack == "own" else 1  # h11 reads the next one after the first is answered
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
        connection.sendall(asked(server) * 3)
        wait_until_runs(server, calls)
    assert_it_rests(server, before + calls)
