"""When something of one ModelDeployment was first seen to be so, by watching its namespace.

The API server's own times are of whole seconds; what is seen here is some milliseconds late.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import config, watch
from kubernetes.client import ApiException, CoreV1Api, CustomObjectsApi
from urllib3.exceptions import HTTPError

from e2e.kube import Object
from slipway.core import naming

RESOLVED, SERVES, READY, SPLIT = "resolver pod done", "pod ready", "status Ready", "canary gets traffic"
#: In the order in which they usually happen.
PHASES = (
    "ModelDeployment seen",
    "resolver pod made",
    "resolver pod scheduled",
    RESOLVED,
    "model pod made",
    "model pod scheduled",
    "model fetched",
    "server started",
    SERVES,
    READY,
    SPLIT,
)
_AGAIN_SECONDS = 30


class Timeline:
    """What was first seen when, in seconds since the epoch; of one namespace and one ModelDeployment."""

    def __init__(self) -> None:
        self.moments: dict[str, float] = {}
        self._name = ""
        self._old: set[str] = set()
        self._seen: set[str] = set()
        self._changed = threading.Condition()

    def begin(self, name: str) -> float:
        """Look for a ModelDeployment's phases from now on; pods that were there are none of them."""
        with self._changed:
            self._name, self._old, self.moments = name, set(self._seen), {}
            return time.time()

    def wait_for(self, phase: str, seconds: float) -> bool:
        """Whether a phase is seen within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: phase in self.moments, seconds)

    def see_pod(self, pod: Object) -> None:
        """Take in a pod as it is now."""
        meta = pod["metadata"]
        labels, uid = meta.get("labels") or {}, meta["uid"]
        with self._changed:
            self._seen.add(uid)
            if uid not in self._old and labels.get(naming.MODEL_LABEL) == self._name:
                is_resolver = labels.get(naming.COMPONENT_LABEL) == "resolver"
                self._note(_of_resolver(pod) if is_resolver else _of_server(pod))

    def see_resource(self, found: Object) -> None:
        """Take in a ModelDeployment as it is now."""
        with self._changed:
            if found["metadata"]["name"] == self._name:
                self._note(_of_resource(found))

    def _note(self, phases: Iterator[str]) -> None:
        now = time.time()
        for phase in phases:
            self.moments.setdefault(phase, now)
        self._changed.notify_all()


@contextmanager
def watching(kubeconfig: Path, namespace: str) -> Iterator[Timeline]:
    """What happens in a namespace, until the end of the block."""
    connection = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
    timeline, over = Timeline(), threading.Event()
    pods, resources = CoreV1Api(connection), CustomObjectsApi(connection)
    of_resources = ("slipway.dev", "v1alpha1", namespace, "modeldeployments")
    follow = [
        (
            lambda watcher: watcher.stream(
                pods.list_namespaced_pod, namespace, timeout_seconds=_AGAIN_SECONDS
            ),
            timeline.see_pod,
        ),
        (
            lambda watcher: watcher.stream(
                resources.list_namespaced_custom_object, *of_resources, timeout_seconds=_AGAIN_SECONDS
            ),
            timeline.see_resource,
        ),
    ]
    threads = [threading.Thread(target=_follow, args=(*one, over), daemon=True) for one in follow]
    for thread in threads:
        thread.start()
    try:
        yield timeline
    finally:
        over.set()


def _follow(
    stream: Callable[[watch.Watch], Iterator[Any]], see: Callable[[Object], None], over: threading.Event
) -> None:
    while not over.is_set():
        try:
            for event in stream(watch.Watch()):  # type: ignore[no-untyped-call]
                if over.is_set():
                    return
                if event["type"] != "DELETED":
                    see(event["raw_object"])
        except (ApiException, HTTPError):
            over.wait(0.2)


def _of_resolver(pod: Object) -> Iterator[str]:
    yield "resolver pod made"
    if pod["spec"].get("nodeName"):
        yield "resolver pod scheduled"
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        yield RESOLVED


def _of_server(pod: Object) -> Iterator[str]:
    status = pod.get("status") or {}
    yield "model pod made"
    if pod["spec"].get("nodeName"):
        yield "model pod scheduled"
    fetched = [
        one for one in status.get("initContainerStatuses") or () if one["name"] == naming.FETCH_CONTAINER
    ]
    if any("terminated" in one.get("state", {}) for one in fetched):
        yield "model fetched"
    servers = [one for one in status.get("containerStatuses") or () if one["name"] == naming.SERVER_CONTAINER]
    if any("running" in one.get("state", {}) for one in servers):
        yield "server started"
    if any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ()):
        yield SERVES


def _of_resource(found: Object) -> Iterator[str]:
    yield "ModelDeployment seen"
    status, generation = found.get("status") or {}, found["metadata"]["generation"]
    ready = {"type": "Ready", "status": "True", "observedGeneration": generation}
    if any(ready.items() <= one.items() for one in status.get("conditions", ())):
        yield READY
    if status.get("canaryWeight"):
        yield SPLIT
