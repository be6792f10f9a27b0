"""Why pods do not become ready: an ordered chain of small checks, the first that finds something answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from slipway.api.reasons import Reason
from slipway.contract import Failed, Outcome
from slipway.core import names
from slipway.core.observed import Fault, Manifest, condition_of, is_ready, timestamp

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
_NO_CLAIM = re.compile(
    r"persistentvolumeclaim .* (not found|is being deleted|bound to non-existent)", re.IGNORECASE
)


def diagnose_pods(pods: Iterable[Manifest], now: datetime) -> Fault | None:
    """The fault of the newest pod that is not ready and shows one; None while all seems under way.

    Args:
        pods: pods of one revision, newest first.
        now: the time, with a time zone.
    """
    for pod in pods:
        if is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
            continue
        found = diagnose_pod(pod, now)
        if found is not None:
            return found
    return None


def diagnose_pod(pod: Manifest, now: datetime) -> Fault | None:
    """What keeps one pod from becoming ready, or None while it seems under way."""
    for check in _CHECKS:
        found = check(pod, now)
        if found is not None:
            return found
    return None


def diagnose_deployment(deployment: Manifest) -> Fault | None:
    """What keeps a Deployment from making pods, or None."""
    failure = condition_of(deployment, "ReplicaFailure")
    if failure is None or failure["status"] != "True":
        return None
    return refusal(str(failure.get("message", "")))


def refusal(message: str) -> Fault:
    """Sort what admission said when it refused a pod."""
    if "exceeded quota" in message or "failed quota" in message:
        return Fault(Reason.QUOTA_EXCEEDED, f"{message}; raise the quota or lower spec.runtime.resources")
    return Fault(Reason.POD_REFUSED, message)


def last_words(status: Manifest) -> Failed | None:
    """The failure that a container wrote before it ended, now or the time before."""
    for terminated in _endings(status):
        try:
            outcome = Outcome.model_validate_json(terminated.get("message") or "").outcome
        except ValidationError:
            continue
        if isinstance(outcome, Failed):
            return outcome
    return None


def probe_deadline(pods: Iterable[Manifest]) -> datetime | None:
    """When the first of the pods that run unready runs out of patience, or None."""
    started = [
        begun
        for pod in pods
        if not is_ready(pod)
        for status in _statuses(pod, "containerStatuses")
        if (begun := timestamp(((status.get("state") or {}).get("running") or {}).get("startedAt")))
    ]
    return min(started) + PROBE_PATIENCE if started else None


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


def _unschedulable(pod: Manifest, _now: datetime) -> Fault | None:
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled is None or scheduled["status"] != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    message = str(scheduled.get("message", ""))
    if _NO_CLAIM.search(message):
        return Fault(Reason.VOLUME_NOT_FOUND, f"{message}; create the claim or mend spec.model.uri")
    return Fault(
        Reason.UNSCHEDULABLE,
        f"{message} Lower the requests, mend nodeSelector or tolerations, or add nodes.",
    )


def _image(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _PULL_REASONS:
            # The kubelet's message alternates between the error and the back-off; the image is what matters.
            return Fault(
                Reason.IMAGE_PULL_FAILED,
                f"image {status['image']} of container {status['name']} cannot be pulled; "
                "mend spec.runtime.image or the node's access to the registry",
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
        words = last_words(status)
        if words is not None:
            return Fault(Reason(words.failure.reason.value), words.failure.message)
    return None


def _memory(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        if any(ended.get("reason") == "OOMKilled" for ended in _endings(status)):
            mend = (
                "raise spec.runtime.resources.limits.memory"
                if status["name"] == names.SERVER_CONTAINER
                else "it should stream the model within its fixed limit; please report this"
            )
            return Fault(
                Reason.OUT_OF_MEMORY, f"container {status['name']} was killed at its memory limit; {mend}"
            )
    return None


def _probe(pod: Manifest, now: datetime) -> Fault | None:
    for status in _statuses(pod, "containerStatuses"):
        begun = timestamp(((status.get("state") or {}).get("running") or {}).get("startedAt"))
        if begun is not None and now - begun >= PROBE_PATIENCE:
            return Fault(
                Reason.PROBE_FAILING,
                f"container {status['name']} runs but does not answer its readiness probe; look at its log",
            )
    return None


def _crash(pod: Manifest, _now: datetime) -> Fault | None:
    for status in _statuses(pod):
        failed = [ended for ended in _endings(status) if ended.get("exitCode")]
        if failed:
            return Fault(
                Reason.CONTAINER_CRASHING,
                f"container {status['name']} ended with exit code {failed[0]['exitCode']}; "
                f"look at its log: kubectl logs {pod['metadata']['name']} -c {status['name']} --previous",
            )
    return None


def _evicted(pod: Manifest, _now: datetime) -> Fault | None:
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        return Fault(Reason.CONTAINER_CRASHING, f"pod ended: {status['reason']}: {status.get('message', '')}")
    return None


#: What a container said of itself counts more than how it ended.
_CHECKS: tuple[Check, ...] = (
    _unschedulable,
    _image,
    _configuration,
    _model,
    _memory,
    _probe,
    _crash,
    _evicted,
)
