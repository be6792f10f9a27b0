"""One caller among several neither brings a breach about nor hides one, by simulation.

Each case is judged once as all that was counted, where the attack works, and once with cohorts, where it does
not. What an honest fleet finds it finds with cohorts as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.random import Generator

from slipway.api.reasons import Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.core.monitoring.drift import ReferenceBins
from slipway.core.monitoring.judge import Finding, Window, WindowCounts, judge_windows
from slipway.core.monitoring.policy import monitoring_policy
from slipway.core.monitoring.series import Series, Values, series
from slipway.core.monitoring.verdict import MonitoredCondition, Status
from slipway.names import ASKED, BY_COHORT, LABELLED, Metric

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HONEST = [f"key:team-{number}" for number in range(6)]
MALLORY = "key:mallory"
BINS = [f"{number:02}" for number in range(10)]
FEATURES = ("amount", "age")
SPEC = {
    "model": {"uri": "mlflow://fraud/7"},
    "monitoring": {
        "drift": {},
        "dataQuality": {},
        "performance": {
            "feedback": {"secretRef": {"name": "keys"}},
            "objectives": [{"metric": "Accuracy", "minimum": "82%"}],
        },
    },
    "fairness": {
        "favorableOutcomes": ["1"],
        "sensitiveAttributes": [
            {"name": "sex", "groups": ["a", "b"], "referenceGroup": "a", "from": {"parameter": "sex"}}
        ],
        "metrics": [{"name": "DemographicParityDifference", "maximum": "10%"}],
    },
}


#: Of each caller: its own, but that Mallory may share one with an honest caller.
COHORTS = {name: number for number, name in enumerate([*HONEST, MALLORY])}


@pytest.fixture(params=["alone", "shared"])
def mallory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(COHORTS, MALLORY, len(HONEST) if request.param == "alone" else 1)
    return str(request.param)


def cohort(name: str) -> int:
    return COHORTS.get(name, 7)


class Counted:
    """What model servers count of a window."""

    def __init__(self) -> None:
        self.counts: dict[Series, float] = defaultdict(float)

    def add(self, metric: str, labels: Mapping[str, str], count: float, *cohorts: str) -> None:
        self.counts[series(metric, labels)] += count
        for each in cohorts:
            self.counts[series(BY_COHORT[metric], {**labels, "cohort": each})] += count

    def labels(self, caller: str, right: float, wrong: float, sender: str | None = None) -> None:
        whose = (f"{ASKED}{cohort(caller)}", f"{LABELLED}{cohort(sender or caller)}")
        for label, count in (("1", right), ("0", wrong)):
            self.add(Metric.FEEDBACK_LABELS, {"outcome": "1", "label": label}, count, *whose)

    def rows(self, caller: str, bins: Sequence[float], missing: float = 0.0) -> None:
        for feature in FEATURES:
            for name, count in zip((*BINS, "missing"), (*bins, missing), strict=True):
                of = {"feature": feature, "bin": name}
                self.add(Metric.FEATURE_VALUES, of, count, f"{ASKED}{cohort(caller)}")

    def outcomes(self, caller: str, group: str, favorable: float, others: float) -> None:
        for outcome, count in (("favorable", favorable), ("unfavorable", others)):
            of = {"attribute": "sex", "group": group, "outcome": outcome}
            self.add(Metric.GROUP_PREDICTIONS, of, count, f"{ASKED}{cohort(caller)}")


def test_fairness_is_judged_where_nothing_else_is_monitored() -> None:
    alone = {name: value for name, value in SPEC.items() if name != "monitoring"}
    asked = monitoring_policy(ModelDeploymentSpec.model_validate(alone))
    assert asked.attributes == monitoring_policy(ModelDeploymentSpec.model_validate(SPEC)).attributes != ()


def judge(
    condition: MonitoredCondition,
    counted: Counted,
    yesterday: Counted | None = None,
    cohorts: bool = True,
    spec: Mapping[str, object] = SPEC,
) -> Finding:
    asked = monitoring_policy(ModelDeploymentSpec.model_validate(spec))

    def values(given: Counted) -> Values:
        return {
            one: count
            for one, count in given.counts.items()
            if cohorts or one[0] not in set(BY_COHORT.values())
        }

    window = Window(values(counted), NOW, 3600.0)
    even = ReferenceBins(dict.fromkeys(BINS, 1 / len(BINS)), 10_000.0)
    evidence = WindowCounts(
        window,
        None if yesterday is None else values(yesterday),
        window,
        window,
        dict.fromkeys(FEATURES, even),
        {},
        left_out=0,
    )
    return judge_windows(asked, evidence)[condition]


def honest_labels(random: Generator, accuracy: float, each: Sequence[int]) -> Counted:
    counted = Counted()
    for name, labels in zip(HONEST, each, strict=False):
        right = int(random.binomial(labels, accuracy))
        counted.labels(name, right, labels - right)
    return counted


def honest_rows(
    random: Generator, shares: Sequence[float], each: Sequence[int], missing: float = 0.0
) -> Counted:
    counted = Counted()
    for name, rows in zip(HONEST, each, strict=False):
        gone = int(random.binomial(rows, missing))
        counted.rows(name, random.multinomial(rows - gone, shares).tolist(), gone)
    return counted


def honest_outcomes(random: Generator, a: float, b: float, each: Sequence[int]) -> Counted:
    counted = Counted()
    for name, rows in zip(HONEST, each, strict=False):
        for group, share in (("a", a), ("b", b)):
            favorable = int(random.binomial(rows, share))
            counted.outcomes(name, group, favorable, rows - favorable)
    return counted


EVEN = [0.1] * 10
SHIFTED = [0.02, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.18, 0.22]
#: Six honest callers: alike, and one of them with most of what comes.
FLEETS = {"alike": [600] * 6, "one large": [12_000, 900, 700, 600, 500, 400]}
D, Q, P, F = MonitoredCondition


def attack(condition: MonitoredCondition, counted: Counted, size: int, bad: bool) -> None:
    """Mallory's: what makes things look as bad as can be, or as good."""
    match condition:
        case MonitoredCondition.PERFORMANCE:
            counted.labels(MALLORY, 0 if bad else size, size if bad else 0)
        case MonitoredCondition.DRIFT:
            counted.rows(MALLORY, [0] * 9 + [size] if bad else [size / 10] * 10)
        case MonitoredCondition.DATA_QUALITY:
            counted.rows(MALLORY, [0.0 if bad else size / 10] * 10, missing=size if bad else 0)
        case MonitoredCondition.FAIRNESS:
            counted.outcomes(MALLORY, "a", size, 0)
            counted.outcomes(MALLORY, "b", 0 if bad else size, size if bad else 0)


GOOD: dict[MonitoredCondition, Callable[[Generator, Sequence[int]], Counted]] = {
    P: lambda random, each: honest_labels(random, 0.9, each),
    D: lambda random, each: honest_rows(random, EVEN, each),
    Q: lambda random, each: honest_rows(random, EVEN, each),
    F: lambda random, each: honest_outcomes(random, 0.5, 0.48, each),
}
BAD: dict[MonitoredCondition, Callable[[Generator, Sequence[int]], Counted]] = {
    P: lambda random, each: honest_labels(random, 0.7, each),
    D: lambda random, each: honest_rows(random, SHIFTED, each),
    Q: lambda random, each: honest_rows(random, EVEN, each, missing=0.3),
    F: lambda random, each: honest_outcomes(random, 0.6, 0.3, each),
}


@pytest.mark.usefixtures("mallory")
@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("condition", GOOD)
def test_one_caller_alone_causes_no_breach_however_much_it_sends(
    condition: MonitoredCondition, fleet: str
) -> None:
    random = np.random.default_rng(1)
    would_have = 0
    for size in (500, 5_000, 50_000, 1_000_000):
        for _ in range(4):
            counted = GOOD[condition](random, FLEETS[fleet])
            attack(condition, counted, size, bad=True)
            would_have += judge(condition, counted, cohorts=False).verdict.is_breach
            found = judge(condition, counted).verdict
            assert not found.is_breach
            if judge(condition, counted, cohorts=False).verdict.is_breach:
                assert (found.status, found.reason) == (Status.UNKNOWN, Reason.ONE_CALLER_DECIDES)
    assert would_have >= 8


@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("condition", BAD)
def test_an_honest_fleet_finds_what_is_bad(condition: MonitoredCondition, fleet: str) -> None:
    random = np.random.default_rng(2)
    found = sum(judge(condition, BAD[condition](random, FLEETS[fleet])).verdict.is_breach for _ in range(20))
    assert found == 20


@pytest.mark.usefixtures("mallory")
@pytest.mark.parametrize("condition", [P, F])
@pytest.mark.parametrize("fleet", FLEETS)
def test_one_caller_alone_hides_no_breach_that_labels_show(condition: MonitoredCondition, fleet: str) -> None:
    random = np.random.default_rng(3)
    hidden = 0
    for size in (500, 5_000, 50_000, 1_000_000):
        for _ in range(4):
            counted = BAD[condition](random, FLEETS[fleet])
            attack(condition, counted, size, bad=False)
            hidden += not judge(condition, counted, cohorts=False).verdict.is_breach
            assert judge(condition, counted).verdict.is_breach
    assert hidden >= 6


def test_good_versions_are_found_bad_no_more_often_than_without_cohorts() -> None:
    """At the limit itself, where alarms are most likely: 5% at most of looks that are all independent."""
    random = np.random.default_rng(4)
    with_, without = 0, 0
    for _ in range(400):
        counted = honest_labels(random, 0.82, FLEETS["alike"])
        with_ += judge(P, counted).verdict.is_breach
        without += judge(P, counted, cohorts=False).verdict.is_breach
    assert with_ <= without <= 20


def test_a_shift_that_all_callers_have_is_found_whatever_a_caller_of_the_same_size_adds() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        counted = honest_rows(random, SHIFTED, FLEETS["alike"])
        attack(D, counted, 600, bad=False)
        assert judge(D, counted).verdict.is_breach


def test_whoever_poisons_yesterday_causes_no_drift_today() -> None:
    spec = {**SPEC, "monitoring": {"drift": {"compareWith": "SameHourYesterday"}}}
    random = np.random.default_rng(6)
    before, now = (honest_rows(random, EVEN, FLEETS["alike"]) for _ in range(2))
    attack(D, before, 50_000, bad=True)
    assert judge(D, now, before, cohorts=False, spec=spec).verdict.is_breach
    assert judge(D, now, before, spec=spec).verdict.reason is Reason.ONE_CALLER_DECIDES


def test_labels_are_left_out_by_who_asked_and_by_who_sent_them() -> None:
    random = np.random.default_rng(7)
    asked, sent = Counted(), Counted()
    for number, name in enumerate(HONEST):
        right = int(random.binomial(600, 0.9))
        # An office sends the labels of all, and Mallory asks for what the model cannot know.
        asked.labels(name, right, 600 - right, sender="key:office")
        # Everybody sends their own, and Mallory has got hold of everybody's tokens.
        sent.labels(name, right, 600 - right)
        sent.labels(name, 0, 400 + number, sender=MALLORY)
    asked.labels(MALLORY, 0, 20_000, sender="key:office")
    for counted in (asked, sent):
        assert judge(P, counted, cohorts=False).verdict.is_breach
        assert judge(P, counted).verdict.reason is Reason.ONE_CALLER_DECIDES


def test_of_two_callers_nobody_can_tell_who_is_right() -> None:
    counted = Counted()
    counted.labels(HONEST[0], 540, 60)
    counted.labels(MALLORY, 0, 600)
    assert judge(P, counted).verdict.is_breach
