"""What a ModelDeployment says of itself, and waiting until it says so."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from e2e.cluster.errors import ClusterError
from e2e.kube import Kube, Object
from e2e.ledger import PATIENCE


def condition(found: Object, type_: str) -> dict[str, Any]:
    """A condition of an object; empty where it has none of that type."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == type_), {})


def wait_for_condition(
    kube: Kube,
    name: str,
    type_: str,
    status: str,
    reason: str | None = None,
    *,
    namespace: str,
    within: float = 60,
) -> Object:
    """Wait until a condition has this status and, where one is given, this reason; the ModelDeployment.

    Waiting is a watch, so that many can wait at once. AssertionError, with all that is known, after `within`
    seconds of a quiet machine.
    """
    wanted = (status, reason) if reason else (status,)
    end = time.monotonic() + within * PATIENCE
    field = "reason" if reason else "status"
    path = f'{{.status.conditions[?(@.type=="{type_}")].{field}}}'
    while True:
        left = end - time.monotonic()
        try:
            kube.kubectl(
                "wait",
                f"modeldeployment/{name}",
                f"--namespace={namespace}",
                f"--for=jsonpath={path}={reason or status}",
                f"--timeout={max(left, 0.1):.1f}s",
                seconds=max(left, 0) + 30,
            )
        except ClusterError as error:
            told = explain(kube, name, namespace)
            took = within * PATIENCE
            raise AssertionError(f"{type_} is not {wanted} after {took:.0f} s: {error}\n{told}") from None
        found = kube.get("modeldeployment", name, namespace) or {}
        seen = condition(found, type_)
        if (seen.get("status"), seen.get("reason"))[: len(wanted)] == wanted:
            return found
        # Right for a moment only, or the right reason with another status.
        if left <= 0:
            raise AssertionError(f"{type_} is {seen}, not {wanted}")
        time.sleep(0.2)


def wait_until_ready(kube: Kube, name: str, namespace: str, within: float = 120) -> Object:
    """Wait until a ModelDeployment serves what its present spec asks for, with all of its pods."""
    end = time.monotonic() + within * PATIENCE
    while True:
        left = max(end - time.monotonic(), 0.1) / PATIENCE
        found = wait_for_condition(kube, name, "Ready", "True", namespace=namespace, within=left)
        asked = found["metadata"]["generation"]
        parts = [
            condition(found, type_) for type_ in ("ModelResolved", "RevisionReady", "RouteReady", "Ready")
        ]
        done = all(part.get("status") == "True" and part["observedGeneration"] == asked for part in parts)
        if done and "canary" not in found["status"]:
            return found
        if time.monotonic() > end:
            raise AssertionError(
                f"not all is ready after {within * PATIENCE:.0f} s\n{explain(kube, name, namespace)}"
            )
        time.sleep(0.5)


def wait_for(check: Callable[[], Any], within: float, otherwise: str | Callable[[], object]) -> Any:
    """Query until the answer is true; returns it.

    AssertionError after `within` seconds of a quiet machine.
    """
    end = time.monotonic() + within * PATIENCE
    while not (answer := check()):
        if time.monotonic() > end:
            words = otherwise if isinstance(otherwise, str) else otherwise()
            raise AssertionError(f"{words} after {within * PATIENCE:.0f} s")
        time.sleep(0.3)
    return answer


def events(kube: Kube, name: str, namespace: str) -> list[Object]:
    """Events about a ModelDeployment, oldest first."""
    fields = f"--field-selector=involvedObject.kind=ModelDeployment,involvedObject.name={name}"
    return _listed(
        kube, "get", "events", f"--namespace={namespace}", fields, "--sort-by=.metadata.creationTimestamp"
    )


def wait_for_event(kube: Kube, name: str, reason: str, type_: str = "Warning", *, namespace: str) -> Object:
    """Wait for an Event about a ModelDeployment with this reason and type."""

    def told() -> Object | None:
        found = events(kube, name, namespace)
        return next((event for event in found if (event["reason"], event["type"]) == (reason, type_)), None)

    event: Object = wait_for(told, 10, f"no {type_} Event {reason} about {name}")
    return event


def explain(kube: Kube, name: str, namespace: str) -> str:
    """What a person would look at: the ModelDeployment, its pods, and Events."""
    answers = []
    for words in (
        ("get", "modeldeployment", name, "-o", "yaml"),
        ("get", "pods", f"--selector=slipway.dev/modeldeployment={name}", "-o", "wide"),
        ("get", "events", "--sort-by=.lastTimestamp"),
    ):
        try:
            answers.append(kube.kubectl(*words, f"--namespace={namespace}")[-3500:])
        except ClusterError as error:
            answers.append(str(error))
    return "\n".join(answers)


def _listed(kube: Kube, *words: str) -> list[Object]:
    found: list[Object] = json.loads(kube.kubectl(*words, "-o", "json"))["items"]
    return found
