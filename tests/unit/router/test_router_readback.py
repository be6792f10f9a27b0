"""What a router says of itself is what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from slipway.core.traffic.envoy.routes import Route
from slipway.infra.routers import ArmCounters, RouterError, read_router
from tests.ports import free_port
from tests.unit.router.running import Pods, running_router, send, until


async def test_counters_are_what_clients_saw(
    route: Route, stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    # A 4xx is the client's own doing, but for a model that fails at what its signature allows.
    canary.plan = lambda number: (0.0, {0: 422, 1: 500, 2: 400}.get(number % 7, 200))
    stable.plan = lambda number: (0.0, 503 if number % 100 == 0 else 200)
    async with running_router(tmp_path, [replace(route, weight=30)]) as router:
        load = await send(route.listener, 2_000)
        arms = (await read_router(router.address)).arms
        for revision, errors in (("aaaaaaaaaa", (503,)), ("bbbbbbbbbb", (422, 500))):
            counters = arms["fraud", revision].counters
            assert counters.requests == counters.meant == load.of(revision)
            assert all(load.answers[error, revision] > 0 for error in errors)
            assert counters.errors == sum(load.answers[error, revision] for error in errors)


async def test_who_is_not_let_in_is_told_from_who_is_answered(
    route: Route, canary: Pods, tmp_path: Path
) -> None:
    canary.plan = lambda number: (0.0, {0: 401, 1: 403, 2: 429, 3: 500, 4: 404}.get(number % 8, 200))
    async with running_router(tmp_path, [replace(route, weight=100)]) as router:
        load = await send(route.listener, 400)
        counters = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters
        strangers = sum(load.answers[code, "bbbbbbbbbb"] for code in (401, 403, 429))
        assert strangers == 150
        assert (counters.requests, counters.refused, counters.errors) == (400, strangers, 50)


async def test_slow_requests_are_counted_by_bound(route: Route, canary: Pods, tmp_path: Path) -> None:
    canary.plan = lambda number: (0.4 if number % 10 == 0 else 0.0, 200)
    async with running_router(tmp_path, [replace(route, weight=50)]) as router:
        load = await send(route.listener, 400)
        arms = (await read_router(router.address)).arms
        slow = arms["fraud", "bbbbbbbbbb"].counters.slow
        assert list(slow.values()) == sorted(slow.values(), reverse=True)
        # On a busy machine an answer may take longer than asked; never for the router and not for the client.
        late = load.of("bbbbbbbbbb") // 10
        assert late > 0
        assert late <= slow[250] <= load.slower("bbbbbbbbbb", 250)
        assert slow[1000] <= load.slower("bbbbbbbbbb", 1000)
        assert arms["fraud", "aaaaaaaaaa"].counters.slow[250] <= load.slower("aaaaaaaaaa", 250)


async def test_a_request_without_an_answer_is_ended_and_counts_as_slow_and_failed(
    route: Route, canary: Pods, tmp_path: Path
) -> None:
    canary.plan = lambda _: (5.0, 200)
    async with running_router(tmp_path, [replace(route, weight=100, timeout_milliseconds=200)]) as router:
        load = await send(route.listener, 4, 4)
        assert load.answers == {(504, ""): 4}
        counters = (await read_router(router.address)).arms["fraud", "bbbbbbbbbb"].counters
        assert (counters.requests, counters.errors, counters.slow[100]) == (4, 4, 4)


async def test_what_is_read_back_is_what_was_asked(route: Route, tmp_path: Path) -> None:
    wanted = replace(route, weight=17, mirror_percent=33)
    other = Route("other", free_port(), route.stable)
    async with running_router(tmp_path, [wanted, other]) as router:
        state = await read_router(router.address)
        assert state.does(wanted)
        assert state.does(other)
        assert not state.does(replace(wanted, weight=18))
        assert not state.does(replace(wanted, timeout_milliseconds=1))
        assert not state.does(Route("third", free_port(), route.stable))
        found = state.routes["fraud"]
        assert (found.stable, found.canary, found.weight, found.mirror_percent) == (
            "aaaaaaaaaa",
            "bbbbbbbbbb",
            17,
            33,
        )
        assert (state.routes["other"].weight, state.routes["other"].stable) == (0, "aaaaaaaaaa")


async def test_the_routers_own_port_changes_nothing_and_shows_no_more_than_needed(
    route: Route, tmp_path: Path
) -> None:
    async with running_router(tmp_path, [route]) as router, aiohttp.ClientSession() as session:

        async def ask(method: str, path: str) -> int:
            async with session.request(method, f"http://{router.address}{path}") as response:
                await response.read()
                return response.status

        for path in ("/ready", "/stats/prometheus?filter=fraud", "/stats", "/config_dump"):
            assert await ask("GET", path) == 200
        for method, path in (
            ("GET", "/"),
            ("GET", "/clusters"),
            ("GET", "/certs"),
            ("POST", "/quitquitquit"),
            ("POST", "/healthcheck/fail"),
            ("POST", "/drain_listeners"),
            ("POST", "/drain"),
            ("POST", "/ready"),
            ("GET", "/stats/../quitquitquit"),
            ("GET", "/runtime_modify?a=b"),
        ):
            assert await ask(method, path) in (404, 405), path
        assert router.process.poll() is None


async def test_a_router_that_is_not_there_is_told_from_one_that_says_nothing() -> None:
    with pytest.raises(RouterError, match="does not answer"):
        await read_router(f"127.0.0.1:{free_port()}")
    pods = await Pods("aaaaaaaaaa").start()
    with pytest.raises(RouterError, match="something else than JSON"):
        await read_router(f"127.0.0.1:{pods.arm.port}")


def test_counting_anew_is_noticed() -> None:
    before = ArmCounters(100, 5, {250: 3}, 90)
    assert ArmCounters(120, 6, {250: 3}, 130).since(before) == ArmCounters(20, 1, {250: 0}, 40)
    assert ArmCounters(7, 1, {250: 1}).since(before) == ArmCounters(7, 1, {250: 1})
    assert ArmCounters(1, 1, {250: 1}) + ArmCounters(2, 0, {250: 1}) == ArmCounters(3, 1, {250: 2})


async def test_a_router_that_does_what_is_known_says_only_that(route: Route, tmp_path: Path) -> None:
    async with running_router(tmp_path, [replace(route, weight=10)]) as router:
        known = await read_router(router.address)
        assert known.version
        await send(route.listener, 20)
        assert await read_router(router.address, known=known) is known, "counts and all"
        router.write([replace(route, weight=20)])
        state = await until(router, lambda state: state.routes["fraud"].weight == 20)
        again = await read_router(router.address, known=known)
        assert again.routes == state.routes
        assert sum(arm.counters.requests for arm in again.arms.values()) == 20
        assert again.version != known.version


async def test_a_router_that_has_no_routes_is_read_whole(route: Route, tmp_path: Path) -> None:
    async with running_router(tmp_path, []) as router:
        known = await read_router(router.address)
        router.write([route])
        await until(router, lambda state: state.does(route))
        assert (await read_router(router.address, known=known)).does(route)
