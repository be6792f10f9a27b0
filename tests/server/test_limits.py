from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway_server.board import Board
from slipway_server.call.body import Body
from slipway_server.call.call import Call
from slipway_server.door.admission import Pool
from slipway_server.engine.crew import Crew
from slipway_server.engine.served import Served
from slipway_server.errors import Reason, RequestError
from slipway_server.http.asgi import AsgiApp
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import Counters
from slipway_server.monitoring.reference import Reference
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile
from slipway_server.runtime.run import Run
from slipway_server.settings import Serving
from slipway_server.site.admin import Admin
from slipway_server.site.frontend import Frontend
from tests.server.conftest import Start
from tests.server.running import Server, tensor

Servers = Callable[[str], Server]
FOREVER = [tensor("x", "FP32", [1], [2.0]), tensor("n", "INT64", [1], [10**9])]


def talk(server: Server, *pieces: bytes, seconds: float = 5) -> bytes:
    """What the server sends on one connection, until it closes it or falls silent."""
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=seconds) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.settimeout(0.5)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            pass
        return answer


def head(server: Server, *lines: str) -> bytes:
    fields = ["content-type: application/json", *lines]
    return "\r\n".join([f"POST {server.infer_path} HTTP/1.1", "host: a", *fields, "", ""]).encode()


BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()


def test_a_body_larger_than_the_limit_is_refused_whichever_way_it_comes(start: Start) -> None:
    server = start("identity", maxBodyBytes=1024).wait_until_ready()

    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 1024

    for content in (b" " * 1025, b" " * 10_000_000, chunks()):
        response = server.client.post(server.infer_path, content=content)
        assert response.status_code == 413
        assert response.json()["error"].startswith("the body is larger than 1024 bytes")
    assert server.client.post(server.infer_path, content=BODY.ljust(1024)).status_code == 200


def test_json_is_bounded_more_tightly_than_binary_tensors(servers: Servers) -> None:
    server, size = servers("identity"), 9 * 1024 * 1024
    response = server.client.post(server.infer_path, content=b" " * size)
    assert response.status_code == 413
    assert "binary data" in response.json()["error"]
    rows = size // 12
    given = tensor("x", "FP32", [rows, 3], binary_data_size=rows * 12)
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    answer = server.infer_binary({"inputs": [given], "outputs": [wanted]}, b"\0" * (rows * 12))
    assert answer.status_code == 200


def test_a_body_without_a_length_is_refused(servers: Servers) -> None:
    answer = talk(servers("identity"), head(servers("identity")))
    assert answer.startswith(b"HTTP/1.1 411 ")
    assert b"Content-Length" in answer


def test_a_client_that_waits_for_100_is_told_to_continue_or_why_not(servers: Servers) -> None:
    server = servers("identity")
    good = head(server, f"content-length: {len(BODY)}", "expect: 100-continue")
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=5) as connection:
        connection.sendall(good)
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    answer = talk(server, head(server, "content-length: 999999999", "expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v2 HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET / HTCPCP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n",
    ],
    ids=[
        *("TLS", "space before colon", "protocol", "two lengths", "negative length", "huge head"),
        *("two hosts", "one host twice"),
    ],
)
def test_what_is_not_http_gets_400_and_the_server_goes_on(servers: Servers, noise: bytes) -> None:
    try:
        answer = talk(servers("identity"), noise)
    except ConnectionError:
        answer = b"HTTP/1.1 400 "  # cut off while still sending, which is as good
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert servers("identity").client.get("/v2/health/live").status_code == 200


def test_a_body_that_breaks_off_in_a_bad_chunk_gets_one_400(servers: Servers) -> None:
    server = servers("identity")
    answer = talk(server, head(server, "transfer-encoding: chunked"), b"2\r\n{}\r\n", b"zz\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b'"level":"error"' not in server.log.read_bytes()


def test_a_client_that_leaves_in_the_middle_does_no_harm(servers: Servers) -> None:
    server = servers("identity")
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=5) as connection:
        connection.sendall(head(server, "content-length: 1000") + b"{")
    gone = ("slipway_inference_rejected_total", (("model", "fraud"), ("model_version", "3")))
    for _ in range(100):
        samples = server.metrics()
        if samples[gone[0], (*gone[1], ("reason", "client_gone"))] >= 1:
            break
        time.sleep(0.02)
    else:
        raise AssertionError("a client that left was not counted")
    assert samples["slipway_inference_in_flight", gone[1]] == 0
    assert b'"level":"error"' not in server.log.read_bytes()


def test_pipelined_requests_are_answered_in_order(servers: Servers) -> None:
    server = servers("identity")
    requests = []
    for number in range(5):
        body = BODY[:-1] + f', "id": "{number}"}}'.encode()
        requests.append(head(server, f"content-length: {len(body)}") + body)
    answer = talk(server, b"".join(requests))
    places = [answer.find(b'"id":"%d"' % number) for number in range(5)]
    assert -1 not in places
    assert places == sorted(places)


def test_a_slow_run_is_stopped_at_its_deadline_while_others_are_answered(start: Start) -> None:
    server = start("slow", requestTimeoutMilliseconds=700).wait_until_ready()
    answers: list[httpx.Response] = []
    clients = [
        threading.Thread(target=lambda: answers.append(server.infer(*FOREVER, outputs=[{"name": "y"}])))
        for _ in range(2)
    ]
    for client in clients:
        client.start()
    probes = []
    for _ in range(20):
        began = time.perf_counter()
        assert server.client.get("/v2/health/live").status_code == 200
        probes.append(time.perf_counter() - began)
    for client in clients:
        client.join(20)
    assert sorted(probes)[10] < 0.2
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "no answer within 0.7 s" in answer.json()["error"]
    assert len(answers) == 2
    # The threads were freed: the next request, a short one, gets through.
    short = server.infer(tensor("x", "FP32", [1], [16.0]), tensor("n", "INT64", [1], [2]))
    assert short.json()["outputs"][0]["data"] == [2.0]


class Asked(Call):
    """A call that remembers how it ended."""

    def __init__(self, body: bytes, seconds: float = 30) -> None:
        now = time.perf_counter()
        super().__init__(body, None, now, now + seconds)
        self.events: list[str] = []

    def answered(self) -> None:
        self.events.append("answered")

    def free(self) -> None:
        self.events.append("freed")


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_more_requests_than_may_wait_are_turned_away(
    monkeypatch: pytest.MonkeyPatch, model_dirs: Callable[[str], Path]
) -> None:
    monkeypatch.setattr("slipway_server.engine.crew.MAX_WAITING", 1)
    gate = threading.Event()

    class Held(Model):
        def run_raw(self, *arguments: Any) -> list[Any]:
            gate.wait(10)
            return super().run_raw(*arguments)

    crew = Crew(1)
    crew.start(Served(Held(model_dirs("identity") / "model.onnx", 1), "fraud", "3"))
    try:
        late = Asked(BODY, seconds=0.2)
        crew.submit(late)
        await until(lambda: not crew.waiting)
        waiting = Asked(BODY)
        crew.submit(waiting)
        with pytest.raises(RequestError) as full:
            crew.submit(Asked(BODY))
        assert (full.value.status, full.value.reason) == (503, Reason.OVERLOAD)
        await until(lambda: bool(late.events))
        assert isinstance(late.error, RequestError)
        assert (late.error.status, late.error.reason) == (503, Reason.DEADLINE)
        assert late.events == ["answered"], "the thread still holds its body"
        gate.set()
        await until(lambda: len(waiting.events) == 2)
        assert late.events == ["answered", "freed"]
        assert waiting.content is not None
    finally:
        gate.set()
        crew.close()


def test_a_large_json_body_is_parsed_one_at_a_time(model_dirs: Callable[[str], Path]) -> None:
    served = Served(Model(model_dirs("identity") / "model.onnx", 1), "fraud", "3")
    large = BODY.ljust(1024 * 1024)
    done = threading.Event()
    with served._large:

        def work() -> None:
            served.answer([Asked(large)], Run())
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        small = Asked(BODY)  # it does not queue behind the large one
        served.answer([small], Run())
        assert small.rows == 1
        assert not done.wait(0.2)
    assert done.wait(5)
    worker.join()


def test_bodies_that_would_fill_the_memory_are_turned_away() -> None:
    budget = Pool(100)
    first, second = Body(100, budget), Body(100, budget)
    for _ in range(6):
        first.add(b"0123456789")
    for _ in range(4):
        second.add(b"0123456789")
    with pytest.raises(RequestError) as full:
        second.add(b"0")
    assert (full.value.status, full.value.reason) == (503, Reason.OVERLOAD)
    second.free()
    assert budget.used == 60
    assert first.whole() == b"0123456789" * 6
    first.free()
    assert budget.used == 0


def test_many_bodies_that_grow_when_parsed_stay_within_a_small_pods_memory(start: Start) -> None:
    server = start("identity", requestTimeoutMilliseconds=30_000).wait_until_ready()
    nasty = (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[' + b"{}," * 2_500_000 + b"{}]}]}"
    )
    answers: list[int] = []
    clients = [
        threading.Thread(
            target=lambda: answers.append(
                httpx.post(server.url + server.infer_path, content=nasty, timeout=60).status_code
            )
        )
        for _ in range(6)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    assert answers == [400] * 6
    _, worker, *_ = server.processes()
    status = Path(f"/proc/{worker}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 640 * 1024, f"{peak} KiB"


async def test_a_fault_of_the_servers_own_is_a_counted_500_that_tells_nothing(
    model_dirs: Callable[[str], Path],
) -> None:
    class Broken(Model):
        def run_raw(self, *_: object) -> list[Any]:
            # As if onnxruntime answered fewer tensors than it was asked for.
            return []

    config = Serving("fraud", "3", "sha256:" + "0" * 64)
    board, lifecycle = Board(1), Lifecycle(0)
    frontend = Frontend(config, lifecycle, Counters(board.row(0)))
    broken = Broken(model_dirs("identity") / "model.onnx", 1)
    frontend.engine.start(Served(broken, "fraud", "3", Profile(inline=True)))
    transport = httpx.ASGITransport(AsgiApp(frontend), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        response = await client.post("/v2/models/fraud/infer", content=BODY)
    frontend.engine.close()
    assert response.status_code == 500
    assert response.json() == {"error": "the server failed; its log says why"}
    metrics = Admin(board, config, Reference()).text()
    assert b'requests_total{code="500",model="fraud",model_version="3"} 1.0' in metrics
    assert b'in_flight{model="fraud",model_version="3"} 0.0' in metrics
    assert lifecycle.in_flight == 0
