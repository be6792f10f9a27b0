"""HTTP/1.1 as clients, proxies and attackers speak it, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from e2e.ledger import hold
from slipway_server.board import Board
from slipway_server.door.listen import bind
from slipway_server.engine.served import Served
from slipway_server.http.server import HttpServer
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import Counters
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import measure
from slipway_server.settings import Serving
from slipway_server.site.frontend import Frontend
from slipway_server.wire.limits import LIMITS, Limits
from tests.server.conftest import Start
from tests.server.running import Server, tensor
from tests.server.test_limits import BODY, head, talk

Servers = Callable[[str], Server]


def numbered(server: Server, number: int) -> bytes:
    body = BODY[:-1] + f', "id": "{number}"}}'.encode()
    return head(server, f"content-length: {len(body)}") + body


def test_answers_come_in_the_order_of_their_requests_whatever_each_takes(servers: Servers) -> None:
    server = servers("slow")
    long = json.dumps(
        {"inputs": [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [20_000])], "id": "long"}
    ).encode()
    page = b"GET /v2/models/fraud HTTP/1.1\r\nhost: a\r\n\r\n"
    bad = head(server, "content-length: 2") + b"[]"
    answer = talk(server, head(server, f"content-length: {len(long)}") + long + page + bad + page)
    places = [answer.find(b'"id":"long"'), answer.find(b'"platform"'), answer.find(b'{"error"')]
    assert -1 not in places
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 ") == 4


def test_a_request_may_come_byte_by_byte_and_in_chunks(servers: Servers) -> None:
    server = servers("identity")
    whole = numbered(server, 7)
    assert b'"id":"7"' in talk(server, *(whole[at : at + 1] for at in range(len(whole))))
    half = len(BODY) // 2
    chunks = b"%x\r\n%b\r\n%x;ext=1\r\n%b\r\n0\r\ntrailer: x\r\n\r\n" % (
        half,
        BODY[:half],
        len(BODY) - half,
        BODY[half:],
    )
    answer = talk(server, head(server, "transfer-encoding: chunked") + chunks + whole)
    assert answer.count(b"HTTP/1.1 200 ") == 2


def test_a_connection_ends_when_the_client_says_so(servers: Servers) -> None:
    server = servers("identity")
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=5) as connection:
        connection.sendall(head(server, f"content-length: {len(BODY)}", "connection: close") + BODY)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


def test_http_1_0_is_answered_and_the_connection_closed(servers: Servers) -> None:
    server = servers("identity")
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=5) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.endswith(b'{"live":true}')


def test_head_answers_like_get_without_a_body(servers: Servers) -> None:
    answer = servers("identity").client.head("/v2/models/fraud")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 50


def test_each_request_on_a_connection_is_echoed_its_own_id_and_trace(servers: Servers) -> None:
    server = servers("identity")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for number in range(3):
        headers = {"x-request-id": f"r{number}", "traceparent": trace, "content-type": "application/json"}
        answer = server.client.post(server.infer_path, content=BODY, headers=headers)
        assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == (f"r{number}", trace)
        plain = server.client.post(
            server.infer_path, content=BODY, headers={"content-type": "application/json"}
        )
        assert "x-request-id" not in plain.headers
    wrong = {"traceparent": "00-zz", "content-type": "application/json"}
    assert "traceparent" not in server.client.post(server.infer_path, content=BODY, headers=wrong).headers


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_client_that_offers_http_2_is_answered_by_http_1(
    model_dirs: Callable[[str], Path], size: int
) -> None:
    first = b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost: a\r\n"
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"
    whole = first + offer + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    chunked = first + offer + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    wrong = whole.replace(b"fraud", b"spam")
    sent = whole + chunked + wrong + b"GET /v2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    async with inside(model_dirs("identity") / "model.onnx") as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await asyncio.sleep(0)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200", b"404", b"200"]
    assert answer.count(b"[1.0,2.0,3.0]") == 2


def test_a_gzip_body_is_unpacked_within_the_limit(start: Start) -> None:
    server = start("identity", maxBodyBytes=100_000).wait_until_ready()

    def post(content: bytes) -> httpx.Response:
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        return server.client.post(server.infer_path, content=content, headers=headers)

    packed = gzip.compress(BODY.ljust(100_000))
    assert len(packed) < 1000
    assert post(packed).json()["outputs"][0]["data"] == [1.0, 2.0, 3.0]
    assert post(gzip.compress(BODY.ljust(100_001))).status_code == 413
    assert post(gzip.compress(b" " * 50_000_000)).status_code == 413
    for broken in (b"no gzip", packed[:-9], packed + b"x"):
        answer = post(broken)
        assert answer.status_code == 400
        assert "gzip" in answer.json()["error"]


@pytest.mark.timed
def test_a_client_may_shorten_its_deadline(servers: Servers) -> None:
    server = servers("slow")
    work = [tensor("x", "FP32", [1], [2.0]), tensor("n", "INT64", [1], [10**9])]
    content = json.dumps({"inputs": work}).encode()
    headers = {"content-type": "application/json", "timeout": "0.2"}
    began = time.monotonic()
    answer = server.client.post(server.infer_path, content=content, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "no answer within 0.2 s" in answer.json()["error"]
    hold("a deadline of 0.2 s in a header", time.monotonic() - began, 1.5)
    began = time.monotonic()
    answer = server.infer(*work, parameters={"timeout": 200_000})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    hold("a deadline of 0.2 s in a parameter", time.monotonic() - began, 1.5)
    for wrong in ("0", "-1", "soon", "nan"):
        answer = server.client.post(server.infer_path, content=content, headers=headers | {"timeout": wrong})
        assert answer.status_code == 400
    assert server.infer(*work, parameters={"timeout": "1"}).status_code == 400


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_files(authority: trustme.CA, directory: Path) -> dict[str, str]:
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return {
        "SLIPWAY_TLS_CERT_FILE": str(directory / "cert.pem"),
        "SLIPWAY_TLS_KEY_FILE": str(directory / "key.pem"),
    }


def test_tls_serves_and_follows_a_renewed_certificate(
    model_dirs: Callable[[str], Path], authority: trustme.CA, tmp_path: Path
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Server(model_dirs("identity"), environment=tls_files(authority, tmp_path)) as server:
        url = f"https://localhost:{server.http_port}"

        def serial() -> Any:
            with (
                socket.create_connection(("127.0.0.1", server.http_port), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                return (secure.getpeercert() or {})["serialNumber"]

        deadline = time.monotonic() + 20
        while True:
            try:
                if httpx.get(f"{url}/v2/health/ready", verify=context).status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < deadline
            time.sleep(0.05)
        with httpx.Client(verify=context) as client:
            for _ in range(5):
                answer = client.post(url + server.infer_path, content=BODY)
                assert answer.json()["outputs"][0]["data"] == [1.0, 2.0, 3.0]
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{server.http_port}/v2/health/live")
        first = serial()
        tls_files(authority, tmp_path)
        while serial() == first:
            assert time.monotonic() < deadline + 10
            time.sleep(0.1)


def test_mutual_tls_turns_away_a_client_without_a_certificate(
    model_dirs: Callable[[str], Path], authority: trustme.CA, tmp_path: Path
) -> None:
    environment = tls_files(authority, tmp_path) | {"SLIPWAY_TLS_CLIENT_CA_FILE": str(tmp_path / "ca.pem")}
    stranger, known = ssl.create_default_context(), ssl.create_default_context()
    for context in (stranger, known):
        authority.configure_trust(context)
    authority.issue_cert("client@example.org").configure_cert(known)
    with Server(model_dirs("identity"), environment=environment) as server:
        url = f"https://localhost:{server.http_port}/v2/health/ready"
        deadline = time.monotonic() + 20
        while True:
            try:
                if httpx.get(url, verify=known).status_code == 200:
                    break
            except httpx.TransportError:
                assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=stranger)


@asynccontextmanager
async def inside(model: Path, limits: Limits = LIMITS) -> AsyncIterator[tuple[HttpServer, int]]:
    """The server's own HTTP side in this process, whose clocks the tests may turn."""
    loaded = Model(model, 1)
    loaded.warm_up()
    serving = Serving("fraud", "3", "sha256:" + "0" * 64)
    frontend = Frontend(serving, Lifecycle(0), Counters(Board(1).row(0)), limits=limits)
    frontend.engine.start(Served(loaded, "fraud", "3", measure(loaded, model)))
    frontend.lifecycle.loaded = True
    server = HttpServer(frontend)
    sock = bind("127.0.0.1", 0)
    await server.start(sock)
    try:
        yield server, sock.getsockname()[1]
    finally:
        await server.stop(0.1)
        frontend.engine.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost: a\r\nx: ", 408), (b"", 0)],
    ids=["head", "nothing"],
)
async def test_a_head_that_trickles_in_is_cut_off_but_an_idle_connection_is_not(
    model_dirs: Callable[[str], Path], sent: bytes, status: int
) -> None:
    limits = Limits(head_seconds=0.3, sweep_seconds=0.05)
    async with inside(model_dirs("identity") / "model.onnx", limits) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        if status:
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(), 0.8)
        writer.close()


async def test_a_body_that_trickles_in_is_cut_off_and_counted(
    model_dirs: Callable[[str], Path],
) -> None:
    limits = Limits(pace_seconds=0.3, sweep_seconds=0.05, linger_seconds=0.1)
    async with inside(model_dirs("identity") / "model.onnx", limits) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        assert server.counters.in_flight == 0
        assert server.lifecycle.in_flight == 0
        assert server.site.admission.bodies.used == 0
        writer.close()


async def test_a_client_that_never_reads_is_read_no_further(model_dirs: Callable[[str], Path]) -> None:
    async with inside(model_dirs("identity") / "model.onnx") as (server, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        request = b"POST /v2/models/fraud/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (
            len(BODY),
            BODY,
        )
        burst, sent, quiet = memoryview(request * 500), 0, 0
        while quiet < 20 and sent < 500 * len(burst):
            try:
                sent += sock.send(burst[sent % len(burst) :])
                quiet = 0
            except BlockingIOError:
                quiet += 1
            await asyncio.sleep(0.01)
        assert quiet == 20, "the server went on reading"
        (connection,) = server.connections
        assert connection.stalled
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 4 * 1024 * 1024
        sock.close()
