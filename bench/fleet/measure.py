"""What is measured, one phase after the other, on one control plane for each number of ModelDeployments."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.fleet import audit
from bench.fleet.api import MERGE, Api, Json, api
from bench.fleet.audit import AuditLog, Request
from bench.fleet.kubelet import HOLES, PaperKubelet
from bench.fleet.lag import Answers, Prober, metrics_page
from bench.fleet.processes import (
    PROMETHEUS,
    Operator,
    Usage,
    control_plane_processes,
    operator_process,
)
from e2e.cluster.errors import ClusterError

NAMESPACES = 10
#: ModelDeployments of each namespace of black holes.
HOLES_EACH = 2
#: Nothing was written for so long: all is done.
QUIET_SECONDS = 5.0
#: Until the looks that follow readiness are over: monitoring looks at each within 15 s.
SETTLE_SECONDS = 20.0
PATIENCE_SECONDS = 60.0
_GROUP = "/apis/slipway.dev/v1alpha1"
_WHOLE = f"{_GROUP}/modeldeployments"
_PROBE = "probe"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How it is measured.

    Attributes:
        rest_seconds: that an operator at rest is looked at for.
        events: whose way to a write is timed.
        holes: namespaces of black holes.
    """

    rest_seconds: float = 60.0
    events: int = 40
    holes: int = 30


@dataclass(frozen=True)
class Creation:
    """From nothing to Ready: seconds of the clock and of the operator's CPU, and its requests."""

    seconds: float
    cpu: float
    writes: Counter[str]
    reads: Counter[str]
    after: Usage
    answers: Answers


@dataclass(frozen=True)
class Rest:
    """Nothing happens: share of a core, writes, and milliseconds of ``/metrics``."""

    share: float
    writes: Counter[str]
    metrics_ms: float


@dataclass(frozen=True)
class Restart:
    """Seconds from the start of the process to its write for a new resource; what else it wrote."""

    acted_seconds: float
    writes: Counter[str]
    cpu: float
    after: Usage
    answers: Answers


@dataclass(frozen=True)
class Holes:
    """Events of others while namespaces are black holes; ``rollouts`` are under way there."""

    namespaces: int
    rollouts: int
    reactions: Sequence[float]
    share: float


@dataclass(frozen=True)
class Measured:
    """All of one number of ModelDeployments; ``reactions`` are seconds from event to write."""

    size: int
    creation: Creation
    rest: Rest
    reactions: Sequence[float]
    restart: Restart
    holes: Holes | None


async def measure(size: int, folder: Path, options: Options, say: Say) -> Measured:
    """Measure one number of ModelDeployments, with all state in an empty folder.

    Raises:
        ClusterError: if something does not come to be in time.
    """
    say(f"{size}: a control plane")
    with control_plane_processes(folder) as plane, operator_process(plane) as operator:
        async with api(plane.trust) as client, api(plane.trust) as kubelets:
            kubelet = PaperKubelet(kubelets)
            await kubelet.register()
            fleet = Fleet(client, AuditLog(plane.layout.audit), operator, size, say)
            async with _background(kubelet.run()), _background(fleet.follow()):
                return await _phases(fleet, options)


async def _phases(fleet: Fleet, options: Options) -> Measured:
    await fleet.prepare()
    creation = await fleet.create()
    rest = await fleet.rest(options.rest_seconds)
    reactions = await fleet.react(options.events)
    restart = await fleet.restart()
    holes = await fleet.fall_into_holes(options.holes, options.events) if options.holes else None
    return Measured(fleet.size, creation, rest, reactions, restart, holes)


class Fleet:
    """ModelDeployments, and the operator that looks after them."""

    def __init__(self, client: Api, log: AuditLog, operator: Operator, size: int, say: Say) -> None:
        self.size = size
        self._api = client
        self._log = log
        self._operator = operator
        self._say = say
        self._live: dict[tuple[str, str], Json] = {}

    async def follow(self) -> None:
        """Keep the ModelDeployments as they are now, for ever."""
        async for kind, found in self._api.watch(_WHOLE):
            place = found["metadata"]["namespace"], found["metadata"]["name"]
            if kind == "DELETED":
                self._live.pop(place, None)
            else:
                self._live[place] = found

    async def prepare(self) -> None:
        """Namespaces, and an operator that leads and has nothing to do."""
        for name in [*(f"fleet-{number}" for number in range(NAMESPACES)), _PROBE]:
            await self._namespace(name)
        self._operator.start()
        await self._until(self._leads, PATIENCE_SECONDS, "the operator does not lead")
        await self._quiet()

    async def create(self) -> Creation:
        """Create all at once, and wait until each is Ready."""
        self._say(f"{self.size}: from nothing to Ready")
        self._log.read()
        before, began = self._operator.usage(), time.monotonic()
        with Prober() as prober:
            await self._make(
                [(f"fleet-{number % NAMESPACES}", f"model-{number}") for number in range(self.size)]
            )
            within = PATIENCE_SECONDS + 2.0 * self.size
            await self._until(lambda: self._ready() == self.size, within, "not all are Ready")
            seconds, usage = time.monotonic() - began, self._operator.usage()
        requests = await self._quiet()
        await asyncio.sleep(SETTLE_SECONDS)
        return Creation(
            seconds,
            usage.cpu - before.cpu,
            audit.by_kind(audit.writes(requests)),
            audit.by_kind(audit.reads(requests)),
            self._operator.usage(),
            prober.answers,
        )

    async def rest(self, seconds: float) -> Rest:
        """Do nothing for so long."""
        self._say(f"{self.size}: at rest, {seconds:.0f} s")
        self._log.read()
        before, began = self._operator.usage().cpu, time.monotonic()
        await asyncio.sleep(seconds)
        share = (self._operator.usage().cpu - before) / (time.monotonic() - began)
        writes = audit.by_kind(audit.writes(self._log.read()))
        pages = [await asyncio.to_thread(metrics_page) for _ in range(11)]
        return Rest(share, writes, median(pages) * 1000)

    async def react(self, count: int) -> list[float]:
        """Seconds from each deletion of a Service to the write that makes it again, sorted."""
        self._say(f"{self.size}: {count} events")
        self._log.read()
        places = [
            (f"fleet-{number % NAMESPACES}", f"model-{number}")
            for number in itertools.islice(itertools.cycle(range(self.size)), count)
        ]
        requests: list[Request] = []
        for namespace, name in places:
            await self._api.call("DELETE", f"/api/v1/namespaces/{namespace}/services/{name}")
            await asyncio.sleep(0.3)
        await self._until(
            lambda: len(_reactions(requests, self._log.read())) >= len(places),
            PATIENCE_SECONDS,
            "deleted Services do not come back",
        )
        return sorted(_reactions(requests, []))

    async def restart(self) -> Restart:
        """End the operator, start it again with nothing changed but one new resource in the first moment."""
        self._say(f"{self.size}: a restart")
        await asyncio.to_thread(self._operator.stop)
        self._log.read()
        began = time.time()
        self._operator.start()
        await self._make([(_PROBE, "new")])
        requests: list[Request] = []
        with Prober() as prober:
            await self._until(
                lambda: _acted(requests, self._log.read()) is not None,
                PATIENCE_SECONDS + 0.1 * self.size,
                "the operator does not act after its restart",
            )
            requests += await self._quiet(QUIET_SECONDS + 0.01 * self.size)
        acted = _acted(requests, [])
        assert acted is not None
        await asyncio.sleep(SETTLE_SECONDS)
        requests += self._log.read()
        usage = self._operator.usage()
        others = [one for one in audit.writes(requests) if one.namespace != _PROBE]
        return Restart(acted - began, audit.by_kind(others), usage.cpu, usage, prober.answers)

    async def fall_into_holes(self, count: int, events: int) -> Holes:
        """Add namespaces whose pods, routers and Prometheus drop packets; time the events of others."""
        self._say(f"{self.size}: {count} namespaces of black holes")
        places = [
            (f"{HOLES}{number}", f"model-{each}") for number in range(count) for each in range(HOLES_EACH)
        ]
        for namespace in sorted({namespace for namespace, _ in places}):
            await self._namespace(namespace)
        await self._make(places, _CANARY)

        def started() -> int:
            return sum("stable" in self._live.get(place, {}).get("status", {}) for place in places)

        await self._until(
            lambda: started() == len(places), 5 * PATIENCE_SECONDS, "black holes have no stable"
        )
        for namespace, name in places:
            path = f"{_GROUP}/namespaces/{namespace}/modeldeployments/{name}"
            changed = {"spec": {"model": {"uri": f"mlflow://{namespace}-{name}/2"}}}
            await self._api.call("PATCH", path, changed, MERGE)
        await asyncio.sleep(SETTLE_SECONDS)
        before, began = self._operator.usage().cpu, time.monotonic()
        reactions = await self.react(events)
        share = (self._operator.usage().cpu - before) / (time.monotonic() - began)
        rollouts = sum("rollout" in self._live[place].get("status", {}) for place in places)
        return Holes(count, rollouts, reactions, share)

    async def _namespace(self, name: str) -> None:
        await self._api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    async def _make(self, places: Sequence[tuple[str, str]], more: Json | None = None) -> None:
        left = iter(places)

        async def some() -> None:
            for namespace, name in left:
                made = {
                    "apiVersion": "slipway.dev/v1alpha1",
                    "kind": "ModelDeployment",
                    "metadata": {"name": name},
                    "spec": {"model": {"uri": f"mlflow://{namespace}-{name}/1"}, **(more or {})},
                }
                await self._api.call("POST", f"{_GROUP}/namespaces/{namespace}/modeldeployments", made)

        await asyncio.gather(*(some() for _ in range(8)))

    def _ready(self) -> int:
        return sum(
            is_ready(found) for (namespace, _), found in self._live.items() if namespace.startswith("fleet-")
        )

    def _leads(self) -> bool:
        self._operator.usage()
        return any(one.is_operators and one.resource == "leases" for one in self._log.read())

    async def _quiet(self, seconds: float = QUIET_SECONDS) -> list[Request]:
        """What was logged until the operator has written nothing for so long."""
        found: list[Request] = []
        quiet_since, until = time.monotonic(), time.monotonic() + PATIENCE_SECONDS + self.size
        while time.monotonic() - quiet_since < seconds:
            new = self._log.read()
            found += new
            now = time.monotonic()
            if audit.writes(new):
                quiet_since = now
            if now > until:
                kinds = audit.by_kind(audit.writes(found[-500:]))
                raise ClusterError(f"the operator goes on writing: {dict(kinds)}")
            await asyncio.sleep(0.5)
        return found

    async def _until(self, holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                missing = [
                    (place, found.get("status", {}).get("conditions"))
                    for place, found in self._live.items()
                    if not is_ready(found)
                ]
                raise ClusterError(f"{otherwise} after {seconds:.0f} s: {missing[:2]}")
            self._operator.usage()
            await asyncio.sleep(0.2)


_CANARY: dict[str, Any] = {
    "rollout": {
        "strategy": "Canary",
        "steps": [{"setWeight": 10}, {"analysis": {}}],
        "analysis": {
            "intervalSeconds": 5,
            "gates": [
                {"name": "errors", "type": "ErrorRate"},
                {"name": "answers", "type": "PredictionShift"},
            ],
            "prometheus": {"address": PROMETHEUS},
        },
    }
}


def is_ready(found: Json) -> bool:
    """Whether a ModelDeployment is Ready for the spec that it has now."""
    return any(
        one["type"] == "Ready"
        and one["status"] == "True"
        and one["observedGeneration"] == found["metadata"]["generation"]
        for one in found.get("status", {}).get("conditions", ())
    )


def _reactions(known: list[Request], new: Sequence[Request]) -> list[float]:
    known += new
    return list(reactions(known))


def reactions(requests: Sequence[Request]) -> Iterator[float]:
    """Seconds from each deletion of a Service to the operator's first write of it."""
    deleted: dict[tuple[str, str], float] = {}
    # The log has them in the order of their answers; the operator may be answered before who deleted is.
    for one in sorted(requests, key=lambda one: one.received):
        place = one.namespace, one.name
        if one.resource != "services":
            continue
        if not one.is_operators and one.verb == "delete":
            deleted[place] = one.done
        elif one.is_operators and one.verb in audit.WRITES and place in deleted:
            yield max(0.0, one.received - deleted.pop(place))


def _acted(known: list[Request], new: Sequence[Request]) -> float | None:
    known += new
    return next((one.received for one in audit.writes(known) if one.namespace == _PROBE), None)


@asynccontextmanager
async def _background(work: Any) -> AsyncIterator[None]:
    """Runs next to the block, which fails with it."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()
