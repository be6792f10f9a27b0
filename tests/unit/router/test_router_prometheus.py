"""A real Prometheus that scrapes a real router has the very counts that the router gives itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from slipway.core.traffic.envoy.prometheus import Scraped, query, scraped
from slipway.core.traffic.envoy.readback import ArmCounters, ArmState
from slipway.core.traffic.envoy.routes import Route
from slipway.engine.observers.prometheus import PrometheusError
from slipway.infra.bounded import Budget, reading_session
from slipway.infra.prometheus import ask, prometheus_reader
from slipway.infra.routers import read_router
from tests.ports import free_port
from tests.unit.infra.test_pods import answering
from tests.unit.router.prometheus import running_prometheus
from tests.unit.router.running import Pods, bring, running_router, send

Arms = Mapping[tuple[str, str], ArmState]


def plan(number: int) -> tuple[float, int]:
    """Every seventh answer is an error, every eleventh is late."""
    return (0.06 if number % 11 == 0 else 0.0), (500 if number % 7 == 0 else 422 if number % 13 == 0 else 200)


def counts(arms: Arms) -> dict[tuple[str, str], ArmCounters]:
    """Requests and copies, by ModelDeployment and revision."""
    return {name: arm.counters + arm.shadow for name, arm in arms.items()}


async def test_counts_are_equal_and_so_are_their_differences(tmp_path: Path) -> None:
    stable, canary = await Pods("aaa").start(), await Pods("bbb").start()
    canary.plan = plan
    route = Route(
        "fraud", free_port(), stable.arm, canary.arm, weight=50, mirror_percent=30, timeout_milliseconds=1000
    )
    async with running_router(tmp_path / "router", [route]) as router, prometheus_reader(Budget()) as read:
        await bring(router, route)
        with running_prometheus(tmp_path, {"router-0": router.address}) as address:

            async def seen() -> Scraped:
                """What Prometheus has once two scrapes have followed what went before."""
                begun = time.time()
                for _ in range(100):
                    found = scraped(await read("payments", address, query("payments", "fraud"))).get(
                        "router-0"
                    )
                    if found is not None and sum(moment > begun for moment in found.times) >= 2:
                        return found
                    await asyncio.sleep(0.2)
                raise AssertionError(f"not scraped twice: {found}")

            await send(route.listener, 500)
            # Nobody waits for the answers to copies.
            await asyncio.sleep(0.3)
            own = counts((await read_router(router.address)).arms)
            assert own["fraud", "bbb"].errors > 20
            assert own["fraud", "bbb"].slow[50] > 10
            assert own["fraud", "bbb"].requests > own["fraud", "aaa"].requests, "copies count as well"
            other = counts((await seen()).arms)
            assert other == own
            await send(route.listener, 300)
            await asyncio.sleep(0.3)
            own_later = counts((await read_router(router.address)).arms)
            other_later = counts((await seen()).arms)
            for arm in own:
                since = other_later[arm].since(other[arm])
                assert since == own_later[arm].since(own[arm])
                assert since.requests > 100
            assert scraped(await read("payments", address, query("payments", "other"))) == {}
            with pytest.raises(PrometheusError, match=r"refuses the query \(status 400\); its log"):
                await read("payments", address, "{")


async def test_what_is_no_prometheus_is_an_error_that_says_what_is_wrong() -> None:
    async with prometheus_reader(Budget()) as read:
        nobody = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(PrometheusError, match=f"{nobody} does not answer: ClientConnectorError"):
            await read("payments", nobody, "up[1m]")
    async with reading_session() as session:
        for text, status, said in (
            ("<html>", 200, "answers with something else than JSON"),
            ('{"data": {"resultType": "vector", "result": []}}', 200, "answers as no Prometheus does"),
            ("[]", 200, "answers with something else than a JSON object"),
            ("gone", 502, "answers with status 502"),
            ("", 302, "answers with status 302"),
            (" " * 40_000_000, 200, "more than"),
        ):
            async with answering(text, status) as address:
                with pytest.raises(PrometheusError, match=said):
                    await ask(f"http://{address}", "up[1m]", session)
