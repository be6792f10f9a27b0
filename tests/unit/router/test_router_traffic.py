"""A real Envoy does with requests what the routes say."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from e2e.ledger import hold
from slipway.core.rollout.sample_ratio_mismatch import sample_ratio_mismatch
from slipway.core.traffic.envoy import config
from slipway.core.traffic.envoy.routes import Route
from slipway.infra.routers import read_router
from tests.ports import free_port, free_ports
from tests.unit.router.naming import naming
from tests.unit.router.running import (
    Load,
    Pods,
    bring,
    connect,
    eventually,
    memory,
    request,
    running_router,
    send,
    tried,
    until,
)

#: A correct split fails a test of this many standard deviations once in 150,000 runs.
MOST_DEVIATION = 4.5


def deviation(seen: int, of: int, percent: int) -> float:
    """Standard deviations between a count and its expectation."""
    share = percent / 100
    return abs(seen - of * share) / math.sqrt(of * share * (1 - share))


async def test_shares_are_within_binomial_error_of_the_weights(route: Route, tmp_path: Path) -> None:
    async with running_router(tmp_path, [route]) as router:
        before = route
        for weight in (1, 10, 50):
            wanted = replace(route, weight=weight)
            await bring(router, wanted, before=before)
            before = wanted
            load = await send(route.listener, 10_000, connections=4)
            assert load.failed == 0
            assert deviation(load.of("bbbbbbbbbb"), 10_000, weight) < MOST_DEVIATION, load.answers


@pytest.mark.timed
async def test_nothing_fails_while_weights_change_fifty_times(route: Route, tmp_path: Path) -> None:
    async with running_router(tmp_path, [route]) as router:
        load, took = Load(), []
        sending = asyncio.create_task(send(route.listener, 1_000_000, connections=6, into=load))
        before = route
        for number in range(50):
            wanted = replace(route, weight=(number * 37) % 101, mirror_percent=(number * 13) % 101)
            begun = time.monotonic()
            await bring(router, wanted, before=before)
            took.append(time.monotonic() - begun)
            before = wanted
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert load.broken == []
        assert load.failed == 0
        assert load.total > 1_000
        # From the file's swap to its proof; it takes a few milliseconds on an idle machine.
        hold("a change of weights until a router proves it, median of 50", sorted(took)[25], 1.0)


async def test_a_promotion_swaps_roles_without_a_failure(route: Route, tmp_path: Path) -> None:
    """argoproj/argo-rollouts#3372: all traffic must never lead to what cannot take it."""
    async with running_router(tmp_path, [route]) as router:
        load = Load()
        sending = asyncio.create_task(send(route.listener, 1_000_000, connections=4, into=load))
        full = replace(route, weight=100)
        await bring(router, full, before=route)
        assert route.canary is not None
        alone = replace(route, stable=route.canary, canary=None)
        await bring(router, alone, before=full)
        state = await until(router, lambda state: state.does(alone))
        assert not any("aaaaaaaaaa" in name for name in state.clusters)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert load.failed == 0
        after = await send(route.listener, 200)
        assert after.of("bbbbbbbbbb") == 200


async def test_mirrored_requests_reach_the_canary_and_cost_the_client_nothing(
    route: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    canary.plan = lambda _: (0.0, 500)
    async with running_router(tmp_path, [replace(route, mirror_percent=100)]) as router:
        load = await send(route.listener, 1_000)
        assert load.answers == {(200, "aaaaaaaaaa"): 1_000}
        await until(router, lambda _: len(canary.heads) == 1_000)
        state = await until(router, lambda state: state.arms["fraud", "bbbbbbbbbb"].shadow.requests == 1_000)
        # A copy is the same request: same path, same Host, same id to join answers by.
        ids = [_header(head, "x-request-id") for head in stable.heads]
        assert sorted(ids) == sorted(_header(head, "x-request-id") for head in canary.heads)
        assert {_header(head, "host") for head in canary.heads} == {"fraud.payments"}
        # What copies did is told apart from what clients saw.
        arm = state.arms["fraud", "bbbbbbbbbb"]
        assert (arm.shadow.errors, arm.counters.requests) == (1_000, 0)
        quarter = replace(route, mirror_percent=25)
        await bring(router, quarter, before=replace(route, mirror_percent=100))
        await send(route.listener, 2_000)
        await until(
            router,
            lambda state: state.arms["fraud", "bbbbbbbbbb"].shadow.requests == len(canary.heads),
        )
        assert deviation(len(canary.heads) - 1_000, 2_000, 25) < MOST_DEVIATION


def _header(head: bytes, name: str) -> str:
    lines = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
    return next(value for key, _, value in lines if key.lower() == name)


async def test_a_clients_request_id_is_kept(route: Route, stable: Pods, tmp_path: Path) -> None:
    async with running_router(tmp_path, [route]):
        await send(route.listener, 1, 1, request("x-request-id: mine\r\n"))
        assert _header(stable.heads[0], "x-request-id") == "mine"


async def test_a_ramp_keeps_the_users_of_the_canary(route: Route, tmp_path: Path) -> None:
    """fluxcd/flagger#1647: the cookie led all users to the canary for good."""
    """fluxcd/flagger#1647: stickiness must not leak users from one arm to the other."""
    users = [request(f"x-user-id: user-{number}\r\n") for number in range(300)]
    before = replace(route, weight=10, affinity_header="x-user-id")
    async with running_router(tmp_path, [before]) as router:
        on_canary: set[int] = set()
        for weight in (10, 25, 50):
            wanted = replace(before, weight=weight)
            await bring(router, wanted, before=before)
            before = wanted
            connection = await connect(route.listener)
            first = [(await connection.ask(user))[1] for user in users]
            again = [(await connection.ask(user))[1] for user in users]
            assert first == again
            now = {number for number, arm in enumerate(first) if arm == "bbbbbbbbbb"}
            assert on_canary <= now
            assert deviation(len(now), len(users), weight) < MOST_DEVIATION
            on_canary = now
        load = await send(route.listener, 1_000)
        assert deviation(load.of("bbbbbbbbbb"), 1_000, 50) < MOST_DEVIATION


async def test_a_dead_canary_costs_no_client_an_error_and_is_seen(
    route: Route, canary: Pods, tmp_path: Path
) -> None:
    async with running_router(tmp_path, [replace(route, weight=10)]) as router:
        assert (await send(route.listener, 500)).failed == 0
        before = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters
        assert before.errors == 0
        await canary.kill()
        # While Envoy tries it in vain, and once it no longer tries.
        load = await send(route.listener, 1_000)
        await until(router, lambda state: state.arms["fraud", "bbbbbbbbbb"].healthy_pods == 0)
        await send(route.listener, 1_000, into=load)
        assert load.answers == {(200, "aaaaaaaaaa"): 2_000}
        assert load.broken == []
        arms = (await read_router(router.address)).arms
        seen = arms["fraud", "bbbbbbbbbb"].counters.since(before)
        assert seen.errors == seen.requests > 0
        # What went to the other arm at once is no evidence: it says nothing of this one. Of the second
        # thousand nothing counts.
        assert seen.requests < 150
        # But the split did as it was told.
        assert sample_ratio_mismatch(10, seen.meant, arms["fraud", "aaaaaaaaaa"].counters.meant) is None
        assert deviation(seen.meant, 2_000, 10) < MOST_DEVIATION
        assert arms["fraud", "aaaaaaaaaa"].counters.errors == 0


async def test_what_a_killed_canary_was_computing_is_asked_of_the_stable_revision(
    route: Route, canary: Pods, tmp_path: Path
) -> None:
    canary.plan = lambda _: (5.0, 200)
    async with running_router(tmp_path, [replace(route, weight=100)]) as router:
        sending = asyncio.create_task(send(route.listener, 5, connections=5))
        state = await until(router, lambda _: len(canary.heads) == 5)
        assert state.arms["fraud", "bbbbbbbbbb"].counters.meant == 5, "those under way, too"
        await canary.kill()
        assert (await sending).answers == {(200, "aaaaaaaaaa"): 5}
        counters = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters
        assert (counters.requests, counters.errors, counters.meant) == (5, 5, 5)


async def test_nothing_but_inference_is_asked_twice(
    route: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    canary.plan = lambda _: (5.0, 200)
    feedback = request().replace(b"/infer", b"/feedback")
    async with running_router(tmp_path, [replace(route, weight=100)]) as router:
        sending = asyncio.create_task(send(route.listener, 5, connections=5, asked=feedback))
        await until(router, lambda _: len(canary.heads) == 5)
        await canary.kill()
        assert (await sending).answers == {(503, ""): 5}
        assert stable.heads == []
        # What no pod has seen may go to another.
        assert (await send(route.listener, 5, asked=feedback)).answers == {(200, "aaaaaaaaaa"): 5}


async def test_a_canary_that_is_not_well_gets_nothing_until_it_is(
    route: Route, canary: Pods, tmp_path: Path
) -> None:
    async with running_router(tmp_path, [replace(route, weight=50)]) as router:
        canary.well = False
        await until(router, lambda state: state.arms["fraud", "bbbbbbbbbb"].healthy_pods == 0)
        assert (await send(route.listener, 200)).answers == {(200, "aaaaaaaaaa"): 200}
        canary.well = True
        await until(router, lambda state: state.arms["fraud", "bbbbbbbbbb"].healthy_pods == 1)
        assert (await send(route.listener, 200)).of("bbbbbbbbbb") > 50


@pytest.mark.timed
async def test_a_canary_that_gets_ready_has_traffic_within_moments(
    route: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    """Nor has it any before: DNS names a pod once that is ready, and its own answer has to agree."""
    async with naming() as names:
        names.addresses["stable"] = ["127.0.0.1"]
        arms = [replace(pods.arm, host=name) for pods, name in ((stable, "stable"), (canary, "canary"))]
        named = replace(route, stable=arms[0], canary=arms[1], weight=50)
        async with running_router(tmp_path, [named], resolver=names.resolver()) as router:
            assert (await send(route.listener, 200)).answers == {(200, "aaaaaaaaaa"): 200}
            canary.well = False
            names.addresses["canary"] = ["127.0.0.1"]
            await until(router, lambda state: state.arms["fraud", "bbbbbbbbbb"].pods == 1)
            assert (await send(route.listener, 200)).answers == {(200, "aaaaaaaaaa"): 200}
            assert canary.heads == []
            del names.addresses["canary"]
            await until(router, lambda state: state.arms["fraud", "bbbbbbbbbb"].pods == 0)
            canary.well = True
            names.asked.clear()
            names.given.clear()
            names.addresses["canary"] = ["127.0.0.1"]
            begun = time.monotonic()
            load = Load()
            while not load.of("bbbbbbbbbb"):
                await send(route.listener, 20, 1, into=load)
                await asyncio.sleep(0.02)
            took = time.monotonic() - begun
            assert load.failed == 0
            # A second until the name is asked for again, however long its last answer said that it holds, and
            # what a busy machine adds; then at once.
            hold("a new canary's name is asked for", names.given["canary"] - begun, 1.8)
            hold("its first answer after that", begun + took - names.given["canary"], 0.9)
            # By each of its clusters, once a second.
            assert names.asked["canary"] <= 2 * (took + 2)


async def test_models_come_and_go_without_a_restart(route: Route, tmp_path: Path) -> None:
    async with running_router(tmp_path, []) as router:
        pid = router.process.pid
        await bring(router, route)
        load = Load()
        sending = asyncio.create_task(send(route.listener, 1_000_000, connections=2, into=load))
        others = [Route(f"model-{number}", free_port(), route.stable) for number in range(5)]
        for number, other in enumerate(others):
            await bring(router, other, [route, *others[:number]])
            assert (await send(other.listener, 20)).of("aaaaaaaaaa") == 20
        router.write([route])
        await until(router, lambda state: state.listeners == {"fraud"})
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert load.failed == 0
        assert load.total > 0
        assert (router.process.pid, router.process.poll()) == (pid, None)


async def test_a_model_that_leaves_a_router_sends_its_clients_away_before_its_route_goes(
    route: Route, tmp_path: Path
) -> None:
    """A connection may be kept for hours; a route that goes before it does is answered with 404."""
    other = Route("other", free_port(), route.stable)
    leaving = replace(route, leaving=True)
    async with running_router(tmp_path, [route, other]) as router:
        kept, idle, neighbour = [await connect(port) for port in (route.listener,) * 2 + (other.listener,)]
        for connection in (kept, idle, neighbour):
            assert (await connection.ask(request()))[0] == 200
        await bring(router, leaving, [other], before=route)
        assert (await kept.ask(request()))[:2] == (200, "aaaaaaaaaa")
        assert kept.closed
        with pytest.raises(OSError, match=r"Connect call failed"):
            await connect(route.listener)
        # Within the time for which a router drains.
        await eventually(lambda: idle.closed)
        router.write([other])
        await until(router, lambda state: set(state.routes) == {"other"})
        assert (await neighbour.ask(request()))[0] == 200
        # And it may come back.
        await bring(router, route, [other])
        assert (await send(route.listener, 50)).failed == 0


async def test_what_envoy_refuses_changes_nothing_for_anyone(route: Route, tmp_path: Path) -> None:
    at_ten, at_fifty = replace(route, weight=10), replace(route, weight=50)
    async with running_router(tmp_path, [at_ten]) as router:
        files = config.files([at_fifty], directory=str(tmp_path / "files"), address="127.0.0.1")
        for broken in ("{", "", files["weights.json"].replace('"weight":50', '"weight":"much"')):
            async with tried(router):
                router.write_files({**files, "weights.json": broken})
            assert (await read_router(router.address)).does(at_ten)
            assert (await send(route.listener, 200)).failed == 0
        router.write_files(files)
        await until(router, lambda state: state.does(at_fifty))


async def test_a_cluster_that_is_missing_or_refused_costs_its_own_model_alone(
    route: Route, tmp_path: Path
) -> None:
    """envoyproxy/gateway#7483: one invalid route must not become everyone's 500."""
    good = Route("good", free_port(), route.stable)
    at_fifty = replace(route, weight=50)
    async with running_router(tmp_path, [route, good]) as router:
        files = config.files([at_fifty, good], directory=str(tmp_path / "files"), address="127.0.0.1")
        clusters = json.loads(files["clusters.json"])
        mine = next(one for one in clusters["resources"] if one["name"] == "fraud/bbbbbbbbbb-else-aaaaaaaaaa")
        clusters["resources"].remove(mine)
        refused = {**clusters, "resources": [{**mine, "name": ""}, *clusters["resources"]]}
        for broken in (clusters, refused):
            async with tried(router):
                router.write_files({**files, "clusters.json": json.dumps(broken)})
            state = await read_router(router.address)
            assert state.does(good)
            assert not state.does(at_fifty)
            assert (await send(good.listener, 100)).failed == 0
        router.write([at_fifty, good])
        await until(router, lambda state: state.does(at_fifty))
        assert (await send(route.listener, 200)).failed == 0


async def test_a_client_cannot_reach_another_model_by_a_header(
    route: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    other = Route("other", free_port(), canary.arm)
    async with running_router(tmp_path, [route, other]):
        for forged in ("x-slipway-route: other\r\n", "x-envoy-max-retries: 9\r\n"):
            load = await send(route.listener, 5, 1, request(forged))
            assert load.answers == {(200, "aaaaaaaaaa"): 5}
        # Nor does a pod see what the router adds for itself.
        assert not any(b"x-slipway" in head or b"max-retries" in head for head in stable.heads)


async def test_a_hundred_models_are_no_burden(route: Route, tmp_path: Path) -> None:
    """Neither of memory, nor of inotify instances, of which a node has few."""
    ports = free_ports(100)
    routes = [replace(route, name=f"model-{port}", listener=port) for port in ports]
    async with running_router(tmp_path, routes) as router:
        assert router.inotify_instances() <= 4
        assert (await send(routes[-1].listener, 100)).failed == 0
        router.write([replace(one, weight=7) for one in routes])
        state = await until(router, lambda state: state.does(replace(routes[50], weight=7)))
        assert len(state.routes) == 100
        assert memory(router.process.pid) < 150 * 1024 * 1024


async def test_a_router_is_replaced_without_a_lost_request(route: Route, tmp_path: Path) -> None:
    """Both routers behind one address, as pods behind a Service."""
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    twin = replace(route, listener=free_port())
    async with (
        running_router(first, [route]) as old,
        running_router(second, [twin]),
        aiohttp.ClientSession() as session,
    ):
        address = [route.listener]
        load = Load()

        async def client() -> None:
            connection = await connect(address[0])
            while True:
                if connection.closed:
                    connection = await connect(address[0])
                status, arm, _ = await connection.ask(request())
                load.answers[status, arm] += 1
                await asyncio.sleep(0.01)

        clients = [asyncio.create_task(client()) for _ in range(8)]
        await eventually(lambda: load.total > 100)
        # The kubelet calls the hook while the Service leads new connections elsewhere.
        address[0] = twin.listener
        begun = time.monotonic()
        async with session.get(f"http://{old.address}/drain") as response:
            assert response.status == 200
        # Two seconds by Envoy's clock, which need not agree with ours to the millisecond.
        assert time.monotonic() - begun > 1.5
        async with session.get(f"http://{old.address}/ready") as response:
            assert response.status == 503
        await asyncio.to_thread(old.stop)
        answered = load.total
        await eventually(lambda: load.total > answered + 100 or any(task.done() for task in clients))
        assert not any(task.done() for task in clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert load.failed == 0
        assert load.total > 200


async def test_a_hung_canary_of_one_model_does_not_touch_another(
    route: Route, canary: Pods, tmp_path: Path
) -> None:
    canary.plan = lambda _: (30.0, 200)
    quiet = Route("quiet", free_port(), route.stable)
    async with running_router(tmp_path, [replace(route, weight=100), quiet]):
        hanging = asyncio.create_task(send(route.listener, 500, connections=200))
        await eventually(lambda: len(canary.heads) == 200)
        load = await send(quiet.listener, 500)
        assert load.answers == {(200, "aaaaaaaaaa"): 500}
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_a_router_is_small(route: Route, tmp_path: Path) -> None:
    async with running_router(tmp_path, [route]) as router:
        await send(route.listener, 200)
        assert memory(router.process.pid) < 100 * 1024 * 1024
