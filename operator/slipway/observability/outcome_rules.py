"""Rules on what models answered: performance by labels, and fairness.

The figures of :mod:`slipway.core.monitoring.performance` and ``fairness``. Of a difference between more than
two groups the rules judge the widest pair, the operator every pair.
"""

from __future__ import annotations

from collections.abc import Iterator

from slipway.core.monitoring.limits import Limit
from slipway.names import Metric, OperatorMetric
from slipway.observability.promql import aggregate, increase, joined, limited, names_of, wilson
from slipway.observability.rule import MODEL_WORDS, SHARE_WORDS, VALUE_WORDS, Alert, Record, Rule


def performance_rules() -> Iterator[Rule]:
    """Accuracy by labels with its interval, how many labels came and when, and a guess without any."""
    labels, right = "slipway:labels:increase24h", "slipway:accuracy:24h"
    counted = increase(Metric.FEEDBACK_LABELS, "24h")
    correct = increase(Metric.FEEDBACK_LABELS, "24h", 'correct="true"')
    yield Record(labels, aggregate("sum", counted))
    yield Record(right, f"{aggregate('sum', correct)} / {labels}")
    yield Record("slipway:accuracy_low:24h", wilson(right, labels, Limit.ACCURACY_DEVIATIONS, "-"))
    yield Record("slipway:accuracy_high:24h", wilson(right, labels, Limit.ACCURACY_DEVIATIONS, "+"))
    yield Record("slipway:label_coverage:24h", f"{labels} / {aggregate('sum', increase(Metric.ROWS, '24h'))}")
    delays = aggregate("sum", increase(f"{Metric.FEEDBACK_DELAY}_bucket", "24h"), "le")
    yield Record("slipway:label_delay_seconds:median24h", f"histogram_quantile(0.5, {delays})")
    confident = aggregate("sum", increase(Metric.CONFIDENCE, "1h"), "bin")
    held_out = aggregate("max", Metric.REFERENCE_ACCURACY, "bin")
    known = f"({confident} and {held_out})"
    yield Record(
        "slipway:estimated_accuracy:1h",
        f"{aggregate('sum', f'{confident} * {held_out}')}\n/ {aggregate('sum', known)}",
    )
    missed = limited("slipway:accuracy_high:24h", "<", Limit.ACCURACY)
    yield Alert(
        "SlipwayAccuracyBelowObjective",
        f"{missed}\nand {limited(labels, '>=', Limit.LABELS)}",
        "warning",
        "15m",
        f"{MODEL_WORDS} is right less often than its objective asks: {SHARE_WORDS} at most",
        "By the labels of the last 24 hours. Early labels can differ from late ones: see coverage and delay.",
    )


def fairness_rules() -> Iterator[Rule]:
    """Shares of each group that is large enough to be shown, and the gaps between them with intervals."""
    predictions, feedback = Metric.GROUP_PREDICTIONS, Metric.GROUP_FEEDBACK
    favorable = 'outcome="favorable"'
    by_rate = {
        "selection": (predictions, ""),
        "true_positive": (feedback, 'label="favorable"'),
        "false_positive": (feedback, 'label="unfavorable"'),
    }
    who = ("attribute", "group")
    for rate, (metric, labels) in by_rate.items():
        both = ", ".join(one for one in (labels, favorable) if one)
        of_rate = {"rate": rate}
        yield Record(
            "slipway:group_rows:increase24h", aggregate("sum", increase(metric, "24h", labels), *who), of_rate
        )
        yield Record(
            "slipway:group_hits:increase24h", aggregate("sum", increase(metric, "24h", both), *who), of_rate
        )
    # Groups with too few rows end here: nothing below knows them.
    rows, hits = "slipway:shown_group_rows:24h", "slipway:shown_group_hits:24h"
    yield Record(rows, limited("slipway:group_rows:increase24h", ">=", Limit.GROUP_ROWS))
    yield Record(hits, f"slipway:group_hits:increase24h and {rows}")
    share = "slipway:group_share:24h"
    yield Record(share, f"{hits} / {rows}")
    yield from _disparate_impact(hits, rows, share)
    yield from _differences(hits, rows, share)


def _disparate_impact(hits: str, rows: str, share: str) -> Iterator[Rule]:
    rate = '{rate="selection"}'
    reference = f"on (namespace, model, attribute, group) {OperatorMetric.FAIRNESS_REFERENCE}"
    to = f"on ({names_of('attribute')}) group_left ()"
    yield Record("slipway:group_log_share:24h", f"ln(({hits}{rate} + 0.5) / ({rows}{rate} + 0.5))")
    yield Record("slipway:group_log_variance:24h", f"1 / ({hits}{rate} + 0.5) - 1 / ({rows}{rate} + 0.5)")

    def against(name: str, selector: str, operator: str) -> str:
        of_reference = aggregate("sum", f"{name}{selector} and {reference}", "attribute")
        return f"({name}{selector} unless {reference}) {operator} {to} {of_reference}"

    def summed(expression: str) -> str:
        return aggregate("sum", expression, "attribute", "group")

    ratio = "slipway:disparate_impact_ratio:24h"
    yield Record(ratio, summed(against(share, rate, "/")))
    middle = summed(against("slipway:group_log_share:24h", "", "-"))
    variance = summed(against("slipway:group_log_variance:24h", "", "+"))
    spread = joined(f"sqrt({variance})", "*", Limit.FAIRNESS_DEVIATIONS)
    low, high = "slipway:disparate_impact_ratio_low:24h", "slipway:disparate_impact_ratio_high:24h"
    yield Record(low, f"exp({middle}\n- {spread})")
    yield Record(high, f"exp({middle}\n+ {spread})")
    below = limited(high, "<", Limit.DISPARATE_IMPACT_RATIO)
    above = limited(f"(1 / {low})", "<", Limit.DISPARATE_IMPACT_RATIO)
    yield Alert(
        "SlipwayDisparateImpact",
        f"{ratio} and ({below}\nor {above})",
        "warning",
        "1h",
        f"{{{{ $labels.attribute }}}} {{{{ $labels.group }}}} of {MODEL_WORDS}: "
        f"disparate impact ratio {VALUE_WORDS}",
        "The whole interval lies beyond the limit: this is not chance.",
    )


def _differences(hits: str, rows: str, share: str) -> Iterator[Rule]:
    who = ("attribute", "rate")
    difference, low = "slipway:group_difference:24h", "slipway:group_difference_low:24h"
    enough = f"{aggregate('count', share, *who)} >= 2"
    widest = f"{aggregate('max', share, *who)} - {aggregate('min', share, *who)}"
    yield Record(difference, f"{widest}\nand {enough}")
    padded, variance = "slipway:group_padded_share:24h", "slipway:group_padded_variance:24h"
    yield Record(padded, f"({hits} + 1) / ({rows} + 2)")
    yield Record(variance, f"{padded} * (1 - {padded}) / ({rows} + 2)")

    def end(name: str, chooser: str) -> str:
        chosen = f"{chooser} by ({names_of(*who)}) (1, {share})"
        return aggregate("sum", f"({name} and {chosen})", *who)

    middle = f"{end(padded, 'topk')}\n- {end(padded, 'bottomk')}"
    spread = joined(
        f"sqrt({end(variance, 'topk')}\n+ {end(variance, 'bottomk')})", "*", Limit.FAIRNESS_DEVIATIONS
    )
    yield Record(low, f"{middle}\n- {spread}\nand {enough}")
    for limit, rates in (
        (Limit.DEMOGRAPHIC_PARITY_DIFFERENCE, "selection"),
        (Limit.EQUAL_OPPORTUNITY_DIFFERENCE, "true_positive"),
        (Limit.EQUALIZED_ODDS_DIFFERENCE, "true_positive|false_positive"),
    ):
        words, of_rates = limit.replace("_", " "), f'{low}{{rate=~"{rates}"}}'
        yield Alert(
            "SlipwayGroupDifference",
            f"{difference} and {limited(of_rates, '>', limit)}",
            "warning",
            "1h",
            f"{{{{ $labels.attribute }}}} of {MODEL_WORDS}: {words} {VALUE_WORDS}",
            "Between the groups that are furthest apart; the whole interval lies beyond the limit.",
            {"metric": limit.value},
        )
