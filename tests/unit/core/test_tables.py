"""Every case of ``cases/``, in words that say what goes in and what has to come out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from slipway.core.objects.diff import contains
from slipway.core.observed import Manifest
from tests.unit.core.tables import NOW, Answer, Case, cases, run

CASES = dict(cases())
CHECKED = {"applied", "fields", "deleted", "roles", "conditions", "messages", "status", "absent", "notices"}


@pytest.mark.parametrize("name", CASES)
def test_the_plan_and_the_report_are_as_the_table_says(name: str) -> None:
    case = CASES[name]
    answer = run(case)
    assert set(case.want) <= CHECKED | {"requeue", "lastTransitions"}, "a word that nothing checks"
    _check_plan(case, answer)
    _check_report(case, answer)


@pytest.mark.parametrize("name", CASES)
def test_the_same_inputs_give_the_same_plan_and_report(name: str) -> None:
    assert run(CASES[name]) == run(CASES[name])


def _check_plan(case: Case, answer: Answer) -> None:
    want, planned = case.want, answer.plan
    if planned is None:
        assert not {"applied", "deleted", "roles", "requeue", "fields"} & set(want)
        return
    if "applied" in want:
        assert _places(planned.apply) == want["applied"]
    assert _places(planned.delete) == want.get("deleted", [])
    for place, fields in want.get("fields", {}).items():
        found = next(manifest for manifest in planned.apply if _place(manifest) == place)
        assert contains(found, fields), f"{place}: {found} lacks {fields}"
    if "roles" in want:
        roles = planned.roles
        found = {
            "stable": roles.stable,
            "candidate": roles.candidate,
            "wanted": roles.wanted.name if roles.wanted else None,
            "routed": roles.routed,
        }
        assert found == {**dict.fromkeys(found), **want["roles"]}
    if "requeue" in want:
        now = datetime.fromisoformat(case.given.get("now", NOW))
        seconds = (planned.requeue_at - now).total_seconds() if planned.requeue_at else None
        assert seconds == want["requeue"]


def _check_report(case: Case, answer: Answer) -> None:
    want, status = case.want, answer.report.status
    conditions = {found["type"]: found for found in status["conditions"]}
    assert {found["observedGeneration"] for found in conditions.values()} == {case.given.get("generation", 1)}
    assert status["observedGeneration"] == case.given.get("generation", 1)
    if "conditions" in want:
        said = {type_: f"{found['status']} {found['reason']}" for type_, found in conditions.items()}
        for left_out in {"RolloutComplete", "AccessControlled"} - want["conditions"].keys():
            said.pop(left_out, None)
        assert said == want["conditions"]
    for type_, text in want.get("messages", {}).items():
        assert text in conditions[type_]["message"]
    for type_, moment in want.get("lastTransitions", {}).items():
        assert conditions[type_]["lastTransitionTime"] == moment
    assert contains(status, want.get("status", {})), f"{status} lacks {want['status']}"
    assert not set(want.get("absent", ())) & set(status)
    if "notices" in want:
        told = [
            f"{'Normal' if notice.normal else 'Warning'} {notice.reason}" for notice in answer.report.events
        ]
        assert told == want["notices"]


def _places(manifests: Iterable[Manifest]) -> list[str]:
    return [_place(manifest) for manifest in manifests]


def _place(manifest: Manifest) -> str:
    """Kind and name; the hash in a resolver pod's name says nothing to a reader."""
    name: Any = manifest["metadata"]["name"]
    if manifest["kind"] == "Pod" and "-resolve-" in name:
        name = f"{name.partition('-resolve-')[0]}-resolve"
    return f"{manifest['kind']} {name}"
