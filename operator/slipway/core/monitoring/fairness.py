"""Whether groups of people are treated alike: Fairlearn's metrics, of counts, with intervals.

A ratio of two small groups' rates is mostly chance: 0.8 is missed by nearly half of the windows of a fair
model with 100 rows of a group. So a limit counts as exceeded only if the whole interval lies beyond it, where
all comparisons share the confidence (Bonferroni), and groups with too few rows are neither judged nor shown.

Sources: Fairlearn, "Common fairness metrics" (names and definitions); four-fifths rule: 29 CFR 1607.4 D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from slipway.api.reasons import Reason
from slipway.core.monitoring.intervals import Interval, Share, deviations, difference_interval, ratio_interval
from slipway.core.monitoring.verdict import MonitoredCondition, Status, Verdict, number, percent, say


class FairnessMetric(StrEnum):
    """What is limited: the ratio from below (and its inverse), differences from above."""

    DISPARATE_IMPACT_RATIO = "DisparateImpactRatio"
    DEMOGRAPHIC_PARITY_DIFFERENCE = "DemographicParityDifference"
    EQUAL_OPPORTUNITY_DIFFERENCE = "EqualOpportunityDifference"
    EQUALIZED_ODDS_DIFFERENCE = "EqualizedOddsDifference"


@dataclass(frozen=True)
class GroupCounts:
    """What a group got, and what it would have deserved where labels came.

    Attributes:
        favorable: rows with the favorable outcome.
        unfavorable: rows without.
        labels: rows with a label, by (outcome is favorable, label is favorable).
    """

    favorable: float
    unfavorable: float
    labels: Mapping[tuple[bool, bool], float]

    @property
    def selection(self) -> Share:
        """Favorable outcomes among all."""
        return Share(self.favorable, self.favorable + self.unfavorable)

    @property
    def true_positives(self) -> Share:
        """Favorable outcomes among those whose label is favorable."""
        return self._among(True)

    @property
    def false_positives(self) -> Share:
        """Favorable outcomes among those whose label is not."""
        return self._among(False)

    def _among(self, label: bool) -> Share:
        hits = self.labels.get((True, label), 0.0)
        return Share(hits, hits + self.labels.get((False, label), 0.0))


@dataclass(frozen=True)
class FairnessLimit:
    """One metric's limit: a minimum of the ratio, a maximum of a difference."""

    metric: FairnessMetric
    limit: float


@dataclass(frozen=True)
class Attribute:
    """Groups that are compared.

    Attributes:
        name: of the sensitive attribute.
        reference: the group that ratios are to.
        groups: counts of each declared group.
    """

    name: str
    reference: str
    groups: Mapping[str, GroupCounts]


@dataclass(frozen=True)
class FairnessLimits:
    """What is limited, and how sure one has to be."""

    limits: Sequence[FairnessLimit]
    confidence: float = 0.95
    minimum_group_rows: int = 100


@dataclass(frozen=True)
class Gap:
    """One comparison of two groups.

    Attributes:
        value: the ratio or the difference of ``group`` to ``other``, as Fairlearn computes it.
        interval: of the true one.
        is_exceeded: the whole interval lies beyond the limit.
        is_outside: the value itself does.
    """

    attribute: str
    metric: FairnessMetric
    group: str
    other: str
    share: Share
    other_share: Share
    value: float
    interval: Interval
    limit: float
    is_exceeded: bool
    is_outside: bool

    @property
    def is_ratio(self) -> bool:
        """Whether 1 is alike, and not 0."""
        return self.metric is FairnessMetric.DISPARATE_IMPACT_RATIO


Rate = Callable[[GroupCounts], Share]
_RATES: dict[FairnessMetric, tuple[Rate, ...]] = {
    FairnessMetric.DISPARATE_IMPACT_RATIO: (lambda group: group.selection,),
    FairnessMetric.DEMOGRAPHIC_PARITY_DIFFERENCE: (lambda group: group.selection,),
    FairnessMetric.EQUAL_OPPORTUNITY_DIFFERENCE: (lambda group: group.true_positives,),
    FairnessMetric.EQUALIZED_ODDS_DIFFERENCE: (
        lambda group: group.true_positives,
        lambda group: group.false_positives,
    ),
}


def judge_fairness(
    attributes: Sequence[Attribute], limits: FairnessLimits
) -> tuple[Verdict, tuple[Gap, ...]]:
    """The verdict over all attributes and metrics, and the widest gap of each that can be shown.

    Raises:
        ValueError: if an attribute's reference is none of its groups.
    """
    z = deviations(limits.confidence, max(1, comparisons(attributes, limits)))
    gaps: list[Gap] = []
    waiting: list[str] = []
    hidden: list[str] = []
    for attribute in attributes:
        if attribute.reference not in attribute.groups:
            raise ValueError(f"{attribute.name}: reference group {attribute.reference} is none of its groups")
        for limit in limits.limits:
            by_rate = [
                compare_groups(attribute, limit, rate, z, limits.minimum_group_rows)
                for rate in _RATES[limit.metric]
            ]
            found = [gap for gaps_of_rate in by_rate for gap in gaps_of_rate]
            if found:
                # What is known to exceed comes before what is merely wide.
                gaps.append(max(found, key=lambda gap: (gap.is_exceeded, _width(gap))))
            if not all(by_rate):
                waiting.append(
                    f"{attribute.name}: {limit.metric} needs two groups with "
                    f"{number(limits.minimum_group_rows)} {_counted(limit.metric)} each"
                    + _with_reference(attribute, limit)
                )
        small = sum(counts.selection.rows < limits.minimum_group_rows for counts in attribute.groups.values())
        if small:
            groups = "1 group" if small == 1 else f"{small} groups"
            verb = "is" if small == 1 else "are"
            fewer = f"fewer than {number(limits.minimum_group_rows)} rows"
            hidden.append(f"{attribute.name}: {groups} of {fewer} {verb} not shown")
    return _verdict(gaps, waiting, hidden), tuple(gaps)


def comparisons(attributes: Sequence[Attribute], limits: FairnessLimits) -> int:
    """Pairs of groups that are compared in one look; fixed by what is declared, not by who turned up."""
    total = 0
    for attribute in attributes:
        groups = len(attribute.groups)
        for limit in limits.limits:
            if limit.metric is FairnessMetric.DISPARATE_IMPACT_RATIO:
                total += groups - 1
            else:
                total += len(_RATES[limit.metric]) * groups * (groups - 1) // 2
    return total


def compare_groups(
    attribute: Attribute, limit: FairnessLimit, rate: Rate, z: float, minimum_rows: int
) -> tuple[Gap, ...]:
    """Every comparison that groups with enough rows allow; for ratios each group to the reference."""
    shares = {name: rate(counts) for name, counts in sorted(attribute.groups.items())}
    shown = {name: share for name, share in shares.items() if share.rows >= max(1, minimum_rows)}
    if limit.metric is FairnessMetric.DISPARATE_IMPACT_RATIO:
        pairs = [(name, attribute.reference) for name in shown if name != attribute.reference]
        pairs = pairs if attribute.reference in shown else []
    else:
        pairs = [
            (one, other) if shown[one].value >= shown[other].value else (other, one)
            for one, other in combinations(shown, 2)
        ]
    return tuple(_gap(attribute.name, limit, pair, (shown[pair[0]], shown[pair[1]]), z) for pair in pairs)


def _gap(
    attribute: str, limit: FairnessLimit, pair: tuple[str, str], shares: tuple[Share, Share], z: float
) -> Gap:
    one, other = shares
    if limit.metric is FairnessMetric.DISPARATE_IMPACT_RATIO:
        value = _ratio(one.value, other.value)
        interval = ratio_interval(one, other, z)
        exceeded = interval.high < limit.limit or interval.low > 1.0 / limit.limit
        outside = not limit.limit <= value <= 1.0 / limit.limit
    else:
        value = one.value - other.value
        interval = difference_interval(one, other, z)
        exceeded = interval.low > limit.limit
        outside = value > limit.limit
    return Gap(attribute, limit.metric, *pair, one, other, value, interval, limit.limit, exceeded, outside)


def _ratio(one: float, other: float) -> float:
    if other:
        return one / other
    return float("inf") if one else 1.0


def _width(gap: Gap) -> float:
    if gap.metric is FairnessMetric.DISPARATE_IMPACT_RATIO:
        return 1.0 - min(gap.value, 1.0 / gap.value if gap.value else 0.0)
    return gap.value


def _verdict(gaps: list[Gap], waiting: list[str], hidden: list[str]) -> Verdict:
    exceeded = [gap for gap in gaps if gap.is_exceeded]
    outside = [gap for gap in gaps if gap.is_outside]
    if exceeded:
        status, reason = Status.FALSE, Reason.UNFAIR
        parts = [_words(gap, "beyond") for gap in exceeded]
    elif waiting or not gaps:
        status, reason = Status.UNKNOWN, Reason.TOO_SMALL_GROUPS
        parts = waiting or ["no attribute is set"]
    elif outside:
        status, reason = Status.UNKNOWN, Reason.INCONCLUSIVE
        parts = [_words(gap, "not clearly beyond") for gap in outside]
    else:
        status, reason = Status.TRUE, Reason.FAIR
        parts = [_words(gap, "within") for gap in gaps]
    return say(MonitoredCondition.FAIRNESS, status, reason, [*parts, *hidden])


def _words(gap: Gap, relation: str) -> str:
    return (
        f"{gap.attribute}: {gap.metric} {number(gap.value)} "
        f"({number(gap.interval.low)} to {number(gap.interval.high)}), {relation} {number(gap.limit)}: "
        f"{gap.group} {percent(gap.share.value)} of {number(gap.share.rows)}, "
        f"{gap.other} {percent(gap.other_share.value)} of {number(gap.other_share.rows)}"
    )


def _counted(metric: FairnessMetric) -> str:
    by_label = metric in (
        FairnessMetric.EQUAL_OPPORTUNITY_DIFFERENCE,
        FairnessMetric.EQUALIZED_ODDS_DIFFERENCE,
    )
    return "labels" if by_label else "rows"


def _with_reference(attribute: Attribute, limit: FairnessLimit) -> str:
    is_ratio = limit.metric is FairnessMetric.DISPARATE_IMPACT_RATIO
    return f", {attribute.reference} among them" if is_ratio else ""
