"""The counters of feedback and of groups, each for the version that predicted.

Names of classes and groups come from the profile, the resource and sealed tokens; a label that none of them
knows counts as ``other``.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import StrEnum

from slipway.names import ASKED, LABELLED, Metric
from slipway_server.feedback.groups import OTHER, Groups
from slipway_server.feedback.tokens import Said
from slipway_server.metrics.ledger import Page, bound_name
from slipway_server.monitoring.cohorts import MOST_CLASSES
from slipway_server.monitoring.outcomes import text_of
from slipway_server.settings import SensitiveAttribute

#: Upper bounds in seconds: from a minute to a year.
DELAYS = (60, 600, 3600, 6 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400, 90 * 86400, 365 * 86400)
#: Upper bounds of the absolute error, in the unit of the prediction.
ERRORS = tuple(digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5))
#: With more classes, pairs appear once they are counted, not at the start.
_MOST_PAIRED = 10
#: Other versions whose labels are counted; tokens of more are refused.
_MOST_VERSIONS = 8


Label = str | int | float


class Result(StrEnum):
    """What became of a label."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    INVALID = "invalid"


class Account:
    """Counts for one process; any thread may call."""

    def __init__(
        self,
        page: Page,
        model: str,
        version: str,
        classes: Sequence[str],
        attributes: Sequence[SensitiveAttribute],
        favorable: Sequence[str],
        cohorts: int = 0,
    ) -> None:
        """``classes`` are the names that the profile knows, or none; ``cohorts`` is how many of callers."""
        self.cohorts = cohorts
        self._page = page
        self._model, self._version = model, version
        self._classes = frozenset(classes)
        self._favorable = frozenset(favorable)
        self._versions = {version}
        self._lock = threading.Lock()
        self._histograms: set[tuple[str, str]] = set()
        self._group_slots: dict[tuple[str, str, bool], int | None] = {}
        self._asked_slots: dict[tuple[str, str, bool, int], int | None] = {}
        for attribute in attributes:
            for group in (*attribute.groups, OTHER):
                for outcome in (True, False):
                    self._group_slot(attribute.name, group, outcome)

    def offer_feedback(self, attributes: Sequence[SensitiveAttribute], is_class: bool) -> None:
        """Have every series of feedback there from the start, at 0."""
        for result in Result:
            self._slot(Metric.FEEDBACK, self._version, result=result)
        self._histogram(Metric.FEEDBACK_DELAY, self._version, DELAYS)
        if not is_class:
            self._histogram(Metric.FEEDBACK_ERROR, self._version, ERRORS)
            return
        if len(self._classes) <= _MOST_PAIRED:
            names = (*sorted(self._classes), OTHER)
            for outcome in names:
                for label in names:
                    for correct in (outcome == label,) if outcome != OTHER else (True, False):
                        self._slot(Metric.FEEDBACK_LABELS, self._version, **_pair(outcome, label, correct))
        for attribute in attributes:
            for group in (*attribute.groups, OTHER):
                for outcome in ("favorable", "unfavorable"):
                    for label in ("favorable", "unfavorable"):
                        of = {"attribute": attribute.name, "group": group, "outcome": outcome, "label": label}
                        self._slot(Metric.GROUP_FEEDBACK, self._version, **of)

    def predicted(self, outcomes: Sequence[str], groups: Sequence[Groups], cohort: int = 0) -> None:
        """Count what groups got: for each row its outcome and groups; all were asked by one cohort."""
        with self._lock:
            for outcome, pairs in zip(outcomes, groups, strict=True):
                favorable = outcome in self._favorable
                for attribute, group in pairs:
                    slot = self._group_slot(attribute, group, favorable)
                    if slot is not None:
                        self._page.values[slot] += 1
                    if self.cohorts:
                        slot = self._asked_slot(attribute, group, favorable, cohort % self.cohorts)
                        if slot is not None:
                            self._page.values[slot] += 1

    def refused(self, result: Result) -> None:
        """Count a label that is not taken."""
        self._add(Metric.FEEDBACK, self._version, {"result": result})

    def knows(self, version: str) -> bool:
        """Whether labels of this version are counted."""
        return version in self._versions or len(self._versions) <= _MOST_VERSIONS

    def labelled(self, said: Said, label: Label, seconds: float, cohort: int = 0) -> None:
        """Count a label for what a token says, so many seconds after it, by the cohort of whoever sent it.

        A label is a class's name or number; for a model that predicts numbers, a finite number.
        """
        version = said.version
        self._versions.add(version)
        self._add(Metric.FEEDBACK, version, {"result": Result.ACCEPTED})
        self._observe(Metric.FEEDBACK_DELAY, version, DELAYS, max(0.0, seconds))
        if not said.is_class:
            self._observe(Metric.FEEDBACK_ERROR, version, ERRORS, abs(float(said.outcome) - float(label)))
            return
        text = text_of(label)
        known = self._classes | {said.outcome} if version != self._version else self._classes
        outcome = said.outcome if said.outcome in known else OTHER
        name = text if text in known else OTHER
        pair = _pair(outcome, name, text == said.outcome)
        self._add(Metric.FEEDBACK_LABELS, version, pair)
        cohorts = self._cohorts_of(said, cohort)
        short = pair if len(self._classes) <= MOST_CLASSES else {**pair, "outcome": OTHER, "label": OTHER}
        for each in cohorts:
            self._add(Metric.COHORT_FEEDBACK_LABELS, version, {**short, "cohort": each})
        for attribute, group in said.groups:
            of = {
                "attribute": attribute,
                "group": group,
                "outcome": _favor(said.outcome in self._favorable),
                "label": _favor(text in self._favorable),
            }
            self._add(Metric.GROUP_FEEDBACK, version, of)
            for each in cohorts:
                self._add(Metric.COHORT_GROUP_FEEDBACK, version, {**of, "cohort": each})

    def _cohorts_of(self, said: Said, labelled: int) -> list[str]:
        """A label is of those who asked, as its token says, and of those who sent it."""
        if not self.cohorts:
            return []
        asked = [] if said.asked is None else [f"{ASKED}{said.asked % self.cohorts}"]
        return [*asked, f"{LABELLED}{labelled % self.cohorts}"]

    def _slot(self, metric: str, version: str, **labels: str) -> int | None:
        return self._page.slot(metric, {"model": self._model, "model_version": version, **labels})

    def _add(self, metric: str, version: str, labels: Mapping[str, str], amount: float = 1.0) -> None:
        with self._lock:
            slot = self._slot(metric, version, **labels)
            if slot is not None:
                self._page.values[slot] += amount

    def _group_slot(self, attribute: str, group: str, favorable: bool) -> int | None:
        key = (attribute, group, favorable)
        if key not in self._group_slots:
            labels = {"attribute": attribute, "group": group, "outcome": _favor(favorable)}
            self._group_slots[key] = self._slot(Metric.GROUP_PREDICTIONS, self._version, **labels)
        return self._group_slots[key]

    def _asked_slot(self, attribute: str, group: str, favorable: bool, cohort: int) -> int | None:
        key = (attribute, group, favorable, cohort)
        if key not in self._asked_slots:
            labels = {"attribute": attribute, "group": group, "outcome": _favor(favorable)}
            labels["cohort"] = f"{ASKED}{cohort}"
            self._asked_slots[key] = self._slot(Metric.COHORT_GROUP_PREDICTIONS, self._version, **labels)
        return self._asked_slots[key]

    def _histogram(self, metric: str, version: str, bounds: Sequence[float]) -> None:
        self._histograms.add((metric, version))
        for bound in (*bounds, math.inf):
            self._slot(f"{metric}_bucket", version, le=bound_name(bound))
        self._slot(f"{metric}_sum", version)

    def _observe(self, metric: str, version: str, bounds: Sequence[float], value: float) -> None:
        if (metric, version) not in self._histograms:
            self._histogram(metric, version, bounds)
        position = bisect_left(bounds, value)
        bound = bounds[position] if position < len(bounds) else math.inf
        # Not cumulative here: whoever reads adds them up.
        self._add(f"{metric}_bucket", version, {"le": bound_name(bound)})
        self._add(f"{metric}_sum", version, {}, value)


def _pair(outcome: str, label: str, correct: bool) -> dict[str, str]:
    return {"outcome": outcome, "label": label, "correct": "true" if correct else "false"}


def _favor(favorable: bool) -> str:
    return "favorable" if favorable else "unfavorable"
