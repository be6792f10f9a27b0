"""More models in a namespace than one group of routers can hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.core.traffic import routed
from slipway.core.traffic.envoy.objects import RouterSettings, router_objects, routes_map, told
from slipway.core.traffic.envoy.routes import Arm, Route
from slipway.engine.controller import ports
from tests.unit.engine.test_dedicated import Clients, asked, routers
from tests.unit.engine.test_rollouts import spec
from tests.unit.world import NAME, NAMESPACE, World

MAX_NAME_LENGTH = 45


def test_a_thousand_models_of_one_namespace_find_room_whatever_their_names() -> None:
    given: list[int] = []
    for _ in range(1000):
        port = routed.free_port(given)
        assert port is not None
        given.append(port)
    groups = Counter(map(routed.shared_group, given))
    assert groups == {"": 80, **{str(number): 80 for number in range(2, 13)}, "13": 40}

    def arm(number: int, letter: str) -> Arm:
        revision = letter * 10
        return Arm(revision, naming.revision_object(name(number), revision), 8080, 9000)

    def name(number: int) -> str:
        return f"m{number:04}" + "x" * (MAX_NAME_LENGTH - 5)

    routes = [
        Route(name(port), port, arm(port, "a"), arm(port, "b"), weight=50, mirror_percent=50)
        for port in given
        if routed.shared_group(port) == "2"
    ]
    objects = router_objects("payments", routes, RouterSettings("envoy"), [], "2")
    maps = {one["metadata"]["name"]: one for one in objects if one["kind"] == ObjectKind.CONFIG_MAP}
    assert set(told(maps[routes_map("2")])) == set(routes), "none was refused"
    for one in maps.values():
        assert sum(len(text.encode()) for text in one["data"].values()) < 1024 * 1024 - 32 * 1024


def test_no_model_has_the_name_of_a_group() -> None:
    groups = {routed.shared_group(port) for port in range(1024, 65536)}
    assert all(routed.is_shared(group) and not group[:1].isalpha() for group in groups)
    assert not routed.is_shared(NAME)


async def test_a_model_that_finds_the_first_routers_full_is_rolled_out_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routed, "GROUP_MODELS", 1)
    world = World()
    await world.operator.start()
    world.create(spec(1), name="first")
    await world.run(40)
    world.create(spec(1))
    await world.run(40)
    assert [route.name for route in asked(world, "")] == ["first"]
    (second,) = asked(world, "2")
    assert (second.name, second.listener) == (NAME, world.status()["routerPort"])
    service = world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)
    assert service["spec"]["selector"] == naming.router_labels("2")
    assert len(routers(world, "")) == len(routers(world, "2")) == 2
    world.routers.requests_per_second = 200
    world.create(spec(2))
    await world.run(600)
    assert world.status()["stable"]["version"] == "2"
    await world.restart()
    await world.run(5)
    assert world.said()["TrafficSynced"] == "True Routed"
    world.kube.drop(("ModelDeployment", NAMESPACE, NAME))
    await world.run(60)
    assert routers(world, "2") == []
    assert len(routers(world, "")) == 2, "its neighbour's stay"


async def test_a_model_whose_port_an_older_operator_gave_moves_without_a_lost_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All models of a namespace came by the same routers then, whatever their ports."""
    with monkeypatch.context() as before:
        before.setattr(routed, "GROUP_PORTS", routed.MOST_PORTS)
        before.setattr(ports, "free_port", lambda taken: 10100 + len(set(taken)))
        world = World()
        await world.operator.start()
        world.create(spec(1))
        await world.run(40)
        assert [route.listener for route in asked(world, "")] == [10100]
    clients = Clients(world)
    await world.restart()
    await world.run(60)
    assert clients.lost == []
    assert routers(world, "") == []
    assert [replace(route, closed=False) for route in asked(world, "2")] == list(asked(world, "2"))
    assert world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)["spec"]["selector"] == naming.router_labels(
        "2"
    )
    assert world.said()["TrafficSynced"] == "True Routed"
