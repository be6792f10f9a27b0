"""What is measured of one number of ModelDeployments, one phase after the other on one control plane."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench.fleet import audit
from bench.fleet.api import ApiError
from bench.fleet.audit import Request
from bench.fleet.fleet import (
    PATIENCE_SECONDS,
    PROBE,
    QUIET_SECONDS,
    SETTLE_SECONDS,
    Fleet,
    Say,
    running_fleet,
)
from bench.fleet.kubelet import HOLES
from bench.fleet.lag import Answers, Prober, metrics_page
from bench.fleet.processes import PROMETHEUS, Usage
from bench.fleet.rollouts import Rollouts, roll_out
from e2e.cluster.errors import ClusterError

#: ModelDeployments of each namespace of black holes.
HOLES_EACH = 2
#: What a part may end with, whose other figures stand.
FAULTS = (ClusterError, ApiError, aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True)
class Options:
    """How it is measured.

    Attributes:
        rest_seconds: that an operator at rest is looked at for.
        events: whose way to a write is timed.
        holes: namespaces of black holes.
        rollouts: ModelDeployments of which all have a rollout at once; of another number none has.
        look_seconds: that the looks of these rollouts are counted for.
    """

    rest_seconds: float = 60.0
    events: int = 40
    holes: int = 30
    rollouts: int = 1000
    look_seconds: float = 120.0


@dataclass(frozen=True)
class Creation:
    """From nothing to Ready: seconds of the clock and of the operator's CPU, and its requests.

    Attributes:
        before: what the operator held when there was none; ``after``, some moments after all were Ready.
        others: seconds of CPU of what else runs, by component; ``bench`` is this process, kubelet and all.
    """

    seconds: float
    cpu: float
    writes: Counter[str]
    reads: Counter[str]
    before: Usage
    after: Usage
    answers: Answers
    others: Mapping[str, float]


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


@dataclass
class Measured:
    """All of one number of ModelDeployments, as far as it has come; ``reactions`` are seconds to a write.

    Attributes:
        failed: why a phase has no figure, by its name.
        took: seconds of each phase.
    """

    size: int
    creation: Creation | None = None
    rest: Rest | None = None
    reactions: Sequence[float] = ()
    restart: Restart | None = None
    holes: Holes | None = None
    rollouts: Rollouts | None = None
    failed: dict[str, str] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)


async def measure(
    found: Measured, folder: Path, options: Options, say: Say, keep: Callable[[], None]
) -> None:
    """Measure one number of ModelDeployments into ``found``, with all state in an empty folder.

    A phase that fails keeps no other one from being measured, but the first, without which there is nothing.

    Args:
        found: is filled.
        folder: empty.
        options: how.
        say: tells what is being done.
        keep: is called after each phase.
    """
    say(f"{found.size}: a control plane")
    async with running_fleet(found.size, folder, say) as fleet:
        for name, phase in _phases(found, fleet, options):
            say(f"{found.size}: {name}")
            began = time.monotonic()
            try:
                await phase
            except FAULTS as error:
                say(f"{found.size}: {name}: {error}")
                found.failed[name] = str(error)
            found.took[name] = round(time.monotonic() - began, 1)
            keep()
            if found.creation is None:
                break


def _phases(found: Measured, fleet: Fleet, options: Options) -> Iterator[tuple[str, Any]]:
    async def made() -> None:
        found.creation = await create(fleet)

    async def rested() -> None:
        found.rest = await rest(fleet, options.rest_seconds)

    async def reacted() -> None:
        found.reactions = await react(fleet, options.events)

    async def restarted() -> None:
        found.restart = await restart(fleet)

    async def fell() -> None:
        found.holes = await fall_into_holes(fleet, options.holes, options.events)

    async def rolled() -> None:
        found.rollouts = await roll_out(fleet, options.look_seconds)

    yield "from nothing to Ready", made()
    yield f"at rest, {options.rest_seconds:.0f} s", rested()
    yield f"{options.events} events", reacted()
    yield "a restart", restarted()
    if options.holes:
        yield f"{options.holes} namespaces of black holes", fell()
    if fleet.size == options.rollouts:
        yield "a rollout of each", rolled()


async def create(fleet: Fleet) -> Creation:
    """Create all at once, and wait until each is Ready."""
    fleet.log.read()
    before, others, began = fleet.operator.usage(), _others(fleet), time.monotonic()
    with Prober() as prober:
        await fleet.make(fleet.places())
        within = 5 * PATIENCE_SECONDS + 0.5 * fleet.size
        await fleet.until(lambda: fleet.ready == fleet.size, within, "not all are Ready")
        seconds, usage = time.monotonic() - began, fleet.operator.usage()
        after = _others(fleet)
    requests = await fleet.quiet()
    await asyncio.sleep(SETTLE_SECONDS)
    return Creation(
        seconds,
        usage.cpu - before.cpu,
        audit.by_kind(audit.writes(requests)),
        audit.by_kind(audit.reads(requests)),
        before,
        fleet.operator.usage(),
        prober.answers,
        {name: cpu - others[name] for name, cpu in after.items()},
    )


async def rest(fleet: Fleet, seconds: float) -> Rest:
    """Do nothing for so long."""
    fleet.log.read()
    before, began = fleet.operator.usage().cpu, time.monotonic()
    await asyncio.sleep(seconds)
    share = (fleet.operator.usage().cpu - before) / (time.monotonic() - began)
    writes = audit.by_kind(audit.writes(fleet.log.read()))
    pages = [await asyncio.to_thread(metrics_page) for _ in range(11)]
    return Rest(share, writes, median(pages) * 1000)


async def react(fleet: Fleet, count: int) -> list[float]:
    """Seconds from each deletion of a Service to the write that makes it again, sorted."""
    fleet.log.read()
    places = list(itertools.islice(itertools.cycle(fleet.places()), count))
    requests: list[Request] = []
    for namespace, name in places:
        await fleet.api.call("DELETE", f"/api/v1/namespaces/{namespace}/services/{name}")
        await asyncio.sleep(0.3)
    await fleet.until(
        lambda: len(_reactions(requests, fleet.log.read())) >= len(places),
        PATIENCE_SECONDS,
        "deleted Services do not come back",
    )
    return sorted(_reactions(requests, []))


async def restart(fleet: Fleet) -> Restart:
    """End the operator, start it again with nothing changed but one new resource in the first moment."""
    await asyncio.to_thread(fleet.operator.stop)
    fleet.log.read()
    began = time.time()
    fleet.operator.start()
    await fleet.make([(PROBE, "new")])
    requests: list[Request] = []
    with Prober() as prober:
        await fleet.until(
            lambda: _acted(requests, fleet.log.read()) is not None,
            PATIENCE_SECONDS + 0.1 * fleet.size,
            "the operator does not act after its restart",
        )
        requests += await fleet.quiet(QUIET_SECONDS + 0.003 * fleet.size)
    acted = _acted(requests, [])
    assert acted is not None
    await asyncio.sleep(SETTLE_SECONDS)
    requests += fleet.log.read()
    usage = fleet.operator.usage()
    others = [one for one in audit.writes(requests) if one.namespace != PROBE]
    return Restart(acted - began, audit.by_kind(others), usage.cpu, usage, prober.answers)


async def fall_into_holes(fleet: Fleet, count: int, events: int) -> Holes:
    """Add namespaces whose pods, routers and Prometheus drop packets; time the events of others."""
    places = [(f"{HOLES}{number}", f"model-{each}") for number in range(count) for each in range(HOLES_EACH)]
    await fleet.namespaces(sorted({namespace for namespace, _ in places}))
    await fleet.make(places, _CANARY)

    def started() -> int:
        return sum(found.stable for place in places if (found := fleet.live.get(place)) is not None)

    await fleet.until(lambda: started() == len(places), 5 * PATIENCE_SECONDS, "black holes have no stable")
    await fleet.move(places)
    await asyncio.sleep(SETTLE_SECONDS)
    before, began = fleet.operator.usage().cpu, time.monotonic()
    reactions = await react(fleet, events)
    share = (fleet.operator.usage().cpu - before) / (time.monotonic() - began)
    rollouts = sum(fleet.live[place].rolling for place in places)
    await fleet.delete(places)
    return Holes(count, rollouts, reactions, share)


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


def _others(fleet: Fleet) -> dict[str, float]:
    used = os.times()
    return {**fleet.plane.cpu(), "bench": used.user + used.system}


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
    return next((one.received for one in audit.writes(known) if one.namespace == PROBE), None)
