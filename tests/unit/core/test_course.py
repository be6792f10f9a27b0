"""Steps that are edited while a rollout goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.rollout import AnalysisStep, Pause, Rollout, SetMirror, Step
from slipway.api.rollout_status import LookStatus, RolloutStatus
from slipway.core.rollout.machine import Command, Situation, decide
from slipway.core.rollout.steps import on_course
from tests.unit.core.before import models as before

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = START + timedelta(minutes=10)
ANALYSIS = Step(analysis=AnalysisStep())
APPROVAL = Step(pause=Pause(untilApproved=True))
TEN, FIFTY = Step(setWeight=10), Step(setWeight=50)
GOOD = LookStatus(canaryRequests=50_000, canaryEvents=(5,), stableRequests=50_000, stableEvents=(5,))


def state(*done: Step, rest: tuple[Step, ...] = ()) -> RolloutStatus:
    begun = RolloutStatus(
        phase="Progressing",
        revision="b",
        id="b.1",
        startedAt="2026-11-24T12:00:00Z",
        stepStartedAt="2026-11-24T12:00:00Z",
    )
    return on_course((*done, *rest), begun, START).model_copy(update={"step": len(done)})


def test_steps_that_were_not_edited_are_where_they_were() -> None:
    begun = state(TEN, ANALYSIS, rest=(FIFTY,))
    assert on_course((TEN, ANALYSIS, FIFTY), begun, LATER) is begun


@pytest.mark.parametrize(
    ("done", "now", "step"),
    [
        ((TEN,), (TEN, ANALYSIS, FIFTY), 1),
        ((TEN, FIFTY), (TEN, ANALYSIS, FIFTY), 1),
        ((TEN, FIFTY), (APPROVAL, TEN, FIFTY), 0),
        ((TEN, ANALYSIS, FIFTY), (FIFTY, ANALYSIS), 1),
        ((TEN, ANALYSIS, FIFTY, ANALYSIS), (TEN, FIFTY, ANALYSIS), 3),
        ((TEN, ANALYSIS), (Step(setWeight=5), ANALYSIS), 0),
        ((TEN, Step(pause=Pause(seconds=60))), (TEN, APPROVAL, FIFTY), 1),
        ((TEN, ANALYSIS), (), 0),
        ((TEN, ANALYSIS), (TEN, ANALYSIS), 2),
    ],
    ids=[
        "put in after it",
        "an analysis put in before it",
        "a pause put in at the front",
        "taken out at the front",
        "an analysis taken out that was done",
        "another weight",
        "another pause",
        "all taken out",
        "those to come taken out",
    ],
)
def test_a_rollout_goes_on_at_the_first_step_that_was_not_done(
    done: tuple[Step, ...], now: tuple[Step, ...], step: int
) -> None:
    assert on_course(now, state(*done, rest=(FIFTY,)), LATER).step == step


_steps = st.lists(
    st.sampled_from(
        [
            TEN,
            FIFTY,
            ANALYSIS,
            APPROVAL,
            Step(pause=Pause(seconds=60)),
            Step(setMirror=SetMirror(percent=100)),
        ]
    ),
    max_size=8,
)


@given(_steps, _steps, _steps)
def test_no_step_is_ever_passed_over_that_was_not_gone_through_in_this_order(
    done: list[Step], rest: list[Step], now: list[Step]
) -> None:
    found = on_course(tuple(now), state(*done, rest=tuple(rest)), LATER)
    left = iter(done)
    assert all(step in left for step in now[: found.step]), "a row of steps within those that were done"
    assert found.step == len(now) or now[found.step] not in list(left), "and the longest"
    written = found.model_dump(mode="json", exclude_none=True)
    assert before.RolloutStatus.model_validate(written).step == found.step


def test_a_pause_that_is_made_longer_goes_on_from_when_it_began() -> None:
    begun = state(TEN, rest=(Step(pause=Pause(seconds=60)),))
    longer = on_course((TEN, Step(pause=Pause(seconds=3600))), begun, LATER)
    assert (longer.step, longer.stepStartedAt) == (1, begun.stepStartedAt)
    other = on_course((TEN, ANALYSIS), begun, LATER)
    assert (other.step, other.stepStartedAt) == (1, "2026-11-24T12:10:00Z")


def test_a_status_of_version_0_1_keeps_its_place() -> None:
    begun = state(TEN, ANALYSIS, rest=(FIFTY,)).model_copy(update={"steps": None})
    assert on_course((TEN, ANALYSIS, FIFTY), begun, LATER).step == 2
    assert on_course((TEN,), begun, LATER).step == 1


def test_an_analysis_that_is_put_in_before_the_step_that_goes_on_is_gone_through() -> None:
    """Through the whole machine: by its place, step 2 of the edited list is past the analysis."""

    def seen(weight: int, *commands: Command) -> Situation:
        return Situation(
            "b", 4, 4, 4, 10, seen_weights=frozenset({weight}), commands=frozenset(commands), counts=GOOD
        )

    spec = Rollout(strategy="Canary", steps=(TEN, APPROVAL, FIFTY))
    begun = decide(spec, None, seen(0), START).state
    waits = decide(spec, begun, seen(10), START + timedelta(seconds=1)).state
    assert (waits.step, waits.phase) == (1, "Paused")
    edited = Rollout(strategy="Canary", steps=(TEN, ANALYSIS, APPROVAL, FIFTY))
    asked = decide(edited, waits, seen(10), START + timedelta(seconds=2)).state
    assert (asked.step, asked.message) == (1, "gathers evidence")
    passed = decide(edited, asked, seen(10), START + timedelta(seconds=40)).state
    assert (passed.step, passed.phase) == (2, "Paused")
