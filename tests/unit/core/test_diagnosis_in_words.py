"""Why pods do not become ready, whole: what the cluster says of them, and the next step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.core.diagnosis import (
    PROBE_PATIENCE,
    ROOM_PATIENCE,
    diagnose_deployment,
    diagnose_pod,
    diagnose_pods,
    is_late,
    knob_of,
    probe_deadline,
    refusal,
    room_deadline,
    verdict_of_pods,
)
from slipway.core.observed import Fault

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BEFORE = "2026-11-24T11:00:00Z"
PODS = "spec.runtime.pod or modelPods of the chart's values"


def pod(*containers: dict[str, Any], name: str = "p", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"containerStatuses": list(containers), **status}}


def container(name: str = "server", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "example.com/server:1", **fields}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(reason: str, code: int = 1, message: str = "") -> dict[str, Any]:
    return {"lastState": {"terminated": {"reason": reason, "exitCode": code, "message": message}}}


def unscheduled(message: str, since: str = BEFORE) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(conditions=[{**condition, "lastTransitionTime": since}])


def said(fault: Fault | None) -> str:
    return "" if fault is None else f"{fault.reason}: {fault.message}"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "failed quota: q: must specify cpu",
            "QuotaExceeded: failed quota: q: must specify cpu; the quota wants every container to say so: "
            "set it by KNOB",
        ),
        ("failed quota: q", "QuotaExceeded: failed quota: q; raise the quota or lower KNOB"),
        ("exceeded quota: q", "QuotaExceeded: exceeded quota: q; raise the quota or lower KNOB"),
        (
            "insufficient quota to match these scopes: []",
            "QuotaExceeded: insufficient quota to match these scopes: []; have a ResourceQuota that allows "
            f"the class, or fix priorityClassName in {PODS}",
        ),
        (
            "maximum cpu usage per Container is 1",
            "PodRefused: maximum cpu usage per Container is 1; change the LimitRange, or KNOB",
        ),
        (
            "max limit to request ratio per Pod is 2",
            "PodRefused: max limit to request ratio per Pod is 2; change the LimitRange, or KNOB",
        ),
        (
            "must be less than or equal to memory limit of 1Gi",
            "PodRefused: must be less than or equal to memory limit of 1Gi; a LimitRange of the namespace "
            "gives containers that limit; set a higher one by KNOB",
        ),
        (
            "no PriorityClass with name high",
            f"PodRefused: no PriorityClass with name high; create it, or fix priorityClassName in {PODS}",
        ),
        (
            'RuntimeClass "a" not found',
            f'PodRefused: RuntimeClass "a" not found; create it, or fix runtimeClassName in {PODS}',
        ),
        (
            'ServiceAccount "a" not found',
            'PodRefused: ServiceAccount "a" not found; create it in this namespace, or fix '
            f"serviceAccountName in {PODS}",
        ),
        (
            'violates PodSecurity "restricted"',
            'PodRefused: violates PodSecurity "restricted"; Slipway\'s own containers keep to restricted: '
            "what it names was added by a webhook, such as a sidecar or its init container; keep that out by "
            f"a label or annotation in {PODS}",
        ),
        (
            'admission webhook "a" denied the request: no',
            'PodRefused: admission webhook "a" denied the request: no; a label or annotation that the '
            f"policy wants goes into {PODS}",
        ),
        ("no", "PodRefused: no"),
    ],
)
def test_what_admission_refuses_is_told_with_what_helps(message: str, words: str) -> None:
    assert said(refusal(message, "KNOB")) == words


@pytest.mark.parametrize(
    ("component", "knob"),
    [
        ("router", "router.resources in the chart's values"),
        ("resolver", "spec.runtime.resources.limits, or downloads.resources in the chart's values"),
        ("model-server", "spec.runtime.resources"),
    ],
)
def test_where_amounts_are_set_depends_on_whose_pods_they_are(component: str, knob: str) -> None:
    labels = {"app.kubernetes.io/component": component}
    live = {
        "metadata": {"labels": labels},
        "status": {
            "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}]
        },
    }
    assert knob_of(live) == knob
    assert said(diagnose_deployment(live, NOW)) == (
        f"QuotaExceeded: exceeded quota: q; raise the quota or lower {knob}"
    )


ROOM = "Lower the requests, fix nodeSelector or tolerations, or add nodes."


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (unscheduled("0/3 nodes."), f"Unschedulable: 0/3 nodes. {ROOM}"),
        (
            unscheduled("Insufficient nvidia.com/gpu."),
            f"Unschedulable: Insufficient nvidia.com/gpu. {ROOM} Nodes offer nvidia.com/gpu where its device "
            "plugin runs.",
        ),
        (
            unscheduled('persistentvolumeclaim "a" not found'),
            'VolumeNotFound: persistentvolumeclaim "a" not found; create the claim or fix spec.model.uri',
        ),
        (
            pod(container(**waiting("ErrImagePull"))),
            "ImagePullFailed: image example.com/server:1 of container server cannot be pulled; fix "
            "spec.runtime.image or the node's access to the registry; a private one needs "
            "spec.runtime.pod.imagePullSecrets, or imagePullSecrets of the chart's values",
        ),
        (
            pod(container(**waiting("CreateContainerConfigError", 'secret "a" not found'))),
            'SecretNotFound: secret "a" not found; create it in this namespace',
        ),
        (
            pod(container(**waiting("CreateContainerConfigError", "couldn't find key a in ConfigMap b"))),
            "SecretNotFound: couldn't find key a in ConfigMap b; create it in this namespace",
        ),
        (pod(container(**waiting("CreateContainerConfigError", "runs as root"))), "PodRefused: runs as root"),
        (
            pod(container(**waiting("RunContainerError", "no such file"))),
            "ContainerCrashing: container server cannot start: no such file",
        ),
        (
            pod(container(**waiting("CreateContainerError", "no such file"))),
            "ContainerCrashing: container server cannot start: no such file",
        ),
        (
            pod(container(**ended("OOMKilled", 137))),
            "OutOfMemory: container server was killed at its memory limit; raise "
            "spec.runtime.resources.limits.memory",
        ),
        (
            pod(container("fetch", **ended("OOMKilled", 137))),
            "OutOfMemory: container fetch was killed at its memory limit; raise downloads.resources in the "
            "chart's values",
        ),
        (
            pod(container("other", **ended("OOMKilled", 137))),
            "OutOfMemory: container other was killed at its memory limit; raise its limit",
        ),
        (
            pod(container(resources={"limits": {"cpu": "1"}}, **ended("OOMKilled", 137))),
            "PodsLost: container server has no memory limit and was killed, since its node had no memory "
            "left; give it a limit, or the node more room",
        ),
        (
            pod(container(ready=True)),
            "PodsLost: pod p was well when its node was last heard of, and is not ready now; look at the "
            "node, and at readiness gates of the pod",
        ),
        (
            pod(container(state={"running": {"startedAt": BEFORE}})),
            "ProbeFailing: container server runs but does not answer its readiness probe; look at its log",
        ),
        (
            pod(container(**ended("Error", 3))),
            "ContainerCrashing: container server ended with exit code 3; look at its log: kubectl logs p -c "
            "server --previous",
        ),
        (
            pod(container(**ended("StartError", 128, "no such file"))),
            "ContainerCrashing: container server cannot start: no such file",
        ),
        (pod(container(**ended("ContainerStatusUnknown", 137))), ""),
        (pod(container(**ended("Completed", 0))), ""),
        (
            pod(phase="Failed", reason="Evicted", message="no disk"),
            "PodsLost: pod p ended: Evicted: no disk; another one takes its place",
        ),
        (
            pod(
                phase="Failed",
                conditions=[
                    {"type": "DisruptionTarget", "status": "True", "reason": "Preempted", "message": "m"}
                ],
            ),
            "PodsLost: pod p ended: Preempted: m; another one takes its place",
        ),
        (
            pod(phase="Succeeded"),
            "PodsLost: pod p ended: Succeeded: the cluster ended it; another one takes its place",
        ),
        (pod(), ""),
    ],
)
def test_what_keeps_a_pod_from_being_ready_is_told_with_what_helps(found: dict[str, Any], words: str) -> None:
    assert said(diagnose_pod(found, NOW)) == words


def running(since: str, turned: str | None = None, *, ready: bool = False) -> dict[str, Any]:
    conditions = (
        [{"type": "ContainersReady", "status": "False", "lastTransitionTime": turned}] if turned else []
    )
    return pod(
        container(state={"running": {"startedAt": since}}, ready=ready),
        conditions=[{"type": "Ready", "status": str(ready)}, *conditions],
    )


def test_a_pod_has_some_seconds_to_answer_its_probe_since_it_began_or_turned_unready() -> None:
    begun, turned = NOW - PROBE_PATIENCE, NOW - timedelta(seconds=10)
    known = running(begun.isoformat(), turned.isoformat())
    assert diagnose_pod(running(begun.isoformat()), NOW) is not None
    assert diagnose_pod(running(begun.isoformat()), NOW - timedelta(seconds=1)) is None
    assert diagnose_pod(known, NOW) is None
    assert probe_deadline([running(NOW.isoformat()), known]) == turned + PROBE_PATIENCE
    assert probe_deadline([running(begun.isoformat(), ready=True)]) is None


def test_a_server_that_was_ready_once_is_to_blame_for_its_probe_and_a_slow_start_is_not() -> None:
    early = "2026-11-24T10:00:00Z"
    assert verdict_of_pods([running(early)], NOW) is None
    found = verdict_of_pods([running(early, BEFORE)], NOW)
    assert said(found).startswith("ProbeFailing: container server ")


@pytest.mark.parametrize(
    ("fields", "blamed"),
    [
        ({"restartCount": 1}, False),
        ({"restartCount": 2}, True),
        (waiting("CrashLoopBackOff"), True),
        ({"restartCount": 2, "name": "other"}, False),
    ],
)
def test_a_crash_is_the_servers_own_once_it_is_a_habit(fields: dict[str, Any], blamed: bool) -> None:
    found = pod({**container(**ended("Error", 3)), **fields})
    assert (verdict_of_pods([found], NOW) is not None) == blamed
    assert verdict_of_pods([{**found, "metadata": {"name": "p", "deletionTimestamp": BEFORE}}], NOW) is None


def test_room_may_be_found_for_some_minutes() -> None:
    since = NOW - ROOM_PATIENCE
    old, new = (
        unscheduled("a", since.isoformat()),
        unscheduled("b", (since + timedelta(seconds=1)).isoformat()),
    )
    assert [found.may_pass for one in (old, new) if (found := diagnose_pod(one, NOW))] == [False, True]
    assert room_deadline([new, old], []) == NOW
    assert room_deadline([pod()], []) is None


def test_the_newest_pod_that_shows_a_fault_speaks_and_one_that_ended_only_alone() -> None:
    gone = pod(phase="Failed", name="gone")
    bad = pod(container(**ended("Error", 3)), name="bad")
    leaving = {**bad, "metadata": {"name": "bad", "deletionTimestamp": BEFORE}}
    assert said(diagnose_pods([gone], NOW)).startswith("PodsLost: pod gone ended: Failed")
    assert said(diagnose_pods([gone, pod(), bad], NOW)).startswith("ContainerCrashing: ")
    assert diagnose_pods([gone, pod()], NOW) is None
    assert diagnose_pods([leaving], NOW) is None
    assert diagnose_pods([], NOW) is None


@pytest.mark.parametrize(("status", "late"), [("False", True), ("True", False), (None, False)])
def test_a_deployment_is_late_once_its_controller_says_so(status: str | None, late: bool) -> None:
    conditions = [{"type": "Progressing", "status": status}] if status else []
    assert is_late({"metadata": {}, "status": {"conditions": conditions}}) == late
