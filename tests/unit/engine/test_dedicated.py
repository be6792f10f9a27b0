"""Routers of a ModelDeployment's own: made, moved to and from without a lost request, and taken away."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind, is_ready
from slipway.core.traffic.envoy.objects import is_router, routes_map, told
from slipway.core.traffic.envoy.routes import Route
from tests.unit.engine.test_rollouts import spec
from tests.unit.fake import Request
from tests.unit.fake_routers import is_any_router
from tests.unit.world import NAME, NAMESPACE, Killed, World

OWN = {"router": "Dedicated"}
SHARED = {"router": "Shared"}
#: For how long nodes may go on sending to what a Service led to before.
LATE = timedelta(seconds=10)


class Clients:
    """Notes, at every event of the cluster, whom clients may be sent to who does not answer for the model.

    Attributes:
        ways: what the Service led to, in order: ``shared``, ``own`` or ``pods``.
        lost: what was wrong.
    """

    def __init__(self, world: World) -> None:
        self.ways: list[str] = []
        self.lost: list[str] = []
        self._world = world
        #: Selectors of the Service, and when each was first seen.
        self._led: list[tuple[dict[str, str], datetime]] = []
        world.kube.listeners.append(self._look)

    def _look(self, _: str, __: Manifest) -> None:
        now = self._world.now
        for service in self._world.kube.all(ObjectKind.SERVICE):
            selector = dict(service["spec"]["selector"])
            if service["metadata"]["name"] != NAME:
                continue
            if not self._led or self._led[-1][0] != selector:
                self._led.append((selector, now))
                own = "own" if selector.get(naming.MODEL_LABEL) else "shared"
                self.ways.append(own if selector.get(naming.COMPONENT_LABEL) == "router" else "pods")
            self._ask(selector)
            for (earlier, _), (_, until) in zip(self._led, self._led[1:], strict=False):
                if now - until < LATE:
                    self._ask(earlier)

    def _ask(self, selector: dict[str, str]) -> None:
        pods = [
            pod
            for pod in self._world.kube.all(ObjectKind.POD)
            if selector.items() <= pod["metadata"]["labels"].items()
            and "deletionTimestamp" not in pod["metadata"]
            and is_ready(pod)
        ]
        if not pods:
            self.lost.append(f"{self._world.now}: nobody behind {selector}")
        for pod in filter(is_any_router, pods):
            name = str(pod["metadata"]["name"])
            if not any(
                route.name == NAME and not (route.closed or route.leaving)
                for route in self._world.routers.doing(name)
            ):
                self.lost.append(f"{self._world.now}: {name} has no route")


async def serving(traffic: dict[str, Any] | None = None, requests: float = 0) -> World:
    """Version 1 serves behind its routers."""
    world = World()
    await world.operator.start()
    world.create({**spec(1), "traffic": traffic or SHARED})
    await world.run(40)
    world.routers.requests_per_second = requests
    assert world.said()["TrafficSynced"] == "True Routed"
    return world


def routers(world: World, model: str) -> list[str]:
    """Names of the router pods of a group."""
    return [str(pod["metadata"]["name"]) for pod in world.kube.all(ObjectKind.POD) if is_router(pod, model)]


def asked(world: World, model: str) -> tuple[Route, ...]:
    """What a group is told to do."""
    return told(world.kube.find(ObjectKind.CONFIG_MAP, NAMESPACE, routes_map(model)))


async def test_a_dedicated_router_belongs_to_its_model_alone() -> None:
    world = await serving(OWN)
    assert len(routers(world, NAME)) == 2
    assert routers(world, "") == []
    name = naming.router(NAME)
    assert name == "slipway-router-fraud"
    kinds = (
        ObjectKind.DEPLOYMENT,
        ObjectKind.AUTOSCALER,
        ObjectKind.DISRUPTION_BUDGET,
        ObjectKind.SERVICE_ACCOUNT,
    )
    uid = world.kube.find(KIND, NAMESPACE, NAME)["metadata"]["uid"]
    for place in [*((kind, name) for kind in kinds), (ObjectKind.CONFIG_MAP, routes_map(NAME))]:
        (owner,) = world.kube.find(place[0], NAMESPACE, place[1])["metadata"]["ownerReferences"]
        assert owner["uid"] == uid
    assert world.kube.find(ObjectKind.AUTOSCALER, NAMESPACE, name)["spec"]["minReplicas"] == 2
    service = world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)
    assert service["spec"]["selector"] == naming.router_labels(NAME)


async def test_a_deleted_model_takes_its_routers_along_and_is_forgotten() -> None:
    world = await serving(OWN)
    for other in ("one", "two"):
        world.create({**spec(2), "traffic": OWN if other == "two" else SHARED}, name=other)
    await world.run(40)
    for name in ("one", "two", NAME):
        world.kube.drop((KIND, NAMESPACE, name))
    await world.run(60)
    assert list(world.kube.places()) == []
    assert vars(world.operator.routes)["_groups"] == {}
    assert vars(world.operator.routes)["_seen"] == {}


async def test_what_is_remembered_of_a_deleted_neighbour_is_forgotten() -> None:
    world = await serving()
    world.create(spec(2), name="other")
    await world.run(40)
    port = world.status("other")["routerPort"]
    world.kube.drop((KIND, NAMESPACE, "other"))
    await world.run(60)
    ((_, here),) = vars(world.operator.routes)["_groups"].items()
    memories = (here.told, here.possible, here.asked, here.left, here.refused)
    assert [name for memory in memories for name in memory if name != NAME] == []
    assert [key.name for key in vars(world.operator.routes)["_seen"]] == [NAME]
    world.create(spec(2), name="third")
    await world.run(40)
    assert world.status("third")["routerPort"] == port, "it is free again"


async def test_a_model_that_moves_leaves_its_neighbour_where_it_is() -> None:
    world = await serving()
    world.create(spec(2), name="other")
    await world.run(40)
    pods = routers(world, "")
    world.create({**spec(1), "traffic": OWN})
    await world.run(60)
    assert routers(world, "") == pods
    (shared,), (own,) = asked(world, ""), asked(world, NAME)
    assert (shared.name, own.name) == ("other", NAME)
    assert (
        world.kube.find(ObjectKind.SERVICE, NAMESPACE, "other")["spec"]["selector"] == naming.router_labels()
    )
    assert own.listener == world.status()["routerPort"]


@pytest.mark.parametrize("moves", [(SHARED, OWN), (OWN, None)], ids=["to-own", "direct"])
async def test_killed_at_any_request_of_a_move_no_client_is_sent_to_who_does_not_answer(
    moves: tuple[dict[str, Any], dict[str, Any] | None],
) -> None:
    undisturbed = await moved(*moves, killed_at=None)
    assert len(undisturbed) > 8
    for number in range(len(undisturbed)):
        await moved(*moves, killed_at=number)


async def test_a_model_moves_back_to_the_shared_routers() -> None:
    await moved(OWN, SHARED, killed_at=None)


async def moved(before: dict[str, Any], after: dict[str, Any] | None, killed_at: int | None) -> list[str]:
    """The operator's requests of a move; None is for the way straight to the pods."""
    world = await serving(before)
    clients = Clients(world)
    begun = len(world.kube.requests)

    def kill(_: Request) -> None:
        if killed_at is not None and len(world.kube.requests) - begun > killed_at:
            world.kube.before = lambda _: None
            raise Killed

    world.kube.before = kill
    world.create({**spec(1), "rollout": {}} if after is None else {**spec(1), "traffic": after})
    try:
        await world.run(60)
    except Killed:
        await world.restart()
        await world.run(60)
    assert clients.lost == []
    assert clients.ways == [way(before), way(after)]
    there = {group for group in ("", NAME) if routers(world, group)}
    assert there == ({""} if after is SHARED else {NAME} if after is OWN else set())
    assert world.said()["Ready"] == "True Serving"
    return [str(request) for request in world.kube.requests[begun:]]


def way(traffic: dict[str, Any] | None) -> str:
    return "pods" if traffic is None else "own" if traffic is OWN else "shared"


async def test_a_move_in_the_middle_of_a_rollout_changes_nothing_of_it() -> None:
    world = await serving(requests=200)
    clients = Clients(world)
    world.create(spec(2))
    await world.run(20)
    assert world.status()["rollout"]["weight"] == 10
    world.create({**spec(2), "traffic": OWN})
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    assert clients.lost == []
    assert clients.ways == ["shared", "own"]
    # The new ones begin at the weight that the old ones have.
    assert [weight for weight in world.routers.weights if weight in (50, 100)] == [50, 100]
    assert set(world.routers.weights) == {0, 10, 50, 100}


async def test_an_abort_during_a_move_reaches_the_routers_of_both_groups() -> None:
    world = await serving()
    world.create(spec(2))
    await world.run(20)
    canary = world.status()["canary"]["revision"]
    world.create({**spec(2), "traffic": OWN})
    while not routers(world, NAME):
        await world.run(0.05)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(4)
    assert routers(world, "")
    assert routers(world, NAME)
    doing = [world.routers.doing(pod) for group in ("", NAME) for pod in routers(world, group)]
    assert [route.weight for (route,) in doing] == [0, 0, 0, 0]
    await world.run(40)
    assert [found["revision"] for found in world.status()["rejected"]] == [canary]


async def test_while_its_own_routers_cannot_start_a_model_stays_with_the_shared_ones() -> None:
    world = await serving(requests=200)
    clients = Clients(world)
    waiting = {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
        ],
    }
    world.pod_status = lambda pod: waiting if is_router(pod, NAME) else None
    world.create({**spec(2), "traffic": OWN})
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["TrafficSynced"] == "False RouterUnavailable"
    assert "no room" in world.message("TrafficSynced")
    assert world.status()["stable"]["version"] == "2", "rollouts go on"
    world.pod_status = lambda _: None
    await world.run(60)
    assert world.said()["TrafficSynced"] == "True Routed"
    assert clients.ways == ["shared", "own"]
    assert clients.lost == []


async def test_a_spec_that_cannot_be_read_leaves_the_route_as_it_is() -> None:
    """As an operator sees it whose CRD has grown since."""
    world = await serving()
    clients = Clients(world)
    world.create({**spec(1), "traffic": {"router": "Regional"}})
    await world.run(60)
    assert world.said()["Ready"] == "False InvalidResource"
    await world.restart()
    await world.run(60)
    assert clients.lost == []
    assert len(routers(world, "")) == 2
    world.create(spec(1))
    await world.run(20)
    assert world.said()["TrafficSynced"] == "True Routed"


async def test_the_header_of_session_affinity_reaches_the_routers_and_moves_nobody() -> None:
    world = await serving(requests=200)
    world.create({**spec(2), "traffic": {"sessionAffinity": {"header": "x-user-id"}}})
    await world.run(20)
    (route,) = asked(world, "")
    assert (route.affinity_header, route.weight) == ("x-user-id", 10)
    world.create({**spec(2), "traffic": {"sessionAffinity": {"header": "x-session"}}})
    await world.run(5)
    assert world.status()["rollout"]["weight"] == 10
    assert [route.affinity_header for pod in routers(world, "") for route in world.routers.doing(pod)] == [
        "x-session"
    ] * 2
    assert world.routers.weights == [0, 10]
