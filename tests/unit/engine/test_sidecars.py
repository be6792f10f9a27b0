"""Containers beside the model server that restart, and routers that do, in the middle of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slipway.core.observed import Manifest, ObjectKind, revision_of_object
from slipway.core.traffic.envoy.objects import CONTAINER
from tests.unit.engine import test_gateway_api, test_judging
from tests.unit.fake import place_of, stamp
from tests.unit.fake_routers import is_any_router
from tests.unit.world import World

GATES = [{"name": "contract", "type": "Violations", "dryRun": True}, {"name": "errors", "type": "ErrorRate"}]
HELD = {"strategy": "Canary", "steps": [{"setWeight": 50}, {"pause": {"untilApproved": True}}]}


def start(world: World, pods: Callable[[Manifest], bool], **restarts: int) -> None:
    """The cluster's word of containers: those named began now if they restarted, else with their pod."""
    for pod in filter(pods, world.kube.all(ObjectKind.POD)):
        if "startTime" not in pod.get("status", {}):
            continue
        found = []
        for name, count in restarts.items():
            began = stamp(world.now) if count else pod["status"]["startTime"]
            running = {"state": {"running": {"startedAt": began}}}
            found.append({"name": name, "restartCount": count, "containerID": f"{name}-{count}", **running})
        world.kube.edit(
            place_of(pod), lambda live, found=found: live["status"].update(containerStatuses=found)
        )


def is_server(pod: Manifest) -> bool:
    return revision_of_object(pod) is not None


async def canary(world: World, spec: dict[str, Any]) -> None:
    """Version 2 at 50% beside version 1, which served 200 requests a second for long, of which 5% failed."""
    world.routers.error_rate = world.routers.violation_rate = lambda _: 0.05
    world.routers.requests_per_second = 200
    await world.run(400)
    world.create({**spec, "rollout": {**HELD, "analysis": {"gates": GATES}}})
    await world.run(100)
    start(world, is_server, server=0, proxy=0)
    start(world, is_any_router, **{CONTAINER: 0, "proxy": 0})
    await world.run(60)


def looks(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.status()["rollout"]["looks"]
    return found


def is_one_window(look: dict[str, Any]) -> bool:
    """No more than came in half a minute and what is late, and about the share of it that fails."""
    requests = [look["canaryRequests"], look["stableRequests"]]
    served = [look.get("canaryServed", 0), look.get("stableServed", 0)]
    events = [found for arm in ("canary", "stable") for found in look[f"{arm}Events"]]
    return max(*requests, *served) <= 4000 and max(events, default=0) <= 250


@pytest.fixture(params=["Router", "GatewayAPI"])
async def world(request: pytest.FixtureRequest) -> World:
    world = World()
    await world.operator.start()
    spec = test_gateway_api.spec(1)
    if request.param == "Router":
        del spec["traffic"]
    world.create(spec)
    await canary(world, {**spec, "model": {"uri": "mlflow://fraud/2"}})
    assert len(looks(world)) > 1
    assert all(map(is_one_window, looks(world)))
    return world


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_sidecar_that_restarts_is_no_look_of_a_pods_whole_life(world: World, version: str) -> None:
    arm = "stable" if version == "1" else "canary"
    revision = world.status()[arm]["revision"]
    before = len(looks(world))
    start(world, lambda pod: revision_of_object(pod) == revision, server=0, proxy=3)
    await world.run(100)
    assert len(looks(world)) > before
    assert all(map(is_one_window, looks(world)))
    assert world.status()["stable"]["version"] == "1"


async def test_a_server_that_restarts_counts_its_new_life_and_not_the_old_one(world: World) -> None:
    before = len(looks(world))
    for pod in filter(is_server, world.kube.all(ObjectKind.POD)):
        world.routers.forget(str(pod["metadata"]["name"]))
    start(world, is_server, server=1, proxy=0)
    await world.run(100)
    assert len(looks(world)) > before
    assert all(map(is_one_window, looks(world)))


async def test_routers_that_restart_begin_again_whatever_they_have_counted_since() -> None:
    world = World()
    await world.operator.start()
    spec = {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": 2}}
    world.create({**spec, "rollout": HELD})
    await canary(world, {**spec, "model": {"uri": "mlflow://fraud/2"}})
    before = len(looks(world))
    start(world, is_any_router, **{CONTAINER: 1, "proxy": 0})
    for pod in filter(is_any_router, world.kube.all(ObjectKind.POD)):
        world.routers.forget(str(pod["metadata"]["name"]))
    await world.run(100)
    assert len(looks(world)) > before
    assert all(map(is_one_window, looks(world)))


async def test_monitoring_counts_a_pod_once_whatever_runs_beside_its_server() -> None:
    world = await test_judging.serving()
    traffic = test_judging.Traffic()
    start(world, is_server, server=0, proxy=0)
    await traffic.run(world, 300)
    start(world, is_server, server=0, proxy=5)
    await traffic.run(world, 60)
    (watched,) = world.operator.judge._watched.values()
    totals = watched.tally.totals if watched.tally is not None else {}
    rows = sum(value for (metric, _), value in totals.items() if metric == test_judging.Metric.ROWS)
    assert rows <= 36 * 100


async def test_a_pod_that_could_not_be_read_for_long_brings_none_of_that_time_into_one_window() -> None:
    world = await test_judging.serving()
    traffic = test_judging.Traffic(2)
    world.pods.mute.add(world.pods.names()[0])
    await traffic.run(world, 60)
    asked = world.kube.find("ModelDeployment", "payments", "fraud")["spec"]
    world.create({**asked, "scaling": {"minReplicas": 4}})
    world.pods.mute.update(f"fraud-{world.status()['stable']['revision']}-pod-{n}" for n in range(10))
    await traffic.run(world, 1200)
    (watched,) = world.operator.judge._watched.values()
    before = dict(watched.tally.totals) if watched.tally is not None else {}
    world.pods.mute.clear()
    await traffic.run(world, 20, rows=0)
    after = watched.tally.totals if watched.tally is not None else {}
    new = world.pods.names()[-1]
    assert new.endswith("pod-3")
    whole = np.array([value for (metric, _), value in after.items() if metric == test_judging.Metric.ROWS])
    known = sum(value for (metric, _), value in before.items() if metric == test_judging.Metric.ROWS)
    # Two pods were read before, and go on from there; what the others counted in silence is of no window.
    assert float(whole.sum()) - known <= 0.52 * 120 * 100
