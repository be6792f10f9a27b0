"""A rollout of every ModelDeployment at once: whether each is looked at in time, and what that writes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.fleet import audit
from bench.fleet.fleet import PATIENCE_SECONDS, Fleet
from bench.fleet.lag import Answers, Prober
from bench.fleet.processes import Usage, bytes_into_etcd
from e2e.cluster.errors import ClusterError

INTERVAL_SECONDS = 30
#: Three gates: one of what routers count, two of what pods do. So few requests come that none has a verdict.
ROLLOUT: dict[str, Any] = {
    "rollout": {
        "strategy": "Canary",
        "steps": [{"setWeight": 10}, {"analysis": {}}],
        "analysis": {
            "intervalSeconds": INTERVAL_SECONDS,
            "gates": [
                {"name": "errors", "type": "ErrorRate"},
                {"name": "violations", "type": "Violations"},
                {"name": "answers", "type": "PredictionShift"},
            ],
        },
    }
}


@dataclass(frozen=True)
class Rollouts:
    """What was seen while all of them were under way.

    Attributes:
        started: how many had been looked at once when watching began.
        started_seconds: from the change of all to the first look of the last, or until nobody waited longer.
        started_cpu: seconds of the operator's CPU until then.
        seconds: that were watched from there on.
        gaps: seconds between two looks of the same rollout, sorted; of one that had none, all that were
            watched.
        looks: how many there were.
        lost: rollouts that ended meanwhile, and why some of them did.
        writes: of the operator meanwhile.
        bytes_per_second: into etcd, whoever wrote: ``written`` to its log, ``sent`` by all clients.
        share: of a core, that the operator took.
    """

    started: int
    started_seconds: float
    started_cpu: float
    seconds: float
    gaps: Sequence[float]
    looks: int
    lost: tuple[int, str]
    writes: Counter[str]
    bytes_per_second: Mapping[str, float]
    share: float
    after: Usage
    answers: Answers


async def roll_out(fleet: Fleet, seconds: float) -> Rollouts:
    """Begin all rollouts, and watch them for so long once each has been looked at."""
    places = fleet.places()
    cpu, began = fleet.operator.usage().cpu, time.monotonic()
    await fleet.move(places, ROLLOUT)
    within = 5 * PATIENCE_SECONDS + 0.3 * fleet.size
    try:
        await fleet.until(lambda: _looked(fleet) == len(places), within, "not all rollouts were looked at")
    except ClusterError as error:
        # How many were is a figure, and so is what those do.
        fleet.say(str(error))
    looked = _looked(fleet)
    started, before = time.monotonic() - began, fleet.operator.usage()
    fleet.log.read()
    sent, since = bytes_into_etcd(), time.monotonic()
    with Prober() as prober:
        await asyncio.sleep(seconds)
        took, after = time.monotonic() - since, fleet.operator.usage()
    into = bytes_into_etcd()
    lost = [place for place in places if not fleet.live[place].rolling]
    why = "; ".join(sorted({fleet.live[place].rejected or "promoted" for place in lost})[:3])
    gaps = sorted(gap for place in places for gap in between(fleet.looks[place], since, since + took))
    return Rollouts(
        looked,
        started,
        before.cpu - cpu,
        took,
        gaps if not lost else [*gaps, *(took for _ in lost)],
        sum(since <= look <= since + took for place in places for look in fleet.looks[place]),
        (len(lost), why[:600]),
        audit.by_kind(audit.writes(fleet.log.read())),
        {name: (value - sent[name]) / took for name, value in into.items()},
        (after.cpu - before.cpu) / took,
        after,
        prober.answers,
    )


def between(looks: Sequence[float], since: float, until: float) -> Iterator[float]:
    """Seconds between the looks of one rollout, from its last before a time to another time.

    The wait for the look that is yet to come counts where it is longer than all that came.
    """
    before = [look for look in looks if look < since][-1:] or [since]
    found = [*before, *(look for look in looks if since <= look <= until)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(found)]
    yield from gaps
    if until - found[-1] > max([INTERVAL_SECONDS, *gaps]):
        yield until - found[-1]


def _looked(fleet: Fleet) -> int:
    return sum(1 for place in fleet.places() if fleet.looks.get(place))
