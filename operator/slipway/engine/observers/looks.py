"""Reads what a rollout's looks need: once as soon as traffic is split as it is, and when each look is due."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from slipway.core.rollout.interest import Interest
from slipway.core.rollout.reading import Reading
from slipway.engine.observers.pool import Pool
from slipway.engine.store import Key

W = TypeVar("W", bound=Interest)
#: What is remembered from one reading to the next, and what one comes to.
M = TypeVar("M")
V = TypeVar("V")


#: Until it is tried again where there is nobody to be asked.
IDLE = timedelta(seconds=1)


class UnreadError(Exception):
    """What could not be read; its message says why."""


class NothingToReadError(UnreadError):
    """There is nobody who could be asked."""


@dataclass(frozen=True)
class Found(Generic[M, V]):
    """What reading came to.

    Attributes:
        memory: the base of the next reading.
        value: what was counted since the interest's look; None where it only begins.
        again: seconds until it can be read, where there is too little of it yet; 0 where it was.
    """

    memory: M | None
    value: V | None = None
    again: float = 0.0


#: Reads what an interest asks for, or raises :class:`UnreadError`. Its arguments: the key of the resource,
#: the interest, what the reading before remembered if that was of the same subject, and from when on this
#: subject was of interest.
Read = Callable[[Key, W, M | None, datetime], Awaitable[Found[M, V]]]


@dataclass
class _Subject(Generic[W, M]):
    """What one interest came to; soft state."""

    interest: W
    since: datetime
    memory: M | None = None
    #: When it was last read, for the look that the interest is in.
    read_at: datetime | None = None
    #: There may be more of it from then on.
    again_at: datetime | None = None


class LookObserver(Generic[W, M, V]):
    """Keeps one reading of each interest."""

    def __init__(
        self,
        read: Read[W, M, V],
        changed: Callable[[Key], None],
        clock: Callable[[], datetime],
        spread: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            read: reads what an interest asks for.
            changed: has a key worked on.
            clock: tells the time, with a time zone.
            spread: see :class:`Pool`.
        """
        self._read = read
        self._changed = changed
        self._clock = clock
        self._subjects: dict[Key, _Subject[W, M]] = {}
        self._readings: dict[Key, Reading[V]] = {}
        self.pool = Pool(self._look, self._due, clock, spread, self._latest)

    def subscribe(self, key: Key, interest: W | None) -> None:
        """Have a ModelDeployment's interest seen to, and no other one of its; None where it has none."""
        subject = self._subjects.get(key)
        if interest is None:
            if subject is not None:
                self.forget(key)
            return
        if subject is None or subject.interest.subject != interest.subject:
            self._subjects[key] = _Subject(interest, self._clock())
        elif subject.interest != interest:
            is_same_look = subject.interest.look == interest.look
            subject.interest = interest
            subject.read_at = subject.read_at if is_same_look else None
        else:
            return
        self.pool.refresh(key)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone, or there is nothing to read for it."""
        self._subjects.pop(key, None)
        self._readings.pop(key, None)
        self.pool.forget(key)

    def reading(self, key: Key) -> Reading[V] | None:
        """The newest."""
        return self._readings.get(key)

    def _due(self, key: Key) -> datetime | None:
        subject = self._subjects.get(key)
        if subject is None:
            return None
        reading = self._readings.get(key)
        if subject.read_at is not None and subject.read_at >= subject.interest.due:
            if reading is None or reading.value is not None:
                return None
            # It only begins, and may do so after the look was due.
            return subject.read_at + timedelta(seconds=subject.interest.seconds)
        due = subject.since if subject.memory is None else subject.interest.due
        return max(due, subject.again_at or due)

    def _latest(self, key: Key) -> datetime | None:
        """A look that is due does not wait for what failed before."""
        subject, reading = self._subjects.get(key), self._readings.get(key)
        if subject is None or (reading is not None and reading.answers(subject.interest)):
            return None
        return subject.interest.due

    async def _look(self, key: Key) -> bool:
        subject, at = self._subjects[key], self._clock()
        interest = subject.interest
        error, found, is_read = None, None, True
        try:
            found = await self._read(key, interest, subject.memory, subject.since)
        except NothingToReadError as failure:
            error, subject.again_at = str(failure), at + IDLE
        except UnreadError as failure:
            error, is_read = str(failure), False
        is_same = self._subjects.get(key) is subject and subject.interest.look == interest.look
        if not is_same:
            # What it was read for is over; what it shows is of no other look.
            return is_read
        if found is not None:
            subject.memory = found.memory
            subject.read_at = None if found.again else at
            subject.again_at = at + timedelta(seconds=found.again) if found.again else None
        before = self._readings.get(key)
        reading = Reading(interest, at, found.value if found is not None else None, error)
        self._readings[key] = reading
        is_first = before is None or not before.answers(interest)
        is_other = before is None or (before.value, before.error) != (reading.value, reading.error)
        if reading.answers(subject.interest) and (is_first or is_other):
            self._changed(key)
        return is_read
