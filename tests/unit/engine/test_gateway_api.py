"""Whole rollouts through an HTTPRoute: what is written, and that nothing goes on before a Gateway says so."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.core.allowed import Allowed
from slipway.core.observed import ObjectKind, revision_of_object
from tests.unit.fake import Request
from tests.unit.world import ALLOWED, NAME, NAMESPACE, Killed, World

PAUSE = {"pause": {"untilApproved": True}}
STEPS = [{"setWeight": 10}, {"analysis": {}}, {"setWeight": 50}, {"analysis": {}}]
ROUTE = (ObjectKind.HTTP_ROUTE.value, NAMESPACE, NAME)


def spec(version: int, *steps: dict[str, Any], **rollout: Any) -> dict[str, Any]:
    return {
        "model": {"uri": f"mlflow://fraud/{version}"},
        "scaling": {"minReplicas": 2},
        "traffic": {
            "provider": "GatewayAPI",
            "gatewayAPI": {
                "parentRefs": [{"name": "public", "namespace": "gateways"}],
                "hostnames": ["fraud.example.com"],
            },
        },
        "rollout": {"strategy": "Canary", "steps": list(steps) or STEPS, **rollout},
    }


@pytest.fixture
async def world() -> World:
    """Version 1 serves behind a Gateway, at 200 requests a second."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    world.routers.requests_per_second = 200
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    return world


def route(world: World) -> dict[str, Any]:
    return world.kube.find(*ROUTE)


def weights(world: World) -> list[tuple[str, int]]:
    return [(ref["name"], ref["weight"]) for ref in world.gateways.backends(route(world)["spec"])]


def stable(world: World) -> str:
    return str(world.status()["stable"]["revision"])


def canary(world: World) -> str:
    return str(world.status()["canary"]["revision"])


async def test_the_route_leads_rest_and_grpc_to_the_stable_revision(world: World) -> None:
    found = route(world)["spec"]
    assert found["parentRefs"] == [
        {"name": "public", "namespace": "gateways", "group": "gateway.networking.k8s.io", "kind": "Gateway"}
    ]
    assert found["hostnames"] == ["fraud.example.com"]
    name = f"{NAME}-{stable(world)}"
    assert [rule["backendRefs"] for rule in found["rules"]] == [
        [{"name": name, "port": 9000, "weight": 100}],
        [{"name": name, "port": 8080, "weight": 100}],
    ]
    assert found["rules"][0]["matches"][0]["path"]["value"] == "/inference.GRPCInferenceService"
    assert world.said()["TrafficSynced"] == "True Routed"
    assert world.kube.all(ObjectKind.CONFIG_MAP) == []


async def test_a_good_version_takes_over_on_what_its_own_pods_counted(world: World) -> None:
    first = stable(world)
    world.create(spec(2))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    assert world.gateways.weights == [0, 10, 50, 100, 0]
    assert weights(world) == [(f"{NAME}-{stable(world)}", 100)]
    assert first not in {revision_of_object(pod) for pod in world.kube.all(ObjectKind.POD)}


async def test_a_bad_version_is_rolled_back_on_what_its_own_pods_counted(world: World) -> None:
    first = stable(world)
    world.routers.error_rate = lambda revision: 0.001 if revision == first else 0.1
    world.create(spec(2))
    await world.run(600)
    assert stable(world) == first
    assert world.status()["rejected"][0]["message"].startswith("gate error-rate: canary ")
    assert weights(world) == [(f"{NAME}-{first}", 100)]


async def test_the_canary_is_no_backend_before_it_has_ready_endpoints(world: World) -> None:
    first = {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD)}
    world.pod_status = lambda pod: None if pod["metadata"]["name"] in first else {"phase": "Pending"}
    world.create(spec(2))
    await world.run(60)
    assert weights(world) == [(f"{NAME}-{stable(world)}", 100)]
    world.pod_status = lambda _: None
    await world.run(10)
    assert weights(world)[1] == (f"{NAME}-{canary(world)}", 10)


async def test_a_canary_that_loses_all_its_pods_loses_its_share(world: World) -> None:
    world.create(spec(2, {"setWeight": 50}, PAUSE))
    await world.run(60)
    gone = canary(world)
    world.pod_status = lambda pod: {"phase": "Pending"} if revision_of_object(pod) == gone else None
    await world.run(5)
    assert weights(world) == [(f"{NAME}-{stable(world)}", 100)]


async def test_no_step_is_done_before_the_gateway_has_taken_it_up(world: World) -> None:
    world.gateways.deaf = True
    world.create(spec(2, {"setWeight": 10}, {"setWeight": 50}, PAUSE))
    await world.run(300)
    assert weights(world)[1][1] == 10
    assert world.status()["rollout"]["step"] == 0
    assert world.said()["TrafficSynced"] == "False RollingOut"
    world.gateways.deaf = False
    await world.run(60)
    assert world.status()["canaryWeight"] == 50


async def test_a_route_that_a_gateway_refuses_is_said_and_holds_the_rollout(world: World) -> None:
    world.gateways.refusal = "NotAllowedByListeners"
    world.create(spec(2))
    await world.run(120)
    assert world.said()["TrafficSynced"] == "False RouteRefusedByGateway"
    assert world.said()["Ready"] == "False RouteRefusedByGateway"
    assert world.message("TrafficSynced") == (
        "Gateway gateways/public: Accepted is False: NotAllowedByListeners: no listener allows it"
    )
    assert world.status()["rollout"]["weight"] == 0


async def test_without_the_gateway_api_the_condition_says_what_to_do() -> None:
    world = World()
    world.kube.unknown.add(ObjectKind.HTTP_ROUTE)
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    assert world.said()["Ready"] == "False GatewayAPIMissing"
    assert world.said()["TrafficSynced"] == "False GatewayAPIMissing"
    assert "install the Gateway API" in world.message()
    assert world.kube.all(ObjectKind.HTTP_ROUTE) == []
    world.create(spec(2))
    await world.run(120)
    assert world.status()["stable"]["version"] == "1"
    world.kube.unknown.clear()
    world.routers.requests_per_second = 200
    await world.restart()
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"


async def test_a_shadow_gets_copies_by_a_mirror_of_the_route(world: World) -> None:
    world.create({**spec(2), "rollout": {"strategy": "Shadow"}})
    await world.run(120)
    (copies,) = world.gateways.rule(route(world)["spec"])["filters"]
    assert copies == {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": {"name": f"{NAME}-{canary(world)}", "port": 8080}},
    }
    assert weights(world) == [(f"{NAME}-{stable(world)}", 100)]
    await world.run(600)
    assert world.status()["rollout"]["phase"] == "Paused"
    assert world.status()["rollout"]["gates"][0]["verdict"] == "Pass"


async def test_another_provider_takes_the_route_away(world: World) -> None:
    world.create({**spec(1), "traffic": {}})
    await world.run(60)
    assert world.kube.all(ObjectKind.HTTP_ROUTE) == []
    assert world.said()["Ready"] == "True Serving"


async def test_a_route_of_somebody_else_is_left_alone() -> None:
    world = World()
    await world.operator.start()
    theirs = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"parentRefs": [], "rules": []},
    }
    world.kube.update(theirs)
    world.create(spec(1))
    await world.run(60)
    assert world.said()["Ready"] == "False NameTaken"
    assert world.kube.find(*ROUTE)["spec"] == theirs["spec"]


async def test_a_rolling_update_moves_the_route_once_the_new_revision_can_carry_it(world: World) -> None:
    world.create({**spec(1), "rollout": {"strategy": "RollingUpdate"}})
    await world.run(60)
    world.create({**spec(2), "rollout": {"strategy": "RollingUpdate"}})
    await world.run(120)
    assert world.status()["stable"]["version"] == "2"
    assert weights(world) == [(f"{NAME}-{stable(world)}", 100)]


async def test_the_steady_state_writes_nothing(world: World) -> None:
    before = world.writes()
    await world.run(300)
    assert world.writes() == before


@pytest.mark.parametrize("after", range(1, 15, 3))
async def test_a_rollout_ends_the_same_though_the_operator_dies_in_it(world: World, after: int) -> None:
    left = [after]

    def kill(request: Request) -> None:
        left[0] -= request.is_write
        if left[0] < 0:
            world.kube.before = None
            raise Killed

    world.create(spec(2, {"setWeight": 50}, {"pause": {"seconds": 30}}))
    world.kube.before = kill
    try:
        await world.run(300)
    except Killed:
        await world.restart()
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    assert weights(world) == [(f"{NAME}-{stable(world)}", 100)]
    assert world.kube.has(KIND, NAMESPACE, NAME)


async def test_a_route_that_is_not_allowed_is_not_written_and_says_what_to_do(world: World) -> None:
    world.allowed = Allowed()
    await world.restart()
    await world.run(60)
    assert not world.kube.all(ObjectKind.HTTP_ROUTE), "it was allowed before"
    found = world.said()
    assert found["Ready"] == found["RouteReady"] == found["TrafficSynced"] == "False GatewayNotAllowed"
    assert found["Stalled"] == "True GatewayNotAllowed"
    assert world.status()["stable"]["version"] == "1"
    world.create(spec(2))
    await world.run(600)
    assert world.status()["stable"]["version"] == "1", "nothing shows what a canary does"
    world.allowed = ALLOWED
    await world.restart()
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    assert route(world)["spec"]["hostnames"] == ["fraud.example.com"]


async def test_host_names_of_others_are_not_taken(world: World) -> None:
    asked = spec(1)
    asked["traffic"]["gatewayAPI"]["hostnames"] = ["payments.example.com"]
    world.create(asked)
    await world.run(60)
    assert not world.kube.all(ObjectKind.HTTP_ROUTE)
    assert world.said()["Ready"] == "False GatewayNotAllowed"
    world.create(spec(1))
    await world.run(60)
    assert route(world)["spec"]["hostnames"] == ["fraud.example.com"]
    assert world.said()["Ready"] == "True Serving"
