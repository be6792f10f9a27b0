"""What the operator holds in memory for a model that is monitored, over one that is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fleet.answers import WATCHED
from bench.fleet.fleet import PATIENCE_SECONDS, SETTLE_SECONDS, Fleet, Place, Say, running_fleet

#: A window is kept as 20 marks; each look adds one to it.
MARKS, WINDOW_SECONDS = 20, 300
_SPEC: dict[str, Any] = {"monitoring": {"drift": {"windowSeconds": WINDOW_SECONDS}}}


@dataclass(frozen=True)
class Monitored:
    """Bytes resident that one model adds, and looks at each that is monitored.

    Attributes:
        models: of each kind that were created, one kind after the other.
        plain: bytes for one that has nothing to be judged.
        watched: bytes for one of 30 features, with a full window of marks.
        looks: at each of those, by then.
        share: of a core, while those alone are looked at.
    """

    models: int
    plain: float
    watched: float
    looks: float
    share: float

    @property
    def adds(self) -> float:
        """Bytes that being monitored adds."""
        return self.watched - self.plain


async def measure_monitored(models: int, folder: Path, say: Say) -> Monitored:
    """Create so many that are not monitored, then so many that are, and wait until their windows are full."""
    say(f"{models} monitored models: a control plane")
    async with running_fleet(models, folder, say) as fleet:
        # What the first few of any kind bring along is none of a model's.
        await _add(fleet, "first", models // 4, WATCHED)
        base = fleet.operator.usage().rss
        await _add(fleet, "plain", models, "plain-")
        with_plain = fleet.operator.usage().rss
        say(f"{models} monitored models: {WINDOW_SECONDS} s")
        known = _looks(fleet)
        await _add(fleet, "watched", models, WATCHED)
        cpu, began = fleet.operator.usage().cpu, time.monotonic()
        all_ = models + models // 4
        await fleet.until(
            lambda: _looks(fleet) - known >= (MARKS + 2) * all_, 3 * WINDOW_SECONDS, "they are not looked at"
        )
        after, seconds = fleet.operator.usage(), time.monotonic() - began
        return Monitored(
            models,
            (with_plain - base) / models,
            (after.rss - with_plain) / models,
            (_looks(fleet) - known) / all_,
            (after.cpu - cpu) / seconds,
        )


async def _add(fleet: Fleet, name: str, count: int, prefix: str) -> None:
    places: list[Place] = [(f"{prefix}{name}", f"{name}-{number}") for number in range(count)]
    await fleet.namespaces([f"{prefix}{name}"])
    await fleet.make(places, _SPEC)
    done: Callable[[], bool] = lambda: all(  # noqa: E731
        (found := fleet.live.get(place)) is not None and found.ready for place in places
    )
    await fleet.until(done, 5 * PATIENCE_SECONDS + count, "not all are Ready")
    await fleet.quiet()
    await asyncio.sleep(SETTLE_SECONDS)


def _looks(fleet: Fleet) -> int:
    return sum(count for name, count in fleet.pods.reads.items() if name.startswith(WATCHED))
