"""Counters of many pods as one: exact over replicas, and through restarts of any of them.

A *run* is one life of a pod's counters, from 0 on. A restart of the container begins another: it shows as a
new name of the run where the caller has one (uid and restart count), and else by a counter that fell. All
counters of a pod fall together, so one that fell tells of those that have overtaken what they were.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from slipway.core.monitoring.packed import Packed

S = TypeVar("S", bound=Hashable)
Counts = Mapping[S, float]


#: Of one model, for as long as it is counted: as many as a model server has for its spec and profile.
MOST_SERIES = 8192


class Names(Generic[S]):
    """Series of a model, each with its place in all rows of that model; packed while nobody counts.

    In a dictionary a series takes 250 bytes, packed about ten.
    """

    __slots__ = ("_packed", "_table")

    def __init__(self, names: Iterable[S] = ()) -> None:
        self._table: dict[S, int] | None = {name: place for place, name in enumerate(names)}
        self._packed: tuple[Packed[tuple[S, ...]], int] | None = None

    @property
    def table(self) -> dict[S, int]:
        """The place of each, in their order; it may grow, and lasts until the next :meth:`pack`."""
        if self._table is None:
            assert self._packed is not None
            names = self._packed[0]
            self._table = {name: place for place, name in enumerate(names.value)}
            names.pack()
        return self._table

    def __len__(self) -> int:
        if self._table is None:
            assert self._packed is not None
            return self._packed[1]
        return len(self._table)

    def pack(self) -> None:
        """Take less memory, until somebody asks for the table."""
        if self._table is None:
            return
        # They only ever become more.
        if self._packed is None or self._packed[1] != len(self._table):
            names = Packed(tuple(self._table))
            names.pack()
            self._packed = names, len(self._table)
        self._table = None


class Row(Mapping[S, float]):
    """Counts as bare numbers; the names of their series are shared by all rows of a model.

    A mark of hundreds of series then takes 2 to 8 bytes for each of them, by how far they counted.
    """

    __slots__ = ("_names", "_numbers")

    def __init__(self, counts: Counts[S], names: Names[S], most: int = MOST_SERIES) -> None:
        """``names`` grows by the series that it does not have yet, up to ``most``; others are left out."""
        places = names.table
        numbers = array("d", bytes(8 * len(places)))
        for series, value in counts.items():
            if len(places) >= most and series not in places:
                continue
            place = places.setdefault(series, len(places))
            if place == len(numbers):
                numbers.append(value)
            else:
                numbers[place] = value
        self._names, self._numbers = names, _compact(numbers)

    def __getitem__(self, series: S) -> float:
        place = self._names.table[series]
        if place >= len(self._numbers):
            raise KeyError(series)
        return float(self._numbers[place])

    def __iter__(self) -> Iterator[S]:
        # Series that came later stand behind those that this row has.
        return (series for series, _ in zip(self._names.table, self._numbers, strict=False))

    def __len__(self) -> int:
        return len(self._numbers)

    def is_same(self, other: Row[S]) -> bool:
        """Whether every count is."""
        return self._numbers == other._numbers


def _compact(numbers: array[float]) -> array[Any]:
    """The same numbers, in as few bytes as hold them exactly."""
    most = max(numbers, default=0.0)
    if most >= 2.0**32 or any(number < 0 or number % 1 for number in numbers):
        return numbers
    return array("H" if most < 2.0**16 else "I", map(int, numbers))


@dataclass(frozen=True, slots=True)
class Tally(Generic[S]):
    """What was counted since one began to look.

    Attributes:
        totals: increase of each series, over all runs.
        last: what each run showed when it was last seen.
    """

    totals: Counts[S]
    last: Mapping[str, Counts[S]] = field(default_factory=dict)

    def add(self, scrapes: Mapping[str, Counts[S]], gone: Collection[str] = ()) -> Tally[S]:
        """With what the runs show now.

        A run that is not among them (its pod did not answer) keeps its place until it is named in ``gone``.
        One that was not there before counts from 0. Series beyond :data:`MOST_SERIES` are not counted.
        """
        totals = dict(self.totals)
        for run, values in scrapes.items():
            before = self.last.get(run, {})
            if any(value < before.get(series, 0.0) for series, value in values.items()):
                before = {}
            for series, value in values.items():
                if series in totals or len(totals) < MOST_SERIES:
                    totals[series] = totals.get(series, 0.0) + value - before.get(series, 0.0)
        last = {run: values for run, values in {**self.last, **scrapes}.items() if run not in gone}
        return Tally(totals, last)

    def meet(self, scrapes: Mapping[str, Counts[S]]) -> Tally[S]:
        """With runs that were there before, unseen: what they counted until now belongs to no window."""
        return Tally(self.totals, {**self.last, **scrapes})


def begin_at_zero(scrapes: Mapping[str, Counts[S]]) -> Tally[S]:
    """A tally of runs that began with what is counted: all that they show belongs to it."""
    nothing: Tally[S] = Tally({})
    return nothing.add(scrapes)


def begin(scrapes: Mapping[str, Counts[S]]) -> Tally[S]:
    """A tally that starts now: what the runs counted before is not known to belong to any window."""
    series = {name: 0.0 for values in scrapes.values() for name in values}
    return Tally(series, dict(scrapes))


@dataclass(frozen=True, slots=True)
class Mark(Generic[S]):
    """Totals of a tally at a time, in seconds since the epoch."""

    at: float
    totals: Counts[S]


@dataclass(frozen=True)
class Increase(Generic[S]):
    """What was counted between two marks, and how many seconds lie between them."""

    counts: Counts[S]
    seconds: float


def remember(
    marks: Sequence[Mark[S]], mark: Mark[S], span: float, spacing: float = 0.0
) -> tuple[Mark[S], ...]:
    """The marks with one more, oldest first.

    The latest mark always stays; of the others those closer than ``spacing`` seconds are left out, and those
    that no window of ``span`` seconds reaches back to.

    Raises:
        ValueError: if the mark is older than the last one.
    """
    if marks and mark.at < marks[-1].at:
        raise ValueError(f"mark at {mark.at} comes after one at {marks[-1].at}")
    kept = list(marks)
    if len(kept) >= 2 and kept[-1].at - kept[-2].at < spacing:
        kept.pop()
    kept.append(mark)
    first = bisect_right([one.at for one in kept], mark.at - span) - 1
    return tuple(kept[max(0, first) :])


def increase(marks: Sequence[Mark[S]], start: float, end: float) -> Increase[S] | None:
    """What was counted from ``start`` to ``end``, between the last marks at or before each.

    Returns:
        None where the marks do not reach back to ``start``, or nothing lies between.
    """
    times = [mark.at for mark in marks]
    first, last = bisect_right(times, start) - 1, bisect_right(times, end) - 1
    if first < 0 or last <= first:
        return None
    older, newer = marks[first], marks[last]
    counts = {series: total - older.totals.get(series, 0.0) for series, total in newer.totals.items()}
    return Increase(counts, newer.at - older.at)
