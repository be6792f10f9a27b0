"""A model's report: one HTML page that needs nothing from outside, and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slipway.core.monitoring.drift import FeatureDrift
from slipway.core.monitoring.fairness import Gap
from slipway.core.monitoring.intervals import Interval, Share
from slipway.core.monitoring.performance import Estimate, Measurement
from slipway.core.monitoring.quality import Ratio
from slipway.core.monitoring.verdict import Verdict, number, percent
from slipway.report.audits import AuditReport
from slipway.report.charts import Bar, Whisker, bars, whisker
from slipway.report.templates import templates_of


@dataclass(frozen=True)
class Distribution:
    """Shares of a window's rows and of the reference's by bin; both in the same order."""

    bins: tuple[str, ...]
    window: tuple[float, ...]
    reference: tuple[float, ...]


@dataclass(frozen=True)
class FeatureReport:
    """How far a feature moved, and from where to where."""

    drift: FeatureDrift
    distribution: Distribution


@dataclass(frozen=True)
class CalibrationBin:
    """Rows by how sure the model was, and how often that was right on held-out data."""

    bin: str
    rows: float
    held_out_accuracy: float | None


@dataclass(frozen=True)
class Rate:
    """How often something happened to a group, and where the true share lies."""

    what: str
    share: Share
    interval: Interval


@dataclass(frozen=True)
class GroupReport:
    """What a group of people got; no rates where it is too small to be shown."""

    attribute: str
    group: str
    rates: tuple[Rate, ...]


@dataclass(frozen=True)
class Event:
    """Something that happened to the model's rollouts; ``at`` as text."""

    at: str
    what: str
    message: str


@dataclass(frozen=True)
class Report:
    """All that the page shows.

    Attributes:
        name: of the ModelDeployment.
        made_at: when the counts were read.
        window: what they are of, in words.
        facts: version, digest, revision and whatever else names the model.
        card: of the spec: owner, intended use, links.
        judged: by whom and on what the verdicts were reached, in words.
        warnings: what is missing from the counts.
        ratios: of values that are missing or break a rule.
        answers: what labels say beyond the measurements, in sentences.
        groups: that have enough rows to be shown.
        small_groups: how many have not, which is fewer than ``fewest_rows``.
    """

    namespace: str
    name: str
    made_at: str
    window: str
    facts: Mapping[str, str]
    card: Mapping[str, str]
    verdicts: tuple[Verdict, ...]
    judged: str = ""
    warnings: tuple[str, ...] = ()
    features: tuple[FeatureReport, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    answers: tuple[str, ...] = ()
    estimate: Estimate | None = None
    gaps: tuple[Gap, ...] = ()
    groups: tuple[GroupReport, ...] = ()
    small_groups: int = 0
    fewest_rows: int = 0
    audits: tuple[AuditReport, ...] = ()
    events: tuple[Event, ...] = ()


def render(report: Report) -> str:
    """The page as HTML; what comes from users is escaped."""
    environment = templates_of("slipway.report")
    environment.filters.update(number=number, percent=percent)
    environment.globals.update(
        bars=_bars, gap_whisker=_gap_whisker, measured_whisker=_measured_whisker, rate_whisker=_rate_whisker
    )
    return environment.get_template("page.html.j2").render(report=report) + "\n"


def _bars(distribution: Distribution) -> tuple[Bar, ...]:
    return bars(distribution.bins, distribution.window, distribution.reference)


def _gap_whisker(gap: Gap) -> Whisker:
    most = max(gap.interval.high, gap.value, gap.limit, 1.0) if gap.is_ratio else 1.0
    return whisker(gap.value, gap.interval.low, gap.interval.high, gap.limit, most)


def _measured_whisker(one: Measurement) -> Whisker:
    limit = one.objective.minimum or None
    return whisker(one.share.value, one.interval.low, one.interval.high, limit, 1.0)


def _rate_whisker(rate: Rate) -> Whisker:
    return whisker(rate.share.value, rate.interval.low, rate.interval.high, None, 1.0)
