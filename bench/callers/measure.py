"""The modest caller alone, and next to the greedy one, in turn."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from bench.callers.load import Answers, ask_by
from bench.callers.stage import GREEDY, LIMIT, MODEST, Stage, cpu_of
from bench.router.load import Account

#: Requests a second: nearly all that the modest caller may have, and far more than the greedy one may.
MODEST_RATE, GREEDY_RATE = 80, 20 * LIMIT


@dataclass(slots=True)
class Way:
    """All rounds by one way: what the modest caller saw alone and beside the greedy one, which got what."""

    alone: list[Account] = field(default_factory=list)
    beside: list[Account] = field(default_factory=list)
    greedy: list[Answers] = field(default_factory=list)
    #: Share of its core that the server took, alone and beside.
    busy: dict[bool, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def ratio(self) -> float:
        """p99 beside the greedy caller, by p99 alone: medians over rounds."""
        return self.quantile(99, beside=True) / self.quantile(99, beside=False)

    def quantile(self, share: int, *, beside: bool) -> float:
        """Median over rounds of the milliseconds that so many in a hundred took at most."""
        return median(each.percentile(share) for each in (self.beside if beside else self.alone))

    def answered(self, *, beside: bool) -> float:
        """Share of the modest caller's requests."""
        accounts = self.beside if beside else self.alone
        return sum(len(each.milliseconds) for each in accounts) / sum(each.sent for each in accounts)


async def measure(stage: Stage, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Way]:
    """By way; what comes first changes from round to round."""
    found = {name: Way() for name in stage.ways}
    for turn in range(rounds):
        say(f"a modest and a greedy caller, round {turn + 1} of {rounds}")
        for name, way in found.items():
            for beside in (False, True) if turn % 2 else (True, False):
                await _look(stage, name, way, seconds, beside=beside)
    return found


async def _look(stage: Stage, name: str, way: Way, seconds: float, *, beside: bool) -> None:
    modest, greedy = stage.ways[name]
    if beside:
        # It begins with a bucket that is full, and is refused from then on.
        await stage.greedy.begin(stage.cases[GREEDY], greedy, GREEDY_RATE, seconds + 1)
    await ask_by(stage.cases[MODEST], modest, MODEST_RATE, 0.5)
    spent, began = cpu_of(stage.server), time.perf_counter()
    account = await ask_by(stage.cases[MODEST], modest, MODEST_RATE, seconds)
    spent = cpu_of(stage.server) - spent
    way.busy[beside].append(spent / (time.perf_counter() - began))
    if beside:
        way.beside.append(account)
        way.greedy.append(await stage.greedy.answers())
    else:
        way.alone.append(account)
