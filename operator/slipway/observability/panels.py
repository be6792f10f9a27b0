"""What each dashboard shows: titles, queries and units, as plain data.

``$namespace``, ``$model``, ``$name`` and ``$feature`` are the dashboards' variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from slipway.names import Metric, OperatorMetric

#: Grafana's own, at least four scrapes.
_RATE = "$__rate_interval"
_MODEL = 'namespace="$namespace", model="$model"'
_PLACE = 'namespace="$namespace", name="$name"'
_READY_PODS = OperatorMetric.REVISION_READY_REPLICAS
_ARMS = 'namespace="$namespace", model="$name"'


class Kind(StrEnum):
    """How a panel shows its queries."""

    LINES = "lines"
    NUMBER = "number"
    BARS = "bars"
    TABLE = "table"


@dataclass(frozen=True)
class Query:
    """An expression, and the name of each of its results."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel; ``width`` in Grafana's 24 columns."""

    title: str
    kind: Kind
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    description: str = ""


@dataclass(frozen=True)
class Variable:
    """What the reader chooses from: the values of ``label`` in ``series``."""

    name: str
    label: str
    series: str


@dataclass(frozen=True)
class Board:
    """A dashboard: rows of panels by their title."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: Mapping[str, tuple[Panel, ...]]


def _lines(
    title: str, *queries: tuple[str, str], unit: str = "short", width: int = 8, about: str = ""
) -> Panel:
    return Panel(title, Kind.LINES, tuple(Query(*query) for query in queries), unit, width, about)


def _number(title: str, expr: str, unit: str = "short", width: int = 4, about: str = "") -> Panel:
    return Panel(title, Kind.NUMBER, (Query(expr, ""),), unit, width, about)


def _rate(metric: str, labels: str = "") -> str:
    return f"rate({metric}{{{labels}}}[{_RATE}])" if labels else f"rate({metric}[{_RATE}])"


def _once(metric: str, labels: str = "", by: str = "") -> str:
    """What every replica of the operator says of a ModelDeployment, once."""
    selector = f"{{{labels}}}" if labels else ""
    return f"max by (namespace, name{by}) ({metric}{selector})"


def _ratio(bad: str, all_: str, by: str) -> str:
    return f"sum by ({by}) ({bad}) / sum by ({by}) ({all_})"


def _quantile(share: float, labels: str, by: str) -> str:
    buckets = _rate(f"{Metric.DURATION}_bucket", labels)
    return f"histogram_quantile({share}, sum by ({by}) ({buckets}))"


FLEET = Board(
    "slipway-fleet",
    "Slipway / Fleet",
    "All models: which are well, which are not, and how the operator does.",
    (),
    {
        "Now": (
            _number("Models", f"count({_once(OperatorMetric.READY)})"),
            _number("Not ready", f"count({_once(OperatorMetric.READY)} == 0) or vector(0)"),
            _number("Requests per second", f"sum({_rate(Metric.REQUESTS)})", "reqps"),
            _number("Rows per second", f"sum({_rate(Metric.ROWS)})", "rowsps"),
            _number(
                "Drifted features",
                "count(count by (namespace, model, feature) "
                '(ALERTS{alertname="SlipwayFeatureDrift", alertstate="firing"})) or vector(0)',
            ),
            _number("Alerts", 'count(ALERTS{alertname=~"Slipway.*", alertstate="firing"}) or vector(0)'),
        ),
        "Traffic": (
            _lines(
                "Requests",
                (f"sum by (namespace, model) ({_rate(Metric.REQUESTS)})", "{{namespace}}/{{model}}"),
                unit="reqps",
            ),
            _lines(
                "Failed",
                (
                    _ratio(
                        f'rate({Metric.REQUESTS}{{code=~"5.."}}[{_RATE}])',
                        _rate(Metric.REQUESTS),
                        "namespace, model",
                    ),
                    "{{namespace}}/{{model}}",
                ),
                unit="percentunit",
            ),
            _lines(
                "Slowest 1%",
                (_quantile(0.99, "", "namespace, model, le"), "{{namespace}}/{{model}}"),
                unit="s",
                about="An estimate from the latency histogram's buckets.",
            ),
        ),
        "Models": (
            _lines(
                "Furthest feature",
                (
                    "max by (namespace, model, model_version) (slipway:feature_psi_excess:1h)",
                    "{{namespace}}/{{model}} {{model_version}}",
                ),
                about="PSI beyond noise of the feature that moved most; 0.05 is the usual limit.",
            ),
            _lines(
                "Accuracy by labels",
                ("slipway:accuracy:24h", "{{namespace}}/{{model}} {{model_version}}"),
                unit="percentunit",
            ),
            _lines(
                "Disparate impact ratio",
                (
                    "min by (namespace, model, attribute) (slipway:disparate_impact_ratio:24h)",
                    "{{namespace}}/{{model}} {{attribute}}",
                ),
                about="The least of all groups that are large enough to be shown.",
            ),
            Panel(
                "What monitoring says",
                Kind.TABLE,
                (Query(f"{_once(OperatorMetric.VERDICT, by=', condition, status')} == 1", ""),),
                width=24,
                description="Drift is True when something is wrong, the others are True when all is well.",
            ),
        ),
        "Operator": (
            _lines(
                "Reconciles",
                (f"sum by (result) ({_rate('controller_runtime_reconcile_total')})", "{{result}}"),
                unit="ops",
            ),
            _lines(
                "Slowest 5% of reconciles",
                (
                    "histogram_quantile(0.95, sum by (le) "
                    f"({_rate('controller_runtime_reconcile_time_seconds_bucket')}))",
                    "95%",
                ),
                unit="s",
            ),
            _lines("Waiting in the queue", ("sum(workqueue_depth)", "keys")),
            _lines(
                "Requests to the API server",
                (f"sum by (code) ({_rate('rest_client_requests_total')})", "{{code}}"),
                unit="reqps",
            ),
            _lines("Leaders", (f"sum({OperatorMetric.LEADER})", "leaders"), about="One, always."),
        ),
    },
)

MODEL = Board(
    "slipway-model",
    "Slipway / Model",
    "One model: its traffic, its inputs, its answers, and whether they are right and fair.",
    (
        Variable("namespace", "namespace", Metric.REQUESTS),
        Variable("model", "model", f'{Metric.REQUESTS}{{namespace="$namespace"}}'),
        Variable("feature", "feature", f"{Metric.FEATURE_VALUES}{{{_MODEL}}}"),
    ),
    {
        "Traffic": (
            _lines(
                "Requests", (f"sum by (code) ({_rate(Metric.REQUESTS, _MODEL)})", "{{code}}"), unit="reqps"
            ),
            _lines(
                "Latency",
                *((_quantile(share, _MODEL, "le"), f"{share:.0%}") for share in (0.5, 0.95, 0.99)),
                unit="s",
            ),
            _lines(
                "Refused", (f"sum by (reason) ({_rate(Metric.REJECTED, _MODEL)})", "{{reason}}"), unit="reqps"
            ),
            _lines(
                "Rows",
                (f"sum by (model_version) ({_rate(Metric.ROWS, _MODEL)})", "{{model_version}}"),
                unit="rowsps",
            ),
            _lines("In flight", (f"sum by (pod) ({Metric.IN_FLIGHT}{{{_MODEL}}})", "{{pod}}")),
            _lines(
                "Error budget burn",
                (f"slipway:bad_requests:ratio1h{{{_MODEL}}}", "{{slo}}, last hour"),
                unit="percentunit",
            ),
        ),
        "Inputs": (
            _lines(
                "Drift",
                (f"slipway:feature_psi_excess:1h{{{_MODEL}}}", "{{feature}} {{model_version}}"),
                (f'slipway:limit{{{_MODEL}, limit="psi_warning"}}', "limit"),
                width=12,
                about="PSI of the last hour against the reference, beyond the noise of so many rows.",
            ),
            Panel(
                "$feature, last hour and reference",
                Kind.BARS,
                (
                    Query(
                        f'avg by (bin) (slipway:feature_values:ratio1h{{{_MODEL}, feature="$feature"}})',
                        "last hour",
                    ),
                    Query(
                        f'avg by (bin) (slipway:feature_reference:ratio{{{_MODEL}, feature="$feature"}})',
                        "reference",
                    ),
                ),
                "percentunit",
                12,
            ),
            _lines(
                "Bad values",
                (f"slipway:feature_bad:ratio1h{{{_MODEL}}} > 0", "{{feature}} {{what}} {{model_version}}"),
                unit="percentunit",
                width=12,
            ),
            _lines(
                "Not monitored",
                (f"sum by (reason) ({_rate(Metric.MONITORING_DROPPED, _MODEL)})", "{{reason}}"),
                unit="rowsps",
                width=12,
            ),
        ),
        "Answers": (
            _lines(
                "Accuracy by labels",
                (f"slipway:accuracy:24h{{{_MODEL}}}", "{{model_version}}"),
                (f"slipway:accuracy_low:24h{{{_MODEL}}}", "{{model_version}} at least"),
                (f"slipway:accuracy_high:24h{{{_MODEL}}}", "{{model_version}} at most"),
                unit="percentunit",
                about="Of the last 24 hours' labels, with the interval at 95%.",
            ),
            _lines(
                "Accuracy without labels",
                (f"slipway:estimated_accuracy:1h{{{_MODEL}}}", "{{model_version}}"),
                unit="percentunit",
                about="Estimated from confidence. Blind to inputs that now mean something else.",
            ),
            _lines(
                "Labels",
                (f"slipway:label_coverage:24h{{{_MODEL}}}", "{{model_version}} of rows"),
                unit="percentunit",
            ),
            _lines(
                "Half of the labels within",
                (f"slipway:label_delay_seconds:median24h{{{_MODEL}}}", "{{model_version}}"),
                unit="s",
            ),
            _lines(
                "Feedback", (f"sum by (result) ({_rate(Metric.FEEDBACK, _MODEL)})", "{{result}}"), unit="ops"
            ),
            _lines(
                "Predictions",
                (f"sum by (output, bin) ({_rate(Metric.PREDICTION_VALUES, _MODEL)})", "{{output}} {{bin}}"),
                unit="rowsps",
            ),
        ),
        "Fairness": (
            _lines(
                "Disparate impact ratio",
                (
                    f"slipway:disparate_impact_ratio:24h{{{_MODEL}}}",
                    "{{model_version}} {{attribute}} {{group}}",
                ),
                (
                    f"slipway:disparate_impact_ratio_low:24h{{{_MODEL}}}",
                    "{{model_version}} {{attribute}} {{group}} at least",
                ),
                (
                    f"slipway:disparate_impact_ratio_high:24h{{{_MODEL}}}",
                    "{{model_version}} {{attribute}} {{group}} at most",
                ),
                about="Favorable outcomes of a group to the reference group's. Small groups are not shown.",
            ),
            _lines(
                "Shares by group",
                (
                    f"slipway:group_share:24h{{{_MODEL}}}",
                    "{{model_version}} {{attribute}} {{group}} {{rate}}",
                ),
                unit="percentunit",
            ),
            _lines(
                "Widest difference",
                (f"slipway:group_difference:24h{{{_MODEL}}}", "{{model_version}} {{attribute}} {{rate}}"),
                (
                    f"slipway:group_difference_low:24h{{{_MODEL}}}",
                    "{{model_version}} {{attribute}} {{rate}} at least",
                ),
            ),
        ),
    },
)

ROLLOUT = Board(
    "slipway-rollout",
    "Slipway / Rollout",
    "How a new revision takes over, and what the evidence says.",
    (
        Variable("namespace", "namespace", OperatorMetric.READY),
        Variable("name", "name", f'{OperatorMetric.READY}{{namespace="$namespace"}}'),
    ),
    {
        "Progress": (
            _lines(
                "Traffic on the canary",
                (f"max({OperatorMetric.ROLLOUT_WEIGHT}{{{_PLACE}}})", "meant for it"),
                (f"max({OperatorMetric.ROLLOUT_MIRROR}{{{_PLACE}}})", "copied to it"),
                unit="percent",
                width=12,
            ),
            _lines(
                "Pods",
                (
                    f"sum by (role) ({_once(_READY_PODS, _PLACE, ', revision, role')})",
                    "{{role}} ready",
                ),
                width=12,
            ),
            _lines("Phase", (f"{_once(OperatorMetric.ROLLOUT_PHASE, _PLACE, ', phase')} == 1", "{{phase}}")),
            _number("Steps done", f"max({OperatorMetric.ROLLOUT_STEP}{{{_PLACE}}})"),
            _number("Rejected revisions", f"max({OperatorMetric.ROLLOUT_REJECTED}{{{_PLACE}}})"),
            _lines(
                "Routes follow within",
                (
                    "histogram_quantile(0.95, sum by (le) "
                    f"({_rate(f'{OperatorMetric.ROLLOUT_TRAFFIC}_bucket')}))",
                    "95% of all changes",
                ),
                unit="s",
            ),
        ),
        "Evidence": (
            _lines(
                "What each gate says",
                (
                    f"{_once(OperatorMetric.ROLLOUT_GATE_VERDICT, _PLACE, ', gate, verdict')} == 1",
                    "{{gate}} {{verdict}}",
                ),
                width=24,
                about="Of the gates that act, one that fails aborts the rollout, and all must pass.",
            ),
        ),
        "Both revisions": (
            _lines(
                "Requests",
                (f"sum by (model_version) ({_rate(Metric.REQUESTS, _ARMS)})", "{{model_version}}"),
                unit="reqps",
            ),
            _lines(
                "Failed",
                (
                    _ratio(
                        f'rate({Metric.REQUESTS}{{{_ARMS}, code=~"5.."}}[{_RATE}])',
                        _rate(Metric.REQUESTS, _ARMS),
                        "model_version",
                    ),
                    "{{model_version}}",
                ),
                unit="percentunit",
            ),
            _lines(
                "Slowest 1%", (_quantile(0.99, _ARMS, "model_version, le"), "{{model_version}}"), unit="s"
            ),
        ),
    },
)

BOARDS = (FLEET, MODEL, ROLLOUT)
