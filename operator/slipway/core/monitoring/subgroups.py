"""What an audit says of a model: of how it treats groups on a held-out table, by what was counted.

A limit counts as exceeded only if the whole interval lies beyond it, and all intervals of an audit share its
confidence (Bonferroni), as in :mod:`slipway.core.monitoring.fairness`. That no accuracy is lost has to be
shown: the whole interval must lie below what may be lost, since "no difference was found" is what a small
table says of any two models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite

from slipway.contract import Audited, Tally
from slipway.core.monitoring.fairness import (
    Attribute,
    FairnessLimits,
    Gap,
    GroupCounts,
    comparisons,
    judge_fairness,
)
from slipway.core.monitoring.intervals import (
    Interval,
    Share,
    deviations,
    paired_interval,
    share_interval,
)
from slipway.core.monitoring.verdict import Status, bounded, number, percent

#: Figures beyond are left out.
MOST_FIGURES = 24


@dataclass(frozen=True)
class Groups:
    """A column of the table, and the groups that are told apart by it; ratios are to ``reference``."""

    column: str
    groups: tuple[str, ...]
    reference: str


@dataclass(frozen=True)
class SubgroupLimits:
    """What a model is held to.

    Attributes:
        attributes: whose groups are compared, as the audit's task names them.
        fairness: limits, confidence of all intervals together, and rows below which a group is not judged.
        minimum_accuracy: between 0 and 1; None for none.
        max_loss: of accuracy compared with the baseline, of all rows and of each group; None for none.
        minimum_rows: below, nothing is said of accuracy.
    """

    attributes: tuple[Groups, ...]
    fairness: FairnessLimits
    minimum_accuracy: float | None = None
    max_loss: float | None = None
    minimum_rows: int = 300


@dataclass(frozen=True)
class Figure:
    """One number of an audit; ``of`` says of which groups, and is empty for all rows."""

    metric: str
    of: str
    value: float
    interval: Interval
    limit: float | None = None


@dataclass(frozen=True)
class Judged:
    """What an audit says: Pass, Fail or Inconclusive, the numbers in words, and the numbers."""

    verdict: str
    message: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class _Part:
    """One question's answer."""

    status: Status
    words: str
    figures: tuple[Figure, ...] = ()


_ORDER = (Status.FALSE, Status.UNKNOWN, Status.TRUE)
_VERDICTS = {Status.FALSE: "Fail", Status.UNKNOWN: "Inconclusive", Status.TRUE: "Pass"}


def judge_subgroups(counted: Audited, limits: SubgroupLimits) -> Judged:
    """The verdict over all that a model is held to.

    Raises:
        ValueError: if what was counted is of other groups than the limits.
    """
    shape = [len(groups) for groups in counted.groups]
    if shape != [len(each.groups) for each in limits.attributes]:
        raise ValueError(f"groups of {shape} were counted, and others are asked for")
    attributes = [
        Attribute(
            each.column, each.reference, dict(zip(each.groups, map(group_counts, tallies), strict=True))
        )
        for each, tallies in zip(limits.attributes, counted.groups, strict=True)
    ]
    asked = _comparisons(attributes, counted, limits)
    z = deviations(limits.fairness.confidence, max(1, asked))
    parts = [
        *_fair(attributes, limits, asked),
        *_accurate(counted.rows, limits, z),
        *_no_worse(counted, limits, z),
    ]
    parts.sort(key=lambda part: _ORDER.index(part.status))
    # Of a first version nothing can be lost.
    nothing, silence = (
        (Status.TRUE, "the first version has no stable one to be compared with")
        if limits.max_loss is not None
        else (Status.UNKNOWN, "the audit holds the model to nothing")
    )
    worst = parts[0].status if parts else nothing
    figures = [figure for part in parts for figure in part.figures]
    figures += _accuracies(counted, limits, z)
    words = [part.words for part in parts] or [silence]
    return Judged(_VERDICTS[worst], bounded(words), tuple(dict.fromkeys(figures))[:MOST_FIGURES])


def group_counts(tally: Tally) -> GroupCounts:
    """Of a group, as fairness speaks of it."""
    hit, false, missed, spared = (float(each) for each in tally[:4])
    labels = {(True, True): hit, (True, False): false, (False, True): missed, (False, False): spared}
    return GroupCounts(hit + false, missed + spared, labels)


def _comparisons(attributes: Sequence[Attribute], counted: Audited, limits: SubgroupLimits) -> int:
    accuracy = int(limits.minimum_accuracy is not None)
    if limits.max_loss is not None and counted.baseline is not None:
        accuracy += 1 + sum(len(each.groups) for each in attributes)
    return comparisons(attributes, limits.fairness) + accuracy


def _fair(attributes: Sequence[Attribute], limits: SubgroupLimits, asked: int) -> Iterator[_Part]:
    if not limits.fairness.limits:
        return
    own = comparisons(attributes, limits.fairness)
    # Its share of what may go wrong: all intervals of the audit are together as sure as was asked for.
    sure = 1.0 - (1.0 - limits.fairness.confidence) * own / asked
    verdict, gaps = judge_fairness(attributes, replace(limits.fairness, confidence=sure))
    yield _Part(verdict.status, verdict.message, tuple(map(_figure, gaps)))


def _figure(gap: Gap) -> Figure:
    of = f"{gap.attribute}: {gap.group} to {gap.other}"
    return Figure(gap.metric, of, gap.value, gap.interval, gap.limit)


def _accurate(tally: Tally, limits: SubgroupLimits, z: float) -> Iterator[_Part]:
    least = limits.minimum_accuracy
    if least is None:
        return
    share = _accuracy(tally)
    if share.rows < limits.minimum_rows:
        few = f"accuracy has {number(share.rows)} rows of the {number(limits.minimum_rows)} needed"
        yield _Part(Status.UNKNOWN, few)
        return
    interval = share_interval(share, z)
    if interval.high < least:
        status, relation = Status.FALSE, "below"
    elif share.value < least:
        status, relation = Status.UNKNOWN, "not clearly below"
    else:
        status, relation = Status.TRUE, "at least"
    words = f"accuracy {percent(share.value)} {_between(interval)} of {number(share.rows)} rows, {relation} "
    figure = Figure("Accuracy", "", share.value, interval, least)
    yield _Part(status, words + percent(least), (figure,))


def _no_worse(counted: Audited, limits: SubgroupLimits, z: float) -> Iterator[_Part]:
    """Whether accuracy is lost compared with the baseline, over all rows and in each group."""
    most = limits.max_loss
    if most is None or counted.baseline is None:
        return
    rows = sum(counted.rows[:4])
    if rows < limits.minimum_rows:
        few = f"loss of accuracy has {number(rows)} rows of the {number(limits.minimum_rows)} needed"
        yield _Part(Status.UNKNOWN, few)
        return
    figure = _loss(counted.rows, "", most, z)
    told = f"{percent(figure.value)} of all rows {_between(figure.interval)} are lost to the stable version"
    if figure.interval.low > most:
        yield _Part(Status.FALSE, f"{told}, more than {percent(most)}", (figure,))
    elif figure.interval.high > most:
        needed = rows_needed(counted.rows[5], counted.rows[6], rows, most, z)
        more = f"; about {number(needed)} rows like these would tell" if needed else ""
        yield _Part(Status.UNKNOWN, f"{told}: {percent(most)} is not ruled out{more}", (figure,))
    else:
        yield _Part(Status.TRUE, f"{told}, {percent(most)} at most", (figure,))
    for each, tallies in zip(limits.attributes, counted.groups, strict=True):
        for group, tally in zip(each.groups, tallies, strict=True):
            if sum(tally[:4]) < max(1, limits.fairness.minimum_group_rows):
                continue
            figure = _loss(tally, f"{each.column}: {group}", most, z)
            told = f"{each.column}: {group} loses {percent(figure.value)} {_between(figure.interval)}"
            if figure.interval.low > most:
                yield _Part(Status.FALSE, f"{told}, more than {percent(most)}", (figure,))
            elif figure.value > most:
                yield _Part(Status.UNKNOWN, f"{told}, not clearly more than {percent(most)}", (figure,))


def _loss(tally: Tally, of: str, most: float, z: float) -> Figure:
    rows, gained, lost = sum(tally[:4]), tally[5], tally[6]
    interval = paired_interval(lost, gained, rows, z)
    return Figure("AccuracyLoss", of, (lost - gained) / rows, interval, most)


def rows_needed(gained: int, lost: int, rows: int, most: float, z: float) -> int:
    """Of rows like these, how many tell the loss that was seen from ``most``; 0 where none do."""
    room = most - (lost - gained) / rows
    if room <= 0:
        return 0
    spread = (gained + lost + 1.0) / rows
    return ceil((z / room) ** 2 * spread / 100.0) * 100


def _accuracies(counted: Audited, limits: SubgroupLimits, z: float) -> Iterator[Figure]:
    """Of all rows, and of each group that is large enough to be shown."""
    share = _accuracy(counted.rows)
    if limits.minimum_accuracy is None:
        yield Figure("Accuracy", "", share.value, share_interval(share, z))
    for each, tallies in zip(limits.attributes, counted.groups, strict=True):
        for group, tally in zip(each.groups, tallies, strict=True):
            share = _accuracy(tally)
            if share.rows >= max(1, limits.fairness.minimum_group_rows):
                yield Figure("Accuracy", f"{each.column}: {group}", share.value, share_interval(share, z))


def _accuracy(tally: Tally) -> Share:
    return Share(tally[4], sum(tally[:4]))


def _between(interval: Interval) -> str:
    return f"({percent(interval.low)} to {percent(interval.high)})"


def is_shown(figure: Figure) -> bool:
    """Whether all of a figure can be written as decimals."""
    return all(isfinite(each) for each in (figure.value, figure.interval.low, figure.interval.high))
