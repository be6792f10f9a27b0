"""The real model server behind the real router: gRPC and REST on one port."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio
import hpack
import httpx
import pytest

from slipway.core.traffic.envoy.routes import Arm, Route
from slipway.infra.routers import read_router
from slipway_server.door.listen import bind
from slipway_server.http.server import HttpServer
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.rpc.server import RpcServer
from tests.ports import free_port, free_ports
from tests.server.conftest import Start
from tests.server.grpc_wire import good_body
from tests.server.running import Server, tensor
from tests.server.test_grpc import given, request
from tests.unit.router.running import eventually, running_router

IN_FLIGHT = ("slipway_inference_in_flight", (("model", "fraud"), ("model_version", "3")))
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="session")
def stack() -> str:
    return "own"


def arm(server: Server, revision: str) -> Arm:
    return Arm(revision, "127.0.0.1", server.http_port, server.grpc_port)


async def load(port: int, answers: Counter[str], until: asyncio.Event) -> None:
    """Calls over one connection, 16 at a time; how often each version answered, or each status came."""
    given = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    given.contents.fp32_contents.extend([1, 2, 3])
    message = oip.ModelInferRequest(model_name="fraud", inputs=[given]).SerializeToString()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(INFER, None, oip.ModelInferResponse.FromString)

        async def one() -> None:
            while not until.is_set():
                try:
                    answer = await infer(message, timeout=10)
                    answers[answer.model_version] += 1
                except grpc.aio.AioRpcError as error:
                    answers[error.code().name] += 1

        await asyncio.gather(*(one() for _ in range(16)))


async def test_grpc_is_split_among_revisions_and_one_that_leaves_costs_no_call(
    start: Start, tmp_path: Path
) -> None:
    stable = start("identity", modelVersion="3", drainSeconds=3)
    canary = start("identity", modelVersion="4", drainSeconds=3)
    for server in (stable, canary):
        server.wait_until_ready()
    route = Route("fraud", free_port(), arm(stable, "aaaaaaaaaa"), arm(canary, "bbbbbbbbbb"), weight=50)
    answers: Counter[str] = Counter()
    until = asyncio.Event()
    async with running_router(tmp_path, [route]) as router:
        calls = asyncio.create_task(load(route.listener, answers, until))
        await eventually(lambda: min(answers["3"], answers["4"]) > 20)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{route.listener}") as client:
            document = {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}
            versions = [
                (await client.post(canary.infer_path, json=document)).json()["model_version"]
                for _ in range(50)
            ]
        assert set(versions) == {"3", "4"}
        canary.terminate()
        assert await asyncio.to_thread(canary.wait) == 0
        before = answers["3"]
        await eventually(lambda: answers["3"] > before + 50)
        until.set()
        await calls
        counted = (await read_router(router.address)).arms
    assert set(answers) == {"3", "4"}, "a call failed"
    assert counted["fraud", "aaaaaaaaaa"].counters.errors == 0


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
async def test_what_a_worker_takes_down_with_it_gets_an_answer_after_which_to_ask_again(
    start: Start, tmp_path: Path, number: int
) -> None:
    server = start("slow", requestTimeoutMilliseconds=20_000)
    server.wait_until_ready()
    route = Route("fraud", free_port(), arm(server, "aaaaaaaaaa"))
    inputs = [tensor("x", "FP32", [1], [4.0]), tensor("n", "INT64", [1], [3_000_000])]
    work = request(given("x", "FP32", [1], [4.0]), given("n", "INT64", [1], [3_000_000]))
    async with (
        running_router(tmp_path, [route]) as router,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{route.listener}", timeout=20) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{route.listener}") as routed,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as direct,
    ):
        rest = asyncio.create_task(client.post(server.infer_path, json={"inputs": inputs}))
        calls = [
            asyncio.create_task(status_of(each.unary_unary(INFER)(work.SerializeToString(), timeout=20)))
            for each in (routed, direct)
        ]
        await eventually(lambda: server.metrics()[IN_FLIGHT] == 3)
        os.kill(server.processes()[1], number)
        assert (await rest).status_code == 503
        assert [await each for each in calls] == [grpc.StatusCode.UNAVAILABLE] * 2
        # And so they do: the port was open all the time.
        few = [inputs[0], tensor("n", "INT64", [1], [2])]
        statuses: list[int] = []
        while 200 not in statuses:
            statuses.append((await client.post(server.infer_path, json={"inputs": few})).status_code)
        assert set(statuses) <= {200, 503}
        assert router.address


async def status_of(call: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> grpc.StatusCode:
    return await call.code()


async def test_calls_that_come_through_the_router_are_known_by_their_bytes(
    server: RpcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    decode = hpack.Decoder.decode

    def counted(self: hpack.Decoder, data: bytes, raw: bool = False) -> object:
        read.append(data)
        return decode(self, data, raw)

    rest = HttpServer(server.frontend)
    ports = free_ports(2)
    for door, port in zip((rest, server), ports, strict=True):
        await door.start(bind("127.0.0.1", port))
    route = Route("fraud", free_port(), Arm("a" * 10, "127.0.0.1", *ports))
    message = good_body()[5:]
    async with (
        running_router(tmp_path, [route]),
        grpc.aio.insecure_channel(f"127.0.0.1:{route.listener}") as channel,
    ):
        infer = channel.unary_unary(INFER)
        await infer(message, timeout=10, wait_for_ready=True)
        monkeypatch.setattr(hpack.Decoder, "decode", counted)
        for number in range(60):
            await infer(message, timeout=10 + number / 7)
    for door in (rest, server):
        await door.stop(0)
    assert len(read) < 5
