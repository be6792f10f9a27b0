"""Every sentence with which a command to a rollout answers, whole: what it does, or why it does nothing."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cli.command import asked
from slipway.cli.errors import CommandError
from slipway.core.resource import read
from slipway.core.rollout.machine import HOLDS
from tests.unit.cli.test_rollout_commands import CANARY, NEWER, REJECTED, ROLLOUT, STABLE, manifest, resource

PAUSED = {"slipway.dev/pause": "bbbbbbbbbb.1"}
SKIPS = "kubectl slipway promote-full fraud skips the steps that are left"


@pytest.mark.parametrize(
    ("command", "annotations", "words"),
    [
        ("promote", {}, "rollout bbbbbbbbbb.1 goes on from step 2"),
        ("approve", {}, "rollout bbbbbbbbbb.1 goes on from step 2"),
        ("promote-full", {}, "rollout bbbbbbbbbb.1 skips what is left of its steps"),
        ("abort", {}, "rollout bbbbbbbbbb.1 is aborted; its revision stays out until retry"),
        ("pause", {}, "rollout bbbbbbbbbb.1 holds at 10%; its gates can still abort it"),
        ("resume", PAUSED, "rollout bbbbbbbbbb.1 goes on"),
        (
            "retry",
            {},
            "revision cccccccccc may be tried again; it was rejected: gate error-rate: canary 14 errors in "
            "1,210",
        ),
    ],
)
def test_what_a_command_will_do_is_said_in_full(
    command: str, annotations: dict[str, str], words: str
) -> None:
    found = resource(annotations, stable=STABLE, canary=CANARY, rollout=ROLLOUT, rejected=[REJECTED])
    assert asked(command, found)[1] == words


def _aborting(message: str) -> dict[str, Any]:
    return {"rollout": {**ROLLOUT, "phase": "Aborting", "message": message}}


@pytest.mark.parametrize(
    ("command", "annotations", "status", "words"),
    [
        (
            "abort",
            {},
            {"stable": STABLE},
            "fraud has no rollout under way; kubectl slipway status fraud shows what serves",
        ),
        ("retry", {}, {"stable": STABLE}, "fraud has no rejected revision that could be tried again"),
        (
            "resume",
            {},
            {"rollout": ROLLOUT},
            "fraud was not paused by kubectl slipway pause; spec.rollout.paused is changed in the spec",
        ),
        ("promote", PAUSED, {"rollout": ROLLOUT}, "fraud is paused; kubectl slipway resume fraud first"),
        (
            "promote",
            {},
            {"rollout": {**ROLLOUT, "step": 2}},
            f"fraud waits for no person: gathers evidence; {SKIPS}",
        ),
        (
            "promote",
            {},
            {"rollout": {**ROLLOUT, "step": 4, "message": ""}},
            f"fraud waits for no person: it is under way; {SKIPS}",
        ),
        ("abort", {}, _aborting("a person"), "rollout bbbbbbbbbb.1 is being aborted: a person"),
        ("promote", {}, _aborting(HOLDS), f"rollout bbbbbbbbbb.1 is being aborted: {HOLDS}"),
        ("promote-full", {}, _aborting("a person"), "rollout bbbbbbbbbb.1 is being aborted: a person"),
    ],
)
def test_why_a_command_does_nothing_is_said_in_full(
    command: str, annotations: dict[str, str], status: dict[str, Any], words: str
) -> None:
    with pytest.raises(CommandError) as refused:
        asked(command, resource(annotations, **status))
    assert str(refused.value) == words


def test_a_revision_that_aborts_for_want_of_a_stable_one_may_be_let_in_all_the_same() -> None:
    found = resource(**_aborting(f"{HOLDS}: why"))
    assert asked("promote-full", found)[0]["slipway.dev/promote-full"] == "bbbbbbbbbb.1"


def test_a_spec_that_holds_a_rollout_is_named() -> None:
    held = manifest(rollout=ROLLOUT)
    held["spec"]["rollout"]["paused"] = True
    with pytest.raises(CommandError) as refused:
        asked("promote", read(held))
    assert str(refused.value) == "fraud is held by spec.rollout.paused; set it to false first"


def test_a_spec_that_cannot_be_read_does_not_keep_a_person_from_promoting() -> None:
    found = read({**manifest(rollout={**ROLLOUT, "step": 2}), "spec": {"model": 7}})
    assert asked("promote", found)[1] == "rollout bbbbbbbbbb.1 goes on from step 3"


def test_the_version_of_the_command_that_can_read_a_status_is_named() -> None:
    with pytest.raises(CommandError) as refused:
        asked("abort", resource(rollout=NEWER))
    said = str(refused.value)
    assert said.startswith("this version of kubectl slipway cannot read the status of fraud: status.rollout.")
    assert said.endswith("; use the kubectl slipway of the operator's version")
