"""What an operator would find in what a server on this machine has counted, by the same code."""

from __future__ import annotations

from datetime import datetime, timedelta

from slipway.api.types import ModelDeploymentSpec
from slipway.bins import OTHER
from slipway.core.monitoring import series
from slipway.core.monitoring.judge import Findings, Window, WindowCounts, judge_windows, repeated
from slipway.core.monitoring.policy import LABELS_SECONDS, monitoring_policy
from slipway.core.monitoring.series import Values
from slipway.core.monitoring.verdict import MonitoredCondition, Status, Verdict
from slipway.core.monitoring.windows import Mark, increase, remember
from slipway.engine.observers.watched import INPUTS, LEFT_OUT, MARKS, MOST_MARKS, OUTCOMES, WANTED, gauges
from slipway.infra.pods import by_version

Marks = tuple[Mark[series.Series], ...]


class Monitor:
    """Follows what one server counts, from its first request on."""

    def __init__(self, spec: ModelDeploymentSpec, version: str, now: datetime) -> None:
        """
        Args:
            spec: says what is judged, and by which limits.
            version: of the model.
            now: when the server started, with a time zone.
        """
        self._policy, self._version, self._began = monitoring_policy(spec), version, now
        nothing: Marks = (Mark(now.timestamp(), {}),)
        self._inputs, self._outcomes = nothing, nothing
        self._findings: Findings = {}
        self._said: dict[MonitoredCondition, Status] = {}

    def judge(self, page: str, now: datetime) -> list[Verdict]:
        """Take in the server's page of metrics; verdicts that have turned, once two in a row agree.

        Raises:
            ValueError: where the page is none of a model server's.
        """
        counts = by_version(page, WANTED).get(self._version, {})
        policy, at = self._policy, now.timestamp()
        outcomes = max(LABELS_SECONDS, policy.groups_seconds)
        self._inputs = _remember(self._inputs, at, counts, INPUTS, policy.inputs_seconds, MARKS)
        self._outcomes = _remember(self._outcomes, at, counts, OUTCOMES, outcomes, MOST_MARKS)
        told = gauges(counts)
        found = judge_windows(
            policy,
            WindowCounts(
                inputs=_window(self._inputs, policy.inputs_seconds, now),
                yesterday=None,
                labels=_window(self._outcomes, LABELS_SECONDS, now),
                groups=_window(self._outcomes, policy.groups_seconds, now),
                references=series.references(told),
                usual={one: value for one, value in told.items() if ("bin", OTHER) in one[1]},
                left_out=int(counts.get(LEFT_OUT, 0.0)),
            ),
        )
        self._findings = repeated(found, self._findings, now, self._began)
        return [one.verdict for one in self._findings.values() if one.again and self._has_turned(one.verdict)]

    def _has_turned(self, verdict: Verdict) -> bool:
        before = self._said.get(verdict.condition, Status.UNKNOWN)
        self._said[verdict.condition] = verdict.status
        return verdict.status is not before


def _remember(
    marks: Marks, at: float, counts: Values, metrics: frozenset[str], span: float, parts: int
) -> Marks:
    return remember(
        marks,
        Mark(at, {one: value for one, value in counts.items() if one[0] in metrics}),
        span,
        span / parts,
    )


def _window(marks: Marks, seconds: float, now: datetime) -> Window:
    """As much of a window as was counted."""
    at = now.timestamp()
    found = increase(marks, max(at - seconds, marks[0].at), at)
    if found is None:
        return Window({}, now, seconds)
    return Window(found.counts, now - timedelta(seconds=found.seconds), seconds)
