"""What each dashboard shows: titles, queries and units, as plain data.

``$namespace``, ``$model``, ``$name`` and ``$feature`` are the dashboards' variables.
"""

from __future__ import annotations

from slipway.names import Metric, OperatorMetric
from slipway.observability.panels import (
    RATE,
    Board,
    Panel,
    PanelKind,
    Query,
    Variable,
    lines,
    number,
    once,
    quantile,
    rate,
    ratio,
)

_MODEL = 'namespace="$namespace", model="$model"'
_PLACE = 'namespace="$namespace", name="$name"'
_READY_PODS = OperatorMetric.REVISION_READY_REPLICAS
_ARMS = 'namespace="$namespace", model="$name"'


def _audited(metrics: str) -> str:
    labels = f'{_PLACE}, bound="value", {metrics}'
    return once(OperatorMetric.AUDIT_VALUE, labels, ", audit, revision, metric, of")


FLEET = Board(
    "slipway-fleet",
    "Slipway / Fleet",
    "All models: which are well, which are not, and how the operator does.",
    (),
    {
        "Now": (
            number("Models", f"count({once(OperatorMetric.READY)})"),
            number("Not ready", f"count({once(OperatorMetric.READY)} == 0) or vector(0)"),
            number("Requests per second", f"sum({rate(Metric.REQUESTS)})", "reqps"),
            number("Rows per second", f"sum({rate(Metric.ROWS)})", "rowsps"),
            number(
                "Drifted features",
                "count(count by (namespace, model, feature) "
                '(ALERTS{alertname="SlipwayFeatureDrift", alertstate="firing"})) or vector(0)',
            ),
            number("Alerts", 'count(ALERTS{alertname=~"Slipway.*", alertstate="firing"}) or vector(0)'),
        ),
        "Traffic": (
            lines(
                "Requests",
                (f"sum by (namespace, model) ({rate(Metric.REQUESTS)})", "{{namespace}}/{{model}}"),
                unit="reqps",
            ),
            lines(
                "Failed",
                (
                    ratio(
                        f'rate({Metric.REQUESTS}{{code=~"5.."}}[{RATE}])',
                        rate(Metric.REQUESTS),
                        "namespace, model",
                    ),
                    "{{namespace}}/{{model}}",
                ),
                unit="percentunit",
            ),
            lines(
                "Slowest 1%",
                (quantile(0.99, "", "namespace, model, le"), "{{namespace}}/{{model}}"),
                unit="s",
                about="An estimate from the latency histogram's buckets.",
            ),
        ),
        "Models": (
            lines(
                "Furthest feature",
                (
                    "max by (namespace, model, model_version) (slipway:feature_psi_excess:1h)",
                    "{{namespace}}/{{model}} {{model_version}}",
                ),
                about="PSI beyond noise of the feature that moved most; 0.05 is the usual limit.",
            ),
            lines(
                "Accuracy by labels",
                ("slipway:accuracy:24h", "{{namespace}}/{{model}} {{model_version}}"),
                unit="percentunit",
            ),
            lines(
                "Disparate impact ratio",
                (
                    "min by (namespace, model, attribute) (slipway:disparate_impact_ratio:24h)",
                    "{{namespace}}/{{model}} {{attribute}}",
                ),
                about="The least of all groups that are large enough to be shown.",
            ),
            Panel(
                "What monitoring says",
                PanelKind.TABLE,
                (Query(f"{once(OperatorMetric.VERDICT, by=', condition, status')} == 1", ""),),
                width=24,
                description="Drift is True when something is wrong, the others are True when all is well.",
            ),
        ),
        "Operator": (
            lines(
                "Reconciles",
                (f"sum by (result) ({rate('controller_runtime_reconcile_total')})", "{{result}}"),
                unit="ops",
            ),
            lines(
                "Slowest 5% of reconciles",
                (
                    "histogram_quantile(0.95, sum by (le) "
                    f"({rate('controller_runtime_reconcile_time_seconds_bucket')}))",
                    "95%",
                ),
                unit="s",
            ),
            lines("Waiting in the queue", ("sum(workqueue_depth)", "keys")),
            lines(
                "Requests to the API server",
                (f"sum by (code) ({rate('rest_client_requests_total')})", "{{code}}"),
                unit="reqps",
            ),
            lines("Leaders", (f"sum({OperatorMetric.LEADER})", "leaders"), about="One, always."),
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
            lines("Requests", (f"sum by (code) ({rate(Metric.REQUESTS, _MODEL)})", "{{code}}"), unit="reqps"),
            lines(
                "Latency",
                *((quantile(share, _MODEL, "le"), f"{share:.0%}") for share in (0.5, 0.95, 0.99)),
                unit="s",
            ),
            lines(
                "Refused", (f"sum by (reason) ({rate(Metric.REJECTED, _MODEL)})", "{{reason}}"), unit="reqps"
            ),
            lines(
                "Rows",
                (f"sum by (model_version) ({rate(Metric.ROWS, _MODEL)})", "{{model_version}}"),
                unit="rowsps",
            ),
            lines("In flight", (f"sum by (pod) ({Metric.IN_FLIGHT}{{{_MODEL}}})", "{{pod}}")),
            lines(
                "Error budget burn",
                (f"slipway:bad_requests:ratio1h{{{_MODEL}}}", "{{slo}}, last hour"),
                unit="percentunit",
            ),
        ),
        "Inputs": (
            lines(
                "Drift",
                (f"slipway:feature_psi_excess:1h{{{_MODEL}}}", "{{feature}} {{model_version}}"),
                (f'slipway:limit{{{_MODEL}, limit="psi_warning"}}', "limit"),
                width=12,
                about="PSI of the last hour against the reference, beyond the noise of so many rows.",
            ),
            Panel(
                "$feature, last hour and reference",
                PanelKind.BARS,
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
            lines(
                "Bad values",
                (f"slipway:feature_bad:ratio1h{{{_MODEL}}} > 0", "{{feature}} {{what}} {{model_version}}"),
                unit="percentunit",
            ),
            lines(
                "Not monitored",
                (f"sum by (reason) ({rate(Metric.MONITORING_DROPPED, _MODEL)})", "{{reason}}"),
                unit="rowsps",
            ),
            lines(
                "Suspect inputs",
                (
                    f"sum by (model_version, detector) ({rate(Metric.SUSPECT_INPUTS, _MODEL)})",
                    "{{detector}} {{model_version}}",
                ),
                unit="rowsps",
                about="Rows that may be a search for another answer; none is refused. A pod's log names who "
                "sent many.",
            ),
        ),
        "Answers": (
            lines(
                "Accuracy by labels",
                (f"slipway:accuracy:24h{{{_MODEL}}}", "{{model_version}}"),
                (f"slipway:accuracy_low:24h{{{_MODEL}}}", "{{model_version}} at least"),
                (f"slipway:accuracy_high:24h{{{_MODEL}}}", "{{model_version}} at most"),
                unit="percentunit",
                about="Of the last 24 hours' labels, with the interval at 95%.",
            ),
            lines(
                "Accuracy without labels",
                (f"slipway:estimated_accuracy:1h{{{_MODEL}}}", "{{model_version}}"),
                unit="percentunit",
                about="Estimated from confidence. Blind to inputs that now mean something else.",
            ),
            lines(
                "Labels",
                (f"slipway:label_coverage:24h{{{_MODEL}}}", "{{model_version}} of rows"),
                unit="percentunit",
            ),
            lines(
                "Half of the labels within",
                (f"slipway:label_delay_seconds:median24h{{{_MODEL}}}", "{{model_version}}"),
                unit="s",
            ),
            lines(
                "Feedback", (f"sum by (result) ({rate(Metric.FEEDBACK, _MODEL)})", "{{result}}"), unit="ops"
            ),
            lines(
                "Predictions",
                (f"sum by (output, bin) ({rate(Metric.PREDICTION_VALUES, _MODEL)})", "{{output}} {{bin}}"),
                unit="rowsps",
            ),
        ),
        "Fairness": (
            lines(
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
            lines(
                "Shares by group",
                (
                    f"slipway:group_share:24h{{{_MODEL}}}",
                    "{{model_version}} {{attribute}} {{group}} {{rate}}",
                ),
                unit="percentunit",
            ),
            lines(
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
            lines(
                "Traffic on the canary",
                (f"max({OperatorMetric.ROLLOUT_WEIGHT}{{{_PLACE}}})", "meant for it"),
                (f"max({OperatorMetric.ROLLOUT_MIRROR}{{{_PLACE}}})", "copied to it"),
                unit="percent",
                width=12,
            ),
            lines(
                "Pods",
                (
                    f"sum by (role) ({once(_READY_PODS, _PLACE, ', revision, role')})",
                    "{{role}} ready",
                ),
                width=12,
            ),
            lines("Phase", (f"{once(OperatorMetric.ROLLOUT_PHASE, _PLACE, ', phase')} == 1", "{{phase}}")),
            number("Steps done", f"max({OperatorMetric.ROLLOUT_STEP}{{{_PLACE}}})"),
            number("Rejected revisions", f"max({OperatorMetric.ROLLOUT_REJECTED}{{{_PLACE}}})"),
            lines(
                "Routes follow within",
                (
                    "histogram_quantile(0.95, sum by (le) "
                    f"({rate(f'{OperatorMetric.ROLLOUT_TRAFFIC}_bucket')}))",
                    "95% of all changes",
                ),
                unit="s",
            ),
        ),
        "Evidence": (
            lines(
                "What each gate says",
                (
                    f"{once(OperatorMetric.ROLLOUT_GATE_VERDICT, _PLACE, ', gate, verdict')} == 1",
                    "{{gate}} {{verdict}}",
                ),
                width=24,
                about="Of the gates that act, one that fails aborts the rollout, and all must pass.",
            ),
        ),
        "Audits": (
            lines(
                "What audits found",
                (
                    f"{once(OperatorMetric.AUDIT_VERDICT, _PLACE, ', audit, revision, verdict')} == 1",
                    "{{audit}} {{revision}} {{verdict}}",
                ),
                about="Of the stable revision and of the one that was audited last.",
            ),
            lines(
                "What they measured",
                (_audited('metric!~"Median.*"'), "{{audit}} {{revision}} {{metric}} {{of}}"),
                about="Shares, ratios and differences; the report and status have the intervals.",
            ),
            lines(
                "How far rows stand",
                (_audited('metric=~"Median.*"'), "{{audit}} {{revision}} {{metric}} {{of}}"),
                about="Medians, in standard deviations of the columns.",
            ),
        ),
        "Both revisions": (
            lines(
                "Requests",
                (f"sum by (model_version) ({rate(Metric.REQUESTS, _ARMS)})", "{{model_version}}"),
                unit="reqps",
            ),
            lines(
                "Failed",
                (
                    ratio(
                        f'rate({Metric.REQUESTS}{{{_ARMS}, code=~"5.."}}[{RATE}])',
                        rate(Metric.REQUESTS, _ARMS),
                        "model_version",
                    ),
                    "{{model_version}}",
                ),
                unit="percentunit",
            ),
            lines("Slowest 1%", (quantile(0.99, _ARMS, "model_version, le"), "{{model_version}}"), unit="s"),
        ),
    },
)

BOARDS = (FLEET, MODEL, ROLLOUT)
