"""Rules on the service itself: error budgets, rollouts, and the operator."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.core.monitoring.limits import Limit
from slipway.names import Metric, OperatorMetric
from slipway.observability.promql import aggregate, increase, names_of
from slipway.observability.rule import MODEL_WORDS, SHARE_WORDS, Alert, Record, Rule

#: Burn rates of an error budget: factor, long window, short window, severity.
#: Source: "The Site Reliability Workbook", chapter 5, table 5-8.
BURNS = (
    (14.4, "1h", "5m", "critical"),
    (6.0, "6h", "30m", "critical"),
    (1.0, "3d", "6h", "warning"),
)
#: A burn rate of fewer requests, or of fewer bad ones, is chance.
LEAST_REQUESTS = 100
LEAST_BAD_REQUESTS = 10


def slo_rules() -> Iterator[Rule]:
    """How fast each model uses up its error budgets: failed requests, and slow ones where a bound is set."""
    windows = sorted({window for burn in BURNS for window in burn[1:3]})
    place = "namespace, model"
    # Every replica of the operator says it.
    told = f"max by (namespace, model, le) ({OperatorMetric.LATENCY_BOUND})"
    bound = f"on (namespace, model, le) group_left () {told}"
    for window in windows:
        total = f"sum by ({place}) ({increase(Metric.REQUESTS, window)})"
        wrong_codes = 'code=~"5.."'
        wrong = f"sum by ({place}) ({increase(Metric.REQUESTS, window, wrong_codes)})"
        timed = f"sum by ({place}) ({increase(f'{Metric.DURATION}_count', window)})"
        fast = f"sum by ({place}) ({increase(f'{Metric.DURATION}_bucket', window)} * {bound})"
        yield Record(f"slipway:requests:increase{window}", total, {"slo": "availability"})
        yield Record(f"slipway:bad_requests:increase{window}", wrong, {"slo": "availability"})
        yield Record(f"slipway:requests:increase{window}", f"{timed} and {fast}", {"slo": "latency"})
        yield Record(f"slipway:bad_requests:increase{window}", f"{timed} - {fast}", {"slo": "latency"})
        yield Record(
            f"slipway:bad_requests:ratio{window}",
            f"slipway:bad_requests:increase{window} / slipway:requests:increase{window}",
        )
    for slo, limit in (("availability", Limit.AVAILABILITY), ("latency", Limit.LATENCY)):
        for factor, long, short, severity in BURNS:
            budget = f'({factor} * (1 - slipway:limit{{limit="{limit}"}}))'
            of = f'{{slo="{slo}"}}'
            conditions = (
                f"slipway:bad_requests:ratio{long}{of} > on (namespace, model) group_left () {budget}",
                f"slipway:bad_requests:ratio{short}{of} > on (namespace, model) group_left () {budget}",
                f"slipway:requests:increase{long}{of} >= {LEAST_REQUESTS}",
                f"slipway:bad_requests:increase{long}{of} >= {LEAST_BAD_REQUESTS}",
            )
            yield Alert(
                "SlipwayErrorBudgetBurn",
                "\nand ".join(conditions),
                severity,
                "2m",
                f"{{{{ $labels.model }}}} in {{{{ $labels.namespace }}}} burns its {slo} budget "
                f"at {factor:g} times the pace that it allows",
                f"{SHARE_WORDS} of the requests of the last {long} were bad.",
                {"slo": slo, "window": long},
            )


def operator_rules() -> Iterator[Rule]:
    """What the operator itself says of models, rollouts and its own state."""
    place = "{{ $labels.name }} in {{ $labels.namespace }}"
    rejected = f"max by (namespace, name) ({OperatorMetric.ROLLOUT_REJECTED})"
    before = f"max by (namespace, name) ({OperatorMetric.ROLLOUT_REJECTED} offset 15m)"
    yield Alert(
        "SlipwayModelNotReady",
        _as_model(f"max by (namespace, name) ({OperatorMetric.READY}) == 0"),
        "critical",
        "15m",
        f"{place} is not Ready",
        "kubectl describe mdep shows why, and what to do.",
    )
    yield Alert(
        "SlipwayRolloutRejected",
        _as_model(f"{rejected} - {before} > 0"),
        "warning",
        "0m",
        f"a new revision of {place} was rejected",
        "The stable revision serves on. kubectl describe mdep names the gate and its evidence.",
    )
    yield Alert(
        "SlipwayRolloutWaits",
        _as_model(f'max by (namespace, name) ({OperatorMetric.ROLLOUT_PHASE}{{phase="Paused"}}) == 1'),
        "info",
        "24h",
        f"the rollout of {place} has been waiting for a day",
    )
    audited = f'max by (namespace, name) ({OperatorMetric.AUDITS_PASSED}{{status="False"}}) == 1'
    yield Alert(
        "SlipwayAuditFailed",
        _as_model(audited),
        "warning",
        "5m",
        f"the version of {place} that serves failed an audit",
        "It serves on. AuditsPassed names the figure and the groups; kubectl slipway report shows them all.",
    )
    failing = f"max by (namespace, name) ({OperatorMetric.REFRESH_FAILING_SINCE})"
    yield Alert(
        "SlipwayNameNotFollowed",
        _as_model(f"time() - {failing} > 900"),
        "warning",
        "5m",
        f"the name that {place} follows cannot be looked up",
        "The version that it last meant serves on; a new one is not noticed. ModelResolved shows why.",
    )
    stuck = f'max by (namespace, name, kind) ({OperatorMetric.UPGRADE}{{phase="Stuck"}}) == 1'
    yield Alert(
        "SlipwayUpgradeStuck",
        _as_model(stuck),
        "warning",
        "15m",
        f"the upgrade of {place} does not go on: new pods of the {{{{ $labels.kind }}}} do not become ready",
        "The old ones serve on, and one upgrade fewer goes on at a time. kubectl describe mdep shows why.",
    )
    yield Alert(
        "SlipwayUpgradesHalted",
        f"max({OperatorMetric.UPGRADES_HALTED}) == 1",
        "critical",
        "15m",
        "no upgrade goes on, since all that are under way are stuck",
        "Models serve on. See to the stuck ones, or set the chart's values back with helm rollback.",
    )
    dropped = aggregate("sum", increase(Metric.MONITORING_DROPPED, "1h"), "reason")
    asked = aggregate("sum", increase(Metric.ROWS, "1h"))
    yield Alert(
        "SlipwayMonitoringBlind",
        f"{dropped}\n/ on ({names_of()}) group_left () {asked} > 0.01",
        "warning",
        "15m",
        f"more than 1% of the rows of {MODEL_WORDS} were not monitored: {{{{ $labels.reason }}}}",
    )
    yield Alert(
        "SlipwayModelCrashes",
        f"{aggregate('sum', increase(Metric.CRASHES, '15m'), 'process')} > 0",
        "warning",
        "0m",
        f"{MODEL_WORDS} ends processes ({{{{ $labels.process }}}})",
        "A run's end costs nobody else anything; a server's costs the requests under way in it. "
        "The pods' log shows who sent the request, and which operator is in doubt.",
    )
    lag = f"sum by (le, namespace, pod) (rate({OperatorMetric.LOOP_LAG}_bucket[10m]))"
    yield Alert(
        "SlipwayOperatorLags",
        f"histogram_quantile(0.99, {lag}) > 0.25",
        "warning",
        "10m",
        "the operator's event loop is late: in one of a hundred looks by a quarter of a second or more",
        "Models serve on; rollouts and repairs are late. Give it more CPU (resources in the chart's values), "
        "or several operators a part of the namespaces each (watchNamespaces).",
    )
    yield Alert(
        "SlipwayCrdOutdated",
        f"max({OperatorMetric.CRD_MISSING_FIELDS}) > 0",
        "warning",
        "15m",
        "the installed CRD lacks fields that the operator knows",
        "They cannot be used and are left out of status. Apply the CRD of the operator's version: "
        "crds.enabled, or kubectl apply --server-side. The operator's log names the fields.",
    )
    yield Alert(
        "SlipwayNamespaceUnseen",
        f"max by (namespace) ({OperatorMetric.NAMESPACE_UNSEEN}) == 1",
        "warning",
        "15m",
        "the operator may not list namespace {{ $labels.namespace }}",
        "What serves there is left as it is. Give the operator its role there, or take the namespace out of "
        "watchNamespaces.",
    )
    yield Alert(
        "SlipwayOperatorWithoutLeader",
        f'absent({OperatorMetric.LEADER}{{name="slipway-operator"}} == 1)',
        "critical",
        "5m",
        "no operator of Slipway leads",
        "Models serve on, but nothing is rolled out, repaired or judged.",
    )


def _as_model(expression: str) -> str:
    """The same with the label that model servers name their model by, so that its alerts are grouped."""
    return f'label_replace({expression}, "model", "$1", "name", "(.+)")'
