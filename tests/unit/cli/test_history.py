"""``kubectl slipway history``."""

from __future__ import annotations

import json

import pytest

from slipway.api.rollout_status import DecisionStatus
from slipway.api.types import KIND
from slipway.cli.history import drawn
from slipway.cli.terminal import Tone, lay_out
from tests.unit.cli.conftest import Run
from tests.unit.world import NAME, NAMESPACE, World


def test_a_table_says_when_what_of_which_version_by_whom_and_why(
    run: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("history", NAME) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["WHEN", "DECISION", "VERSION", "REVISION", "BY", "ROLLOUT", "WHY"]
    stable, rollout = world.status()["stable"]["revision"], world.status()["rollout"]
    assert first.split()[1:] == ["Promoted", "1", stable, "Slipway", "-", "-"]
    assert second.split()[0] == world.status()["history"][1]["decidedAt"]
    assert second.split()[1:6] == ["Began", "2", rollout["revision"], "Slipway", rollout["id"]]
    assert second.endswith("   the spec asks for version 2")


def test_programs_get_the_object_and_its_name(
    run: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("history", NAME, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["status"]["history"] == world.status()["history"]
    assert run("history", NAME, "-o", "yaml") == 0
    assert "decision: Promoted" in capsys.readouterr().out
    assert run("history", NAME, "-o", "name") == 0
    assert capsys.readouterr().out == f"modeldeployment.slipway.dev/{NAME}\n"
    assert run("history", NAME, "--no-headers") == 0
    assert "WHEN" not in capsys.readouterr().out


def test_one_that_is_not_there_and_one_without_decisions_are_told_apart(
    run: Run, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("history", "other") == 1
    assert "there is no ModelDeployment payments/other" in capsys.readouterr().err
    world.kube.edit((KIND, NAMESPACE, NAME), lambda live: live.update(status={}), "slipway.dev/status")
    assert run("history", NAME) == 0
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", f"nothing was decided of rollouts of {NAME} yet\n")


def test_no_name_draws_on_the_terminal_or_forges_a_line() -> None:
    forged = DecisionStatus(
        decidedAt="2026-11-24T12:00:00Z",
        decision="Approved",
        revision="bbbbbbbbbb",
        person=True,
        by="alice\n2026-11-24T12:00:00Z   Approved\x1b[2J",
    )
    lines = drawn([forged], headers=False)
    assert [line.tone for line in lines] == [Tone.PLAIN]
    text = lay_out(lines, None, color=False)
    assert len(text.splitlines()) == 1
    assert text.isprintable()


def test_a_person_without_a_name_is_somebody_and_a_rejection_stands_out() -> None:
    decided = [
        DecisionStatus(decidedAt="2026-11-24T12:00:00Z", decision="Rejected", revision="b", person=True),
        DecisionStatus(decidedAt="2026-11-24T12:00:00Z", decision="Promoted", revision="a"),
    ]
    lines = drawn(decided, headers=False)
    assert [line.text.split()[4] for line in lines] == ["somebody", "Slipway"]
    assert [line.tone for line in lines] == [Tone.BAD, Tone.GOOD]
