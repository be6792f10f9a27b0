"""Whether a window's values are spread over the bins as the reference's are.

The population stability index (PSI) of two samples of the *same* distribution is not 0: its mean is about
``(bins - 1)(1/n + 1/N)`` for samples of n and N rows, so that a fixed limit alarms on small windows. Here a
feature has drifted if

* the PSI without that noise exceeds the limit, which is the effect that matters, and
* ``PSI / (1/n + 1/N)`` exceeds the chi-square quantile for the significance asked for, shared by all features
  (Bonferroni), and
* both samples have a minimum of rows.

The first alone is deaf to nothing but noise; the second alone flags correlated rows. Sources: Yurdakul,
"Statistical properties of population stability index" (2018), for the mean and the chi-square limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log
from typing import Any

from slipway.api.reasons import Reason
from slipway.core.monitoring.chi_square import upper_quantile, upper_tail
from slipway.core.monitoring.verdict import MonitoredCondition, Status, Verdict, number, say
from slipway.core.monitoring.windows import Mark, increase

_DAY_SECONDS = 86_400.0
#: Added to each bin's count, so that an empty one has a logarithm.
PSEUDO_COUNT = 0.5


class CompareWith(StrEnum):
    """What a window is held against."""

    REFERENCE = "Reference"
    SAME_HOUR_YESTERDAY = "SameHourYesterday"
    STABLE = "Stable"


class Severity(StrEnum):
    """How far something moved."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True)
class DriftLimits:
    """When a feature counts as drifted.

    Attributes:
        warning: PSI beyond the noise that is worth a warning.
        critical: PSI beyond the noise that is critical.
        significance: chance that a look at undrifted windows alarms, over all features.
        minimum_rows: of the window; below, nothing is said.
        minimum_reference_rows: of what it is compared with.
    """

    warning: float = 0.05
    critical: float = 0.25
    significance: float = 0.001
    minimum_rows: int = 1000
    minimum_reference_rows: int = 1000


@dataclass(frozen=True)
class ReferenceBins:
    """What a window is compared with: the share of each bin, none of them 0, and the rows behind them."""

    shares: Mapping[str, float]
    rows: float

    def __post_init__(self) -> None:
        if any(share <= 0.0 for share in self.shares.values()):
            raise ValueError("a share of the reference is 0: smooth it")


@dataclass(frozen=True)
class FeatureDrift:
    """How far one feature is from its reference.

    Attributes:
        rows: of the window that fell into a bin.
        reference_rows: behind the reference.
        psi: population stability index.
        noise: the PSI to be expected where nothing changed.
        chance: probability of a PSI this large where nothing changed.
        critical_psi: the PSI that the chi-square quantile stands for.
        severity: how bad it is, or None.
    """

    feature: str
    rows: float
    reference_rows: float
    psi: float = 0.0
    noise: float = 0.0
    chance: float = 1.0
    critical_psi: float = 0.0
    severity: Severity | None = None

    @property
    def excess(self) -> float:
        """PSI beyond the noise."""
        return self.psi - self.noise


def reference_of(counts: Mapping[str, float]) -> ReferenceBins:
    """A reference made of another window's counts, smoothed."""
    rows = sum(counts.values())
    return ReferenceBins(_smoothed(counts, rows), rows)


def compare(
    feature: str, counts: Mapping[str, float], reference: ReferenceBins, limits: DriftLimits, features: int
) -> FeatureDrift:
    """Hold a window's counts, one a bin, against the reference.

    Args:
        feature: its name.
        counts: of the window; bins that it lacks count 0. Missing values and unknown categories are no bins.
        reference: what they are compared with.
        limits: when it counts as drifted.
        features: how many share the significance.

    Raises:
        ValueError: if a bin has no share in the reference: the two are of different profiles.
    """
    unknown = counts.keys() - reference.shares.keys()
    if unknown:
        raise ValueError(f"{feature}: bin {min(unknown)} is not in the reference")
    rows = sum(counts.values())
    if rows < limits.minimum_rows or reference.rows < limits.minimum_reference_rows:
        return FeatureDrift(feature, rows, reference.rows)
    shares = _smoothed({name: counts.get(name, 0.0) for name in reference.shares}, rows)
    psi = sum(
        (shares[name] - expected) * log(shares[name] / expected)
        for name, expected in reference.shares.items()
    )
    freedom = len(reference.shares) - 1
    if freedom < 1:
        return FeatureDrift(feature, rows, reference.rows)
    scale = 1.0 / rows + 1.0 / reference.rows
    noise = freedom * scale
    critical_psi = critical_value(freedom, limits.significance, features) * scale
    severity = None
    if psi > critical_psi and psi - noise > limits.warning:
        severity = Severity.CRITICAL if psi - noise > limits.critical else Severity.WARNING
    chance = upper_tail(psi / scale, freedom)
    return FeatureDrift(feature, rows, reference.rows, psi, noise, chance, critical_psi, severity)


def critical_value(freedom: int, significance: float, features: int) -> float:
    """The chi-square value that one of so many undrifted features exceeds with this probability.

    Raises:
        ValueError: if there is no feature, or see :func:`upper_quantile`.
    """
    if features < 1:
        raise ValueError(f"{features} features: at least 1 is needed")
    return upper_quantile(significance / features, freedom)


def judge_drift(
    windows: Mapping[str, Mapping[str, float]], references: Mapping[str, ReferenceBins], limits: DriftLimits
) -> tuple[Verdict, tuple[FeatureDrift, ...]]:
    """The verdict over all features, and each feature's figures, the furthest first.

    Args:
        windows: counts of each feature, one a bin.
        references: of each feature; one without is not judged.
        limits: when a feature counts as drifted.
    """
    judged = sorted(windows.keys() & references.keys())
    found = [
        compare(feature, windows[feature], references[feature], limits, len(judged)) for feature in judged
    ]
    found.sort(key=lambda one: (-one.excess, one.feature))
    return _verdict(found, limits), tuple(found)


def yesterday(
    marks: Sequence[Mark[Any]], now: float, window: float
) -> tuple[Mapping[Any, float], Mapping[Any, float]] | None:
    """Counts of the last ``window`` seconds, and of the same a day ago; None before there was such a day."""
    today = increase(marks, now - window, now)
    before = increase(marks, now - _DAY_SECONDS - window, now - _DAY_SECONDS)
    return None if today is None or before is None else (today.counts, before.counts)


def _verdict(found: list[FeatureDrift], limits: DriftLimits) -> Verdict:
    if not found:
        why = "no feature has a reference: log a profile beside the model"
        return say(MonitoredCondition.DRIFT, Status.UNKNOWN, Reason.NO_REFERENCE, [why])
    drifted = [one for one in found if one.severity is not None]
    if drifted:
        parts = [f"{len(drifted)} of {len(found)} features moved", *(_moved(one, limits) for one in drifted)]
        return say(MonitoredCondition.DRIFT, Status.TRUE, Reason.FEATURES_DRIFTED, parts)
    ready = [
        one
        for one in found
        if one.rows >= limits.minimum_rows and one.reference_rows >= limits.minimum_reference_rows
    ]
    if len(ready) < len(found):
        least = min((one for one in found if one not in ready), key=lambda one: (one.rows, one.feature))
        fact = (
            f"{least.feature} has {number(least.rows)} rows of the {number(limits.minimum_rows)} needed, "
            f"and its reference {number(least.reference_rows)} of {number(limits.minimum_reference_rows)}"
        )
        waiting = f"{len(found) - len(ready)} of {len(found)} features wait for rows"
        return say(MonitoredCondition.DRIFT, Status.UNKNOWN, Reason.TOO_FEW_ROWS, [waiting, fact])
    furthest = ready[0]
    fact = (
        f"furthest is {furthest.feature}: PSI {number(furthest.excess)} beyond noise, "
        f"{number(limits.warning)} allowed, over {number(furthest.rows)} rows"
    )
    return say(
        MonitoredCondition.DRIFT, Status.FALSE, Reason.NO_DRIFT, [f"{len(found)} features as before", fact]
    )


def _moved(one: FeatureDrift, limits: DriftLimits) -> str:
    limit = limits.critical if one.severity is Severity.CRITICAL else limits.warning
    return (
        f"{one.feature}: PSI {number(one.excess)} beyond noise, more than {number(limit)}, "
        f"over {number(one.rows)} rows"
    )


def _smoothed(counts: Mapping[str, float], rows: float) -> dict[str, float]:
    whole = rows + PSEUDO_COUNT * len(counts)
    return {name: (count + PSEUDO_COUNT) / whole for name, count in counts.items()}
