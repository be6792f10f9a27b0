"""What a newer operator wrote survives an older one: status, routes, revisions, answers of pods."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.core.traffic.envoy.objects import ROUTES_KEY, routes_map, told
from slipway.engine.store import Key
from tests.unit.world import KEY, NAME, NAMESPACE, World

PLACE = (KIND, NAMESPACE, NAME)
MAP = (ObjectKind.CONFIG_MAP.value, NAMESPACE, routes_map())
ROUTERS = Key(NAMESPACE, "", routers=True)
#: What a rollback of the operator may never lose.
PRECIOUS = ("rejected", "stable", "canary", "previous", "routerPort", "rollout", "monitoring", "model")
STEPS = [{"setWeight": 20}, {"pause": {}}]


def spec(version: int, **rollout: Any) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "rollout": {"strategy": "Canary", "steps": STEPS, **rollout},
    }


async def _half_way() -> World:
    """Version 1 served, 2 serves, 3 was rejected, and 4 is a canary that waits at 20 %."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    world.routers.requests_per_second = 50
    await world.run(60)
    world.create(spec(2))
    await world.run(30)
    world.annotate("slipway.dev/promote-full", world.status()["rollout"]["id"])
    await world.run(120)
    assert world.status()["stable"]["version"] == "2"
    world.create(spec(3))
    await world.run(60)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(60)
    world.create(spec(4))
    await world.run(60)
    status = world.status()
    assert status["rollout"]["weight"] == 20
    assert len(status["rejected"]) == len(status["previous"]) == 1
    world.routers.requests_per_second = 0
    return world


#: What the cluster holds then: to get there takes longer than all that is tried on it.
_CLUSTER: list[World] = []


async def half_way() -> World:
    """A copy of that cluster, with an operator that has just begun."""
    if not _CLUSTER:
        _CLUSTER.append(await _half_way())
    (kept,) = _CLUSTER
    world = World()
    world.now = kept.now
    world.kube._objects, world.kube._owned = deepcopy(kept.kube._objects), deepcopy(kept.kube._owned)
    world.kube._version, world.kube._uids = kept.kube._version, kept.kube._uids
    await world.restart()
    await world.run(5)
    return world


class Watched:
    """What happens to routes and children from now on."""

    def __init__(self, world: World) -> None:
        self.closed: list[str] = []
        self.routes = told(world.kube.find(ObjectKind.CONFIG_MAP, NAMESPACE, routes_map()))
        self.gone: list[str] = []
        world.kube.listeners.append(self._see)

    def _see(self, type_: str, manifest: Manifest) -> None:
        if type_ == "DELETED" and manifest["kind"] in (
            ObjectKind.DEPLOYMENT,
            ObjectKind.SERVICE,
            ObjectKind.CONTROLLER_REVISION,
        ):
            self.gone.append(f"{manifest['kind']} {manifest['metadata']['name']}")
        if manifest["metadata"]["name"] == routes_map() and type_ != "DELETED":
            try:
                self.closed += [route.name for route in told(manifest) if route.closed]
            except ValueError:
                return


def set_status(world: World, change: Callable[[dict[str, Any]], object]) -> None:
    """As a newer operator would, with a newer CRD."""
    world.kube.status_schema = None

    def edit(live: dict[str, Any]) -> None:
        live["status"] = deepcopy(live["status"])
        change(live["status"])

    world.kube.edit(PLACE, edit, "slipway.dev/status")


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "phase": lambda status: status["rollout"].update(phase="Soaking"),
    "verdict of a gate": lambda status: status["rollout"].update(gates=[{"name": "a", "verdict": "Perhaps"}]),
    "a condition": lambda status: status["conditions"][0].update(status="Mostly"),
    "a rejection": lambda status: status["rejected"][0].pop("message"),
    "more than fit": lambda status: status.update(previous=[f"{number:010}" for number in range(200)]),
    "a type": lambda status: status["stable"].update(replicas={"ready": 1}),
    "a block that is a list now": lambda status: status.update(model=[status["model"]]),
    "the port": lambda status: status.update(routerPort="tcp/10000"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
async def test_a_status_that_cannot_be_read_stops_its_key_and_nothing_is_lost(
    change: Callable[[dict[str, Any]], object],
) -> None:
    world = await half_way()
    before, weights = world.status(), list(world.routers.weights)
    set_status(world, change)
    changed = deepcopy(world.status())
    watched = Watched(world)
    await world.restart()
    await world.run(60)
    status = world.status()
    assert {name: status.get(name) for name in PRECIOUS} == {name: changed.get(name) for name in PRECIOUS}
    (stalled,) = [found for found in status["conditions"] if found["type"] == "Stalled"]
    assert (stalled["status"], stalled["reason"]) == ("True", "StatusFromAnotherVersion")
    assert "status." in stalled["message"]
    others = [found for found in changed["conditions"] if found["type"] not in ("Stalled", "Reconciling")]
    assert [
        found for found in status["conditions"] if found["type"] not in ("Stalled", "Reconciling")
    ] == others
    assert world.told().count("Warning StatusFromAnotherVersion") == 1
    assert watched.closed == watched.gone == []
    assert told(world.kube.find(ObjectKind.CONFIG_MAP, NAMESPACE, routes_map())) == watched.routes
    assert world.routers.weights == weights, "routers do what they did"
    # The newer version comes back.
    set_status(world, lambda found: found.update({name: before[name] for name in PRECIOUS if name in before}))
    set_status(world, lambda found: found.update(conditions=before["conditions"]))
    await world.restart()
    await world.run(60)
    assert world.status()["rollout"]["id"] == before["rollout"]["id"]
    assert "Stalled" not in world.said()
    world.annotate("slipway.dev/promote-full", before["rollout"]["id"])
    await world.run(300)
    assert world.status()["stable"]["version"] == "4"
    assert world.status()["rejected"] == before["rejected"]


async def test_a_status_that_the_api_server_refuses_to_take_back_is_no_end() -> None:
    """The CRD went back too, and knows the newer value no more than the operator does."""
    world = await half_way()
    set_status(world, CHANGES["phase"])
    world.kube.status_schema = ModelDeploymentStatus
    changed = deepcopy(world.status())
    watched = Watched(world)
    await world.restart()
    await world.run(60)
    assert world.status() == changed
    assert watched.closed == watched.gone == []


UNKNOWN: dict[str, Callable[[dict[str, Any]], object]] = {
    "of all": lambda status: status.update(shards=[{"zone": "a"}]),
    "of a rollout": lambda status: status["rollout"].update(soakedSeconds=7),
    "of a rejection": lambda status: status["rejected"][0].update(evidence="strong"),
    "of stable": lambda status: status["stable"].update(signedBy="us"),
    "of the model": lambda status: status["model"].update(license="MIT"),
}


def everything_unknown(status: Any) -> set[str]:
    """Paths of the fields above, wherever they are."""
    text = json.dumps(status)
    return {
        name for name in ("shards", "soakedSeconds", "evidence", "signedBy", "license") if f'"{name}"' in text
    }


async def test_fields_that_are_not_known_are_kept_for_as_long_as_what_they_are_about() -> None:
    world = await half_way()
    for change in UNKNOWN.values():
        set_status(world, change)
    await world.restart()
    await world.run(300)
    assert everything_unknown(world.status()) == {
        "shards",
        "soakedSeconds",
        "evidence",
        "signedBy",
        "license",
    }
    world.annotate("slipway.dev/promote-full", world.status()["rollout"]["id"])
    await world.run(300)
    assert world.status()["stable"]["version"] == "4"
    # Of the rollout and of the revision before nothing is said of the new one.
    assert everything_unknown(world.status()) == {"shards", "evidence", "license"}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += leaves(item, (*path, key))
    return found


VALUES = (None, "FromTheFuture", -7, 10**12, {}, [], [{}], True)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_no_status_however_it_was_changed_makes_the_operator_lose_what_it_must_not(
    data: st.DataObject,
) -> None:
    world = asyncio.run(half_way())
    world.kube.status_schema = None
    changed = world.status()
    stable = changed["stable"]["revision"]
    path = data.draw(st.sampled_from(leaves(changed)), "path")
    node = changed
    for step in path[:-1]:
        node = node[step]
    how = data.draw(st.sampled_from(["other", "missing", "more"]), "how")
    if how == "missing" and isinstance(node, dict):
        del node[path[-1]]
    elif how == "more" and isinstance(node, dict):
        node["fromTheFuture"] = data.draw(st.sampled_from(VALUES), "value")
    elif isinstance(node, list) and isinstance(node[path[-1]], dict):
        # Items of lists are blocks in every version.
        node[path[-1]] = {**node[path[-1]], "fromTheFuture": data.draw(st.sampled_from(VALUES), "value")}
    elif str(path[-1]).endswith(("At", "Time", "Since")):
        # The schema of every version says that these are times.
        node[path[-1]] = "0001-01-01T00:00:00Z"
    elif path[-1] in ("type", "name", "revision") and isinstance(path[-2], int):
        # What items of a list are told apart by is a string in every version.
        node[path[-1]] = "FromTheFuture"
    else:
        node[path[-1]] = data.draw(st.sampled_from(VALUES), "value")
    before = deepcopy(changed)
    children = {place for place in world.kube.places() if place[0] != KIND}

    async def look() -> None:
        await world.restart()
        for key in (ROUTERS, KEY, ROUTERS):
            await world.operator.look(key)

    asyncio.run(look())
    after = world.status()
    assert not world.operator.errors
    for name in {"rejected", "stable", "previous", "routerPort"} - {path[0]}:
        assert after.get(name) == before.get(name), f"{name} after {how} of {path}"
    assert children <= set(world.kube.places()), f"after {how} of {path}"
    routes = told(world.kube.find(ObjectKind.CONFIG_MAP, NAMESPACE, routes_map()))
    assert not any(route.closed for route in routes)
    assert [route.stable.revision for route in routes] == [stable]


def routes_json(world: World, change: Callable[[list[dict[str, Any]]], object]) -> None:
    def edit(live: dict[str, Any]) -> None:
        routes = json.loads(live["data"][ROUTES_KEY])
        changed = change(routes)
        live["data"] = {**live["data"], ROUTES_KEY: json.dumps(routes if changed is None else changed)}

    world.kube.edit(MAP, edit, "slipway.dev/workload")


async def test_a_field_of_a_route_that_is_not_known_closes_nothing() -> None:
    world = await half_way()
    weights = list(world.routers.weights)
    routes_json(
        world,
        lambda routes: (
            [route.update(retries=3) or route["stable"].update(zone="a") for route in routes] and None
        ),
    )
    watched = Watched(world)
    await world.restart()
    await world.run(120)
    assert watched.closed == []
    assert world.routers.weights == weights
    assert world.said()["TrafficSynced"] == "True Routed"


LOST: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "words": lambda _: {"version": 2, "routes": []},
    "an arm": lambda routes: [{**route, "stable": "gone"} for route in routes],
    "a listener": lambda routes: [{k: v for k, v in route.items() if k != "listener"} for route in routes],
    "a weight": lambda routes: [{**route, "weight": "a fifth"} for route in routes],
    "all": lambda _: 7,
}


@pytest.mark.parametrize("change", LOST.values(), ids=list(LOST))
async def test_routers_whose_routes_cannot_be_read_go_on_as_they_are(
    change: Callable[[list[dict[str, Any]]], object],
) -> None:
    world = await half_way()
    doing = {pod: world.routers.doing(pod) for pod in routers(world)}
    routes_json(world, change)
    data = world.kube.find(*MAP)["data"]
    watched = Watched.__new__(Watched)
    watched.closed, watched.gone = [], []
    world.kube.listeners.append(watched._see)
    await world.restart()
    await world.run(60)
    assert world.kube.find(*MAP)["data"] == data, "nothing is written over it"
    assert {pod: world.routers.doing(pod) for pod in routers(world)} == doing
    assert watched.gone == []
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["TrafficSynced"] == "False RoutesFromAnotherVersion"
    assert "delete that ConfigMap" in world.message("TrafficSynced")
    # Somebody does as the message says.
    world.kube.take(MAP)
    await world.run(120)
    assert watched.closed == []
    assert world.said()["TrafficSynced"] == "True Routed"
    assert world.status()["rollout"]["weight"] == 20
    assert {route.weight for pod in routers(world) for route in world.routers.doing(pod)} == {20}


async def test_a_route_that_routers_serve_is_not_closed_because_its_words_were_lost() -> None:
    world = await half_way()
    watched = Watched(world)
    world.kube.take(MAP)
    await world.run(60)
    routes_json(world, lambda _: [])
    await world.restart()
    await world.run(60)
    assert watched.closed == []
    assert world.said()["TrafficSynced"] == "True Routed"


@pytest.mark.parametrize("data", [{"format": 2}, {}, None, {"model": "champion"}])
async def test_a_revision_whose_memory_cannot_be_read_goes_on_serving(data: Any) -> None:
    """The stable one, and those that a rollback would go to."""
    world = await half_way()
    for found in world.kube.all(ObjectKind.CONTROLLER_REVISION):
        found["data"] = {**found["data"], "shards": 2} if data is None else data
    watched = Watched(world)
    stable = world.status()["stable"]
    await world.restart()
    await world.run(300)
    assert watched.gone == watched.closed == []
    assert world.status()["stable"] == stable
    assert world.said()["Ready"] == "True Serving"
    assert len(world.status()["rejected"]) == 1


@pytest.mark.parametrize(
    "message",
    [
        '{"outcome": {"kind": "Postponed", "until": "tomorrow"}}',
        '{"outcome": {"kind": "Failed", "failure": {"reason": "ModelIsHaunted", "message": "boo"}}}',
        '{"verdict": 1}',
        "[]",
        "",
        "\u0000",
    ],
)
async def test_an_answer_of_a_resolver_of_another_version_is_no_end(message: str) -> None:
    world = World()
    await world.operator.start()
    world.create()
    answered = world._outcome

    def outcome(pod: Manifest) -> dict[str, Any]:
        status = answered(pod)
        status["containerStatuses"][0]["state"]["terminated"]["message"] = message
        return status

    world._outcome = outcome  # type: ignore[method-assign]
    await world.run(30)
    assert world.said()["ModelResolved"].startswith("False ")
    world._outcome = answered  # type: ignore[method-assign]
    await world.run(300)
    assert world.said()["Ready"] == "True Serving"


@pytest.mark.parametrize("value", ["", "what", "a/b/c", "{}", "x" * 3000])
async def test_commands_that_are_not_known_do_nothing(value: str) -> None:
    world = await half_way()
    before = world.status()["rollout"]
    for command in ("promote", "promote-full", "abort", "pause", "retry", "soak"):
        world.annotate(f"slipway.dev/{command}", value)
    await world.run(60)
    after = world.status()["rollout"]
    assert (after["id"], after["weight"], after["step"]) == (before["id"], before["weight"], before["step"])


def routers(world: World) -> list[str]:
    return [
        str(pod["metadata"]["name"])
        for pod in world.kube.all(ObjectKind.POD)
        if pod["metadata"]["labels"].get(naming.COMPONENT_LABEL) == "router"
    ]
