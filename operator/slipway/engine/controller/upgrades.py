"""Whose turn it is to replace pods for a change of the installation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slipway.core.observed import ObjectKind
from slipway.core.upgrade import is_replacing, ready
from slipway.engine.store import Key, Store
from slipway.names import OperatorMetric

#: As ``status.upgrade.phase`` has them.
WAITING, UPGRADING, STUCK = "Waiting", "Upgrading", "Stuck"


@dataclass(frozen=True)
class _Place:
    """In the queue: those that serve nothing come first, then in the order in which they came."""

    serves: bool
    number: int


class Upgrades:
    """Gives out turns, and wakes those who wait for one.

    Who has one is told by status and by the routers' Deployments, so that another leader gives out no more.
    """

    def __init__(self, store: Store, most: int, changed: Callable[[Key], None]) -> None:
        """
        Args:
            store: what the cluster holds; full before the first question.
            most: turns at a time, at least 1.
            changed: has a key worked on.
        """
        self._store = store
        self._most = max(1, most)
        self._changed = changed
        self._has: dict[Key, str] = {}
        self._waits: dict[Key, _Place] = {}
        #: Not looked at since this operator began: each may want a turn.
        self._unknown: set[Key] | None = None
        self._numbers = 0
        self._was_halted = False

    def may_begin(self, key: Key) -> bool:
        """Whether a key has a turn or may have one; who takes it notes that before anything else runs."""
        self._begin()
        return key in self._has or key in self._next(key)

    def has_turn(self, key: Key) -> bool:
        """Whether a key has one of the turns."""
        self._begin()
        return key in self._has

    def note(self, key: Key, phase: str | None, serves: bool = True) -> None:
        """Take in what became of a key: it waits, has a turn, or neither.

        Args:
            key: a ModelDeployment or a group of routers.
            phase: of its upgrade, or None where there is none, or no such key any more.
            serves: whether any of its pods is ready.
        """
        unknown = self._begin()
        unknown.discard(key)
        if phase == WAITING:
            self._has.pop(key, None)
            known = self._waits.get(key)
            self._numbers += known is None
            self._waits[key] = _Place(serves, known.number if known is not None else self._numbers)
        else:
            self._waits.pop(key, None)
            self._has.pop(key, None)
            if phase is not None:
                self._has[key] = phase
        self._wake()

    @property
    def is_halted(self) -> bool:
        """Whether nobody gets a turn until a person has seen to those that are stuck."""
        held = self._held()
        return len(held) >= self._most and all(self._has[key] == STUCK for key in held)

    @property
    def phases(self) -> dict[Key, str]:
        """Everybody who has a turn or waits for one."""
        return {**dict.fromkeys(self._waits, WAITING), **self._has}

    def _begin(self) -> set[Key]:
        if self._unknown is None:
            self._unknown = self._store.everything()
            for key in self._unknown:
                phase = self._remembered(key)
                if phase is not None:
                    self._has[key] = phase
        return self._unknown

    def _remembered(self, key: Key) -> str | None:
        """The turn that a key had when this operator began."""
        if key.routers:
            found = (child for child in self._store.children(key) if child["kind"] == ObjectKind.DEPLOYMENT)
            return UPGRADING if any(is_replacing(live) and ready(live) for live in found) else None
        manifest = self._store.resource(key) or {}
        upgrade = (manifest.get("status") or {}).get("upgrade") or {}
        phase = upgrade.get("phase")
        return phase if phase in (UPGRADING, STUCK) and upgrade.get("cause") != "Spec" else None

    def _held(self) -> list[Key]:
        """What is not seen any more keeps no turn from others."""
        return [key for key in self._has if key.namespace not in self._store.unseen]

    def _next(self, asking: Key | None = None) -> set[Key]:
        """Those of the waiting ones, and of whoever asks, that may have the turns that are free."""
        held = self._held()
        free = self._most - len(held)
        if free <= 0:
            return set()
        queue = dict(self._waits)
        if asking is not None:
            queue.setdefault(asking, _Place(serves=True, number=self._numbers + 1))
        have = Counter(key.namespace for key in held)
        wanting = {key.namespace for key in (*queue, *(self._unknown or ()))}
        share = self._most if len(wanting) < 2 else -(-self._most // 2)
        chosen: set[Key] = set()
        while queue and len(chosen) < free:
            room = {key: place for key, place in queue.items() if have[key.namespace] < share}
            if not room:
                break
            first = min(room, key=lambda key: (room[key].serves, have[key.namespace], room[key].number))
            del queue[first]
            have[first.namespace] += 1
            chosen.add(first)
        return chosen

    def _wake(self) -> None:
        halted = self.is_halted
        woken = set(self._waits) if halted != self._was_halted else set()
        self._was_halted = halted
        if self._waits:
            woken |= self._next()
        for key in woken:
            self._changed(key)


class UpgradeCollector(Collector):
    """Series of upgrades: how many wait and are under way, and which are."""

    def __init__(self, upgrades: Upgrades) -> None:
        self._upgrades = upgrades

    def collect(self) -> Iterator[Metric]:
        """One of each phase, and one of each that has a turn."""
        phases = self._upgrades.phases
        counts = GaugeMetricFamily(
            OperatorMetric.UPGRADES, "Upgrades of ModelDeployments and routers, by phase", labels=("phase",)
        )
        for phase in (WAITING, UPGRADING, STUCK):
            counts.add_metric((phase,), float(sum(found == phase for found in phases.values())))
        each = GaugeMetricFamily(
            OperatorMetric.UPGRADE,
            "1 for the phase of an upgrade that is under way; without a name, of a namespace's routers",
            labels=("namespace", "name", "kind", "phase"),
        )
        for key, phase in sorted(phases.items()):
            if phase != WAITING:
                kind = "routers" if key.routers else "model"
                each.add_metric((key.namespace, key.name, kind, phase), 1.0)
        halted = GaugeMetricFamily(
            OperatorMetric.UPGRADES_HALTED, "1 while every upgrade that is under way is stuck"
        )
        halted.add_metric((), float(self._upgrades.is_halted))
        return iter((counts, each, halted))
