"""ModelDeployments on a real API server, and the operator that looks after them: what all parts do."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fleet import audit
from bench.fleet.answers import PaperPods
from bench.fleet.api import MERGE, Api, Json, api
from bench.fleet.audit import AuditLog, Request
from bench.fleet.kubelet import PaperKubelet
from bench.fleet.processes import ControlPlane, Operator, control_plane_processes, operator_process
from e2e.cluster.errors import ClusterError

NAMESPACES = 10
#: Whose resource is made to see when the operator acts.
PROBE = "probe"
#: Nothing was written for so long: all is done.
QUIET_SECONDS = 5.0
#: Until the looks that follow readiness are over: monitoring looks at each within 15 s.
SETTLE_SECONDS = 20.0
PATIENCE_SECONDS = 60.0
GROUP = "/apis/slipway.dev/v1alpha1"
_WHOLE = f"{GROUP}/modeldeployments"

Say = Callable[[str], None]
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a ModelDeployment.

    Attributes:
        ready: for the spec that it has now.
        stable: whether it has a stable version.
        rolling: whether a rollout is under way.
        said: its conditions, where it is not ready.
        rejected: why its last canary was rejected, if one was.
    """

    ready: bool
    stable: bool
    rolling: bool
    said: str
    rejected: str


class Fleet:
    """What the parts of the bench measure; each waits, and counts requests, by what is here."""

    def __init__(
        self,
        client: Api,
        plane: ControlPlane,
        operator: Operator,
        pods: PaperPods,
        size: int,
        say: Say,
    ) -> None:
        self.api = client
        self.plane = plane
        self.log = AuditLog(plane.layout.audit)
        self.operator = operator
        self.pods = pods
        self.size = size
        self.say = say
        self.live: dict[Place, Seen] = {}
        #: Moments of the bench's own clock at which a rollout was seen to have looked.
        self.looks: dict[Place, list[float]] = defaultdict(list)
        self._looked: dict[Place, str] = {}
        self._ready = 0

    async def follow(self) -> None:
        """Keep the ModelDeployments as they are now, for ever."""
        async for kind, found in self.api.watch(_WHOLE):
            place = found["metadata"]["namespace"], found["metadata"]["name"]
            before = self.live.pop(place, None)
            self._ready -= before is not None and before.ready and is_fleets(place)
            if kind == "DELETED":
                self.looks.pop(place, None)
                continue
            status = found.get("status", {})
            rollout = status.get("rollout") or {}
            if looked := rollout.get("lookedAt"):
                if self._looked.get(place) != looked:
                    self.looks[place].append(time.monotonic())
                self._looked[place] = looked
            ready = is_ready(found)
            self._ready += ready and is_fleets(place)
            said = "" if ready else _said(found)
            stable, rejected = "stable" in status, (status.get("rejected") or [{}])[-1].get("message", "")
            self.live[place] = Seen(ready, stable, bool(rollout), said, rejected)

    async def prepare(self) -> None:
        """Namespaces, and an operator that leads and has nothing to do."""
        await self.namespaces([*(f"fleet-{number}" for number in range(NAMESPACES)), PROBE])
        self.operator.start()
        await self.until(self._leads, PATIENCE_SECONDS, "the operator does not lead")
        await self.quiet()

    def places(self) -> list[Place]:
        """Where all of the fleet are."""
        return [(f"fleet-{number % NAMESPACES}", f"model-{number}") for number in range(self.size)]

    @property
    def ready(self) -> int:
        """How many of the fleet are."""
        return self._ready

    async def namespaces(self, names: Iterable[str]) -> None:
        """Make namespaces."""
        for name in names:
            await self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    async def make(self, places: Sequence[Place], more: Json | None = None) -> None:
        """Create a ModelDeployment at each place, with more in its spec."""

        async def one(namespace: str, name: str) -> None:
            made = {
                "apiVersion": "slipway.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": name},
                "spec": {"model": {"uri": _uri(namespace, name, 1)}, **(more or {})},
            }
            await self.api.call("POST", f"{GROUP}/namespaces/{namespace}/modeldeployments", made)

        await _each(places, one)

    async def move(self, places: Sequence[Place], more: Json | None = None) -> None:
        """Ask each for its second version, with more in its spec."""

        async def one(namespace: str, name: str) -> None:
            path = f"{GROUP}/namespaces/{namespace}/modeldeployments/{name}"
            changed = {"spec": {"model": {"uri": _uri(namespace, name, 2)}, **(more or {})}}
            await self.api.call("PATCH", path, changed, MERGE)

        await _each(places, one)

    async def delete(self, places: Sequence[Place]) -> None:
        """Delete the ModelDeployments, and wait until they are gone."""

        async def one(namespace: str, name: str) -> None:
            await self.api.call("DELETE", f"{GROUP}/namespaces/{namespace}/modeldeployments/{name}")

        await _each(places, one)
        gone = set(places)
        await self.until(lambda: not gone & self.live.keys(), 5 * PATIENCE_SECONDS, "they are not gone")

    async def quiet(self, seconds: float = QUIET_SECONDS) -> list[Request]:
        """What was logged until the operator has written nothing for so long."""
        found: list[Request] = []
        quiet_since, until = time.monotonic(), time.monotonic() + PATIENCE_SECONDS + self.size
        while time.monotonic() - quiet_since < seconds:
            new = self.log.read()
            found += new
            now = time.monotonic()
            if audit.writes(new):
                quiet_since = now
            if now > until:
                kinds = audit.by_kind(audit.writes(found[-500:]))
                raise ClusterError(f"the operator goes on writing: {dict(kinds)}")
            await asyncio.sleep(0.5)
        return found

    async def until(self, holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Wait until something holds.

        Raises:
            ClusterError: if it does not in time, with what two say that are not ready.
        """
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                missing = [f"{place}: {found.said}" for place, found in self.live.items() if not found.ready]
                words = f"{otherwise} after {seconds:.0f} s ({self.ready} of {self.size} are Ready)"
                raise ClusterError(f"{words}; {'; '.join(missing[:2])}")
            self.operator.usage()
            await asyncio.sleep(0.2)

    def _leads(self) -> bool:
        self.operator.usage()
        return any(one.is_operators and one.resource == "leases" for one in self.log.read())


@asynccontextmanager
async def running_fleet(size: int, folder: Path, say: Say) -> AsyncIterator[Fleet]:
    """A control plane, with all state in an empty folder, and an operator that has nothing to do yet.

    Raises:
        ClusterError: if something does not come to be in time.
    """
    with control_plane_processes(folder) as plane, operator_process(plane) as operator:
        async with api(plane.trust) as client, api(plane.trust) as kubelets:
            kubelet = PaperKubelet(kubelets)
            await kubelet.register()
            fleet = Fleet(client, plane, operator, kubelet.pods, size, say)
            async with _background(kubelet.run()), _background(fleet.follow()):
                await fleet.prepare()
                yield fleet


def is_fleets(place: Place) -> bool:
    """Whether a ModelDeployment is one of those that are counted."""
    return place[0].startswith("fleet-")


def is_ready(found: Json) -> bool:
    """Whether a ModelDeployment is Ready for the spec that it has now."""
    return any(
        one["type"] == "Ready"
        and one["status"] == "True"
        and one["observedGeneration"] == found["metadata"]["generation"]
        for one in found.get("status", {}).get("conditions", ())
    )


def _said(found: Json) -> str:
    conditions = found.get("status", {}).get("conditions", ())
    return ", ".join(f"{one['type']}={one['status']} {one['reason']}" for one in conditions)[:300]


def _uri(namespace: str, name: str, version: int) -> str:
    return f"mlflow://{namespace}-{name}/{version}"


async def _each(places: Sequence[Place], act: Callable[[str, str], Any]) -> None:
    """One request for each, eight at once."""
    left = iter(places)

    async def some() -> None:
        for namespace, name in left:
            await act(namespace, name)

    await asyncio.gather(*(some() for _ in range(8)))


@asynccontextmanager
async def _background(work: Any) -> AsyncIterator[None]:
    """Runs next to the block, which fails with it."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()
