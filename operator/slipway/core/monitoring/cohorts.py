"""Nobody decides alone: what is found stands only if it does without any one cohort of callers.

Model servers that know who asks count what is judged once more for each *cohort*, one of few that callers
are divided into by the hash of their names. A caller is in one cohort, whatever it sends: without that cohort
all that is left was sent by others.

* A breach that is none without some cohort is not acted on: one caller may have made it.
* Where labels decide (Performance, Fairness), a breach of all but one cohort that needs no other cohort is
  one, whatever the one says: it may be hiding it.

Both leave evidence as it is: what is left out is left out whole, and by the name of who sent it, which says
nothing of the values. So the same tests hold for what is left, with fewer rows. The first asks more tests to
agree, so that no false alarm is added; for the second the significance is shared by all cohorts.

Below :data:`LEAST` cohorts nobody can tell who of two is right, and all of the counts are judged as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from slipway.core.monitoring.series import Values
from slipway.core.monitoring.verdict import MonitoredCondition
from slipway.names import ASKED, LABELLED, Metric

#: With fewer cohorts there is no majority.
LEAST = 3
#: What a condition stands on.
_METRICS: Mapping[MonitoredCondition, frozenset[str]] = {
    MonitoredCondition.DRIFT: frozenset({Metric.FEATURE_VALUES}),
    MonitoredCondition.DATA_QUALITY: frozenset(
        {Metric.FEATURE_VALUES, Metric.VIOLATIONS, f"{Metric.DATA_AGE}_bucket"}
    ),
    MonitoredCondition.PERFORMANCE: frozenset({Metric.FEEDBACK_LABELS}),
    MonitoredCondition.FAIRNESS: frozenset({Metric.GROUP_PREDICTIONS, Metric.GROUP_FEEDBACK}),
}
#: What a breach of all but one cohort turns: labels say whether an answer was right. Inputs of callers are
#: not alike to begin with, so that those of some are no fault of the others.
_BY_LABELS = frozenset({MonitoredCondition.PERFORMANCE, MonitoredCondition.FAIRNESS})


@dataclass(frozen=True)
class Held:
    """What becomes of a finding.

    Attributes:
        needs: a cohort without which there is no breach, so that nobody acts on it.
        hides: the cohort without which there is a breach, which then is what is found.
    """

    needs: str | None = None
    hides: str | None = None


def hold(
    condition: MonitoredCondition,
    is_breach: bool,
    cohorts: Mapping[str, Collection[Values]],
    breach_without: Callable[[Collection[str], int], bool],
) -> Held:
    """Whether a finding stands without any one cohort.

    Args:
        condition: that it is of.
        is_breach: whether it is one, of all that was counted.
        cohorts: what each counted, in each window that matters, as :func:`.series.by_cohort` has it.
        breach_without: whether there is a breach without some cohorts, where so many such tests share the
            significance.
    """
    families = _families(condition, cohorts)
    members = [one for family in families for one in family]
    needs = None
    if is_breach:
        needs = next((one for one in members if not breach_without((one,), 1)), None)
        if needs is None:
            return Held()
    if condition in _BY_LABELS:
        for one in members:
            others: Iterable[tuple[str, ...]] = ((one, other) for other in members if other != one)
            if breach_without((one,), len(members)) and all(
                breach_without(left_out, len(members)) for left_out in others
            ):
                return Held(hides=one)
    return Held(needs=needs)


def without(counts: Values, cohorts: Mapping[str, Values], left_out: Collection[str]) -> Values:
    """Counts of all but some cohorts."""
    found = dict(counts)
    for cohort in left_out:
        for one, count in cohorts.get(cohort, {}).items():
            found[one] = max(0.0, found.get(one, 0.0) - count)
    return found


def _families(condition: MonitoredCondition, cohorts: Mapping[str, Collection[Values]]) -> list[list[str]]:
    """Cohorts of those who asked, and of those who labelled, where there are enough of them to tell."""
    metrics = _METRICS[condition]
    there = sorted(
        cohort
        for cohort, windows in cohorts.items()
        if any(count > 0.0 for values in windows for one, count in values.items() if one[0] in metrics)
    )
    families = [[name for name in there if name.startswith(prefix)] for prefix in (ASKED, LABELLED)]
    return [family for family in families if len(family) >= LEAST]
