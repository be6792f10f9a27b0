"""Why pods do not become ready: an ordered chain of small checks, the first that finds something answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from slipway.api.reasons import Reason
from slipway.contract import Failed, TerminationMessage
from slipway.core import naming
from slipway.core.observed import Fault, Manifest, condition_of, is_ready, timestamp

#: Words of a container that speak of its model, whatever the cluster or a store does meanwhile.
_OF_THE_MODEL = frozenset(
    {
        Reason.INVALID_MODEL_URI,
        Reason.MODEL_NOT_FOUND,
        Reason.UNSUPPORTED_FLAVOR,
        Reason.UNSUPPORTED_ARTIFACT_STORE,
        Reason.DIGEST_MISMATCH,
        Reason.NOT_AN_ONNX_MODEL,
        Reason.UNSUPPORTED_OPSET,
        Reason.MODEL_LOAD_FAILED,
        Reason.MODEL_CRASHED,
        Reason.MODEL_HAZARD,
        Reason.SIGNATURE_MISSING,
        Reason.SIGNATURE_INVALID,
        Reason.PROVENANCE_MISSING,
        Reason.PROVENANCE_INVALID,
    }
)
#: How the kubelet calls the end of a container that it was not there to see, after its node restarted say.
_UNSEEN = frozenset({"ContainerStatusUnknown", "Unknown"})
#: Restarts from which on a crash is the container's habit.
_HABIT = 2

#: So long a cluster may take to find room for a pod: an autoscaler adds a node, or other pods leave.
ROOM_PATIENCE = timedelta(minutes=5)

#: A container that runs this long without becoming ready has a failing probe.
PROBE_PATIENCE = timedelta(seconds=30)

Check = Callable[[Manifest, datetime], Fault | None]

_PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_MISSING = re.compile(r"(secret|configmap) .*not found|couldn't find key", re.IGNORECASE)
#: As a LimitRange says it.
_RANGE = re.compile(r"(usage|ratio) per (Container|Pod)")
#: What a node lacks of what device plugins offer, as the scheduler says it.
_DEVICE = re.compile(r"Insufficient ([-a-z0-9.]+/[-A-Za-z0-9_.]*[A-Za-z0-9])")
#: Where people say what pods have.
_PODS = "spec.runtime.pod or modelPods of the chart's values"
#: What else admission says of pods, and what helps.
_FIXES = (
    (
        re.compile(r"must be less than or equal to (cpu|memory) limit"),
        "a LimitRange of the namespace gives containers that limit; set a higher one by {knob}",
    ),
    (re.compile(r"no PriorityClass with name"), f"create it, or fix priorityClassName in {_PODS}"),
    (re.compile(r"RuntimeClass .*not found"), f"create it, or fix runtimeClassName in {_PODS}"),
    (
        re.compile(r"serviceaccount .*not found", re.IGNORECASE),
        f"create it in this namespace, or fix serviceAccountName in {_PODS}",
    ),
    (
        re.compile(r"violates PodSecurity"),
        "Slipway's own containers keep to restricted: what it names was added by a webhook, such as a "
        f"sidecar or its init container; keep that out by a label or annotation in {_PODS}",
    ),
    (
        re.compile(r"admission webhook .* denied the request"),
        f"a label or annotation that the policy wants goes into {_PODS}",
    ),
)
_NO_CLAIM = re.compile(
    r"persistentvolumeclaim .* (not found|is being deleted|bound to non-existent)", re.IGNORECASE
)


def diagnose_pods(pods: Iterable[Manifest], now: datetime) -> Fault | None:
    """The fault of the newest pod that is not ready and shows one; None while all seems under way.

    A pod that ended or leaves speaks only where no other is there: its replacement does.

    Args:
        pods: pods of one revision, newest first.
        now: the time, with a time zone.
    """
    found = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    living = [pod for pod in found if not _has_ended(pod)]
    if not living:
        return _taken(found[0], now) if found else None
    for pod in living:
        if not is_ready(pod) and (fault := diagnose_pod(pod, now)) is not None:
            return fault
    return None


def verdict_of_pods(pods: Iterable[Manifest], now: datetime) -> Fault | None:
    """What the model or its server itself did wrong, by any pod that is there to say so, or None."""
    for pod in pods:
        if is_ready(pod) or pod["metadata"].get("deletionTimestamp") or _has_ended(pod):
            continue
        for check in _CHECKS:
            fault = check(pod, now)
            if fault is not None and fault.of_model:
                return fault
    return None


def _has_ended(pod: Manifest) -> bool:
    """Whether a pod is over: those of a Deployment end by what the cluster does to them alone."""
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def diagnose_pod(pod: Manifest, now: datetime) -> Fault | None:
    """What keeps one pod from becoming ready, or None while it seems under way."""
    for check in _CHECKS:
        found = check(pod, now)
        if found is not None:
            return found
    return None


#: Where amounts of a container are set, by the component of Slipway that it belongs to.
_KNOBS = {
    "router": "router.resources in the chart's values",
    "resolver": "spec.runtime.resources.limits, or downloads.resources in the chart's values",
}


def knob_of(manifest: Manifest) -> str:
    """Where a person sets how much an object's containers ask for and may use."""
    labels = manifest["metadata"].get("labels") or {}
    return _KNOBS.get(str(labels.get(naming.COMPONENT_LABEL)), "spec.runtime.resources")


def diagnose_deployment(deployment: Manifest, now: datetime) -> Fault | None:
    """What keeps a Deployment from making pods, or None.

    Args:
        deployment: as the API server has it.
        now: the time, with a time zone.
    """
    failure = _has_failed(deployment)
    if failure is None:
        return None
    message = str(failure.get("message", ""))
    # Other pods of the namespace may leave; what a quota or a policy demands of each pod stays.
    may_pass = "exceeded quota" in message and _is_new(failure, now)
    return replace(refusal(message, knob_of(deployment)), may_pass=may_pass)


def is_late(deployment: Manifest) -> bool:
    """Whether its controller gave up waiting for pods, for which nobody has another explanation."""
    found = condition_of(deployment, "Progressing")
    return found is not None and found["status"] == "False"


def refusal(message: str, knob: str = "spec.runtime.resources") -> Fault:
    """Sort what admission said when it refused a pod; ``knob`` is where its amounts are set."""
    if "failed quota" in message and "must specify" in message:
        words = f"{message}; the quota wants every container to say so: set it by {knob}"
        return Fault(Reason.QUOTA_EXCEEDED, words)
    if "exceeded quota" in message or "failed quota" in message:
        return Fault(Reason.QUOTA_EXCEEDED, f"{message}; raise the quota or lower {knob}")
    if "insufficient quota to match these scopes" in message:
        words = f"{message}; have a ResourceQuota that allows the class, or fix priorityClassName in {_PODS}"
        return Fault(Reason.QUOTA_EXCEEDED, words)
    if _RANGE.search(message):
        return Fault(Reason.POD_REFUSED, f"{message}; change the LimitRange, or {knob}")
    for said, fix in _FIXES:
        if said.search(message):
            return Fault(Reason.POD_REFUSED, f"{message}; {fix.format(knob=knob)}")
    return Fault(Reason.POD_REFUSED, message)


def termination_outcome(status: Manifest) -> Failed | None:
    """The failure that a container wrote before it ended, now or the time before."""
    for terminated in _endings(status):
        try:
            outcome = TerminationMessage.model_validate_json(terminated.get("message") or "").outcome
        except ValidationError:
            continue
        if isinstance(outcome, Failed):
            return outcome
    return None


def probe_deadline(pods: Iterable[Manifest]) -> datetime | None:
    """When the first of the pods that run unready runs out of patience, or None."""
    started = [
        since
        for pod in pods
        if not is_ready(pod)
        for status in _statuses(pod, "containerStatuses")
        if (since := _unready_since(pod, status)) is not None
    ]
    return min(started) + PROBE_PATIENCE if started else None


def _unready_since(pod: Manifest, status: Manifest) -> datetime | None:
    """Since when a container has run without being ready, or None where it does not run or is ready."""
    begun = _began(status)
    if begun is None or status.get("ready"):
        return None
    turned = _turned_unready(pod)
    return max(begun, turned) if turned is not None else begun


def _began(status: Manifest) -> datetime | None:
    return timestamp(((status.get("state") or {}).get("running") or {}).get("startedAt"))


def _turned_unready(pod: Manifest) -> datetime | None:
    found = condition_of(pod, "ContainersReady") or condition_of(pod, "Ready") or {}
    return timestamp(found.get("lastTransitionTime")) if found.get("status") == "False" else None


def _statuses(pod: Manifest, *fields: str) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [
        found
        for name in fields or ("initContainerStatuses", "containerStatuses")
        for found in status.get(name) or ()
    ]


def _endings(status: Manifest) -> list[dict[str, Any]]:
    return [
        ended
        for state in (status.get("state"), status.get("lastState"))
        if state and (ended := state.get("terminated"))
    ]


def room_deadline(pods: Iterable[Manifest], deployments: Iterable[Manifest]) -> datetime | None:
    """When the first of these that wait for room has waited too long, or None."""
    said = (*map(_has_no_room, pods), *map(_has_failed, deployments))
    waiting = [since for found in said if (since := _since(found)) is not None]
    return min(waiting) + ROOM_PATIENCE if waiting else None


def _has_failed(deployment: Manifest) -> Manifest | None:
    """The condition by which its controller says that it cannot make pods, or None."""
    failure = condition_of(deployment, "ReplicaFailure")
    return failure if failure is not None and failure["status"] == "True" else None


def _has_no_room(pod: Manifest) -> Manifest | None:
    """The condition by which the scheduler says so, or None."""
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled is None or scheduled["status"] != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    return scheduled


def _since(condition: Manifest | None) -> datetime | None:
    return timestamp(condition.get("lastTransitionTime")) if condition is not None else None


def _is_new(condition: Manifest, now: datetime) -> bool:
    """Whether it is too early to call for a person."""
    since = _since(condition)
    return since is not None and now - since < ROOM_PATIENCE


def _unschedulable(pod: Manifest, now: datetime) -> Fault | None:
    scheduled = _has_no_room(pod)
    if scheduled is None:
        return None
    message = str(scheduled.get("message", ""))
    if _NO_CLAIM.search(message):
        return Fault(Reason.VOLUME_NOT_FOUND, f"{message}; create the claim or fix spec.model.uri")
    device = _DEVICE.search(message)
    words = f" Nodes offer {device[1]} where its device plugin runs." if device is not None else ""
    return Fault(
        Reason.UNSCHEDULABLE,
        f"{message} Lower the requests, fix nodeSelector or tolerations, or add nodes.{words}",
        may_pass=_is_new(scheduled, now),
    )


def _image(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _PULL_REASONS:
            # The kubelet's message alternates between the error and the back-off; the image is what matters.
            return Fault(
                Reason.IMAGE_PULL_FAILED,
                f"image {status['image']} of container {status['name']} cannot be pulled; "
                "fix spec.runtime.image or the node's access to the registry; a private one needs "
                "spec.runtime.pod.imagePullSecrets, or imagePullSecrets of the chart's values",
            )
    return None


def _configuration(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        message = str(waiting.get("message", ""))
        if waiting.get("reason") == "CreateContainerConfigError":
            if _MISSING.search(message):
                return Fault(Reason.SECRET_NOT_FOUND, f"{message}; create it in this namespace")
            return Fault(Reason.POD_REFUSED, message)
        if waiting.get("reason") in ("CreateContainerError", "RunContainerError"):
            return Fault(Reason.CONTAINER_CRASHING, f"container {status['name']} cannot start: {message}")
    return None


def _model(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        words = termination_outcome(status)
        if words is not None:
            reason = Reason(words.failure.reason.value)
            return Fault(reason, words.failure.message, of_model=reason in _OF_THE_MODEL)
    return None


def _memory(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        if not any(ended.get("reason") == "OOMKilled" for ended in _endings(status)):
            continue
        name = status["name"]
        if not _has_limit(status):
            words = f"container {name} has no memory limit and was killed, since its node had no memory left"
            return Fault(Reason.PODS_LOST, f"{words}; give it a limit, or the node more room")
        if name == naming.SERVER_CONTAINER:
            fix = "raise spec.runtime.resources.limits.memory"
        elif name == naming.FETCH_CONTAINER:
            fix = "raise downloads.resources in the chart's values"
        else:
            fix = "raise its limit"
        return Fault(
            Reason.OUT_OF_MEMORY,
            f"container {name} was killed at its memory limit; {fix}",
            of_model=name == naming.SERVER_CONTAINER,
        )
    return None


def _has_limit(status: Manifest) -> bool:
    """Whether a container has a memory limit of its own; taken for granted where the kubelet does not say."""
    known = status.get("resources")
    return known is None or "memory" in (known.get("limits") or {})


def _node(pod: Manifest, _now: datetime) -> Fault | None:
    """A pod whose containers are all well is not ready for something outside of it."""
    statuses = _statuses(pod, "containerStatuses")
    if is_ready(pod) or not statuses or not all(found.get("ready") for found in statuses):
        return None
    return Fault(
        Reason.PODS_LOST,
        f"pod {pod['metadata']['name']} was well when its node was last heard of, and is not ready now; "
        "look at the node, and at readiness gates of the pod",
    )


def _probe(pod: Manifest, now: datetime) -> Fault | None:
    for status in _statuses(pod, "containerStatuses"):
        since, begun = _unready_since(pod, status), _began(status)
        if since is not None and begun is not None and now - since >= PROBE_PATIENCE:
            return Fault(
                Reason.PROBE_FAILING,
                f"container {status['name']} runs but does not answer its readiness probe; look at its log",
                # One that has yet to become ready may just be slow.
                of_model=status["name"] == naming.SERVER_CONTAINER and since > begun,
            )
    return None


#: The runtime could not start the container's command; there is no log.
_UNSTARTED = frozenset({"StartError", "ContainerCannotRun"})


def _crash(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        failed = [
            ended
            for ended in _endings(status)
            if ended.get("exitCode") and ended.get("reason") not in _UNSEEN
        ]
        if failed:
            waiting = ((status.get("state") or {}).get("waiting") or {}).get("reason")
            loops = waiting == "CrashLoopBackOff" or status.get("restartCount", 0) >= _HABIT
            words = (
                f"container {status['name']} ended with exit code {failed[0]['exitCode']}; "
                f"look at its log: kubectl logs {pod['metadata']['name']} -c {status['name']} --previous"
            )
            if failed[0].get("reason") in _UNSTARTED:
                words = f"container {status['name']} cannot start: {failed[0].get('message', '')}"
            return Fault(
                Reason.CONTAINER_CRASHING,
                words,
                of_model=loops and status["name"] == naming.SERVER_CONTAINER,
            )
    return None


def _taken(pod: Manifest, _now: datetime) -> Fault | None:
    """A pod that the cluster ended: evicted, preempted, past its deadline, or lost with its node."""
    if not _has_ended(pod):
        return None
    status = pod.get("status") or {}
    disrupted = condition_of(pod, "DisruptionTarget") or {}
    what = status.get("reason") or disrupted.get("reason") or status["phase"]
    words = status.get("message") or disrupted.get("message") or "the cluster ended it"
    return Fault(
        Reason.PODS_LOST,
        f"pod {pod['metadata']['name']} ended: {what}: {words}; another one takes its place",
    )


#: What a container said of itself counts more than how it ended.
_CHECKS: tuple[Check, ...] = (
    _unschedulable,
    _image,
    _configuration,
    _model,
    _memory,
    _node,
    _probe,
    _crash,
    _taken,
)
