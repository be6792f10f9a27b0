"""The rules themselves: valid, about metrics that exist, and firing when they should."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from slipway.api.generated import ROOT
from slipway.core.monitoring.quality import median_age
from slipway.names import Metric, OperatorMetric
from slipway.observability import rules
from slipway.observability.rule import Alert, Record
from tests.unit.observability.names import known_metrics, metrics_in, operator_metrics
from tests.unit.observability.promtool import Check, promtool

MODEL = {"namespace": "risk", "model": "fraud", "model_version": "7"}
PLACE = {"namespace": "risk", "name": "fraud"}
ALL = [rule for found in rules.groups().values() for rule in found]


def test_the_committed_file_is_what_the_generator_makes_and_promtool_accepts_it() -> None:
    for name, text in rules.files().items():
        assert (ROOT / name).read_text() == text, "run `python -m slipway.observability.rules`"
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(ROOT / rules.FILE))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_in_a_rule_exists_in_the_code() -> None:
    read = {name for rule in ALL for name in metrics_in(rule.expr)}
    assert read - known_metrics() == set()
    assert {"slipway:limit", Metric.FEATURE_VALUES, OperatorMetric.READY} <= read


def test_the_operator_exports_what_it_is_said_to() -> None:
    assert {str(name) for name in OperatorMetric} <= operator_metrics()


def test_names_are_found_where_metrics_stand_and_nowhere_else() -> None:
    expression = (
        'sum by (le, pod) (rate(a_total{b="c_total", d=~"e"}[5m])) / on (f) group_left (g) h:i:j > 0.5e3'
    )
    assert metrics_in(expression) == {"a_total", "h:i:j"}


def test_every_alert_says_what_is_wrong_and_how_bad() -> None:
    alerts = [rule for rule in ALL if isinstance(rule, Alert)]
    assert len(alerts) >= 15
    for alert in alerts:
        assert alert.severity in ("info", "warning", "critical")
        assert alert.summary
    assert all(isinstance(rule, Alert | Record) for rule in ALL)


def firing(alert: str, **labels: str) -> str:
    more = "".join(f', {name}="{value}"' for name, value in labels.items())
    return f'sum(ALERTS{{alertname="{alert}", alertstate="firing"{more}}})'


def rising(*rates: tuple[int, int]) -> list[float]:
    """A counter that rises by a rate a minute for some minutes, then by the next."""
    values = [0.0]
    for rate, minutes in rates:
        values += [values[-1] + rate * minute for minute in range(1, minutes + 1)]
    return values


def requests(check: Check, good: Sequence[float], bad: Sequence[float]) -> None:
    check.add(Metric.REQUESTS, {**MODEL, "pod": "a", "code": "200"}, good)
    check.add(Metric.REQUESTS, {**MODEL, "pod": "a", "code": "503"}, bad)


def test_an_outage_pages_within_minutes_and_stops_soon_after_its_end(tmp_path: Path) -> None:
    check = Check(("limits", "slo"), step_minutes=1)
    requests(check, rising((100, 400), (50, 30), (100, 90)), rising((0, 400), (50, 30), (0, 90)))
    burn = firing("SlipwayErrorBudgetBurn", slo="availability", window="1h")
    check.expect_nothing(burn, 399)
    check.expect(burn, 1, 408)
    check.expect(burn, 1, 430)
    check.expect_nothing(burn, 440)
    assert check.run(tmp_path) == ""


def test_a_slow_burn_pages_later_and_says_over_which_window(tmp_path: Path) -> None:
    check = Check(("limits", "slo"), step_minutes=1)
    requests(check, rising((993, 500)), rising((7, 500)))
    check.expect_nothing(firing("SlipwayErrorBudgetBurn", window="1h"), 499)
    check.expect(firing("SlipwayErrorBudgetBurn", window="6h", severity="critical"), 1, 499)
    check.alerts.append(
        {
            "eval_time": "499m",
            "alertname": "SlipwayErrorBudgetBurn",
            "exp_alerts": [
                {
                    "exp_labels": {
                        "namespace": "risk",
                        "model": "fraud",
                        "slo": "availability",
                        "window": window,
                        "severity": severity,
                    },
                    "exp_annotations": {
                        "summary": "fraud in risk burns its availability budget at "
                        f"{factor} times the pace that it allows",
                        "description": f"0.7% of the requests of the last {window} were bad.",
                    },
                }
                for factor, window, severity in ((6, "6h", "critical"), (1, "3d", "warning"))
            ],
        }
    )
    assert check.run(tmp_path) == ""


def test_a_few_requests_burn_no_budget(tmp_path: Path) -> None:
    """Two of thirty failed: hundreds of times the budget, and chance."""
    check = Check(("limits", "slo"), step_minutes=1)
    requests(check, rising((0, 400), (1, 28)), rising((0, 400), (1, 2), (0, 26)))
    check.expect_nothing(firing("SlipwayErrorBudgetBurn"), 405)
    check.expect_nothing(firing("SlipwayErrorBudgetBurn"), 428)
    assert check.run(tmp_path) == ""


def test_an_objective_of_the_models_own_takes_the_place_of_the_default(tmp_path: Path) -> None:
    check = Check(("limits", "slo"), step_minutes=1)
    requests(check, rising((93, 400)), rising((7, 400)))
    own = {"namespace": "risk", "model": "fraud", "limit": "availability"}
    check.add(OperatorMetric.LIMIT, own, [0.9] * 401)
    check.expect_nothing(firing("SlipwayErrorBudgetBurn"), 399)
    check.expect('slipway:limit{limit="availability"}', 0.9, 399)
    check.expect('slipway:limit{limit="psi_warning"}', 0.05, 399)
    assert check.run(tmp_path) == ""


def test_slow_requests_burn_a_budget_where_a_bound_is_set(tmp_path: Path) -> None:
    check = Check(("limits", "slo"), step_minutes=1)
    place = {"namespace": "risk", "model": "fraud"}
    for le, rate in (("0.05", 10), ("0.1", 50), ("+Inf", 100)):
        check.add(f"{Metric.DURATION}_bucket", {**MODEL, "pod": "a", "le": le}, rising((rate, 100)))
    check.add(f"{Metric.DURATION}_count", {**MODEL, "pod": "a"}, rising((100, 100)))
    burn = firing("SlipwayErrorBudgetBurn", slo="latency", window="1h")
    check.add(OperatorMetric.LATENCY_BOUND, {**place, "le": "0.1"}, [1] * 101)
    check.add(OperatorMetric.LIMIT, {**place, "limit": "latency"}, [0.99] * 101)
    check.expect('slipway:bad_requests:ratio1h{slo="latency"}', 0.5, 99)
    check.expect(burn, 1, 99)
    assert check.run(tmp_path) == ""
    del check.series[next(name for name in check.series if name.startswith(OperatorMetric.LATENCY_BOUND))]
    check.expressions.clear()
    check.expect_nothing("slipway:bad_requests:ratio1h", 99)
    check.expect_nothing(burn, 99)
    assert check.run(tmp_path) == ""


def test_what_the_operator_says_of_models_and_rollouts_alerts(tmp_path: Path) -> None:
    check = Check(("operator",))
    steps = 24 * 12 + 12
    check.add(OperatorMetric.READY, {**PLACE, "pod": "a"}, [1.0] * 3 + [0.0] * (steps - 3))
    check.add(
        OperatorMetric.LEADER, {"name": "slipway-operator", "pod": "a"}, [1.0] * 3 + [0.0] * (steps - 3)
    )
    check.add(OperatorMetric.ROLLOUT_PHASE, {**PLACE, "phase": "Paused"}, [1.0] * steps)
    check.add(OperatorMetric.ROLLOUT_REJECTED, PLACE, [2.0] * 3 + [3.0] * (steps - 3))
    stuck = {**PLACE, "kind": "model", "phase": "Stuck"}
    check.add(OperatorMetric.UPGRADE, stuck, [0.0] * 3 + [1.0] * (steps - 3))
    check.add(OperatorMetric.UPGRADES_HALTED, {}, [0.0] * 3 + [1.0] * (steps - 3))
    check.expect_nothing('sum(ALERTS{alertstate="firing"})', 10)
    check.expect_nothing(firing("SlipwayUpgradeStuck"), 25)
    check.expect(firing("SlipwayUpgradeStuck", kind="model", severity="warning"), 1, 35)
    check.expect(firing("SlipwayUpgradesHalted", severity="critical"), 1, 35)
    check.expect(firing("SlipwayRolloutRejected", severity="warning"), 1, 20)
    check.expect_nothing(firing("SlipwayRolloutRejected"), 60)
    check.expect_nothing(firing("SlipwayModelNotReady"), 25)
    check.expect(firing("SlipwayModelNotReady", severity="critical"), 1, 35)
    check.expect(firing("SlipwayOperatorWithoutLeader", severity="critical"), 1, 35)
    check.expect_nothing(firing("SlipwayRolloutWaits"), 23 * 60)
    check.expect(firing("SlipwayRolloutWaits", severity="info"), 1, 24 * 60 + 5)
    assert check.run(tmp_path) == ""


def test_a_model_that_ends_processes_alerts(tmp_path: Path) -> None:
    check = Check(("operator",))
    check.add(Metric.CRASHES, {**MODEL, "pod": "a", "process": "run"}, [0.0] * 3 + [1.0] * 12)
    check.add(Metric.CRASHES, {**MODEL, "pod": "a", "process": "server"}, [0.0] * 15)
    check.expect_nothing(firing("SlipwayModelCrashes"), 10)
    check.expect(firing("SlipwayModelCrashes", process="run", severity="warning"), 1, 20)
    check.expect_nothing(firing("SlipwayModelCrashes", process="server"), 20)
    check.expect_nothing(firing("SlipwayModelCrashes"), 60)
    assert check.run(tmp_path) == ""


def test_an_operator_that_is_late_or_does_not_see_all_alerts(tmp_path: Path) -> None:
    check = Check(("operator",))
    # Four looks a second; of those of pod a 2 in a hundred are late by more than 0.25 s, of b's 1 in 200.
    for pod, late in (("a", 0.02), ("b", 0.005)):
        where = {"namespace": "slipway-system", "pod": pod}
        for le, share in (("0.1", 1 - late), ("0.25", 1 - late), ("0.5", 1.0), ("+Inf", 1.0)):
            counted = [1200.0 * share * step for step in range(12)]
            check.add(f"{OperatorMetric.LOOP_LAG}_bucket", {**where, "le": le}, counted)
    check.expect_nothing(firing("SlipwayOperatorLags"), 10)
    check.expect(firing("SlipwayOperatorLags", pod="a", severity="warning"), 1, 30)
    check.expect_nothing(firing("SlipwayOperatorLags", pod="b"), 50)
    for pod in ("a", "b"):
        check.add(OperatorMetric.CRD_MISSING_FIELDS, {"pod": pod}, [0.0] * 3 + [2.0] * 9)
        check.add(OperatorMetric.NAMESPACE_UNSEEN, {"pod": pod, "namespace": "risk"}, [1.0] * 6)
    check.expect_nothing(firing("SlipwayCrdOutdated"), 25)
    check.expect(firing("SlipwayCrdOutdated", severity="warning"), 1, 35)
    check.expect_nothing(firing("SlipwayNamespaceUnseen"), 10)
    check.expect(firing("SlipwayNamespaceUnseen", namespace="risk", severity="warning"), 1, 20)
    check.expect_nothing(firing("SlipwayNamespaceUnseen"), 50)
    assert check.run(tmp_path) == ""


def test_a_name_that_cannot_be_followed_alerts_after_a_quarter_of_an_hour(tmp_path: Path) -> None:
    check = Check(("operator",))
    # Since the beginning, told by both replicas, until it is followed again.
    for pod in ("a", "b"):
        check.add(OperatorMetric.REFRESH_FAILING_SINCE, {**PLACE, "pod": pod}, [0.0] * 8)
    check.expect_nothing(firing("SlipwayNameNotFollowed"), 15)
    check.expect(firing("SlipwayNameNotFollowed", severity="warning"), 1, 30)
    check.expect_nothing(firing("SlipwayNameNotFollowed"), 60)
    assert check.run(tmp_path) == ""


def test_a_model_alerts_once_it_is_older_than_its_card_allows(tmp_path: Path) -> None:
    check = Check(("freshness",))
    for name, most in (("fraud", 3600.0), ("churn", 86_400.0), ("unbound", None)):
        place = {"namespace": "risk", "model": name}
        made = {**place, "model_version": "7", "pod": "a"}
        check.add(OperatorMetric.MODEL_CREATED, made, [0.0] * 30)
        if most is not None:
            check.add(OperatorMetric.MODEL_MAX_AGE, {**place, "pod": "a"}, [most] * 30)
    check.expect('slipway:model_age:seconds{model="unbound"}', 7200, 120)
    check.expect_nothing(firing("SlipwayModelStale"), 60)
    check.expect(firing("SlipwayModelStale", model="fraud", severity="warning"), 1, 75)
    check.expect_nothing(firing("SlipwayModelStale", model="churn"), 140)
    check.expect_nothing(firing("SlipwayModelStale", model="unbound"), 140)
    assert check.run(tmp_path) == ""


def test_data_alerts_once_half_of_an_hour_of_it_is_older_than_allowed(tmp_path: Path) -> None:
    check = Check(("limits", "freshness"))
    steps = 40
    for name, stale, limit in (("fraud", 55, 900.0), ("churn", 45, 900.0), ("rare", 1, 60.0)):
        rows = 100 if name != "rare" else 1
        of = {**MODEL, "model": name, "pod": "a"}
        for le, count in (("60.0", 0), ("900.0", rows - stale), ("3600.0", rows), ("+Inf", rows)):
            rising_ = [float(count * step) for step in range(steps)]
            check.add(f"{Metric.DATA_AGE}_bucket", {**of, "le": le}, rising_)
        check.add(f"{Metric.DATA_AGE}_count", of, [float(rows * step) for step in range(steps)])
        check.add(Metric.DATA_AGE_LIMIT, of, [limit] * steps)
        check.add(Metric.REQUESTS, {**of, "code": "200"}, [1.0 * step for step in range(steps)])
    buckets = {60.0: 0.0, 900.0: 45.0, 3600.0: 100.0, math.inf: 100.0}
    median = median_age(buckets, 100)
    assert median is not None
    check.expect('slipway:data_age_median:1h{model="fraud"}', median, 190)
    check.expect(firing("SlipwayDataStale", model="fraud", severity="warning"), 1, 190)
    check.expect_nothing(firing("SlipwayDataStale", model="churn"), 190)
    # Twelve rows in an hour are too few to say anything.
    check.expect_nothing(firing("SlipwayDataStale", model="rare"), 190)
    assert check.run(tmp_path) == ""


def test_a_search_for_another_answer_alerts_and_sensors_that_do_so_every_day_do_not(tmp_path: Path) -> None:
    check = Check(("suspects",))
    day, steps = 24 * 12, 26 * 12
    for name, quiet, then in (("fraud", 0.0, 60.0), ("churn", 0.0, 45.0), ("pump", 60.0, 90.0)):
        # From ten minutes beyond a day on.
        rates = [quiet if step < day + 2 else then for step in range(steps)]
        values = [sum(rates[:step]) for step in range(steps)]
        of = {**MODEL, "model": name, "pod": "a"}
        check.add(Metric.SUSPECT_INPUTS, {**of, "detector": "turned"}, values)
        check.add(
            Metric.SUSPECT_INPUTS, {**of, "detector": "nearby"}, [1000.0 * step for step in range(steps)]
        )
    alert = "SlipwaySuspectInputs"
    check.expect_nothing(firing(alert, model="fraud"), 5 * day)
    check.expect(firing(alert, model="fraud", severity="warning"), 1, 5 * (day + 8))
    check.expect_nothing(firing(alert, model="churn"), 5 * (day + 8))
    check.expect_nothing(firing(alert, model="pump"), 5 * (day + 8))
    # Nothing is known of the day before.
    check.expect(firing(alert, model="pump"), 1, 5 * (day - 8))
    assert check.run(tmp_path) == ""


@pytest.mark.parametrize(("dropped", "fires"), [(0, False), (1, False), (5, True)])
def test_rows_that_monitoring_did_not_see_alert(dropped: int, fires: bool, tmp_path: Path) -> None:
    check = Check(("operator",))
    check.add(Metric.ROWS, {**MODEL, "pod": "a"}, [100.0 * step for step in range(40)])
    labels = {**MODEL, "pod": "a", "reason": "busy"}
    check.add(Metric.MONITORING_DROPPED, labels, [float(dropped * step) for step in range(40)])
    if fires:
        check.expect(firing("SlipwayMonitoringBlind", reason="busy"), 1, 190)
    else:
        check.expect_nothing(firing("SlipwayMonitoringBlind"), 190)
    assert check.run(tmp_path) == ""


def test_a_window_like_yesterdays_is_no_drift_where_the_model_asks_for_that(tmp_path: Path) -> None:
    """Values that lie elsewhere than the profile says, but where they lay a day ago."""
    steps = 26 * 12
    for compared_with, fires in (("Reference", True), ("SameHourYesterday", False)):
        check = Check(("limits", "chi-square", "drift"))
        for position in range(10):
            labels = {**MODEL, "pod": "a", "feature": "age", "bin": f"{position:02}"}
            rate = 40.0 if position < 5 else 10.0
            check.add(Metric.FEATURE_VALUES, labels, [rate * step for step in range(steps)])
            check.add(Metric.FEATURE_REFERENCE_RATIO, labels, [0.1] * steps)
        feature = {**MODEL, "pod": "a", "feature": "age"}
        check.add(Metric.FEATURE_REFERENCE_ROWS, feature, [10_000.0] * steps)
        check.add(
            Metric.REQUESTS, {**MODEL, "pod": "a", "code": "200"}, [1.0 * step for step in range(steps)]
        )
        told = {"namespace": "risk", "model": "fraud", "with": compared_with}
        check.add(OperatorMetric.DRIFT_COMPARED_WITH, told, [1.0] * steps)
        drift = firing("SlipwayFeatureDrift", feature="age", severity="critical")
        if fires:
            check.expect(drift, 1, 5 * (steps - 1))
        else:
            check.expect_nothing(drift, 5 * (steps - 1))
        assert check.run(tmp_path) == ""
