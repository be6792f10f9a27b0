"""Which breaches go on, of those that a spec wants something done about."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import EpisodeStatus, MonitoringStatus, VerdictStatus
from slipway.core.rollout.breach import going_on


def monitored(*verdicts: VerdictStatus) -> MonitoringStatus:
    return MonitoringStatus(version="1", judgedAt="2026-11-24T12:00:00Z", verdicts=verdicts)


def verdict(condition: str, ended: str | None = None) -> VerdictStatus:
    return VerdictStatus(
        type=condition,  # type: ignore[arg-type]
        status="True",
        reason="FeaturesDrifted",
        message="age moved",
        judgedAt="2026-11-24T12:00:00Z",
        countedSince="2026-11-24T11:00:00Z",
        episode=EpisodeStatus(startedAt="2026-11-24T11:30:00Z", endedAt=ended),
    )


@pytest.mark.parametrize(
    ("monitoring", "found"),
    [
        ({}, []),
        ({"onBreach": {"action": "Job"}}, []),
        ({"onBreach": {"action": "Rollback"}}, ["Drift", "Fairness"]),
        ({"onBreach": {"action": "Rollback", "conditions": ["Fairness"]}}, ["Fairness"]),
    ],
)
def test_what_goes_on_is_what_is_asked_for_and_has_not_ended(
    monitoring: dict[str, Any], found: list[str]
) -> None:
    spec = ModelDeploymentSpec.model_validate(
        {"model": {"uri": "mlflow://fraud/1"}, "monitoring": monitoring}
    )
    said = monitored(
        verdict("Drift"), verdict("Performance", ended="2026-11-24T11:40:00Z"), verdict("Fairness")
    )
    assert [one.type for one, _ in going_on(spec, said, "Rollback")] == found
    assert list(going_on(spec, None, "Rollback")) == []


def test_a_spec_that_monitors_nothing_has_no_breach() -> None:
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/1"}})
    assert list(going_on(spec, monitored(verdict("Drift")), "Rollback")) == []
