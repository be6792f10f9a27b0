"""Whether what comes in is what the model was made for: complete, valid, known and fresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slipway.api.reasons import Reason
from slipway.core.monitoring.intervals import Interval, Share, deviations, share_interval
from slipway.core.monitoring.performance import quantile
from slipway.core.monitoring.verdict import MonitoredCondition, Status, Verdict, number, percent, say


@dataclass(frozen=True)
class QualityLimits:
    """What is still good.

    Attributes:
        missing_ratio: of a feature's values that may be missing.
        violation_ratio: of a feature's values that may break a rule; of its categories, that may be unknown
            beyond what the reference had.
        data_age_seconds: how old most rows' data may be, or None.
        model_age_days: how long ago the model may have been made (``card.maxAgeDays``), or None.
        confidence: with which a ratio has to be beyond its limit, over all of them.
        minimum_rows: below, nothing is said of a feature.
    """

    missing_ratio: float = 0.05
    violation_ratio: float = 0.01
    data_age_seconds: float | None = None
    model_age_days: float | None = None
    confidence: float = 0.999
    minimum_rows: int = 100


@dataclass(frozen=True)
class FeatureQuality:
    """What arrived of one feature.

    Attributes:
        rows: that had the feature, missing values included.
        missing: of these, without a value.
        unknown: of these, with a category that the reference does not list.
        reference_unknown: share of these in the reference.
        violations: values that broke a rule, by rule.
    """

    feature: str
    rows: float
    missing: float = 0.0
    unknown: float = 0.0
    reference_unknown: float = 0.0
    violations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ages:
    """How old things are, where that is known.

    Attributes:
        data_seconds: age that half of the rows' data stays below.
        model_days: since the model was made.
    """

    data_seconds: float | None = None
    model_days: float | None = None


@dataclass(frozen=True)
class Ratio:
    """One feature's share of bad values, by what is wrong with them."""

    feature: str
    what: str
    share: Share
    interval: Interval
    limit: float

    @property
    def is_exceeded(self) -> bool:
        """The whole interval lies beyond the limit."""
        return self.interval.low > self.limit


def median_age(ages: Mapping[float, float], minimum_rows: int) -> float | None:
    """The age that half of the rows' data stays below, in seconds; None where there are too few rows.

    Args:
        ages: a cumulative histogram, by upper bound in seconds. Where the limit is one of the bounds, the
            median is beyond it just where more than half of the rows are.
        minimum_rows: below, nothing is said.
    """
    if not ages or ages[max(ages)] < max(1, minimum_rows):
        return None
    return quantile(ages, 0.5)


def judge_quality(
    features: Sequence[FeatureQuality], ages: Ages, limits: QualityLimits
) -> tuple[Verdict, tuple[Ratio, ...]]:
    """The verdict, and each ratio behind it, the worst first."""
    ready = [one for one in features if one.rows >= max(1, limits.minimum_rows)]
    z = deviations(limits.confidence, max(1, comparisons(features, limits)))
    ratios = [
        Ratio(one.feature, what, share, share_interval(share, z), limit)
        for one in ready
        for what, share, limit in _kinds(one, limits)
    ]
    ratios.sort(key=lambda one: (one.limit - one.share.value, one.feature, one.what))
    return _verdict(ratios, len(features), len(features) - len(ready), ages, limits), tuple(ratios)


def comparisons(features: Sequence[FeatureQuality], limits: QualityLimits) -> int:
    """Ratios that are compared with a limit in one look."""
    return sum(len(_kinds(one, limits)) for one in features)


def _kinds(one: FeatureQuality, limits: QualityLimits) -> list[tuple[str, Share, float]]:
    """What may be wrong with a feature's values."""
    found = [
        ("missing", Share(one.missing, one.rows), limits.missing_ratio),
        ("unknown", Share(one.unknown, one.rows), one.reference_unknown + limits.violation_ratio),
    ]
    for rule, count in sorted(one.violations.items()):
        # Rejected rows have a violation but may have no value: they count as rows here.
        found.append((rule, Share(count, max(one.rows, count)), limits.violation_ratio))
    return found


def _verdict(ratios: list[Ratio], features: int, waiting: int, ages: Ages, limits: QualityLimits) -> Verdict:
    bad = [one for one in ratios if one.is_exceeded]
    stale = _stale(ages, limits)
    if bad or stale:
        if bad:
            is_missing = bad[0].what == "missing"
            reason = Reason.TOO_MUCH_MISSING if is_missing else Reason.TOO_MANY_VIOLATIONS
        else:
            reason = stale[0][0]
        parts = [_words(one) for one in bad] + [words for _, words in stale]
        return say(MonitoredCondition.DATA_QUALITY, Status.FALSE, reason, parts)
    fresh = _fresh(ages, limits)
    wanting = []
    if waiting:
        wanting.append(f"{waiting} of {features} features wait for {number(limits.minimum_rows)} rows")
    if limits.data_age_seconds is not None and ages.data_seconds is None:
        wanting.append(f"the age of the data waits for {number(limits.minimum_rows)} rows")
    if not features and not fresh:
        wanting.append("no feature is counted")
    if wanting:
        return say(MonitoredCondition.DATA_QUALITY, Status.UNKNOWN, Reason.TOO_FEW_ROWS, wanting)
    parts = [f"worst is {_words(one)}" for one in ratios[:1]]
    return say(MonitoredCondition.DATA_QUALITY, Status.TRUE, Reason.DATA_IS_GOOD, [*parts, *fresh])


def _fresh(ages: Ages, limits: QualityLimits) -> list[str]:
    """What is known of the ages that have a limit, and are within it."""
    found = []
    if ages.data_seconds is not None and limits.data_age_seconds is not None:
        age, limit = ages.data_seconds / 60.0, limits.data_age_seconds / 60.0
        found.append(f"half of the data is younger than {number(age)} min, {number(limit)} allowed")
    if ages.model_days is not None and limits.model_age_days is not None:
        age, limit = ages.model_days, limits.model_age_days
        found.append(f"the model is {number(age)} days old, {number(limit)} allowed")
    return found


def _stale(ages: Ages, limits: QualityLimits) -> list[tuple[Reason, str]]:
    found = []
    if _beyond(ages.data_seconds, limits.data_age_seconds):
        age, limit = (ages.data_seconds or 0.0) / 60.0, (limits.data_age_seconds or 0.0) / 60.0
        found.append(
            (
                Reason.DATA_IS_STALE,
                f"half of the data is older than {number(age)} min, {number(limit)} allowed",
            )
        )
    if _beyond(ages.model_days, limits.model_age_days):
        age, limit = ages.model_days or 0.0, limits.model_age_days or 0.0
        found.append((Reason.MODEL_IS_STALE, f"the model is {number(age)} days old, {number(limit)} allowed"))
    return found


def _beyond(age: float | None, limit: float | None) -> bool:
    return age is not None and limit is not None and age > limit


def _words(one: Ratio) -> str:
    return (
        f"{one.feature}: {percent(one.share.value)} {one.what} of {number(one.share.rows)} values, "
        f"{percent(one.limit)} allowed"
    )
