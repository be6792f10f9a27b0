"""Each bad request of the list that the server promises to bear: a clear answer, and a counter that moves."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e.ledger import hold
from slipway_server.errors import Reason
from slipway_server.metrics.counters import REASON_SLOTS
from slipway_server.wire.limits import Limits
from tests.server.running import Server, tensor
from tests.server.test_http import inside
from tests.server.test_limits import BODY, head, talk

Servers = Callable[[str], Server]
GOOD = tensor("x", "FP32", [1, 3], [1, 2, 3])
ANSWER = b"HTTP/1.1 200 "


def reasons(server: Server) -> dict[str, int]:
    """How often each reason was counted."""
    return {
        dict(labels)["reason"]: int(value)
        for (name, labels), value in server.metrics().items()
        if name == "slipway_inference_rejected_total"
    }


BAD: list[tuple[str, str, Any, int, str, str]] = [
    # (what is bad, path, inputs or the body, status, reason, a part of the message)
    ("name", "spam/infer", [GOOD], 404, "not_found", "there is no model 'spam'"),
    ("version", "fraud/versions/9/infer", [GOOD], 404, "not_found", "version '3' here, not '9'"),
    ("tensor", "fraud/infer", [GOOD | {"name": "z"}], 400, "schema", "no input 'z'"),
    ("datatype", "fraud/infer", [GOOD | {"datatype": "INT64"}], 400, "schema", "the model takes FP32"),
    ("shape", "fraud/infer", [GOOD | {"shape": [3, 1]}], 400, "schema", "the model takes [-1, 3]"),
    ("count", "fraud/infer", [GOOD | {"data": [1, 2]}], 400, "schema", "has 2 values"),
    ("NaN", "fraud/infer", [GOOD | {"data": [1, float("nan"), 3]}], 400, "schema", "JSON has no NaN"),
    ("duplicate", "fraud/infer", [GOOD, GOOD], 400, "schema", "given twice"),
    ("huge body", "fraud/infer", b" " * (9 << 20), 413, "size", "larger than"),
]


@pytest.mark.parametrize(
    ("path", "sent", "status", "reason", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_bad_input_gets_the_error_object_and_is_counted(
    servers: Servers, path: str, sent: Any, status: int, reason: str, message: str
) -> None:
    server = servers("identity")
    before = reasons(server)
    content = sent if isinstance(sent, bytes) else json.dumps({"inputs": sent}).encode()
    answer = server.client.post(f"/v2/models/{path}", content=content)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert message in answer.json()["error"]
    assert reasons(server) == before | {reason: before[reason] + 1}


@pytest.fixture(scope="module")
def own(model_dirs: Callable[[str], Path]) -> Iterator[Server]:
    """The server's own HTTP side alone: uvicorn refuses such things uncounted and in words of its own."""
    with Server(model_dirs("identity"), threads=1) as server:
        yield server.wait_until_ready()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (
            b"GET /v2 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
            "more than 64 KiB or 128 headers",
        ),
        (b"GET /v2 HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 128 + b"\r\n", "more than 64 KiB or 128 headers"),
        (b"GET /v2 HTTP/1.1\r\n\r\n", "needs the header Host"),
        (b"GET /v2 SPDY/3\r\n\r\n", "not well-formed HTTP"),
        (b"GET /v2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "not well-formed HTTP"),
    ],
    ids=["huge header", "many headers", "no host", "protocol", "chunk"],
)
def test_what_is_no_good_http_gets_the_error_object_and_is_counted(
    own: Server, sent: bytes, message: str
) -> None:
    before = reasons(own)
    first, _, body = talk(own, sent).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in first
    assert message in json.loads(body)["error"]
    assert reasons(own) == before | {"malformed": before["malformed"] + 1}


def test_a_client_of_http_1_0_may_end_its_half_of_the_connection_first(own: Server) -> None:
    before = reasons(own)
    old = head(own, f"content-length: {len(BODY)}").replace(b"HTTP/1.1", b"HTTP/1.0") + BODY
    kept = head(own, f"content-length: {len(BODY)}\r\nconnection: keep-alive") + BODY
    for sent, answers in ((old, 1), (kept.replace(b"HTTP/1.1", b"HTTP/1.0") + old, 2)):
        assert half_closed(own, sent).count(ANSWER) == answers
    assert reasons(own) == before


def test_a_body_that_ends_in_the_middle_is_counted_as_gone(own: Server) -> None:
    before = reasons(own)
    half = head(own, f"content-length: {len(BODY) + 1}") + BODY
    for sent in (half, half.replace(b"HTTP/1.1", b"HTTP/1.0"), b""):
        assert half_closed(own, sent) == b""
    assert reasons(own) == before | {"client_gone": before["client_gone"] + 2}


def half_closed(server: Server, sent: bytes) -> bytes:
    """What comes back after all was sent and the client ended its half of the connection."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.timed
def test_ten_thousand_idle_connections_hold_up_nobody(own: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 11_000), max(hard, 11_000)))
    before = rss_kib(own)
    with ExitStack() as stack:
        for number in range(10_000):
            # Each address of the client has ports of its own.
            source = (f"127.0.0.{2 + number % 4}", 0)
            idle = stack.enter_context(
                socket.create_connection(("127.0.0.1", own.http_port), 10, source_address=source)
            )
            if number % 2:
                idle.sendall(b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost:")
        began = time.monotonic()
        assert own.infer(GOOD).status_code == 200
        assert own.client.get("/v2/health/live").status_code == 200
        hold("two answers beside 10,000 idle connections", time.monotonic() - began, 2)
        assert own.metrics()["process_open_fds", ()] > 10_000
        grown = rss_kib(own) - before
        assert grown < 10_000 * 16, f"{grown} KiB"
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    deadline = time.monotonic() + 10
    while own.metrics()["process_open_fds", ()] > 500:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert own.infer(GOOD).status_code == 200


def rss_kib(server: Server) -> int:
    total = 0
    for pid in server.processes():
        status = Path(f"/proc/{pid}/status").read_text()
        total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return total


async def test_beyond_the_limit_an_idle_connection_makes_room_and_without_one_the_new_is_refused(
    model_dirs: Callable[[str], Path],
) -> None:
    live = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    async with inside(model_dirs("identity") / "model.onnx", Limits(connections=5)) as (server, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(live)
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(b'{"live":true}')
        ends = [asyncio.create_task(each.read()) for each, _ in idle]
        await asyncio.wait(ends, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        assert sum(end.done() for end in ends) == 1
        assert server.counters._row[REASON_SLOTS[Reason.OVERLOAD]] == 0

        busy = []
        async with asyncio.timeout(10):
            for number in range(5):
                busy.append(await asyncio.open_connection("127.0.0.1", port))
                busy[-1][1].write(live[:20])
                while len(server.watched) <= number:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert b'{"error":"the server has no room for more connections"}' in answer
        assert server.counters._row[REASON_SLOTS[Reason.OVERLOAD]] == 1
        for end in ends:
            end.cancel()
