"""Rules on drift and data quality; the figures of :mod:`slipway.core.monitoring.drift` and ``quality``."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.bins import MISSING, OTHER
from slipway.core.monitoring.drift import PSEUDO_COUNT, CompareWith
from slipway.core.monitoring.limits import Limit
from slipway.names import Metric, OperatorMetric
from slipway.observability.promql import aggregate, increase, limited, names_of, wilson
from slipway.observability.rule import MODEL_WORDS, VALUE_WORDS, Alert, Record, Rule

#: No bins of a distribution, and judged apart.
APART = f"{MISSING}|{OTHER}"


def drift_rules() -> Iterator[Rule]:
    """PSI of each feature's last hour against the profile, and against the same hour yesterday."""
    values, rows = "slipway:feature_values:increase1h", "slipway:feature_rows:increase1h"
    share, bins = "slipway:feature_reference:ratio", "slipway:feature_bins:count"
    counted = f'{values}{{bin!~"{APART}"}}'
    yield Record(values, aggregate("sum", increase(Metric.FEATURE_VALUES, "1h"), "feature", "bin"))
    yield Record(rows, aggregate("sum", counted, "feature"))
    exported = f'{Metric.FEATURE_REFERENCE_RATIO}{{bin!~"{APART}"}}'
    yield Record(share, aggregate("max", exported, "feature", "bin"))
    yield Record(bins, aggregate("count", share, "feature"))
    own = aggregate("max", OperatorMetric.DRIFT_CRITICAL, "feature")
    usual = (
        f'sum by ({names_of("feature")}) (count_values by ({names_of("feature")}) ("bins", {bins}) '
        "* on (bins) group_left () slipway:chi_square:critical)"
    )
    yield Record("slipway:feature_chi_square:critical", f"{own}\nor\n{usual}")

    smoothed = (
        f"({{}} + {PSEUDO_COUNT}) / on ({names_of('feature')}) group_left () ({{}} + {PSEUDO_COUNT} * {bins})"
    )
    yield Record("slipway:feature_values:ratio1h", smoothed.format(counted, rows))
    yield from _distance("", share, aggregate("max", Metric.FEATURE_REFERENCE_ROWS, "feature"))
    yield from _distance("_yesterday", "slipway:feature_values:ratio1h offset 1d", f"{rows} offset 1d")

    other = f'{OperatorMetric.DRIFT_COMPARED_WITH}{{with!="{CompareWith.REFERENCE}"}}'
    alike = f'{OperatorMetric.DRIFT_COMPARED_WITH}{{with="{CompareWith.SAME_HOUR_YESTERDAY}"}}'
    for severity, limit in (("warning", Limit.PSI_WARNING), ("critical", Limit.PSI_CRITICAL)):
        against_reference = f"({_drifted('', limit)})\nunless on (namespace, model) {other}"
        against_yesterday = f"({_drifted('_yesterday', limit)})\nand on (namespace, model) {alike}"
        yield Alert(
            "SlipwayFeatureDrift",
            f"{against_reference}\nor\n{against_yesterday}",
            severity,
            "5m",
            f"{{{{ $labels.feature }}}} of {MODEL_WORDS} moved: PSI {VALUE_WORDS} beyond noise",
            "The last hour's values are spread otherwise than the reference's. See the model's dashboard; "
            "retrain if the world has changed, fix the source if it has not.",
        )


def _distance(suffix: str, share: str, reference_rows: str) -> Iterator[Rule]:
    """PSI, its noise, and what chance may reach, of the last hour against one reference."""
    on, ratio = f"on ({names_of('feature', 'bin')})", "slipway:feature_values:ratio1h"
    rows, bins = "slipway:feature_rows:increase1h", "slipway:feature_bins:count"
    psi, noise = f"slipway:feature_psi{suffix}:1h", f"slipway:feature_psi{suffix}_noise:1h"
    terms = f"({ratio} - {on} {share}) * {on} ln({ratio} / {on} {share})"
    scale = f"(1 / {rows} + 1 / ({reference_rows}))"
    yield Record(psi, aggregate("sum", terms, "feature"))
    yield Record(noise, f"({bins} - 1) * {scale}")
    yield Record(f"slipway:feature_psi{suffix}_critical:1h", f"slipway:feature_chi_square:critical * {scale}")
    yield Record(f"slipway:feature_psi{suffix}_rows:1h", reference_rows)
    yield Record(f"slipway:feature_psi{suffix}_excess:1h", f"{psi} - {noise}")


def _drifted(suffix: str, limit: Limit) -> str:
    name = f"slipway:feature_psi{suffix}"
    return "\nand ".join(
        (
            limited(f"{name}_excess:1h", ">", limit),
            f"{name}:1h > {name}_critical:1h",
            limited("slipway:feature_rows:increase1h", ">=", Limit.DRIFT_ROWS),
            limited(f"{name}_rows:1h", ">=", Limit.DRIFT_REFERENCE_ROWS),
        )
    )


def quality_rules() -> Iterator[Rule]:
    """Shares of missing, unknown and invalid values of each feature, with the interval's lower end."""
    values = "slipway:feature_values:increase1h"
    rows, ratio = "slipway:feature_all_rows:increase1h", "slipway:feature_bad:ratio1h"
    yield Record(rows, aggregate("sum", values, "feature"))
    missing, unknown = (aggregate("sum", f'{values}{{bin="{name}"}}', "feature") for name in (MISSING, OTHER))
    yield Record("slipway:feature_bad:increase1h", missing, {"what": "missing"})
    yield Record("slipway:feature_bad:increase1h", unknown, {"what": "unknown"})
    violations = aggregate("sum", increase(Metric.VIOLATIONS, "1h"), "feature", "rule")
    named = f'label_replace({violations}, "what", "$1", "rule", "(.*)")'
    yield Record("slipway:feature_bad:increase1h", aggregate("sum", named, "feature", "what"))
    bad = "slipway:feature_bad:increase1h"
    of = f"on ({names_of('feature')}) group_left ()"
    yield Record("slipway:feature_asked:increase1h", f"{bad} > {of} {rows}\nor\n{bad} * 0 + {of} {rows}")
    yield Record(ratio, f"{bad} / slipway:feature_asked:increase1h")
    yield Record(
        "slipway:feature_bad_low:ratio1h",
        wilson(ratio, "slipway:feature_asked:increase1h", Limit.QUALITY_DEVIATIONS, "-"),
    )
    usual = aggregate("max", f'{Metric.FEATURE_REFERENCE_RATIO}{{bin="{OTHER}"}}', "feature")
    low, enough = "slipway:feature_bad_low:ratio1h", limited(rows, ">=", Limit.QUALITY_ROWS)
    beyond_usual = f'{low}{{what="unknown"}} - on ({names_of("feature")}) group_left () ({usual})'
    unknown_low = f'({beyond_usual}\nor {low}{{what="unknown"}})'
    for what, share, limit in (
        ("missing", f'{low}{{what="missing"}}', Limit.MISSING_RATIO),
        ("unknown", unknown_low, Limit.VIOLATION_RATIO),
        ("violations", f'{low}{{what!~"missing|unknown"}}', Limit.VIOLATION_RATIO),
    ):
        yield Alert(
            "SlipwayDataQuality",
            f"{limited(share, '>', limit)}\nand on ({names_of('feature')}) {enough}",
            "warning",
            "5m",
            f"{{{{ $labels.feature }}}} of {MODEL_WORDS}: too many values are bad: {{{{ $labels.what }}}}",
            labels={"problem": what},
        )
