"""The operator on a fake Kubernetes: it comes to rest where it should, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.contract import Failure, ModelFault
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.controller.apply import STATUS_MANAGER, WORKLOAD_MANAGER
from slipway.engine.errors import ApiError
from tests.unit.fake import Place, Request
from tests.unit.world import KEY, NAME, NAMESPACE, SETTINGS, Killed, World, resolution

SERVING = {
    "Ready": "True Serving",
    "ModelResolved": "True Resolved",
    "RevisionReady": "True Available",
    "RouteReady": "True Routed",
    "RolloutComplete": "True RolledOut",
    "AccessControlled": "False AccessOpen",
}
SECOND = {"model": {"uri": "mlflow://fraud/2"}, "scaling": {"minReplicas": 2, "maxReplicas": 4}}
THIRD = {"model": {"uri": "mlflow://fraud/3"}, "runtime": {"threads": 2}}
REVISION_KINDS = (
    ObjectKind.CONTROLLER_REVISION,
    ObjectKind.DEPLOYMENT,
    ObjectKind.AUTOSCALER,
    ObjectKind.DISRUPTION_BUDGET,
)


#: Kinds that a plain ModelDeployment has none of; nor has one of a single pod a disruption budget.
OF_OTHERS = (ObjectKind.CONFIG_MAP, ObjectKind.HTTP_ROUTE, ObjectKind.JOB)


@pytest.fixture
def world() -> World:
    return World()


async def serve(world: World, spec: dict[str, Any] | None = None) -> str:
    """Bring a ModelDeployment to Ready; its revision."""
    world.create(spec)
    await world.settle()
    assert world.said() == SERVING
    return str(world.status()["stable"]["revision"])


async def rolled_out(world: World) -> None:
    """First deployment, a new model with more pods, then another with another runtime."""
    for spec in (None, SECOND, THIRD):
        world.create(spec)
        await world.settle()


def essence(world: World) -> dict[Place, Any]:
    """All that is there, less what differs from run to run: uids, versions, times, names of pods."""
    found = {}
    for place in world.kube.places():
        item = world.kube.find(*place)
        if place[0] in (ObjectKind.POD, ObjectKind.ENDPOINT_SLICE):
            continue
        meta = item["metadata"]
        found[place] = _timeless({**item, "metadata": {"labels": meta.get("labels")}})
    pods = world.kube.all(ObjectKind.POD)
    found["Pod", "", ""] = sorted(pod["metadata"]["labels"].get(naming.REVISION_LABEL, "") for pod in pods)
    return found


_TIMES = frozenset(
    {"promotedAt", "lastTransitionTime", "observedGeneration", "createdAt", "modelCreatedAt", "decidedAt"}
)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "a time" if key in _TIMES else _timeless(item) for key, item in value.items()}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


async def test_a_model_deployment_becomes_ready_from_nothing(world: World) -> None:
    revision = await serve(world)
    assert {place[0] for place in world.kube.places()} == {
        KIND,
        "ReplicaSet",
        *(kind.value for kind in ObjectKind if kind not in (*OF_OTHERS, ObjectKind.DISRUPTION_BUDGET)),
    }
    for kind in REVISION_KINDS[:-1]:
        assert world.child(kind)[2] == f"fraud-{revision}"
    assert world.status()["url"] == "http://fraud.payments.svc"
    assert [pod["metadata"]["labels"][naming.REVISION_LABEL] for pod in world.kube.all(ObjectKind.POD)] == [
        revision
    ]
    assert world.told() == ["Normal Serving"]


async def test_a_first_deployment_takes_at_most_one_write_a_child_and_a_few_of_status(world: World) -> None:
    await serve(world)
    created = [str(request) for request in world.kube.requests if request.verb == "create"]
    assert len(created) == len(set(created)) == 6
    others = [request.verb for request in world.kube.requests if request.verb in ("get", "apply", "patch")]
    assert others == ["get", "apply"], "for the ControllerRevision"
    # The claim, and what there is to say.
    assert sum(request.verb == "apply_status" for request in world.kube.requests) == 1 + 3


async def test_at_rest_nothing_is_written(world: World) -> None:
    await serve(world)
    writes = world.writes()
    for _ in range(5):
        world.operator.dirty.add(KEY)
        await world.settle()
    assert world.writes() == writes


async def test_nothing_is_asked_for_either_at_rest(world: World) -> None:
    await serve(world)
    requests = len(world.kube.requests)
    world.operator.dirty.add(KEY)
    await world.settle()
    assert len(world.kube.requests) == requests


async def test_a_restarted_operator_writes_nothing(world: World) -> None:
    await rolled_out(world)
    writes = world.writes()
    await world.restart()
    await world.settle()
    assert world.writes() == writes
    assert len(world.operator.store.children(KEY)) > 5


async def test_a_model_of_one_pod_takes_thirteen_writes_and_a_budget_once_it_has_two(world: World) -> None:
    budgets = partial(world.kube.all, ObjectKind.DISRUPTION_BUDGET)
    revision = await serve(world)
    assert world.writes() == 13
    assert budgets() == []

    def scale(pods: int) -> None:
        place = (ObjectKind.DEPLOYMENT, NAMESPACE, f"{NAME}-{revision}")
        world.kube.edit(place, lambda found: found["spec"].update(replicas=pods), "autoscaler")

    scale(2)
    await world.settle()
    assert [found["metadata"]["name"] for found in budgets()] == [f"{NAME}-{revision}"]
    written = world.writes()
    for pods in (1, 2):
        scale(pods)
        await world.settle()
        assert len(budgets()) == 1
    assert [str(one) for one in world.kube.requests if one.verb not in ("apply_status", "list")][-1] == (
        f"create PodDisruptionBudget {NAME}-{revision}"
    ), f"{written} writes, and status alone after that"


async def test_a_new_model_takes_over_and_leaves_only_the_memory_of_the_old_one(world: World) -> None:
    first = await serve(world)
    world.create(SECOND)
    await world.settle()
    second = world.status()["stable"]["revision"]
    assert world.said() == SERVING
    assert second != first
    for kind in (ObjectKind.DEPLOYMENT, ObjectKind.AUTOSCALER, ObjectKind.DISRUPTION_BUDGET):
        assert world.child(kind)[2] == f"fraud-{second}"
    assert {item["revision"] for item in world.kube.all(ObjectKind.CONTROLLER_REVISION)} == {1, 2}
    assert len(world.kube.all(ObjectKind.POD)) == 2
    assert "canary" not in world.status()


async def test_clients_always_reach_a_ready_pod_while_a_model_is_replaced(world: World) -> None:
    await serve(world, {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": 3}})
    seen: list[int] = []

    def count(_type: str, _manifest: Manifest) -> None:
        slice_ = world.kube.find(ObjectKind.ENDPOINT_SLICE, NAMESPACE, "fraud-slice")
        seen.append(sum(endpoint["conditions"]["ready"] for endpoint in slice_["endpoints"]))

    world.kube.listeners.append(count)
    world.create({"model": {"uri": "mlflow://fraud/2"}})
    await world.settle()
    assert world.status()["stable"]["version"] == "2"
    # The new revision has as many pods as the old one had before it carries anything.
    assert min(seen) == 3


async def test_going_back_to_an_old_model_reuses_its_revision(world: World) -> None:
    first = await serve(world)
    world.create(SECOND)
    await world.settle()
    world.create()
    await world.settle()
    assert world.status()["stable"]["revision"] == first
    numbers = {
        item["metadata"]["name"]: item["revision"] for item in world.kube.all(ObjectKind.CONTROLLER_REVISION)
    }
    assert numbers[f"fraud-{first}"] == 3


async def test_a_rollout_that_is_called_back_leaves_nothing_of_the_candidate_running(world: World) -> None:
    first = await serve(world)
    world.pod_status = lambda pod: (
        None if pod["metadata"]["labels"][naming.REVISION_LABEL] == first else {"phase": "Pending"}
    )
    world.create(SECOND)
    await world.settle()
    assert world.status()["canary"]["version"] == "2"
    assert len(world.kube.all(ObjectKind.DEPLOYMENT)) == 2
    world.create()
    await world.settle()
    assert world.said() == SERVING
    assert world.child(ObjectKind.DEPLOYMENT)[2] == f"fraud-{first}"


@pytest.mark.parametrize("kind", [*REVISION_KINDS, ObjectKind.SERVICE_ACCOUNT])
async def test_a_deleted_child_comes_back(world: World, kind: ObjectKind) -> None:
    await serve(world, {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": 2}})
    before = essence(world)
    world.kube.take(world.child(kind))
    await world.settle()
    assert essence(world) == before
    assert world.said() == SERVING


async def test_both_services_come_back(world: World) -> None:
    await serve(world)
    before = essence(world)
    for service in list(world.kube.all(ObjectKind.SERVICE)):
        world.kube.take((ObjectKind.SERVICE, NAMESPACE, service["metadata"]["name"]))
    await world.settle()
    assert essence(world) == before


async def test_everything_deleted_at_once_comes_back(world: World) -> None:
    await rolled_out(world)
    world.create({**THIRD, "scaling": SECOND["scaling"]})
    await world.settle()
    before = essence(world)
    for place in world.kube.places():
        if place[0] not in (KIND, ObjectKind.POD, ObjectKind.ENDPOINT_SLICE):
            world.kube.take(place)
    await world.settle()
    after = essence(world)
    assert {place for place in after if place[0] != ObjectKind.CONTROLLER_REVISION} == {
        place for place in before if place[0] != ObjectKind.CONTROLLER_REVISION
    }
    assert world.said() == SERVING


def _scale(manifest: dict[str, Any]) -> None:
    manifest["spec"]["maxReplicas"] = 99


def _unlabel(manifest: dict[str, Any]) -> None:
    del manifest["metadata"]["labels"][naming.MANAGED_BY_LABEL]


def _add_container(manifest: dict[str, Any]) -> None:
    manifest["spec"]["template"]["spec"]["containers"].append({"name": "miner", "image": "x"})


def _reimage(manifest: dict[str, Any]) -> None:
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"


@pytest.mark.parametrize(
    ("kind", "change"),
    [(ObjectKind.AUTOSCALER, _scale), (ObjectKind.DEPLOYMENT, _unlabel), (ObjectKind.DEPLOYMENT, _reimage)],
)
async def test_what_somebody_changed_by_hand_is_restored(
    world: World, kind: ObjectKind, change: Callable[[dict[str, Any]], None]
) -> None:
    await serve(world)
    before = essence(world)
    world.kube.edit(world.child(kind), change)
    assert essence(world) != before
    await world.settle()
    assert essence(world) == before


async def test_a_label_that_somebody_added_stays_and_causes_no_write(world: World) -> None:
    await serve(world)
    writes = world.writes()
    place = world.child(ObjectKind.DEPLOYMENT)
    world.kube.edit(place, lambda found: found["metadata"]["labels"].update(team="risk"))
    await world.settle()
    assert world.writes() == writes
    assert world.kube.find(*place)["metadata"]["labels"]["team"] == "risk"


async def test_a_container_that_somebody_added_is_fought_over_once_not_for_ever(world: World) -> None:
    # A forced apply cannot remove what another manager owns; the operator must not try it over and over.
    await serve(world)
    applied = sum(request.verb == "apply" for request in world.kube.requests)
    world.kube.edit(world.child(ObjectKind.DEPLOYMENT), _add_container, "sidecar-injector")
    await world.settle()
    world.operator.dirty.add(KEY)
    await world.settle()
    assert sum(request.verb == "apply" for request in world.kube.requests) == applied + 1


async def test_what_is_no_longer_wanted_of_what_was_created_goes_with_the_next_apply(world: World) -> None:
    """An apply takes back only what an apply wrote; a creation is made to count as one."""
    world.settings = replace(SETTINGS, image_pull_secrets=("one",))
    await world.restart()
    await serve(world)
    account = world.child(ObjectKind.SERVICE_ACCOUNT)
    assert world.kube.find(*account)["imagePullSecrets"] == [{"name": "one"}]
    world.settings = SETTINGS
    await world.restart()
    before = len(world.kube.requests)
    await world.settle()
    assert not world.kube.find(*account).get("imagePullSecrets")
    made = [str(found) for found in world.kube.requests[before:] if found.is_write]
    assert made == [f"patch {account[0]} {account[2]}", f"apply {account[0]} {account[2]}"]
    # Once for each object.
    world.settings = replace(SETTINGS, image_pull_secrets=("two",))
    await world.restart()
    before = len(world.kube.requests)
    await world.settle()
    made = [str(found) for found in world.kube.requests[before:] if found.is_write]
    assert made == [f"apply {account[0]} {account[2]}"]


async def test_the_service_of_clients_stays_whatever_labels_somebody_gives_it(world: World) -> None:
    await serve(world)
    place = (ObjectKind.SERVICE.value, NAMESPACE, NAME)
    uid = world.kube.find(*place)["metadata"]["uid"]
    foreign = {naming.COMPONENT_LABEL: "model-server", naming.REVISION_LABEL: "0ld0ld0ld0"}
    world.kube.edit(place, lambda found: found["metadata"]["labels"].update(foreign), "somebody")
    await world.settle()
    assert world.kube.find(*place)["metadata"]["uid"] == uid
    assert world.said() == SERVING


async def test_what_another_operator_of_ours_just_made_is_applied_to_and_not_refused(world: World) -> None:
    """A watch may be late: what the leader before created is there, and is its own."""
    await serve(world)
    service = world.child(ObjectKind.SERVICE_ACCOUNT)
    live = world.kube.find(*service)
    world.operator.store.remove(live)
    world.kube.edit(service, lambda found: found["metadata"]["annotations"].clear(), "somebody")
    world.operator.store.remove(world.kube.find(*service))
    world.operator.dirty.add(KEY)
    before = len(world.kube.requests)
    await world.settle()
    made = [found.verb for found in world.kube.requests[before:]]
    assert made == ["create", "get", "patch", "apply"]
    assert world.said()["Ready"] == "True Serving"


async def test_pods_that_the_autoscaler_adds_are_left_alone_and_tell_nothing_new(world: World) -> None:
    await serve(world)
    applied = [request for request in world.kube.requests if request.verb == "apply"]
    told = world.told()
    world.kube.edit(world.child(ObjectKind.DEPLOYMENT), lambda found: found["spec"].update(replicas=4), "hpa")
    await world.settle()
    assert world.kube.find(*world.child(ObjectKind.DEPLOYMENT))["spec"]["replicas"] == 4
    assert world.status()["replicas"] == 4
    assert [request for request in world.kube.requests if request.verb == "apply"] == applied
    assert world.told() == told


async def test_replicas_belong_to_nobody_but_the_autoscaler(world: World) -> None:
    await serve(world)
    place = world.child(ObjectKind.DEPLOYMENT)
    world.kube.edit(place, lambda found: found["spec"].update(replicas=4), "hpa")
    world.kube.edit(place, lambda found: found["metadata"]["annotations"].clear(), "somebody")
    await world.settle()
    assert naming.APPLIED_ANNOTATION in world.kube.find(*place)["metadata"]["annotations"]
    assert world.kube.find(*place)["spec"]["replicas"] == 4
    owned = world.kube.managers(place)
    assert ("spec", "replicas") not in owned[WORKLOAD_MANAGER]
    assert not [manager for manager in owned if manager.startswith(f"{WORKLOAD_MANAGER} ")]
    assert world.kube.managers((KIND, NAMESPACE, NAME))[STATUS_MANAGER]


async def test_a_field_that_leaves_a_manifest_leaves_the_object(world: World) -> None:
    await serve(world, {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"maxReplicas": 7}})
    place = world.child(ObjectKind.AUTOSCALER)
    assert world.kube.find(*place)["spec"]["maxReplicas"] == 7
    world.create({"model": {"uri": "mlflow://fraud/1"}})
    await world.settle()
    assert world.kube.find(*place)["spec"]["maxReplicas"] == 10


async def test_a_manifest_that_the_server_rewrites_is_written_once(world: World) -> None:
    def inject(manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest["kind"] == ObjectKind.DEPLOYMENT:
            (server,) = manifest["spec"]["template"]["spec"]["containers"]
            server["imagePullPolicy"] = "Always"
        return manifest

    world.kube.admission = inject
    await serve(world)
    writes = world.writes()
    for _ in range(3):
        world.operator.dirty.add(KEY)
        await world.settle()
    assert world.writes() == writes
    # Its own rewriting is put up with, somebody's change on top of it is not.
    place = world.child(ObjectKind.DEPLOYMENT)
    world.kube.edit(place, _reimage)
    await world.settle()
    assert world.kube.find(*place)["spec"]["template"]["spec"]["containers"][0]["image"] != "evil"


async def test_amounts_in_another_spelling_are_the_same_amounts(world: World) -> None:
    spec = {
        "model": {"uri": "mlflow://fraud/1"},
        "runtime": {"resources": {"requests": {"cpu": "1000m"}, "limits": {"cpu": "0.5e1"}}},
    }
    await serve(world, spec)
    (server,) = world.kube.all(ObjectKind.DEPLOYMENT)[0]["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["requests"]["cpu"] == "1"
    writes = world.writes()
    await world.restart()
    await world.settle()
    assert world.writes() == writes


async def test_a_taken_name_is_refused_and_taken_up_once_it_is_free(world: World) -> None:
    foreign = {
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"a": "b"}},
    }
    world.kube.update(foreign, "somebody")
    world.create()
    await world.settle()
    assert world.said()["Ready"] == "False NameTaken"
    assert world.said()["Stalled"] == "True NameTaken"
    assert "Service fraud exists and is not Slipway's; delete or rename it" in world.message()
    assert world.kube.find(ObjectKind.SERVICE, NAMESPACE, NAME)["spec"]["selector"] == {"a": "b"}
    assert world.told().count("Warning NameTaken") == 1
    world.kube.take((ObjectKind.SERVICE, NAMESPACE, NAME))
    await world.settle()
    assert world.said() == SERVING


async def test_a_namesake_that_wears_slipways_labels_is_not_taken_over_either(world: World) -> None:
    labels = naming.labels(NAME, "route")
    foreign = {
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {"selector": {"a": "b"}},
    }
    world.kube.update(foreign, "somebody")
    world.create()
    await world.settle()
    assert world.said()["Ready"] == "False NameTaken"


def _when(kind: str, error: ApiError) -> Callable[[Request], None]:
    def refuse(request: Request) -> None:
        if request.verb in ("create", "apply") and kind in (request.kind, "everything"):
            raise error

    return refuse


REFUSALS = {
    "quota": (
        ObjectKind.POD,
        ApiError(403, "Forbidden", 'pods "x" is forbidden: exceeded quota: compute, limited: pods=0'),
        "QuotaExceeded",
    ),
    "pod security": (
        ObjectKind.POD,
        ApiError(403, "Forbidden", 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'),
        "PodRefused",
    ),
    "rights": (
        ObjectKind.DEPLOYMENT,
        ApiError(403, "Forbidden", 'deployments.apps is forbidden: User "x" cannot patch'),
        "RefusedByAPIServer",
    ),
    "a webhook": (
        ObjectKind.AUTOSCALER,
        ApiError(422, "Invalid", "spec.metrics: Invalid value"),
        "RefusedByAPIServer",
    ),
    "a namespace that ends": (
        "everything",
        ApiError(403, "Forbidden", "is being terminated", frozenset({"NamespaceTerminating"})),
        "NamespaceTerminating",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_is_named_told_and_gone_once_it_is_mended(world: World, case: str) -> None:
    kind, error, reason = REFUSALS[case]
    world.kube.before = _when(kind, error)
    world.create()
    await world.settle()
    assert f"False {reason}" in world.said().values()
    assert world.said()["Reconciling" if reason == "NamespaceTerminating" else "Stalled"] == f"True {reason}"
    assert error.message in {found["message"].partition(";")[0] for found in world.status()["conditions"]}
    warnings = [told for told in world.told() if told.startswith("Warning")]
    assert warnings == ([] if reason == "NamespaceTerminating" else [f"Warning {reason}"])
    world.kube.before = None
    world.operator.dirty.add(KEY)
    await world.settle()
    assert world.said() == SERVING


async def test_pods_that_quota_refuses_are_named_and_made_once_there_is_room(world: World) -> None:
    world.pods_refused = 'pods "x" is forbidden: exceeded quota: compute, limited: limits.memory=1Gi'
    world.create()
    await world.settle()
    assert world.said()["Ready"] == "False QuotaExceeded"
    world.pods_refused = None
    await world.settle()
    assert world.said() == SERVING


async def test_a_pod_that_fails_is_named_and_forgotten_once_it_is_ready(world: World) -> None:
    world.pod_status = lambda _: {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "server",
                "image": "x",
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }
        ],
    }
    world.create()
    await world.settle()
    assert world.said()["Ready"] == "False OutOfMemory"
    world.pod_status = lambda _: None
    await world.settle()
    assert world.said() == SERVING
    assert world.told() == ["Warning OutOfMemory", "Normal Serving"]


async def test_a_server_that_never_answers_its_probe_is_named_though_nothing_happens(world: World) -> None:
    world.pod_status = lambda _: {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {"name": "server", "image": "x", "state": {"running": {"startedAt": "2026-11-24T12:00:00Z"}}}
        ],
    }
    world.create()
    await world.settle()
    assert world.said()["Ready"] == "False ProbeFailing"
    assert (world.now.minute, world.now.second) == (0, 30)


async def test_a_model_that_is_registered_later_is_found_by_itself(world: World) -> None:
    world.create({"model": {"uri": "mlflow://fraud@champion"}})
    for _ in range(3):
        world.operator.dirty.add(KEY)
        await world.operator.look(KEY)
        world._act()
    world.models["mlflow://fraud@champion"] = resolution(4)
    await world.settle()
    assert world.said() == SERVING
    assert world.status()["model"]["resolvedURI"] == "mlflow://fraud/4"
    assert world.status()["model"]["uri"] == "mlflow://fraud@champion"
    assert "Pod fraud-resolve" not in {f"{place[0]} {place[2][:13]}" for place in world.kube.places()}


async def test_a_missing_model_is_asked_for_ever_more_seldom(world: World) -> None:
    world.models["mlflow://fraud/1"] = Failure(reason=ModelFault.MODEL_NOT_FOUND, message="there is none")
    world.create()
    asked: list[float] = []
    begun = world.now
    world.kube.before = lambda request: (
        asked.append((world.now - begun).total_seconds())
        if (request.verb, request.kind) == ("create", "Pod")
        else None
    )
    with pytest.raises(AssertionError, match="no rest"):
        await world.settle()
    waits = [after - before for before, after in pairwise(asked)]
    assert waits[0] == 10
    assert waits[-1] == 60
    assert waits == sorted(waits)
    assert world.told() == ["Warning ModelNotFound"]


async def test_an_unreadable_spec_keeps_serving_and_recovers(world: World) -> None:
    await serve(world)
    children = [place for place in world.kube.places() if place[0] != KIND]
    world.create({"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": -1}})
    await world.settle()
    assert world.said() == {"Ready": "False InvalidResource", "Stalled": "True InvalidResource"}
    assert [place for place in world.kube.places() if place[0] != KIND] == children
    world.create()
    await world.settle()
    assert world.said() == SERVING


async def test_one_bad_model_deployment_does_not_hold_up_another(world: World) -> None:
    world.models["mlflow://fraud/9"] = Failure(reason=ModelFault.INVALID_MODEL_URI, message="no such thing")
    world.create({"model": {}}, name="bad")
    world.create(name="good")
    await world.settle()
    assert world.said("bad")["Ready"] == "False InvalidResource"
    assert world.said("good") == SERVING


async def test_a_deleted_model_deployment_takes_everything_with_it(world: World) -> None:
    await serve(world)
    writes = world.writes()
    world.kube.take((KIND, NAMESPACE, NAME))
    await world.settle()
    assert world.kube.places() == []
    assert world.writes() == writes, "garbage collection does it"


async def test_a_model_deployment_that_waits_for_a_finalizer_is_left_alone(world: World) -> None:
    await serve(world)
    requests = len(world.kube.requests)
    world.kube.edit((KIND, NAMESPACE, NAME), lambda found: found["metadata"].update(deletionTimestamp="now"))
    world.kube.take(world.child(ObjectKind.DEPLOYMENT))
    await world.settle()
    assert len(world.kube.requests) == requests


async def test_a_model_deployment_made_anew_under_its_name_serves_again(world: World) -> None:
    await serve(world)
    world.kube.take((KIND, NAMESPACE, NAME))
    world.create()
    await world.settle()
    assert world.said() == SERVING
    uid = world.kube.find(KIND, NAMESPACE, NAME)["metadata"]["uid"]
    assert {
        item["metadata"]["ownerReferences"][0]["uid"] for item in world.kube.all(ObjectKind.DEPLOYMENT)
    } == {uid}


async def test_a_lost_status_is_written_again_while_it_serves_on(world: World) -> None:
    first = await serve(world)
    before = essence(world)
    world.kube.edit((KIND, NAMESPACE, NAME), lambda found: found.pop("status"))
    pods = {place for place in world.kube.places() if place[0] == ObjectKind.POD}
    await world.settle()
    assert world.status()["stable"]["revision"] == first
    assert essence(world) == before
    assert pods <= set(world.kube.places())


async def test_events_tell_transitions_once_across_restarts(world: World) -> None:
    await serve(world)
    told = world.told()
    for _ in range(3):
        await world.restart()
        await world.settle()
    assert world.told() == told


async def test_an_event_that_cannot_be_written_is_no_reason_to_try_again(world: World) -> None:
    def refuse(request: Request) -> None:
        if request.verb == "emit":
            raise ApiError(429, "TooManyRequests", "slow down")

    world.kube.before = refuse
    await serve(world)
    assert world.kube.events == []
    assert world.operator.errors == []


@pytest.mark.parametrize("code", [0, 409, 429, 500, 503, 504])
async def test_an_error_that_may_pass_is_tried_again_and_said_of_nobody(world: World, code: int) -> None:
    failures = iter(range(6))

    def fail(request: Request) -> None:
        if request.is_write and request.number % 2 and next(failures, None) is not None:
            raise ApiError(code, "Sorry", "later")

    world.kube.before = fail
    world.create()
    await world.settle(retries=10)
    assert world.said() == SERVING
    assert len(world.operator.errors) >= 1
    assert not [told for told in world.told() if told.startswith("Warning")]


async def test_a_lost_watch_event_is_made_good_by_the_next_listing(world: World) -> None:
    await serve(world)
    world.operator.end()
    world.kube.take(world.child(ObjectKind.DEPLOYMENT))
    world.kube.listeners.append(world.operator._see)
    world.operator.dirty.add(KEY)
    await world.settle()
    assert not world.kube.all(ObjectKind.DEPLOYMENT), "it does not know yet"
    await world.operator.start()
    await world.settle()
    assert world.said() == SERVING


# Killed at every single step.


class _Countdown:
    """Raises at the n-th request from now."""

    def __init__(self, number: int, error: BaseException) -> None:
        self.left = number
        self.error = error

    def __call__(self, _: Request) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


async def _whole_life() -> tuple[int, dict[Place, Any]]:
    """How many requests :func:`rolled_out` takes, and what is there in the end."""
    world = World()
    await rolled_out(world)
    assert world.said() == SERVING
    return len(world.kube.requests), essence(world)


async def _live_through(world: World) -> int:
    """The whole life of :func:`rolled_out`, restarting whenever the operator is killed; how often it was."""
    deaths = 0
    for spec in (None, SECOND, THIRD):
        world.create(spec)
        while True:
            try:
                await world.settle()
                break
            except Killed:
                deaths += 1
                await world.restart()
    return deaths


async def test_killed_at_any_request_the_next_operator_comes_to_the_same_end() -> None:
    """Killed after a request is killed before the next: all that lasts is in the cluster."""
    requests, want = await _whole_life()
    assert requests > 40
    for number in range(1, requests + 1):
        world = World()
        world.kube.after = _Countdown(number, Killed())
        assert await _live_through(world) == 1, f"request {number} was not reached"
        assert essence(world) == want, f"killed after request {number}: {world.kube.requests[number - 1]}"


async def test_killed_at_every_seventh_request_it_still_comes_to_the_same_end() -> None:
    _, want = await _whole_life()
    world = World()

    def kill(request: Request) -> None:
        if request.is_write and request.number % 7 == 0:
            raise Killed

    world.kube.after = kill
    assert await _live_through(world) > 5
    assert essence(world) == want


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_answer_lost_at_any_request_changes_nothing_of_the_end(moment: str) -> None:
    """``after``: the write was done, and only its answer was lost."""
    calm = World()
    await _replaced(calm)
    for number in range(1, len(calm.kube.requests) + 1):
        world = World()
        setattr(world.kube, moment, _Countdown(number, ApiError(0, "NoAnswer", "connection reset")))
        await _replaced(world)
        assert essence(world) == essence(calm), f"no answer {moment} request {number}"


async def _replaced(world: World) -> None:
    for spec in (None, SECOND):
        world.create(spec)
        await world.settle()


async def test_what_holds_data_that_may_not_change_is_applied_and_not_created(monkeypatch: Any) -> None:
    """Created, nobody could orphan it any more: the next patch writes its data in another order."""
    world = World()
    created: list[Any] = []
    create = world.kube.create

    async def seen(manifest: Any, manager: str) -> Any:
        created.append(manifest)
        return await create(manifest, manager)

    monkeypatch.setattr(world.kube, "create", seen)
    await world.operator.start()
    world.create({"model": {"uri": "mlflow://fraud/1"}})
    await world.run(30)
    assert created
    assert "ControllerRevision" not in {one["kind"] for one in created}
    assert world.kube.all(ObjectKind.CONTROLLER_REVISION)
