"""What holds for every spec that can be read, and whatever the cluster shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from slipway.api.reasons import EXPLANATIONS, Reason
from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import KIND, ModelDeploymentSpec, Runtime, Scaling
from slipway.contract import ModelFault
from slipway.core import naming
from slipway.core.monitoring.hysteresis import update
from slipway.core.monitoring.judge import Window, WindowCounts, judge_windows
from slipway.core.monitoring.policy import monitoring_policy
from slipway.core.objects.metadata import metadata
from slipway.core.observed import Manifest, ObjectKind, Observed, ObservedTraffic, observe
from slipway.core.plan import plan
from slipway.core.resource import read
from slipway.core.revision import revision_of
from slipway.core.rollout import commands
from slipway.core.rollout.machine import Command
from slipway.core.status.report import report, report_unreadable
from tests.unit.core import generated
from tests.unit.core.generated import NOW, SCHEMA, given_leaves, leaves, make_spec, make_status, specs
from tests.unit.core.tables import OWNER, SETTINGS, digest, model
from tests.unit.world import World, resolution

FEW = settings(max_examples=40, suppress_health_check=list(HealthCheck))

_text, _times = generated.text, generated.times
_small = st.integers(0, 5)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


_CUDA = {"device": "CUDA", "resources": {"extended": {"nvidia.com/gpu": 1}}}
#: Revisions that could be there, one of them on CUDA, and one that nobody knows.
_REVISIONS = [
    revision_of(
        ModelDeploymentSpec.model_validate({"model": {"uri": f"mlflow://fraud/{n}"}, "runtime": runtime}),
        model(n),
    )
    for n, runtime in ((1, {}), (2, {}), (1, _CUDA))
]
_names = st.sampled_from([*(revision.name for revision in _REVISIONS), "0ld0ld0ld0"])

_outcomes = st.sampled_from(
    [
        "",
        "Traceback",
        "{}",
        '{"outcome":{"kind":"Fetched","digest":"' + digest(1) + '","bytes":1}}',
        '{"outcome":{"kind":"Resolved","resolution":{"uri":"mlflow://fraud/1","version":"1","digest":"'
        + digest(1)
        + '","bytes":1}}}',
        *(
            '{"outcome":{"kind":"Failed","failure":{"reason":"' + fault.value + '","message":"no"}}}'
            for fault in ModelFault
        ),
    ]
)
_terminated = st.fixed_dictionaries(
    {"exitCode": st.sampled_from([0, 1, 137])},
    optional={
        "reason": st.sampled_from(["OOMKilled", "Error", "Completed"]),
        "message": _outcomes,
        "finishedAt": _times,
    },
)
_waiting = _optional(
    reason=st.sampled_from(
        [
            "ImagePullBackOff",
            "CrashLoopBackOff",
            "CreateContainerConfigError",
            "RunContainerError",
            "PodInitializing",
            "SomethingNew",
        ]
    ),
    message=st.one_of(_text, st.just('secret "store" not found')),
)
_states = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"waiting": _waiting}),
    st.fixed_dictionaries({"running": _optional(startedAt=_times)}),
    st.fixed_dictionaries({"terminated": _terminated}),
)
_containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["server", "fetch", "resolve", "sidecar"]), "image": _text},
        optional={"state": _states, "lastState": _states, "restartCount": _small},
    ),
    max_size=3,
)
_conditions = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Ready", "PodScheduled", "ReplicaFailure", "Other"]),
            "status": st.sampled_from(["True", "False", "Unknown"]),
        },
        optional={"reason": st.sampled_from(["Unschedulable", "Other"]), "message": _text},
    ),
    max_size=3,
)
_pod_statuses = _optional(
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    reason=st.sampled_from(["Evicted", "DeadlineExceeded"]),
    message=_text,
    conditions=_conditions,
    initContainerStatuses=_containers,
    containerStatuses=_containers,
)
_deployment_statuses = _optional(
    observedGeneration=_small,
    replicas=_small,
    readyReplicas=_small,
    updatedReplicas=_small,
    conditions=_conditions,
)
_targets = st.one_of(
    st.fixed_dictionaries({"kind": st.just("Pod"), "name": st.sampled_from(["p0", "p1"])}),
    st.fixed_dictionaries({"kind": st.just("Node"), "name": _text}),
)
_endpoints = st.one_of(
    st.none(),
    st.lists(
        _optional(conditions=st.one_of(st.none(), _optional(ready=st.booleans())), targetRef=_targets),
        max_size=2,
    ),
)
_contents = st.one_of(
    st.sampled_from([revision.content() for revision in _REVISIONS]),
    st.dictionaries(
        st.sampled_from(["model", "runtime", "image", "fetchImage"]), st.one_of(_text, st.none(), _small)
    ),
)


@st.composite
def children(draw: st.DrawFn) -> dict[str, Any]:
    """One object as the API server could send it, labelled as the ModelDeployment's."""
    kind = draw(st.sampled_from(list(ObjectKind)))
    component = draw(st.sampled_from(["model-server", "resolver", "route", "unheard-of"]))
    revision = draw(st.one_of(st.none(), _names))
    child: dict[str, Any] = {
        "kind": kind.value,
        "metadata": {
            **metadata(
                OWNER,
                draw(st.sampled_from(["fraud", "p0", "p1"])),
                naming.labels("fraud", component, revision),
            ),
            "uid": draw(st.sampled_from(["u1", "u2"])),
            "generation": draw(_small),
            "creationTimestamp": draw(_times),
        },
    }
    if revision and draw(st.booleans()):
        child["metadata"]["name"] = naming.revision_object("fraud", revision)
    if draw(st.integers(0, 9)) == 0:
        child["metadata"]["deletionTimestamp"] = draw(_times)
    if kind is ObjectKind.CONTROLLER_REVISION:
        child |= {"data": draw(_contents), "revision": draw(st.integers(0, 100))}
    elif kind is ObjectKind.SERVICE:
        child["spec"] = draw(_optional(selector=st.just(naming.pod_selector("fraud", revision))))
    elif kind is ObjectKind.ENDPOINT_SLICE:
        child["metadata"]["labels"]["kubernetes.io/service-name"] = "fraud"
        child["endpoints"] = draw(_endpoints)
    elif kind is ObjectKind.POD and draw(st.booleans()):
        child["status"] = draw(_pod_statuses)
    elif kind is ObjectKind.DEPLOYMENT and draw(st.booleans()):
        child["status"] = draw(_deployment_statuses)
    return child


_KNOWN = (*(revision.name for revision in _REVISIONS), "0ld0ld0ld0")
_annotations = st.dictionaries(
    st.sampled_from([commands.annotation(command) for command in Command]),
    st.sampled_from([f"{name}.1{step}" for name in _KNOWN for step in ("", "/0", "/1")]),
    max_size=2,
)


@st.composite
def statuses(draw: st.DrawFn) -> dict[str, Any]:
    """Anything that the schema takes; or that a model serves and another is on its way, to the letter."""
    status = make_status(draw(generated.seeds), _KNOWN)
    if draw(st.booleans()):
        status["model"] = model(draw(st.integers(1, 2))).model_dump(exclude_none=True)
        for arm, name in zip(("stable", "canary"), draw(st.permutations(_KNOWN)), strict=False):
            status[arm] = {"revision": name, "version": "1", "digest": digest(1)}
        if "rollout" in status:
            status["rollout"] |= {
                "revision": status["canary"]["revision"],
                "id": f"{status['canary']['revision']}.1",
            }
    return status


@dataclass(frozen=True)
class Situation:
    """A ModelDeployment, its children, and what else is seen."""

    manifest: dict[str, Any]
    children: list[dict[str, Any]]
    traffic: ObservedTraffic | None
    free_port: int | None
    moved: str | None
    cuda_image: str

    def observed(self, *, backwards: bool = False) -> Observed:
        children = reversed(self.children) if backwards else self.children
        status = read(self.manifest).status
        return observe(
            children,
            traffic=self.traffic,
            free_port=self.free_port,
            refresh_token=self.moved,
            monitoring=status.monitoring,
        )


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    manifest = {
        "metadata": {
            "name": "fraud",
            "namespace": "payments",
            "uid": OWNER.uid,
            "generation": draw(_small),
            "annotations": draw(_annotations),
        },
        "spec": {**draw(specs()), **draw(st.sampled_from([{}, {}, {"runtime": _CUDA}]))},
        "status": draw(statuses()),
    }
    return Situation(
        manifest,
        # The API server has one object of a kind by a name.
        draw(st.lists(children(), max_size=8, unique_by=lambda one: (one["kind"], one["metadata"]["name"]))),
        draw(st.none() | generated.traffic(_names)),
        draw(st.none() | st.just(10_000)),
        draw(st.none() | st.just("now")),
        draw(st.sampled_from(["", SETTINGS.cuda_image])),
    )


@settings(max_examples=400, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(situations())
def test_planning_and_reporting_never_fail_and_always_say_the_same(situation: Situation) -> None:
    resource = read(situation.manifest)
    assert isinstance(resource.spec, ModelDeploymentSpec)
    observed, installed = situation.observed(), replace(SETTINGS, cuda_image=situation.cuda_image)
    planned = plan(resource, resource.spec, observed, installed, NOW)
    again = plan(resource, resource.spec, situation.observed(backwards=True), installed, NOW)
    assert again.apply == planned.apply
    told = report(resource, resource.spec, planned, observed, NOW)
    assert told == report(resource, resource.spec, planned, observed, NOW)
    status = ModelDeploymentStatus.model_validate(told.status)
    assert status.model_dump(mode="json", exclude_none=True) == told.status
    conditions = {condition.type: condition for condition in status.conditions}
    assert {"Ready", "ModelResolved", "RevisionReady", "RouteReady"} <= set(conditions)
    assert not {"Reconciling", "Stalled"} <= set(conditions), "one or the other, or neither"
    if conditions["Ready"].status == "True":
        assert planned.roles.stable is not None
        assert conditions["RouteReady"].status == "True"
        behind = {pod["metadata"]["name"] for pod in observed.pods(planned.roles.stable)}
        assert behind & observed.ready_pods_behind("fraud")
    assert planned.requeue_at is None or planned.requeue_at > NOW
    # Nothing is both applied and deleted, and every applied thing has one owner and a name that fits.
    applied = {(item["kind"], item["metadata"]["name"]) for item in planned.apply}
    assert all(container["image"] for item in planned.apply for container in _made(item))
    assert len(applied) == len(planned.apply)
    assert not applied & {(item["kind"], item["metadata"]["name"]) for item in planned.delete}


def _made(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Containers of what is applied, as far as it has any."""
    spec = manifest.get("spec") or {}
    pod = (spec.get("template") or {}).get("spec") or spec
    for group in ("initContainers", "containers"):
        yield from pod.get(group) or ()


@FEW
@given(situations())
def test_an_unreadable_spec_is_reported_whatever_the_status_was(situation: Situation) -> None:
    resource = read({**situation.manifest, "spec": {"model": {"uri": 7}}})
    assert not isinstance(resource.spec, ModelDeploymentSpec)
    told = report_unreadable(resource, resource.spec, NOW)
    ModelDeploymentStatus.model_validate(told.status)


_FEW = 20


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(specs("rollout", "traffic"), min_size=1, max_size=3))
def test_any_series_of_specs_comes_to_rest_with_nothing_more_to_write(series: list[dict[str, Any]]) -> None:
    async def live() -> None:
        world = World()
        for uri in ("mlflow://fraud@champion", "https://host/m.onnx", "pvc://c/m.onnx"):
            world.models[uri] = world.models["mlflow://fraud/1"]
        for uri in ("s3://models/m.onnx", "gs://models/m.onnx", "az://account/models/m.onnx"):
            world.models[uri] = resolution(1).model_copy(update={"uri": uri})
        pinned = f"dvc://git/a/b/m.onnx@{'a' * 40}"
        world.models["dvc://git/a/b/m.onnx@main"] = resolution(1).model_copy(update={"uri": pinned})
        pinned = f"oci://hub/a/b@sha256:{'a' * 64}"
        world.models["oci://hub/a/b:v1"] = resolution(1).model_copy(update={"uri": pinned})
        for spec in series:
            if (scaling := spec.get("scaling")) is not None and scaling.get("minReplicas", 1) > _FEW:
                # A thousand pods take this world minutes, and show nothing more.
                spec = {**spec, "scaling": {**scaling, "minReplicas": _FEW}}
            # A pinned digest that is not the model's would be asked for again and again.
            world.create(
                {**spec, "model": {key: item for key, item in spec["model"].items() if key != "digest"}}
            )
            await world.settle()
        ready = next(found for found in world.status()["conditions"] if found["type"] == "Ready")
        assert ready["status"] == "True", ready
        assert len(world.kube.all(ObjectKind.DEPLOYMENT)) == 1
        writes = world.writes()
        await world.restart()
        await world.settle()
        assert world.writes() == writes
        assert world.kube.find(KIND, "payments", "fraud")["status"]["observedGeneration"] >= 1

    asyncio.run(live())


def test_specs_and_statuses_that_are_made_have_every_field_of_every_block() -> None:
    """So that the properties above are about all of them, those of tomorrow too."""
    wanted = {name: frozenset(leaves(SCHEMA[name], name)) for name in ("spec", "status")}
    seen: set[str] = set()
    for seed in range(1500):
        spec = make_spec(seed)
        ModelDeploymentSpec.model_validate(spec)
        seen.update(given_leaves(spec, "spec", wanted["spec"]))
        status = make_status(seed, _KNOWN)
        ModelDeploymentStatus.model_validate(status)
        seen.update(given_leaves(status, "status", wanted["status"]))
    assert wanted["spec"] | wanted["status"] == seen


def test_rollouts_that_are_made_are_of_every_strategy_provider_step_and_gate() -> None:
    seen: set[tuple[str, str]] = set()
    for seed in range(4000):
        spec = ModelDeploymentSpec.model_validate(make_spec(seed))
        seen.add((spec.rollout.strategy, spec.traffic.provider))
        seen.update(("gate", gate.type) for gate in spec.rollout.analysis.gates)
        seen.update(("step", name) for step in spec.rollout.steps or () for name in step.model_fields_set)
    rollout = SCHEMA["spec"]["properties"]["rollout"]["properties"]
    strategies = rollout["strategy"]["enum"]
    providers = SCHEMA["spec"]["properties"]["traffic"]["properties"]["provider"]["enum"]
    pairs = {(strategy, provider) for strategy in strategies for provider in providers}
    # By numbers of pods there are canaries alone.
    pairs -= {(strategy, "ReplicaRatio") for strategy in strategies if strategy != "Canary"}
    gates = rollout["analysis"]["properties"]["gates"]["items"]["properties"]["type"]["enum"]
    steps = rollout["steps"]["items"]["properties"]
    assert pairs | {("gate", gate) for gate in gates} | {("step", step) for step in steps} == seen


@FEW
@given(specs())
def test_what_a_spec_asks_to_be_judged_can_be_judged_before_anything_is_counted(spec: dict[str, Any]) -> None:
    asked = monitoring_policy(ModelDeploymentSpec.model_validate(spec))
    empty = Window({}, NOW, seconds=0.0)
    found = judge_windows(
        asked,
        WindowCounts(
            inputs=empty, yesterday=None, labels=empty, groups=empty, references={}, usual={}, left_out=0
        ),
    )
    settled = update(None, "1", 1, found, NOW)
    assert {verdict.type for verdict in settled.verdicts} == set(found) if settled else not found


@FEW
@given(specs())
def test_a_field_that_is_given_its_default_changes_no_revision(spec: dict[str, Any]) -> None:
    short = ModelDeploymentSpec.model_validate(spec)
    full = ModelDeploymentSpec.model_validate(short.model_dump())
    assert revision_of(short, model(1)) == revision_of(full, model(1))
    assert revision_of(short, model(1)).name == revision_of(full, model(1)).name


def test_a_field_that_a_newer_operator_adds_changes_no_revision() -> None:
    class NewerRuntime(Runtime):
        """With a field that this operator does not know."""

        precise: bool = True

    old = ModelDeploymentSpec.model_validate(
        {"model": {"uri": "mlflow://fraud/1"}, "runtime": {"threads": 3}}
    )
    new = old.model_copy(update={"runtime": NewerRuntime(threads=3)})
    assert revision_of(new, model(1)).name == revision_of(old, model(1)).name
    changed = old.model_copy(update={"runtime": NewerRuntime(threads=3, precise=False)})
    assert revision_of(changed, model(1)).name != revision_of(old, model(1)).name


@pytest.mark.parametrize(
    "data", [None, {}, "text", {"model": "text"}, {"model": {"uri": 1}}, _REVISIONS[1].content()]
)
def test_a_memory_that_cannot_be_trusted_stops_nothing(data: Any) -> None:
    stable, wanted = (revision.name for revision in _REVISIONS[:2])
    status = {
        "model": model(2).model_dump(),
        "stable": {"revision": stable, "version": "1", "digest": digest(1)},
    }
    manifest = {
        "metadata": {"name": "fraud", "namespace": "payments", "uid": OWNER.uid, "generation": 1},
        "spec": {"model": {"uri": "mlflow://fraud/2"}},
    }
    memory: dict[str, Any] = {
        "kind": "ControllerRevision",
        "metadata": metadata(OWNER, f"fraud-{stable}", naming.labels("fraud", "model-server", stable)),
        "data": data,
        "revision": 1,
    }
    for told in (status, {"model": status["model"]}):
        resource = read({**manifest, "status": told})
        assert isinstance(resource.spec, ModelDeploymentSpec)
        observed = observe([memory])
        planned = plan(resource, resource.spec, observed, SETTINGS, NOW)
        assert planned.roles.candidate == wanted
        assert not [item for item in planned.apply if item["metadata"]["name"] == f"fraud-{stable}"]
        report(resource, resource.spec, planned, observed, NOW)


def test_scaling_is_no_part_of_a_revision() -> None:
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/1"}})
    scaled = spec.model_copy(update={"scaling": Scaling(minReplicas=3)})
    assert revision_of(spec, model(1)).name == revision_of(scaled, model(1)).name


def test_another_name_for_the_same_bytes_is_the_same_revision() -> None:
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/1"}})
    alias = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud@champion"}})
    asked = model(1).model_copy(update={"uri": "mlflow://fraud@champion"})
    assert revision_of(alias, asked).name == revision_of(spec, model(1)).name


def test_every_fault_of_a_model_is_a_reason_and_every_reason_is_explained() -> None:
    assert {fault.value for fault in ModelFault} <= {reason.value for reason in Reason}
    assert set(EXPLANATIONS) == set(Reason)
