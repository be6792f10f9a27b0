"""Which Events a change of conditions, of a rollout and of an upgrade makes, whole, and none twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.api.reasons import ConditionType, Reason
from slipway.api.status import UpgradeStatus
from slipway.core.plan import Plan
from slipway.core.status.condition_value import ConditionValue
from slipway.core.status.events import Event, events
from tests.unit.core.test_conditions_in_words import (
    MOVES,
    NOTHING,
    ROLLOUT,
    STABLE,
    A,
    B,
    resource,
    roles,
    spec,
)

GOOD = {
    ConditionType.READY: ConditionValue("True", Reason.SERVING, "serves"),
    ConditionType.MODEL_RESOLVED: ConditionValue("True", Reason.RESOLVED, "is version 1"),
    ConditionType.REVISION_READY: ConditionValue("True", Reason.AVAILABLE, "has its pods"),
}
STUCK = ConditionValue("False", Reason.SCALING_INACTIVE, "no metrics")
LOST = ConditionValue("False", Reason.ROUTER_UNAVAILABLE, "no router")
OFF = ConditionValue("False", Reason.SPLIT_MISMATCH, "it is off")


def before(*said: tuple[str, str, str, str]) -> list[dict[str, Any]]:
    """Conditions of a status: type, status, reason and message."""
    common = {"observedGeneration": 1, "lastTransitionTime": "2026-11-24T11:00:00Z"}
    return [
        {"type": type_, "status": status, "reason": reason, "message": message, **common}
        for type_, status, reason, message in said
    ]


SERVES = before(
    ("Ready", "True", "Serving", "serves"),
    ("ModelResolved", "True", "Resolved", "is version 1"),
    ("RevisionReady", "True", "Available", "has its pods"),
)


def told(plan: Plan, verdicts: dict[ConditionType, ConditionValue], **status: Any) -> list[str]:
    found = events(resource(**status), spec(), plan, NOTHING, {**GOOD, **verdicts})
    return [said(one) for one in found]


def said(one: Event) -> str:
    return f"{'Normal' if one.normal else 'Warning'} {one.reason}: {one.message}"


def test_a_resource_that_serves_for_the_first_time_is_one_event() -> None:
    assert told(roles(), {}) == ["Normal Serving: serves"]
    assert told(roles(), {}, conditions=SERVES) == []


def test_pods_that_are_ready_again_are_told_where_the_resource_was_ready_all_along() -> None:
    failing = [*SERVES[:2], *before(("RevisionReady", "False", "ImagePullFailed", "no image"))]
    assert told(roles(), {}, conditions=failing) == ["Normal Available: has its pods"]


@pytest.mark.parametrize(
    ("type_", "value", "words"),
    [
        (ConditionType.SCALING_ACTIVE, STUCK, "Warning ScalingInactive: no metrics"),
        (ConditionType.TRAFFIC_SYNCED, LOST, "Warning RouterUnavailable: no router"),
    ],
)
def test_what_does_not_work_is_told_once(type_: ConditionType, value: ConditionValue, words: str) -> None:
    assert told(roles(), {type_: value}, conditions=SERVES) == [words]
    known = [*SERVES, *before((type_, value.status, value.reason, value.message))]
    assert told(roles(), {type_: value}, conditions=known) == []


def test_a_split_that_is_off_is_told_by_its_rollout_alone() -> None:
    assert told(roles(), {ConditionType.TRAFFIC_SYNCED: OFF}, conditions=SERVES) == []
    off = ROLLOUT.model_copy(update={"mismatch": "it is off"})
    now = roles(**{**MOVES, "rollout": off})
    status = {"conditions": SERVES, "rollout": ROLLOUT.model_dump(exclude_none=True)}
    assert told(now, {ConditionType.TRAFFIC_SYNCED: OFF}, **status) == ["Warning SplitMismatch: it is off"]


@pytest.mark.parametrize(
    ("type_", "bad"),
    [
        ("Drift", "True"),
        ("DataQuality", "False"),
        ("Performance", "False"),
        ("Fairness", "False"),
        ("AuditsPassed", "False"),
        ("Crashing", "True"),
    ],
)
def test_what_monitoring_finds_is_told_as_it_turns_bad_and_good_again(type_: str, bad: str) -> None:
    good = {"True": "False", "False": "True"}[bad]
    name = ConditionType(type_)

    def now(status: str, *known: tuple[str, str, str, str]) -> list[str]:
        value = ConditionValue(status, Reason.SERVING, "figures")
        return told(roles(), {name: value}, conditions=[*SERVES, *before(*known)])

    assert now(bad) == ["Warning Serving: figures"]
    assert now(bad, (type_, bad, "Why", "m")) == []
    assert now(bad, (type_, good, "Why", "m")) == ["Warning Serving: figures"]
    assert now(good, (type_, bad, "Why", "m")) == ["Normal Serving: figures"]
    assert now(good) == []
    assert now("Unknown", (type_, bad, "Why", "m")) == []


def upgrade(phase: str) -> UpgradeStatus:
    return UpgradeStatus.model_construct(phase=phase, message=f"pods: {phase}", cause=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        (None, "Waiting", []),
        (None, "Upgrading", ["Normal Upgrading: pods: Upgrading"]),
        ("Waiting", "Upgrading", ["Normal Upgrading: pods: Upgrading"]),
        ("Upgrading", "Upgrading", []),
        ("Upgrading", "Stuck", ["Warning UpgradeStuck: pods: Stuck"]),
        ("Stuck", "Upgrading", []),
    ],
)
def test_pods_that_are_replaced_are_told_and_that_it_does_not_go_on(
    was: str | None, now: str, words: list[str]
) -> None:
    known = resource(conditions=SERVES)
    known = replace(known, status=known.status.model_copy(update={"upgrade": upgrade(was) if was else None}))
    found = events(known, spec(), replace(roles(), upgrade=upgrade(now)), NOTHING, GOOD)
    assert [said(one) for one in found] == words


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        (None, {}, f"Normal RollingOut: revision {B.name} is to take over step by step"),
        ({"id": "other.1"}, {}, f"Normal RollingOut: revision {B.name} is to take over step by step"),
        ({}, {"weight": 50}, f"Normal RollingOut: 50% of traffic is for revision {B.name}"),
        (
            {},
            {"weight": 0, "phase": "Aborting"},
            f"Warning RollingOut: 0% of traffic is for revision {B.name}",
        ),
        (
            {},
            {"mirrorPercent": 30},
            f"Normal RollingOut: copies of 30% of requests are for revision {B.name}",
        ),
        (
            {},
            {"phase": "Paused", "message": "waits for alice"},
            f"Normal RollingOut: 10% of traffic is for revision {B.name}; waits for alice",
        ),
        ({}, {}, None),
        ({"phase": "Paused"}, {"phase": "Paused"}, None),
    ],
)
def test_each_step_of_a_rollout_is_an_event(
    was: dict[str, Any] | None, now: dict[str, Any], words: str | None
) -> None:
    status: dict[str, Any] = {"conditions": SERVES}
    if was is not None:
        status["rollout"] = {**ROLLOUT.model_dump(exclude_none=True), **was}
    plan = roles(**{**MOVES, "rollout": ROLLOUT.model_copy(update=now)})
    assert told(plan, {}, **status) == ([words] if words else [])


@pytest.mark.parametrize(
    ("why", "tail"), [("", ""), ("nothing was left to protect", ": nothing was left to protect")]
)
def test_a_revision_that_took_over_is_an_event(why: str, tail: str) -> None:
    stable = STABLE.model_dump(exclude_none=True)
    found = told(roles(stable=B.name, took_over=why), {}, conditions=SERVES, stable=stable)
    assert found == [f"Normal Serving: revision {B.name} took over from {A.name}{tail}"]
    assert told(roles(), {}, conditions=SERVES, stable=stable) == []
