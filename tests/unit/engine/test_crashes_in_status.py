"""What status says while processes of the model server die and their pods serve on."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.reasons import ConditionType, Reason
from slipway.core.observed import ObjectKind
from slipway.core.status.crashes import at_least
from slipway.engine.observers.crashes import LATELY
from slipway.names import Metric
from tests.unit.world import NAMESPACE, World

WATCHED = {"drift": {"windowSeconds": 600}}
CRASHING = f"True {Reason.PROCESSES_ENDED}"
#: Status is written once to say it, and once to take it back.
TWICE = 2


async def serving(monitoring: dict[str, Any] | None = None, **blocks: Any) -> World:
    world = World()
    await world.operator.start()
    world.create(spec(1, monitoring, **blocks))
    world.routers.requests_per_second = 50
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    return world


def spec(version: int, monitoring: dict[str, Any] | None = None, **blocks: Any) -> dict[str, Any]:
    found = {"model": {"uri": f"mlflow://fraud/{version}"}, "scaling": {"minReplicas": 2}, **blocks}
    return found if monitoring is None else {**found, "monitoring": monitoring}


def canary(version: int) -> dict[str, Any]:
    return spec(version, rollout={"strategy": "Canary", "steps": [{"setWeight": 50}, {"pause": {}}]})


def die(world: World, count: int = 1, process: str = "run", pods: list[str] | None = None) -> None:
    """So many more in one pod; the others show none."""
    world.pods.count(Metric.CRASHES, {"process": process}, count, pods or world.pods.names()[:1])


def of_version(world: World, version: str) -> list[str]:
    return [name for name in world.pods.names() if world.pods._own(name) == version]


def crashing(world: World) -> str | None:
    return world.said().get(ConditionType.CRASHING)


async def test_one_that_dies_in_a_watched_model_is_said_at_the_next_look_and_taken_back_later() -> None:
    world = await serving(WATCHED)
    await world.run(300)
    assert crashing(world) is None
    writes = world.writes()
    die(world)
    await world.run(30)
    assert crashing(world) == CRASHING
    assert world.said()["Ready"] == "True Serving"
    assert not {"Stalled", "Reconciling"} & set(world.said())
    message, stable = world.message("Crashing"), world.status()["stable"]
    assert message.startswith(f"version 1, since {stable['crashes']['since']}: at least 1 run of the model")
    assert "refuses such a request from then on, by its digest: 422" in message
    selector = f"slipway.dev/modeldeployment=fraud,slipway.dev/revision={stable['revision']}"
    assert f"kubectl logs -n {NAMESPACE} -l {selector} -c server" in message
    assert world.told().count(f"Warning {Reason.PROCESSES_ENDED}") == 1
    await world.run(LATELY.total_seconds() - 60)
    assert crashing(world) == CRASHING
    await world.run(90)
    assert crashing(world) is None
    assert "crashes" not in world.status()["stable"]
    assert _status_writes(world, writes) == TWICE


def _status_writes(world: World, since: int) -> int:
    """All that was written since then, but Events."""
    found = [request for request in world.kube.requests if request.is_write][since:]
    return sum(request.kind != "Event" for request in found)


async def test_a_model_that_nobody_watches_is_told_of_by_its_rare_looks() -> None:
    world = await serving()
    await world.run(700)
    # Two pods, once in ten minutes or so.
    assert world.pods.reads <= 2 * 3
    die(world)
    await world.run(720)
    assert crashing(world) == CRASHING
    await world.run(LATELY.total_seconds() + 80)
    assert crashing(world) is None


async def test_many_that_die_are_few_writes_and_the_number_is_true() -> None:
    world = await serving(WATCHED)
    await world.run(60)
    writes, died = world.writes(), 0
    for _ in range(60):
        die(world, 40)
        died += 40
        await world.run(20)
        told = world.status()["stable"].get("crashes", {"runs": 0})["runs"]
        assert told <= died
    assert world.status()["stable"]["crashes"]["runs"] == 2000
    assert "at least 2000 runs" in world.message("Crashing")
    assert _status_writes(world, writes) <= 8
    assert world.told().count(f"Warning {Reason.PROCESSES_ENDED}") == 1


async def test_counters_that_jump_to_and_fro_write_no_more() -> None:
    """A pod runs what its owner brought, and may show any number."""
    world = await serving(WATCHED)
    await world.run(60)
    writes = world.writes()
    for turn in range(60):
        die(world, 2**50 if turn % 2 else -(2**50), pods=world.pods.names()[:1])
        await world.run(20)
    assert world.status()["stable"]["crashes"]["runs"] == 2_000_000_000
    assert _status_writes(world, writes) <= 3


async def test_a_server_process_is_told_apart_from_runs() -> None:
    world = await serving(WATCHED)
    await world.run(60)
    die(world, 1, "server")
    await world.run(30)
    assert "at least 1 server process died, with the requests under way in it; " in world.message("Crashing")
    die(world, 3)
    await world.run(30)
    assert "at least 2 runs of the model" in world.message("Crashing")
    assert " and 1 server process died" in world.message("Crashing")


@pytest.mark.parametrize("monitoring", [None, WATCHED])
async def test_an_operator_that_starts_lets_it_stand_for_a_while_and_counts_nothing_twice(
    monitoring: dict[str, Any] | None,
) -> None:
    world = await serving(monitoring)
    die(world, 5)
    await world.run(720)
    before = world.status()["stable"]["crashes"]
    assert before["runs"] == 5
    await world.restart()
    writes = world.writes()
    await world.run(600)
    assert world.status()["stable"]["crashes"] == before
    assert _status_writes(world, writes) == 0
    die(world, 5)
    await world.run(720)
    assert world.status()["stable"]["crashes"] == {**before, "runs": 10}
    await world.restart()
    await world.run(LATELY.total_seconds() + 120)
    assert crashing(world) is None


async def test_what_died_before_anybody_watched_is_no_news() -> None:
    world = await serving(WATCHED)
    die(world, 3)
    # Before the next look.
    await world.restart()
    await world.run(1200)
    assert crashing(world) is None


@pytest.mark.parametrize("how", ["container", "pod", "unread"])
async def test_counters_that_begin_again_or_were_not_read_are_not_counted_twice(how: str) -> None:
    world = await serving(WATCHED)
    await world.run(60)
    die(world, 10)
    await world.run(30)
    assert world.status()["stable"]["crashes"]["runs"] == 10
    name = world.pods.names()[0]
    if how == "container":
        world.pods.restart(name)
    elif how == "pod":
        world.kube.take((ObjectKind.POD, NAMESPACE, name))
    elif how == "unread":
        world.pods.mute = {name}
    await world.run(60)
    world.pods.mute = set()
    await world.run(60)
    assert world.status()["stable"]["crashes"]["runs"] == 10
    die(world, 10)
    await world.run(60)
    assert world.status()["stable"]["crashes"]["runs"] == 20


async def test_pods_that_cannot_be_read_do_not_keep_it_for_ever() -> None:
    world = await serving(WATCHED)
    await world.run(60)
    die(world)
    await world.run(30)
    world.pods.mute = set(world.pods.names())
    await world.run(LATELY.total_seconds() + 60)
    assert crashing(world) is None


async def test_a_canary_is_told_of_by_its_version_within_two_minutes_and_takes_it_along() -> None:
    world = await serving(**{"rollout": canary(1)["rollout"]})
    world.create(canary(2))
    await world.run(180)
    assert world.status()["canaryWeight"] == 50
    die(world, 2, pods=of_version(world, "2")[:1])
    await world.run(120)
    assert world.message("Crashing").startswith("version 2, since")
    assert "crashes" not in world.status()["stable"]
    die(world, 1, pods=of_version(world, "1")[:1])
    await world.run(120)
    assert world.message("Crashing").startswith("version 1, since")
    assert "; version 2, since" in world.message("Crashing")
    since = world.status()["canary"]["crashes"]["since"]
    world.annotate("slipway.dev/promote-full", world.status()["rollout"]["id"])
    await world.run(180)
    stable = world.status()["stable"]
    assert stable["version"] == "2"
    assert stable["crashes"] == {"since": since, "runs": 2, "servers": 0}
    assert "version 1" not in world.message("Crashing")


async def test_a_canary_that_is_rejected_takes_it_away() -> None:
    world = await serving(**{"rollout": canary(1)["rollout"]})
    world.create(canary(2))
    await world.run(180)
    die(world, 2, pods=of_version(world, "2")[:1])
    await world.run(120)
    assert crashing(world) == CRASHING
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(120)
    assert crashing(world) is None


async def test_another_of_the_same_name_has_none_of_it() -> None:
    world = await serving(WATCHED)
    await world.run(60)
    die(world)
    await world.run(30)
    assert crashing(world) == CRASHING
    world.kube.take(("ModelDeployment", NAMESPACE, "fraud"))
    world.create(spec(1, WATCHED))
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert crashing(world) is None


@pytest.mark.parametrize(
    ("count", "told"), [(0, 0), (1, 1), (4, 2), (9, 5), (10, 10), (1999, 1000), (2**53, 2 * 10**9)]
)
def test_numbers_in_status_go_in_steps(count: int, told: int) -> None:
    assert at_least(count) == told


def test_no_status_has_more_conditions_than_operators_of_before_read() -> None:
    """Reconciling and Stalled are never there together, nor are Watched and what monitoring says."""
    assert len(ConditionType) - 2 <= 16
