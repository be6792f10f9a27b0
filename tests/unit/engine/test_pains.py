"""What hurt users of other tools, each named by the issue that reports it, does not happen here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from slipway.api.rollout import Analysis, Gate
from slipway.api.rollout_status import LookStatus
from slipway.core.observed import ObjectKind, is_ready, revision_of_object
from slipway.core.rollout.gates import judge_gates
from slipway.core.traffic.envoy.config import admit
from slipway.core.traffic.envoy.objects import routes_map, told
from slipway.core.traffic.envoy.routes import Arm, Route
from tests.unit.engine.test_rollouts import spec
from tests.unit.fake import Request
from tests.unit.world import NAME, NAMESPACE, Killed, World

TESTS = Path(__file__).parents[2]


@pytest.fixture
async def world() -> World:
    """Version 1 serves with three pods behind its routers, at 200 requests a second."""
    world = World()
    await world.operator.start()
    world.create(three(1))
    world.routers.requests_per_second = 200
    await world.run(60)
    return world


def three(version: int, **rollout: Any) -> dict[str, Any]:
    return {**spec(version, **rollout), "scaling": {"minReplicas": 3}}


def ready_pods(world: World, revision: str) -> int:
    pods = [pod for pod in world.kube.all(ObjectKind.POD) if revision_of_object(pod) == revision]
    return sum(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)


def stable(world: World) -> str:
    return str(world.status()["stable"]["revision"])


async def test_a_second_revision_in_mid_canary_leaves_the_stable_one_its_pods(world: World) -> None:
    """argoproj/argo-rollouts#3372: all traffic went to a stable revision that had been scaled down."""
    least = [3]
    watched = stable(world)
    world.kube.listeners.append(lambda _, __: least.append(ready_pods(world, watched)))
    world.create(three(2, steps=[{"setWeight": 50}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    world.create(three(3))
    await world.run(60)
    assert min(least) == 3


async def test_a_canary_keeps_its_pods_while_any_router_sends_it_traffic(world: World) -> None:
    """argoproj/argo-rollouts#4390: the old canary was scaled down while it was still routed to."""
    world.create(three(2, steps=[{"setWeight": 50}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    canary = str(world.status()["canary"]["revision"])
    reached: list[int] = []

    def watch(_: str, __: Any) -> None:
        if any(route.weight for _, routes in world.routers._taken_up.values() for route in routes):
            reached.append(ready_pods(world, canary))

    world.kube.listeners.append(watch)
    world.create(three(1))
    await world.run(120)
    assert reached, "the canary was never routed to"
    assert min(reached) > 0
    assert ready_pods(world, canary) == 0


@pytest.mark.parametrize("after", range(0, 6))
async def test_an_abort_ends_at_no_weight_though_the_operator_dies_in_it(world: World, after: int) -> None:
    """argoproj/argo-rollouts#4841: an abort left a weight for ever."""
    world.create(three(2, steps=[{"setWeight": 50}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    left = [after]

    def kill(_: Request) -> None:
        left[0] -= 1
        if left[0] < 0:
            world.kube.before = None
            raise Killed

    world.kube.before = kill
    try:
        await world.run(60)
    except Killed:
        await world.restart()
    await world.run(60)
    assert world.routers.weights[-1] == 0
    assert len(world.status()["rejected"]) == 1


async def test_scaling_does_not_bring_a_rejected_canary_back(world: World) -> None:
    """argoproj/argo-rollouts#4973: each scale-up revived the aborted canary."""
    world.create(three(2, steps=[{"setWeight": 50}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    canary = str(world.status()["canary"]["revision"])
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(120)
    for replicas in (5, 2, 6):
        world.create({**three(2), "scaling": {"minReplicas": replicas}})
        await world.run(60)
    assert ready_pods(world, canary) == 0
    assert ready_pods(world, stable(world)) >= 6


async def test_an_abort_counts_while_a_full_promotion_is_under_way(world: World) -> None:
    """argoproj/argo-rollouts#4461: an abort was ignored after a full promotion."""
    before = stable(world)
    world.create({**three(1), "scaling": {"minReplicas": 6}})
    await world.run(60)
    world.create(three(2, steps=[{"setWeight": 10}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    first = {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD)}
    world.pod_status = lambda pod: None if pod["metadata"]["name"] in first else {"phase": "Pending"}
    world.annotate("slipway.dev/promote-full", world.status()["rollout"]["id"])
    await world.run(10)
    assert world.status()["rollout"]["phase"] == "Promoting"
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(30)
    assert stable(world) == before
    assert world.status()["rejected"][0]["message"] == "aborted by a person"


async def test_without_any_data_nothing_is_aborted_and_nothing_is_promoted(world: World) -> None:
    """argoproj/argo-rollouts#1466 and fluxcd/flagger#1035: no data failed the rollout."""
    world.routers.requests_per_second = 0
    world.create(three(2, analysis={"maxDurationSeconds": 300}))
    await world.run(900)
    rollout = world.status()["rollout"]
    assert (rollout["phase"], rollout["weight"]) == ("Paused", 10)
    assert rollout["message"].startswith("inconclusive")


async def test_a_gate_that_fails_ends_the_rollout_at_whatever_step_it_is(world: World) -> None:
    """argoproj/argo-rollouts#1411: a failed analysis did not stop the rollout."""
    before = stable(world)
    world.routers.error_rate = lambda revision: 0.0 if revision == before else 0.2
    world.create(three(2, steps=[{"setWeight": 10}, {"pause": {"seconds": 3600}}]))
    await world.run(120)
    assert world.status()["rejected"][0]["message"].startswith("gate error-rate: canary ")


async def test_a_rejected_canary_can_be_tried_again(world: World) -> None:
    """argoproj/argo-rollouts#3120: an aborted canary could not be retried."""
    world.create(three(2, steps=[{"setWeight": 10}, {"pause": {"untilApproved": True}}]))
    await world.run(60)
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(120)
    world.annotate("slipway.dev/retry", world.status()["rejected"][0]["id"])
    await world.run(60)
    assert world.status()["canary"]["version"] == "2"
    assert world.status()["rollout"]["weight"] == 10


async def test_a_verdict_that_does_not_come_pauses_rather_than_aborts(world: World) -> None:
    """argoproj/argo-rollouts#2866: users want a pause instead of an abort; a gate may be for show as well."""
    before = stable(world)
    world.routers.error_rate = lambda revision: 0.0 if revision == before else 0.2
    gate = {"name": "errors", "type": "ErrorRate", "dryRun": True}
    world.create(
        three(2, steps=[{"setWeight": 10}, {"pause": {"untilApproved": True}}], analysis={"gates": [gate]})
    )
    await world.run(300)
    rollout = world.status()["rollout"]
    assert rollout["phase"] == "Paused"
    assert rollout["gates"][0]["verdict"] == "Fail"


async def test_a_rollout_stands_still_when_traffic_stops(world: World) -> None:
    """fluxcd/flagger#1011: traffic stopped, and the rollout went on."""
    world.routers.requests_per_second = 1000
    world.create(three(2))
    await world.run(25)
    world.routers.requests_per_second = 0
    await world.run(900)
    # What was seen at 10% does not speak for 50%, where nothing was seen.
    rollout = world.status()["rollout"]
    assert (rollout["step"], rollout["weight"]) == (3, 50)


async def test_the_canary_has_as_many_pods_as_the_stable_revision_before_it_takes_all(world: World) -> None:
    """fluxcd/flagger#1600: after promotion minReplicas pods met the whole herd."""
    world.create({**three(1), "scaling": {"minReplicas": 6}})
    await world.run(60)
    world.create({**three(2), "scaling": {"minReplicas": 3}})
    pods: dict[int, int] = {}

    def watch(_: str, __: Any) -> None:
        canary = world.status().get("canary")
        if canary is not None and world.routers.weights:
            weight = world.routers.weights[-1]
            pods[weight] = min(pods.get(weight, 99), ready_pods(world, canary["revision"]))

    world.kube.listeners.append(watch)
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    assert (pods[50], pods[100]) == (3, 6)


async def test_the_numbers_that_decide_are_in_the_status(world: World) -> None:
    """fluxcd/flagger#1810: the value of a failing metric could not be seen."""
    before = stable(world)
    world.routers.error_rate = lambda revision: 0.001 if revision == before else 0.1
    world.create(three(2))
    await world.run(300)
    counts = r"canary \d+ errors in \d+, stable \d+ in \d+"
    words = rf"gate error-rate: {counts}: evidence \S+ ≥ 100 of more than 1.25 times stable's rate"
    assert re.fullmatch(words, world.status()["rejected"][0]["message"])


async def test_the_weight_that_is_told_is_the_one_that_routers_do(world: World) -> None:
    """kserve/kserve#5335: the canary's percentage was ignored without a word."""
    for pod in world.kube.all(ObjectKind.POD):
        if revision_of_object(pod) is None:
            world.routers.deaf.add(pod["metadata"]["name"])
    world.create(three(2))
    await world.run(60)
    assert world.status()["canaryWeight"] == 0
    assert world.said()["TrafficSynced"] == "False RollingOut"


async def test_a_good_version_is_promoted_with_nobody_watching(world: World) -> None:
    """kserve/kserve#3085: promotion is always by hand."""
    world.create(three(2))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"


async def test_a_model_can_be_run_in_the_shadow_of_another(world: World) -> None:
    """kserve/kserve#2978: there are no shadow deployments."""
    world.create({**three(2), "rollout": {"strategy": "Shadow"}})
    await world.run(120)
    assert world.status()["rollout"]["mirrorPercent"] == 100
    assert world.status()["canaryWeight"] == 0


def test_a_longer_tail_is_found_though_the_middle_is_the_same() -> None:
    """spinnaker/kayenta#780: Mann-Whitney misses changes of the variance."""
    gate = Gate(name="slow", type="SlowRequests", thresholdMilliseconds=250, objective="1%")
    # Of both arms half the requests take less than the same 20 ms; the canary's tail is five times as heavy.
    looks = [
        LookStatus(canaryRequests=1000, canaryEvents=(50,), stableRequests=9000, stableEvents=(90,))
        for _ in range(3)
    ]
    (verdict,) = judge_gates(Analysis(gates=(gate,)), looks)
    assert verdict.verdict == "Fail"


def test_a_route_that_cannot_be_rendered_costs_its_neighbours_nothing() -> None:
    """envoyproxy/gateway#7483: one invalid backend meant 500 for all."""
    good = Route("good", 10000, Arm("a", "good-a.payments.svc", 8080))
    bad = Route("bad", 10001, Arm("a", "no host", 8080))
    admitted, refused = admit([bad, good])
    assert admitted == [good]
    assert list(refused) == ["bad"]


async def test_a_backend_that_somebody_else_put_into_the_route_stays_there(world: World) -> None:
    """argoproj-labs/rollouts-plugin-trafficrouter-gatewayapi#203: unmanaged backends were taken out."""
    world.create(by_gateway(1))
    await world.run(60)
    theirs = {"group": "", "kind": "Service", "name": "theirs", "port": 80, "weight": 7}
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": "/theirs"}}], "backendRefs": [theirs]}

    def add(route: dict[str, Any]) -> None:
        route["spec"]["rules"][1]["backendRefs"].append(theirs)
        route["spec"]["rules"].append(rule)

    world.kube.edit(("HTTPRoute", NAMESPACE, NAME), add)
    world.create(by_gateway(2))
    await world.run(60)
    found = world.kube.find("HTTPRoute", NAMESPACE, NAME)["spec"]["rules"]
    assert [ref.get("weight") for ref in found[1]["backendRefs"]] == [50, 50, 7]
    assert found[1]["backendRefs"][2] == theirs
    assert found[2] == rule
    world.annotate("slipway.dev/abort", world.status()["rollout"]["id"])
    await world.run(120)
    found = world.kube.find("HTTPRoute", NAMESPACE, NAME)["spec"]["rules"]
    assert [ref.get("weight") for ref in found[1]["backendRefs"]] == [100, 7]
    assert found[2] == rule


def by_gateway(version: int) -> dict[str, Any]:
    gateway = {"provider": "GatewayAPI", "gatewayAPI": {"parentRefs": [{"name": "public"}]}}
    return {
        **three(version, steps=[{"setWeight": 50}, {"pause": {"untilApproved": True}}]),
        "traffic": gateway,
    }


async def test_what_others_put_beside_a_route_outlives_a_rollout(world: World) -> None:
    """argoproj-labs/rollouts-plugin-trafficrouter-gatewayapi#203: backends of others were stripped."""
    world.create(spec(1), name="neighbour")
    await world.run(60)

    def add(live: dict[str, Any]) -> None:
        live["metadata"].setdefault("annotations", {})["example.com/owner"] = "risk"
        live["spec"]["ports"].append({"name": "debug", "port": 9999, "targetPort": 9999})

    world.kube.edit(("Service", NAMESPACE, NAME), add, "a-person")
    before = routes(world)["neighbour"]
    world.create({**three(2), "traffic": {"router": "Dedicated"}})
    seen = []
    world.kube.listeners.append(lambda _, __: seen.append(routes(world).get("neighbour")))
    await world.run(1200)
    assert world.status()["stable"]["version"] == "2"
    assert set(seen) == {before}
    service = world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)
    assert service["metadata"]["annotations"]["example.com/owner"] == "risk"
    assert {"name": "debug", "port": 9999, "targetPort": 9999} in service["spec"]["ports"]


def routes(world: World) -> dict[str, Route]:
    """What the shared routers are told, by name of the ModelDeployment."""
    config_map = world.kube.find(ObjectKind.CONFIG_MAP, NAMESPACE, routes_map())
    return {route.name: route for route in told(config_map)}


def test_every_pain_of_which_we_know_is_named_by_a_test() -> None:
    """Those that only a real router or a real gateway can show are tested there."""
    text = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    argo = (3372, 4390, 4841, 4973, 4461, 1466, 1411, 3120, 2866)
    known = {"argoproj/argo-rollouts": argo, "fluxcd/flagger": (1035, 1011, 1600, 1647, 1810)}
    known |= {"kserve/kserve": (5335, 3085, 2978), "spinnaker/kayenta": (780,), "envoyproxy/gateway": (7483,)}
    known["argoproj-labs/rollouts-plugin-trafficrouter-gatewayapi"] = (203,)
    pains = [f"{project}#{number}" for project, numbers in known.items() for number in numbers]
    assert [pain for pain in pains if pain not in text] == []
