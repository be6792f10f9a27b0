"""A paper kubelet: it schedules every pod to its node, says what a real one would say, and runs nothing.

A resolver's pod ends with the words of :mod:`slipway.contract`; any other pod is ready at once, at an
address at which :mod:`bench.fleet.answers` answers as a model server or a router does, or, in namespaces of
black holes, at one that drops packets.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from datetime import UTC, datetime

from bench.fleet import network
from bench.fleet.answers import PaperPods, Server
from bench.fleet.api import MERGE, Api, ApiError, Json
from bench.fleet.traffic import PaperRouter
from slipway import contract
from slipway.core import naming
from slipway.core.traffic.envoy.objects import clusters_map, listeners_map, routes_map

NODE = "paper"
#: Namespaces whose pods are black holes begin so.
HOLES = "hole-"
_WORKERS = 8
#: Of each group of routers, as the chart has it.
_ROUTERS = 2


class PaperKubelet:
    """One node with room for all pods."""

    def __init__(self, api: Api) -> None:
        self.pods = PaperPods()
        self._api = api
        self._queue: asyncio.Queue[Json] = asyncio.Queue()
        self._one_at_a_time = asyncio.Lock()
        self._numbers = itertools.count()
        self._addresses: dict[str, str] = {}
        #: What was done to a pod already, by its uid.
        self._done: dict[str, set[str]] = {}

    async def register(self) -> None:
        """Make the node."""
        room = {"cpu": "100k", "memory": "100Ti", "pods": "1000k"}
        await self._api.call("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
        ready = {"type": "Ready", "status": "True", "reason": "Paper", "message": "it runs nothing"}
        status = {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}}
        await self._api.call("PATCH", f"/api/v1/nodes/{NODE}/status", status, MERGE)
        # Who makes a node says that it is not ready yet; the controller that would take that back is off.
        await self._api.call("PATCH", f"/api/v1/nodes/{NODE}", {"spec": {"taints": None}}, MERGE)

    async def run(self) -> None:
        """Answer for pods, for ever."""
        async with self.pods.serve(), asyncio.TaskGroup() as tasks:
            for _ in range(_WORKERS):
                tasks.create_task(self._work())
            async for kind, pod in self._api.watch("/api/v1/pods"):
                self._see(kind, pod)

    def _see(self, kind: str, pod: Json) -> None:
        uid, meta = pod["metadata"]["uid"], pod["metadata"]
        if kind == "DELETED":
            self._done.pop(uid, None)
            self.pods.remove(self._addresses.pop(uid, ""))
            return
        done = self._done.setdefault(uid, set())
        # A change of a pod has its kubelet bring volumes up to date: for that the operator makes one.
        touched = meta.get("annotations", {}).get(naming.TOUCHED_ANNOTATION, "")
        due = "end" if meta.get("deletionTimestamp") else f"touch {touched}" if touched else "begin"
        if due not in done:
            done.add(due)
            self._queue.put_nowait(pod)

    async def _work(self) -> None:
        while True:
            pod = await self._queue.get()
            try:
                await self._act(pod)
            except ApiError as error:
                # It was deleted meanwhile, or has changed: another event tells of that.
                if error.code not in (404, 409):
                    raise

    async def _act(self, pod: Json) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if meta.get("deletionTimestamp"):
            this = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
            await self._api.call("DELETE", path, this)
            return
        if not pod["spec"].get("nodeName"):
            binding = {"target": {"kind": "Node", "name": NODE}, "metadata": {"name": meta["name"]}}
            await self._api.call(
                "POST", f"{path}/binding", {"apiVersion": "v1", "kind": "Binding", **binding}
            )
        if (pod.get("status") or {}).get("phase", "Pending") == "Pending":
            if _component(pod) == "router":
                await self._bring_routes(self._address(pod), pod)
            status = _resolved(pod) if _component(pod) == "resolver" else self._running(pod)
            await self._api.call("PATCH", f"{path}/status", {"status": status}, MERGE)
        elif (address := self._addresses.get(meta["uid"])) and _component(pod) == "router":
            await self._bring_routes(address, pod)

    async def _bring_routes(self, address: str, pod: Json) -> None:
        """Give a router what its ConfigMaps hold now."""
        meta, files = pod["metadata"], dict[str, str]()
        if meta["namespace"].startswith(HOLES):
            return
        group = meta["labels"][naming.MODEL_LABEL]
        # One after the other: what was read first is taken up first.
        async with self._one_at_a_time:
            for name in (clusters_map, routes_map, listeners_map):
                path = f"/api/v1/namespaces/{meta['namespace']}/configmaps/{name(group)}"
                files |= (await self._api.call("GET", path))["data"]
            known = self.pods.routers.setdefault(address, (meta["namespace"], PaperRouter(1 / _ROUTERS)))
            known[1].follow(files, time.monotonic())

    def _address(self, pod: Json) -> str:
        """The pod's address; one of its own from the first question on."""
        meta = pod["metadata"]
        is_hole = meta["namespace"].startswith(HOLES)
        if meta["uid"] not in self._addresses:
            place = network.DROPPING if is_hole else network.ANSWERING
            self._addresses[meta["uid"]] = network.address_of(place, next(self._numbers))
        return self._addresses[meta["uid"]]

    def _running(self, pod: Json) -> Json:
        meta, spec, now = pod["metadata"], pod["spec"], _now()
        ip = self._address(pod)
        for container in spec["containers"]:
            env = {one["name"]: one.get("value", "") for one in container.get("env", ())}
            if contract.SERVING_CONFIG_ENV in env:
                config = json.loads(env[contract.SERVING_CONFIG_ENV])
                model, version = config["modelName"], config["modelVersion"]
                revision = meta["labels"][naming.REVISION_LABEL]
                self.pods.servers[ip] = Server(meta["namespace"], model, version, revision)
        ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
        return {
            "phase": "Running",
            "startTime": now,
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": _conditions(now, "True"),
            "initContainerStatuses": [
                _container(one, {"terminated": ended}) for one in spec.get("initContainers", ())
            ],
            "containerStatuses": [
                {**_container(one, {"running": {"startedAt": now}}), "started": True}
                for one in spec["containers"]
            ],
        }


def _component(pod: Json) -> str:
    return str(pod["metadata"].get("labels", {}).get(naming.COMPONENT_LABEL, ""))


def _resolved(pod: Json) -> Json:
    """The last words of a resolver that found its model: every URI is a model of its own."""
    now = _now()
    [container] = pod["spec"]["containers"]
    env = {one["name"]: one.get("value", "") for one in container["env"]}
    uri = contract.ResolveTask.model_validate_json(env[contract.MODEL_TASK_ENV]).uri
    digest = hashlib.sha256(uri.encode()).hexdigest()
    found = contract.Resolution(
        uri=uri, version=uri.rpartition("/")[2], digest=f"sha256:{digest}", bytes=100_000
    )
    words = contract.TerminationMessage(outcome=contract.Resolved(resolution=found)).model_dump_json()
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": words}
    return {
        "phase": "Succeeded",
        "startTime": now,
        "conditions": _conditions(now, "False"),
        "containerStatuses": [{**_container(container, {"terminated": ended}), "ready": False}],
    }


def _conditions(now: str, ready: str) -> list[Json]:
    states = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": ready, "Ready": ready}
    return [{"type": name, "status": status, "lastTransitionTime": now} for name, status in states.items()]


def _container(container: Json, state: Json) -> Json:
    name, image = container["name"], container["image"]
    return {
        "name": name,
        "image": image,
        "imageID": image,
        "containerID": f"paper://{name}",
        "ready": True,
        "restartCount": 0,
        "state": state,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
