"""Reads what routers do, and what they counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from slipway.core.endpoint import Endpoint, endpoint_of, ready_pods
from slipway.core.observed import Manifest
from slipway.core.pod_counters import life_of
from slipway.core.traffic.envoy.messages import ROUTER_ADMIN_PORT
from slipway.core.traffic.envoy.objects import CONTAINER
from slipway.core.traffic.envoy.readback import RouterState
from slipway.core.traffic.polling import RESTING, RouterInterest
from slipway.engine.backoff import JITTER
from slipway.engine.observers.pods import AT_ONCE
from slipway.engine.observers.pool import Pool
from slipway.engine.store import Key, Store

#: Reading one arm of a route takes so many seconds; of the operator's time, readings of one group take the
#: first share at most, and those of all groups that are not at rest the second.
ARM_SECONDS, SHARE_OF_ONE, SHARE_OF_ALL = 6e-5, 0.02, 0.2
#: How old what routers at rest do and count may be, as long as the version of their routes stays.
FULLY = timedelta(minutes=5)


@dataclass(frozen=True)
class RouterReading:
    """What a group of routers was seen to do.

    Attributes:
        at: when reading it began.
        counted_at: when reading what they counted began.
        number: another one whenever they do something else than before.
        states: by the life of a router; None for those that could not be read, or were gone by then.
    """

    at: datetime
    counted_at: datetime
    number: int
    states: Mapping[str, RouterState | None] = field(default_factory=dict)


@dataclass
class _Group:
    """Soft state of one group."""

    interest: RouterInterest
    reading: RouterReading | None = None
    #: When looks at rollouts are due that need a reading of then.
    looks: dict[Key, datetime] = field(default_factory=dict)
    #: Seconds until the next reading, over those of the interest: not all groups are read at once.
    spread: float = 1.0
    #: Arms that the newest reading shows, of all its routers.
    arms: int = 0

    @property
    def is_busy(self) -> bool:
        """Whether it is read for more than to know that nothing changed."""
        return self.interest.seconds < RESTING or self.interest.after is not None or bool(self.looks)


class RouterObserver:
    """Keeps one reading of each group of routers.

    Reading takes a part of the operator's time: with more models, and more groups with rollouts, each group
    is read less often, and one reading serves all looks that are due by then.
    """

    def __init__(
        self,
        store: Store,
        read_router: Callable[[Endpoint, RouterState | None], Awaitable[RouterState | None]],
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        spread: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            read_router: reads the router whose own port it is, or finds that it still does what is known of
                it; None where it cannot be read.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            spread: between 0 and 1; see :class:`Pool`.
        """
        self._store = store
        self._read = read_router
        self._changed = changed
        self._clock = clock
        self._spread = spread
        self._groups: dict[Key, _Group] = {}
        self._busy: set[Key] = set()
        self._number = 0
        self.pool = Pool(self._look, self._due, clock, spread)

    def subscribe(self, key: Key, interest: RouterInterest) -> None:
        """Have a group of routers read every so often."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(interest)
            self._note_busy(key, group)
        elif group.interest == interest:
            return
        # One that was silent may be gone.
        others = group.interest.lives != interest.lives
        group.interest = interest
        self._note_busy(key, group)
        self.pool.refresh(key, at_once=others or self._is_new(group))

    def subscribe_look(self, group: Key, key: Key, due: datetime | None) -> None:
        """Have a group read as soon as a ModelDeployment's look is due, and its key worked on then.

        Args:
            group: of routers; one that is not read yet is read soon anyway.
            key: of the ModelDeployment.
            due: when it is; None where no look needs these routers.
        """
        known = self._groups.get(group)
        if known is None or known.looks.get(key) == due:
            return
        if due is None:
            del known.looks[key]
        else:
            known.looks[key] = due
        self._note_busy(group, known)
        self.pool.refresh(group)

    def forget(self, key: Key) -> None:
        """The group is gone."""
        self._groups.pop(key, None)
        self._busy.discard(key)
        self.pool.forget(key)

    def reading(self, key: Key) -> RouterReading | None:
        """The newest of a group."""
        group = self._groups.get(key)
        return group.reading if group is not None else None

    def _note_busy(self, key: Key, group: _Group) -> None:
        (self._busy.add if group.is_busy else self._busy.discard)(key)

    def pace(self, arms: int) -> float:
        """Seconds between two readings of a group whose routers show so many arms, at least."""
        return arms * ARM_SECONDS * max(1 / SHARE_OF_ONE, len(self._busy) / SHARE_OF_ALL)

    def _is_new(self, group: _Group) -> bool:
        """Whether there is a router that nobody has tried to read yet."""
        return group.reading is None or not group.interest.lives <= group.reading.states.keys()

    def _at_rest(self, group: _Group, now: datetime) -> bool:
        """Whether it is enough to know that routers do what they did: nobody waits for them, or counts."""
        reading, interest = group.reading, group.interest
        is_late = reading is None or now - reading.counted_at >= FULLY
        return interest.seconds >= RESTING and interest.after is None and not group.looks and not is_late

    def _due(self, key: Key) -> datetime | None:
        group = self._groups.get(key)
        if group is None:
            return None
        if group.reading is None or self._is_new(group):
            return self._clock()
        next_poll = group.reading.at + timedelta(seconds=group.interest.seconds * group.spread)
        wanted = min([next_poll, *(due for due in group.looks.values() if due > group.reading.at)])
        return max(wanted, group.reading.at + timedelta(seconds=self.pace(group.arms)))

    async def _look(self, key: Key) -> bool:
        group, at = self._groups[key], self._clock()
        wanted, at_rest = group.interest.lives, self._at_rest(group, at)
        known = group.reading.states if at_rest and group.reading is not None else {}
        room = asyncio.Semaphore(AT_ONCE)

        async def read(pod: Manifest) -> RouterState | None:
            async with room:
                return await self._read(
                    endpoint_of(pod, ROUTER_ADMIN_PORT), known.get(life_of(pod, CONTAINER))
                )

        pods = ready_pods(self._store.children(key))
        states = await asyncio.gather(*map(read, pods))
        if self._groups.get(key) is not group:
            return True
        found = zip((life_of(pod, CONTAINER) for pod in pods), states, strict=True)
        before, states_of = group.reading, {**dict.fromkeys(wanted), **dict(found)}
        is_other = before is None or _doing(before.states) != _doing(states_of)
        self._number += is_other
        number = self._number if before is None or is_other else before.number
        counted_at = before.counted_at if at_rest and before is not None else at
        group.reading = RouterReading(at, counted_at, number, states_of)
        group.arms = sum(len(state.arms) for state in states if state is not None)
        group.spread = 1 + JITTER * (2 * self._spread() - 1)
        after = group.interest.after
        is_awaited = after is not None and at > after and (before is None or before.at <= after)
        if is_awaited or is_other:
            self._changed(key)
        for model, due in group.looks.items():
            if due <= at and (before is None or before.at < due):
                self._changed(model)
        return None not in states


def _doing(states: Mapping[str, RouterState | None]) -> object:
    """What they do and know, without what they count."""
    return {
        life: state
        and (
            state.routes,
            state.clusters,
            state.listeners,
            {arm: (found.pods, found.healthy_pods) for arm, found in state.arms.items()},
        )
        for life, state in states.items()
    }
