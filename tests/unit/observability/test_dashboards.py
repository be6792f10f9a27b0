"""The dashboards: valid, about metrics that exist, and with something to show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models

from slipway.api.generated import ROOT
from slipway.names import Metric, OperatorMetric
from slipway.observability import dashboards, rules
from slipway.observability.boards import BOARDS
from tests.unit.observability.names import known_metrics, metrics_in
from tests.unit.observability.promtool import Check, promtool
from tests.unit.observability.world import LAST, NOW, make_world

#: What a reader would have chosen.
CHOSEN = {"namespace": "risk", "model": "fraud", "name": "fraud", "feature": "age", "__rate_interval": "15m"}
#: The operator's own series, of which a panel shows each.
OPERATED: tuple[tuple[str, dict[str, str]], ...] = (
    (OperatorMetric.READY, {}),
    (OperatorMetric.REVISION_READY_REPLICAS, {"role": "canary", "revision": "fraud-1"}),
    (OperatorMetric.VERDICT, {"condition": "Drift", "status": "True"}),
    (OperatorMetric.ROLLOUT_WEIGHT, {}),
    (OperatorMetric.ROLLOUT_MIRROR, {}),
    (OperatorMetric.ROLLOUT_STEP, {}),
    (OperatorMetric.ROLLOUT_PHASE, {"phase": "Progressing"}),
    (OperatorMetric.ROLLOUT_GATE_VERDICT, {"gate": "error-rate", "verdict": "Pass"}),
    (OperatorMetric.ROLLOUT_REJECTED, {}),
    (OperatorMetric.AUDIT_VERDICT, {"audit": "attack", "revision": "fraud-1", "verdict": "Pass"}),
    *(
        (
            OperatorMetric.AUDIT_VALUE,
            {"audit": "attack", "revision": "fraud-1", "metric": metric, "of": "", "bound": "value"},
        )
        for metric in ("RobustAccuracy", "MedianDistance")
    ),
    (f"{OperatorMetric.ROLLOUT_TRAFFIC}_bucket", {"le": "1.0"}),
    (f"{OperatorMetric.ROLLOUT_TRAFFIC}_bucket", {"le": "+Inf"}),
    (OperatorMetric.LEADER, {}),
    ("controller_runtime_reconcile_total", {"result": "success"}),
    ("controller_runtime_reconcile_time_seconds_bucket", {"le": "0.1"}),
    ("controller_runtime_reconcile_time_seconds_bucket", {"le": "+Inf"}),
    ("workqueue_depth", {}),
    ("rest_client_requests_total", {"code": "200"}),
)


def filled_in(text: str) -> str:
    return re.sub(r"\$(\w+)", lambda found: CHOSEN[found[1]], text)


def boards() -> dict[str, Any]:
    return {name: json.loads(text) for name, text in dashboards.files().items()}


def queries() -> list[tuple[str, str]]:
    return [
        (f"{board['title']}: {panel['title']}", target["expr"])
        for board in boards().values()
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]


def test_the_committed_files_are_what_the_generator_makes() -> None:
    for name, text in dashboards.files().items():
        assert (ROOT / name).read_text() == text, "run `python -m slipway.observability.dashboards`"


def test_grafanas_own_types_know_everything_in_them() -> None:
    register_default_plugins()
    for board in boards().values():
        read = models.Dashboard.from_json(board)
        assert json.loads(JSONEncoder().encode(read)) == board


def test_every_panel_that_is_described_is_drawn() -> None:
    described = {
        query.expr
        for board in BOARDS
        for row in board.rows.values()
        for panel in row
        for query in panel.queries
    }
    assert {expr for _, expr in queries()} == described
    assert len(boards()) == len({board["uid"] for board in boards().values()}) == 3


def test_every_panel_reads_metrics_that_exist_in_the_code() -> None:
    read = {name: title for title, expr in queries() for name in metrics_in(filled_in(expr))}
    assert {name: title for name, title in read.items() if name not in known_metrics() | {"ALERTS"}} == {}


def test_every_variable_is_chosen_from_a_series_that_exists() -> None:
    variables = [
        variable
        for board in boards().values()
        for variable in board["templating"]["list"]
        if variable["type"] == "query"
    ]
    assert {variable["name"] for variable in variables} == {"namespace", "model", "name", "feature"}
    for variable in variables:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        assert found is not None
        assert metrics_in(filled_in(found[1])) <= known_metrics()


def test_every_query_is_valid(tmp_path: Path) -> None:
    found = [
        {"record": f"panel:{position}", "expr": filled_in(expr)}
        for position, (_, expr) in enumerate(queries())
    ]
    file = tmp_path / "queries.json"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": found}]}))
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_variable_that_nobody_defines_is_noticed() -> None:
    with pytest.raises(KeyError):
        filled_in("sum($unknown)")


def test_every_panel_has_something_to_show(tmp_path: Path) -> None:
    """Through labels and joins: each query has a result where models, rollouts and the operator report."""
    world = make_world()
    for metric, labels in (
        (Metric.REQUESTS, {"code": "500"}),
        (Metric.REJECTED, {"reason": "TooLarge"}),
        (f"{Metric.DURATION}_bucket", {"le": "0.1"}),
        (f"{Metric.DURATION}_bucket", {"le": "+Inf"}),
        (Metric.IN_FLIGHT, {}),
        (Metric.MONITORING_DROPPED, {"reason": "busy"}),
        (Metric.SUSPECT_INPUTS, {"detector": "turned"}),
        (Metric.FEEDBACK, {"result": "accepted"}),
        (Metric.PREDICTION_VALUES, {"output": "label", "bin": "0"}),
    ):
        world.count(metric, labels, 5, 5)
    # The operator tells the quantiles here, as it does where it is scraped.
    groups = [name.removeprefix("slipway-") for name in rules.groups() if name != "slipway-chi-square"]
    check = Check(tuple(groups), series=world.check.series)
    for metric, labels in OPERATED:
        steady = any(word in metric for word in ("_total", "_bucket"))
        values = [float(step if steady else 1) for step in range(LAST + 1)]
        check.add(metric, {"namespace": "risk", "name": "fraud", **labels}, values)
    for _, expr in queries():
        check.expect(f"clamp_max(count({filled_in(expr)}), 1)", 1, NOW)
    said = check.run(tmp_path)
    assert said == "", said
