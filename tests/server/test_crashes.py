"""Kernels that end their process: the server lives on, everybody else is answered, the request is refused."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import httpx
import onnx
import pytest
from onnx import parser

from e2e.ledger import hold
from slipway.api.reasons import ConditionType, Reason
from slipway.core.endpoint import Endpoint
from slipway.core.status.crashes import crashing
from slipway.engine.observers.watched import WANTED
from slipway.infra.bounded import Budget
from slipway.infra.pods import pod_reader
from slipway.names import ModelFault
from slipway_server.runtime.blocklist import ENTRIES, PART_BYTES, Blocklist, digest_of
from slipway_server.runtime.doubts import doubts
from tests.server import onnx_models
from tests.server.conftest import Start
from tests.server.running import Server, tensor
from tests.server.test_grpc import SERVICE, channel, given, request
from tests.unit.judged import Judged

LEAST = -(2**31)
LABELS = (("model", "fraud"), ("model_version", "3"))


def pairs(
    a: list[int], b: list[int], shape: list[int] | None = None, kind: str = "INT32"
) -> list[dict[str, Any]]:
    return [tensor("a", kind, shape or [len(a)], a), tensor("b", kind, shape or [len(b)], b)]


KILLING = pairs([LEAST], [-1])
GOOD = pairs([7], [2])


def crashes(server: Server, process: str = "run") -> float:
    return server.metrics()["slipway_model_crashes_total", (*LABELS, ("process", process))]


def ask(server: Server, inputs: list[dict[str, Any]], address: str | None = None) -> httpx.Response:
    """By a connection of its own, which any process may get."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=20) as client:
        return client.post(server.url + server.infer_path, json={"inputs": inputs})


@pytest.mark.parametrize("model", ["division", "division_of_pairs", "division_in_a_loop"])
def test_a_request_that_ends_its_process_is_refused_from_then_on_and_no_other(
    start: Start, model: str
) -> None:
    server = start(model).wait_until_ready()
    _, worker, *_ = server.processes()
    shape = [1, 2] if model == "division_of_pairs" else [2]
    killing = pairs([6, LEAST], [3, -1], shape)
    answer = server.infer(*killing)
    assert answer.status_code == 422
    assert "ended the process" in answer.text
    assert "SIGFPE" in answer.text
    assert "(Div)" in answer.text
    for _ in range(3):
        assert server.infer(*killing).status_code == 422
    assert server.infer(*pairs([6, LEAST], [3, 2], shape)).json()["outputs"][0]["data"] == [2, LEAST // 2]
    assert crashes(server) == 1, "it was run again"
    assert server.processes()[1] == worker
    assert server.client.get("/v2/health/ready").status_code == 200


def test_a_model_of_several_threads_has_them_in_processes_of_its_own_too(start: Start) -> None:
    server = start("division", threads=2).wait_until_ready()
    assert server.infer(*GOOD).json()["outputs"][0]["data"] == [3]
    assert [server.infer(*KILLING).status_code for _ in range(2)] == [422, 422]
    many = pairs(list(range(100_000)), [3] * 100_000)
    assert server.infer(*many).json()["outputs"][0]["data"][-1] == 33_333
    assert crashes(server) == 1


def test_the_same_over_grpc_whichever_protocol_it_came_by(start: Start) -> None:
    server = start("division").wait_until_ready()
    killing = request(given("a", "INT32", [1], [LEAST]), given("b", "INT32", [1], [-1])).SerializeToString()
    good = request(given("a", "INT32", [1], [7]), given("b", "INT32", [1], [2])).SerializeToString()
    with channel(server) as made:
        call = made.unary_unary(f"{SERVICE}/ModelInfer")
        for words in ("SIGFPE", "before"):
            with pytest.raises(grpc.RpcError) as caught:
                call(killing, timeout=10)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in caught.value.details()
        assert call(good, timeout=10)
    assert server.infer(*KILLING).status_code == 422
    assert crashes(server) == 1


def test_who_shares_a_batch_with_it_is_answered(start: Start) -> None:
    """Of 64 bits it shares batches, and of 32 it must not: there it would be answered in some of them."""
    for model, kind, least in (("division_of_64_bits", "INT64", -(2**63)), ("division", "INT32", LEAST)):
        server = start(model, requestTimeoutMilliseconds=20_000).wait_until_ready()
        asked_together(server, pairs([least], [-1], kind=kind), kind)
        said = server.client.get("/v2/models/fraud").json()["parameters"]["batching"]
        # Whether a batch gains time is for the machine to say.
        assert ("rows are not proved independent" in said) == (kind == "INT32"), said


def asked_together(server: Server, killing: list[dict[str, Any]], kind: str) -> None:
    def send(number: int) -> tuple[int, Any]:
        inputs = killing if number % 16 == 5 else pairs([number * 3], [3], kind=kind)
        answer = ask(server, inputs)
        return answer.status_code, answer.json()["outputs"][0]["data"] if answer.is_success else None

    with ThreadPoolExecutor(32) as clients:
        found = list(clients.map(send, range(128)))
    expected = [(422, None) if number % 16 == 5 else (200, [number]) for number in range(128)]
    assert found == expected


def test_every_process_of_a_pod_knows_it(start: Start) -> None:
    server = start("division", processes=2).wait_until_ready()
    assert [ask(server, KILLING).status_code for _ in range(24)] == [422] * 24
    assert crashes(server) == 1


@pytest.mark.timed
@pytest.mark.parametrize("processes", [1, 2])
def test_who_sends_it_without_pause_costs_others_nothing(start: Start, processes: int) -> None:
    server = start("division", processes=processes).wait_until_ready()
    refused = next_to_others(server, "the same", lambda _: (KILLING, {}))
    assert refused == {422}


@pytest.mark.timed
@pytest.mark.parametrize("processes", [1, 2])
def test_who_sends_another_each_time_costs_others_nothing_whoever_he_claims_to_be(
    model_dirs: Any, processes: int
) -> None:
    with Server(model_dirs("division"), processes=processes) as server:
        server.wait_until_ready()
        refused = next_to_others(server, "another", lambda number: (pairs([number, LEAST], [1, -1]), {}))
        assert {422, 429} <= refused

        def claims(number: int) -> tuple[Any, dict[str, str]]:
            return pairs([number, LEAST], [2, -1]), {"x-forwarded-for": f"10.0.{number >> 8}.{number & 255}"}

        assert next_to_others(server, "another as another peer", claims) == {422}


def next_to_others(
    server: Server, what: str, killing: Callable[[int], tuple[Any, dict[str, str]]]
) -> set[int]:
    """What two clients are answered who kill without pause, while another asks 100 times a second."""
    stop, numbers = threading.Event(), count(1)
    refused: set[int] = set()

    def kill() -> None:
        with httpx.Client(timeout=20, transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
            while not stop.is_set():
                inputs, headers = killing(next(numbers))
                url = server.url + server.infer_path
                refused.add(client.post(url, json={"inputs": inputs}, headers=headers).status_code)

    killers = [threading.Thread(target=kill) for _ in range(2)]
    took: list[float] = []
    statuses: list[int] = []
    began = time.monotonic()
    for killer in killers:
        killer.start()
    try:
        for number in range(300):
            time.sleep(max(0.0, began + number / 100 - time.monotonic()))
            sent = time.monotonic()
            statuses.append(server.infer(*pairs([number], [1])).status_code)
            took.append(time.monotonic() - sent)
    finally:
        stop.set()
        for killer in killers:
            killer.join()
    assert statuses == [200] * 300
    hold(f"another client's wait next to one that kills, {what}", max(took), 0.2)
    return refused


async def test_what_a_real_pod_counts_is_what_status_says(start: Start) -> None:
    server = start("division").wait_until_ready()
    async with pod_reader(WANTED, Budget()) as read:
        judged = Judged({}, {"a": {}})
        judged.judge._read = lambda _: read(Endpoint("payments", "127.0.0.1", server.admin_port))

        def said() -> str:
            verdicts = crashing(judged.resource.owner, [judged.resource.status.stable])
            verdict = verdicts.get(ConditionType.CRASHING)
            return f"{verdict.reason}: {verdict.message}" if verdict is not None else ""

        await judged.look(0)
        assert said() == ""
        for _ in range(3):
            assert server.infer(*KILLING).status_code == 422
        await judged.look(600)
        assert said().startswith(f"{Reason.PROCESSES_ENDED}: version 7, since 2026-11-24T00:10:00Z: ")
        assert "at least 1 run of the model ended" in said()
        await judged.look(60)
        assert judged.changes == 1
        await judged.look(900)
        assert said() == ""
        assert judged.changes == 2


def test_whoever_ends_processes_again_and_again_is_shut_out_for_a_while(model_dirs: Any) -> None:
    with Server(model_dirs("division"), processes=2) as server:
        server.wait_until_ready()
        answers = [ask(server, pairs([number, LEAST], [1, -1]), "127.0.0.2") for number in range(8)]
        assert [answer.status_code for answer in answers] == [422] * 3 + [429] * 5
        assert 50 <= int(answers[-1].headers["retry-after"]) <= 60
        assert ask(server, GOOD, "127.0.0.2").status_code == 429
        assert ask(server, GOOD, "127.0.0.3").status_code == 200
        assert crashes(server) == 3


def test_who_asks_through_a_proxy_is_told_apart_and_never_shuts_out_the_others(model_dirs: Any) -> None:
    with Server(model_dirs("division")) as server:
        server.wait_until_ready()

        def through(inputs: list[dict[str, Any]], **headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return server.client.post(server.infer_path, json={"inputs": inputs}, headers=named).status_code

        for number in range(5):
            killing = pairs([number, LEAST], [1, -1])
            assert through(killing, x_forwarded_for="10.0.0.1, 10.0.0.7") == (422 if number < 3 else 429)
        assert through(GOOD, x_forwarded_for="10.0.0.7, 10.0.0.1") == 200
        for number in range(5, 10):
            assert through(pairs([number, LEAST], [1, -1]), via="1.1 proxy") == 422
        assert through(GOOD, via="1.1 proxy") == 200
        assert server.infer(*GOOD).status_code == 200


def test_a_process_that_is_killed_is_nobodys_fault(start: Start) -> None:
    server = start("slow", requestTimeoutMilliseconds=20_000).wait_until_ready()
    work = [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [3_000_000])]
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(server.infer(*work)))
    client.start()
    time.sleep(0.5)
    busiest = max(
        server.processes()[3:], key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().split()[13])
    )
    os.kill(busiest, signal.SIGKILL)
    client.join(20)
    assert (answers[0].status_code, answers[0].headers["retry-after"]) == (503, "1")
    few = [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [2])]
    assert server.infer(*few).status_code == 200


def test_a_run_without_end_is_over_at_its_deadline(start: Start) -> None:
    """One operator that takes for ever: onnxruntime itself looks between two of them only."""
    server = start("slow", requestTimeoutMilliseconds=500).wait_until_ready()
    work = [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [2**40])]
    began = time.monotonic()
    assert server.infer(*work).status_code == 503
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_ends_with_its_server(start: Start, number: int) -> None:
    server = start("slow", requestTimeoutMilliseconds=60_000).wait_until_ready()
    work = [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [2**40])]

    def send() -> None:
        with contextlib.suppress(httpx.TransportError):
            ask(server, work)

    client = threading.Thread(target=send)
    client.start()
    time.sleep(0.5)
    processes = server.processes()
    assert len(processes) == 4
    # The worker itself: what runs the model is not its child.
    os.kill(processes[1], number)
    server.process.kill()
    server.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/exe").exists() for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    client.join(30)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_the_port_stays_open_while_the_only_worker_is_started_again(start: Start, number: int) -> None:
    server = start("identity", requestTimeoutMilliseconds=20_000).wait_until_ready()
    row = [tensor("x", "FP32", [1, 3], [1, 2, 3])]
    assert server.infer(*row).status_code == 200
    _, worker = server.processes()
    os.kill(worker, number)
    for _ in range(5):
        assert ask(server, row).status_code == 200
    assert worker not in server.processes()
    assert crashes(server, "server") == 1
    # What a native library may have ended is kept out of the server from now on.
    assert ('"guarded":true' in server.log.read_text()) == (number == signal.SIGSEGV)


def test_the_workers_beside_one_that_died_run_the_model_elsewhere_from_then_on(start: Start) -> None:
    server = start("identity", processes=2).wait_until_ready()
    row = [tensor("x", "FP32", [1, 3], [1, 2, 3])]
    _, first, second = server.processes()
    os.kill(first, signal.SIGSEGV)
    deadline = time.monotonic() + 20
    while server.log.read_text().count('"message":"ready"') < 3:
        assert time.monotonic() < deadline
        assert ask(server, row).status_code == 200
    assert second in server.processes()
    assert [ask(server, row).status_code for _ in range(20)] == [200] * 20
    assert len(server.processes()) >= 1 + 2 + 2, "each worker has its template"


def test_a_model_that_ends_the_server_while_it_is_loaded_says_so_and_by_which_operator(start: Start) -> None:
    server = start("dies_of_zeros")
    assert server.wait() == 1
    outcome: Any = server.last_words().outcome
    assert outcome.failure.reason == ModelFault.MODEL_CRASHED
    assert "SIGFPE" in outcome.failure.message
    assert "node 'y' (Div)" in outcome.failure.message


def test_a_server_that_dies_again_and_again_is_not_ready_and_then_ends_with_its_reason(start: Start) -> None:
    server = start("identity", processes=2).wait_until_ready()
    unready = False
    deadline = time.monotonic() + 60
    while server.process.poll() is None:
        assert time.monotonic() < deadline
        victims = server.processes()[1:2]
        for pid in victims:
            os.kill(pid, signal.SIGSEGV)
        time.sleep(0.1)
        try:
            unready = unready or httpx.get(f"{server.url}/v2/health/ready", timeout=2).status_code == 503
        except httpx.TransportError:
            unready = True
    assert unready
    assert server.wait() == 1
    outcome: Any = server.last_words().outcome
    assert outcome.failure.reason == ModelFault.MODEL_CRASHED


#: A worker that is killed while it loads, as by the kernel or by somebody who may.
KILLED = """
import os, signal, sys
from pathlib import Path
from slipway_server import supervisor
from types import SimpleNamespace
from slipway_server.door.listen import bind
from slipway_server.board import Board

counts = Path(sys.argv[1])
supervisor._MEMORY_EVENTS = (counts / "none", counts)

def work(position, replaces):
    print("begins", flush=True)
    if sys.argv[2] == "memory":
        counts.write_text("oom_kill_disable 0\\nunder_oom 0\\noom_kill 1\\n")
    os.kill(os.getpid(), signal.SIGKILL)

settings = SimpleNamespace(termination_path=Path(sys.argv[3]), model_dir=counts.parent, inherited=None)
sockets = [(bind("127.0.0.1", 0), bind("127.0.0.1", 0))]
sys.exit(supervisor.Supervisor(Board(1), sockets, work, settings).run())
"""


@pytest.mark.parametrize(("by", "begun"), [("memory", 1), ("somebody", 2)])
def test_who_is_killed_while_loading_ends_the_container_as_killed_and_blames_no_model(
    tmp_path: Path, by: str, begun: int
) -> None:
    (tmp_path / "oom").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    words = tmp_path / "words"
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "oom"), by, str(words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 137, done.stderr
    assert done.stdout.splitlines() == ["begins"] * begun
    assert not words.exists()


def doubted(model: Any, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return doubts(folder / "model.onnx")


@pytest.mark.parametrize("name", ["regressor", "classifier", "pipeline", "two_inputs", "identity", "texts"])
def test_models_of_ordinary_operators_run_in_the_server_itself(tmp_path: Path, name: str) -> None:
    assert doubted(getattr(onnx_models, name)(), tmp_path) == []


PLAIN = "float[n] x, int32[n] i, int32[n] k"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("y = Div(x, x)", []),
        ("s = Sqrt(x) h = Cast<to = 1>(i) z = Div(h, h) y = Mul(s, z)", []),
        ("two = Constant<value: tensor = int32[1] {2}>() z = Div(i, two) y = Cast<to = 1>(z)", []),
        ("none = Constant<value: tensor = int32[1] {0}>() z = Div(i, none) y = Cast<to = 1>(z)", ["Div"]),
        ("z = Mod(i, k) y = Cast<to = 1>(z)", ["Mod"]),
        ("z = ArgMax<axis = 0>(x) w = Mod(z, z) y = Cast<to = 1>(w)", ["Mod"]),
        ("values, places = TopK<axis = 0>(x, k) w = Div(places, places) y = Cast<to = 1>(w)", ["Div"]),
        ("h = Where(i, i, k) z = Div(h, h) y = Cast<to = 1>(z)", ["Div"]),
        ("h = ConstantOfShape(k) z = Div(h, x) y = Mul(z, x)", []),
        ("y = MyOwn(x)", ["MyOwn"]),
        ("y = NonMaxSuppression(x)", ["NonMaxSuppression"]),
    ],
)
def test_only_what_may_end_a_process_is_doubted(tmp_path: Path, nodes: str, expected: list[str]) -> None:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({PLAIN}) => (float[n] y) {{ {nodes} }}'
    )
    assert [each.rpartition("(")[2].rstrip(")") for each in doubted(model, tmp_path)] == expected


def test_what_is_in_functions_and_branches_is_looked_at_too(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (int32[n] a) => (int32[n] y) { y = own.halve(a) }
        <opset_import: ["" : 17], domain: "own"> halve (a) => (y) { y = Mod(a, a) }"""
    assert doubted(parser.parse_model(text), tmp_path / "function") == ["node 'y' (Mod)"]
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[n] x) => (int32[n] y) { h = own.whole(x) y = Div(h, h) }
        <opset_import: ["" : 17], domain: "own"> whole (a) => (b) { b = Cast<to = 6>(a) }"""
    assert doubted(parser.parse_model(text), tmp_path / "typed") == ["node 'y' (Div)"]
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (int32[n] a, bool c) => (int32[n] y) {
            y = If(c) <then_branch = t () => (int32[n] p) { p = Div(a, a) },
                       else_branch = e () => (int32[n] q) { q = Identity(a) }>
        }"""
    assert doubted(parser.parse_model(text), tmp_path / "branch") == ["node 'p' (Div)"]
    (tmp_path / "branch" / "model.onnx").write_bytes(b"<html>")
    assert doubts(tmp_path / "branch" / "model.onnx") != []


def test_the_list_forgets_the_oldest_and_peers_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("slipway_server.runtime.blocklist.monotonic", lambda: now[0])
    memory = memoryview(bytearray(2 * PART_BYTES))
    one, other = Blocklist(memory, 0), Blocklist(memory, 1)
    assert not one
    digests = [number.to_bytes(16, "little") for number in range(ENTRIES + 1)]
    for digest in digests[:3]:
        one.add(digest, "10.0.0.1")
        now[0] += 10
    assert other
    assert other.has(digests[0])
    assert not other.has(digests[3])
    assert other.shut_out("10.0.0.1") == 50
    assert other.shut_out("10.0.0.2") == other.shut_out("") == 0
    now[0] += 41
    assert other.shut_out("10.0.0.1") == 0
    for digest in digests[3:]:
        one.add(digest, "")
    assert not other.has(digests[0])
    assert other.has(digests[1])
    assert Blocklist(memory, 0).has(digests[1]), "a process that replaces another goes on"


def test_a_digest_is_of_values_types_and_shapes() -> None:
    import numpy as np

    numbers: Callable[..., Any] = np.array
    base = {"a": numbers([1, 2], np.int32), "b": numbers(["x", "yz"], object)}
    assert digest_of(base) == digest_of(dict(reversed(base.items())))
    others = [
        {"a": numbers([1, 3], np.int32)},
        {"a": numbers([[1, 2]], np.int32)},
        {"a": numbers([1, 2], np.uint32)},
        {"b": numbers(["xy", "z"], object)},
        {"b": numbers([b"x", b"y\xff"], object)},
    ]
    assert len({digest_of(base | other) for other in others} | {digest_of(base)}) == 6
