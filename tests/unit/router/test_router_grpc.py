"""gRPC goes the same ways as REST, on the same port."""

from __future__ import annotations

import asyncio
import collections
from dataclasses import replace
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
import pytest

from slipway.core.traffic.envoy.routes import Route
from slipway.infra.routers import read_router
from tests.ports import free_port
from tests.unit.router.running import Pods, bring, connect, request, running_router, send
from tests.unit.router.test_router_traffic import MOST_DEVIATION, deviation

INFER = "/inference.GRPCInferenceService/ModelInfer"


async def serve(pods: Pods, failing: bool = False) -> grpc.aio.Server:
    """A gRPC server beside the pods' REST: it answers with its revision's name, or fails."""
    pods.arm = replace(pods.arm, grpc_port=free_port())

    async def answer(asked: bytes, context: grpc.aio.ServicerContext) -> bytes:
        del asked
        if failing:
            await context.abort(grpc.StatusCode.INTERNAL, "no")
        return pods.arm.revision.encode()

    class Any(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Any(),))
    server.add_insecure_port(f"127.0.0.1:{pods.arm.grpc_port}")
    await server.start()
    return server


async def call(port: int, count: int) -> collections.Counter[str]:
    """Calls over one connection, 20 at a time; how often each revision answered, or each status came."""
    answers: collections.Counter[str] = collections.Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(INFER)
        left = iter(range(count))

        async def one() -> None:
            for _ in left:
                try:
                    answers[(await infer(b"asked", timeout=10)).decode()] += 1
                except grpc.aio.AioRpcError as error:
                    answers[error.code().name] += 1

        await asyncio.gather(*(one() for _ in range(20)))
    return answers


@pytest.fixture
def both(stable: Pods, canary: Pods) -> Route:
    return Route("fraud", free_port(), stable.arm, canary.arm)


async def test_grpc_is_split_as_rest_is_over_one_connection(
    both: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    servers = [await serve(stable), await serve(canary)]
    route = replace(both, stable=stable.arm, canary=canary.arm, weight=10)
    async with running_router(tmp_path, [route]) as router:
        assert (await read_router(router.address)).does(route)
        answers = await call(route.listener, 2_000)
        assert answers.total() == answers["aaaaaaaaaa"] + answers["bbbbbbbbbb"] == 2_000
        assert deviation(answers["bbbbbbbbbb"], 2_000, 10) < MOST_DEVIATION
        assert (await send(route.listener, 100)).failed == 0
        arms = (await read_router(router.address)).arms
        assert sum(arm.counters.requests for arm in arms.values()) == 2_100
    for server in servers:
        await server.stop(None)


async def test_metadata_of_grpc_keeps_a_user_on_an_arm_as_the_header_of_rest_does(
    both: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    servers = [await serve(stable), await serve(canary)]
    before = replace(both, stable=stable.arm, canary=canary.arm, weight=10, affinity_header="x-user-id")
    users = [f"user-{number}" for number in range(200)]
    async with (
        running_router(tmp_path, [before]) as router,
        grpc.aio.insecure_channel(f"127.0.0.1:{before.listener}") as channel,
    ):
        infer = channel.unary_unary(INFER)
        on_canary: set[str] = set()
        for weight in (10, 25, 50):
            wanted = replace(before, weight=weight)
            await bring(router, wanted, before=before)
            before = wanted
            found = [(await infer(b"", metadata=(("x-user-id", user),))).decode() for user in users]
            now = {user for user, arm in zip(users, found, strict=True) if arm == "bbbbbbbbbb"}
            assert on_canary <= now
            assert deviation(len(now), len(users), weight) < MOST_DEVIATION
            on_canary = now
        connection = await connect(before.listener)
        asked = [await connection.ask(request(f"x-user-id: {user}\r\n")) for user in users]
        assert {
            user for user, (_, arm, _) in zip(users, asked, strict=True) if arm == "bbbbbbbbbb"
        } == on_canary
        # What is counted are requests: one user may make most of them.
        counted = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters
        heavy = min(on_canary)
        for _ in range(100):
            await infer(b"", metadata=(("x-user-id", heavy),))
        after = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters.since(counted)
        assert after.requests == 100
        # Without the metadata: at random.
        answers = await call(before.listener, 1_000)
        assert deviation(answers["bbbbbbbbbb"], 1_000, 50) < MOST_DEVIATION
    for server in servers:
        await server.stop(None)


async def test_a_dead_canary_costs_no_grpc_client_an_error(
    both: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    servers = [await serve(stable), await serve(canary)]
    route = replace(both, stable=stable.arm, canary=canary.arm, weight=50)
    async with running_router(tmp_path, [route]) as router:
        assert (await call(route.listener, 200))["bbbbbbbbbb"] > 50
        before = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters
        await servers[1].stop(None)
        assert await call(route.listener, 400) == {"aaaaaaaaaa": 400}
        after = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters.since(before)
        assert after.errors == after.requests > 100
    await servers[0].stop(None)


async def test_a_grpc_status_of_failure_counts_as_an_error(
    both: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    """It comes with HTTP status 200."""
    servers = [await serve(stable), await serve(canary, failing=True)]
    route = replace(both, stable=stable.arm, canary=canary.arm, weight=50)
    async with running_router(tmp_path, [route]) as router:
        answers = await call(route.listener, 200)
        arms = (await read_router(router.address)).arms
        assert arms["fraud", "bbbbbbbbbb"].counters.errors == answers["INTERNAL"] > 50
        assert arms["fraud", "aaaaaaaaaa"].counters.errors == 0
    for server in servers:
        await server.stop(None)
