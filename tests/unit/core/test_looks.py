"""What status keeps of looks: by gate, within bounds, and as version 0.1 reads it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator

from slipway.api.rollout import Analysis, AnalysisStep, Gate, Rollout, Step
from slipway.api.rollout_status import GateStatus, LookStatus, PredictionStatus, RolloutStatus
from slipway.core.rollout.evalues import Look, from_first_look, harm_terms, no_harm_terms, since_any_look
from slipway.core.rollout.gates import judge_gates
from slipway.core.rollout.looks import MOST_LOOKS, condensed, counted, gate_key, named, with_look
from slipway.core.rollout.machine import Decision, Situation, StepOutcome, decide
from tests.unit.core.before import models as before

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SCHEMA = yaml.safe_load((Path(__file__).parent / "before" / "rollout.yaml").read_text())
ERRORS = Gate(name="errors", type="ErrorRate")
SLOW = Gate(name="slow", type="SlowRequests", thresholdMilliseconds=250, objective="0%")
CONTRACT = Gate(name="contract", type="Violations")
ALIKE = Gate(name="alike", type="ShadowAgreement")
SHIFT = Gate(name="shift", type="PredictionShift")


def look(
    canary: Sequence[int], stable: Sequence[int] = (), requests: int = 1000, **fields: Any
) -> LookStatus:
    return LookStatus(
        canaryRequests=requests,
        canaryEvents=tuple(canary),
        stableRequests=9 * requests,
        stableEvents=tuple(stable) or tuple(9 * found for found in canary),
        **fields,
    )


def state(looks: Sequence[LookStatus] = (), said: Sequence[str] = (), **fields: Any) -> RolloutStatus:
    """A canary at 10% in its analysis, as it stands before its next look."""
    usual = {
        "phase": "Progressing",
        "revision": "b",
        "id": "b.1",
        "step": 1,
        "startedAt": "2026-11-24T11:00:00Z",
        "stepStartedAt": "2026-11-24T11:00:00Z",
        "weight": 10,
        "looks": tuple(looks),
        "gates": tuple(GateStatus(name=name, verdict="Inconclusive", message="") for name in said),
    }
    return RolloutStatus(**{**usual, **fields})


def seen(counts: LookStatus | None) -> Situation:
    return Situation("b", 4, 4, 4, 10, seen_weights=frozenset({10}), counts=counts)


def spec(*gates: Gate) -> Rollout:
    steps = (Step(setWeight=10), Step(analysis=AnalysisStep()), Step(setWeight=50))
    return Rollout(strategy="Canary", steps=steps, analysis=Analysis(gates=gates, maxDurationSeconds=86_400))


def after(*course: tuple[Rollout, LookStatus | None], begun: RolloutStatus | None = None) -> Decision:
    """The last decision of a row of looks, each under the gates of its time."""
    found = begun or state()
    for number, (rollout, counts) in enumerate(course):
        decision = decide(rollout, found, seen(counts), START + timedelta(seconds=31 * number))
        found = decision.state
    return decision


def message(decision: Decision, name: str) -> str:
    return next(gate.message for gate in decision.state.gates if gate.name == name)


def test_gates_in_another_order_keep_their_own_counts() -> None:
    first = [(spec(ERRORS, SLOW), look((2, 120), (18, 1080)))] * 3
    decision = after(*first, (spec(SLOW, ERRORS), look((120, 2), (1080, 18))))
    assert decision.outcome is StepOutcome.CONTINUE
    assert message(decision, "errors").startswith("canary 8 errors in 4000, stable 72 in 36000")
    assert message(decision, "slow").startswith(
        "canary 480 requests over 250 ms in 4000, stable 4320 in 36000"
    )


def test_verdicts_follow_an_edit_at_once_and_not_only_at_the_next_look() -> None:
    bad = [(spec(ERRORS.model_copy(update={"dryRun": True})), look((60,), (90,)))]
    assert after(*bad).outcome is StepOutcome.CONTINUE
    another = SLOW.model_copy(update={"name": "errors"})
    edited = after(*bad, (spec(another), None))
    assert edited.outcome is StepOutcome.CONTINUE, "it failed as a gate of errors"
    assert edited.state.gates[0].verdict == "Inconclusive"
    assert after(*bad, (spec(ERRORS), None)).outcome is StepOutcome.REJECT, (
        "the same question, and now it acts"
    )


def test_a_gate_that_was_added_has_to_pass_before_its_analysis_is_over() -> None:
    good = (spec(ERRORS), look((0,), (0,)))
    held = spec(ERRORS)
    waiting = after(good, begun=state(step=1))
    assert waiting.state.step == 2
    two = spec(ERRORS, SLOW)
    paused = after((held.model_copy(update={"paused": True}), look((0,), (0,))))
    assert paused.state.step == 1
    assert after((held, None), begun=paused.state).state.step == 2
    decision = after((two, None), begun=paused.state)
    assert decision.state.step == 1
    assert {gate.name: gate.verdict for gate in decision.state.gates} == {
        "errors": "Pass",
        "slow": "Inconclusive",
    }


@pytest.mark.parametrize(
    "edited",
    [
        SLOW.model_copy(update={"thresholdMilliseconds": 500}),
        SLOW.model_copy(update={"name": "tail"}),
        Gate(name="slow", type="ErrorRate"),
    ],
    ids=["threshold", "name", "type"],
)
def test_a_gate_that_counts_something_else_begins_with_nothing(edited: Gate) -> None:
    decision = after((spec(SLOW), look((500,), requests=10_000)), (spec(edited), look((1,))))
    assert message(decision, edited.name).startswith("canary 1 ")
    assert " in 1000, stable 9 in 9000" in message(decision, edited.name)


@pytest.mark.parametrize(
    "edited",
    [
        SLOW.model_copy(update={"toleratedRatio": "3"}),
        SLOW.model_copy(update={"ruledOutRatio": "5"}),
        SLOW.model_copy(update={"objective": "5%"}),
        SLOW.model_copy(update={"dryRun": True}),
    ],
    ids=["tolerated", "ruled-out", "objective", "dry-run"],
)
def test_what_counts_are_held_against_may_be_changed_and_loses_none_of_them(edited: Gate) -> None:
    decision = after((spec(SLOW), look((2,), (18,))), (spec(edited), look((1,), (9,))))
    assert message(decision, "slow").startswith("canary 3 requests over 250 ms in 2000, stable 27 in 18000")


def test_a_tolerance_of_answers_is_part_of_what_is_counted_and_a_limit_is_not() -> None:
    assert gate_key(ALIKE) == gate_key(ALIKE.model_copy(update={"minAgreement": "90%"}))
    assert gate_key(ALIKE) == gate_key(ALIKE.model_copy(update={"tolerance": "1%"})), "which it has anyway"
    assert gate_key(ALIKE) != gate_key(ALIKE.model_copy(update={"tolerance": "2%"}))


def test_a_gate_that_comes_back_has_what_it_counted_and_nobody_elses() -> None:
    decision = after(
        (spec(ERRORS, SLOW), look((2, 100), (18, 900))),
        (spec(ERRORS), look((2,), (18,))),
        (spec(SLOW, ERRORS), look((100, 2), (900, 18))),
    )
    assert message(decision, "errors").startswith("canary 6 errors in 3000")
    assert message(decision, "slow").startswith("canary 200 requests over 250 ms in 2000")


def test_looks_of_a_rollout_that_version_0_1_began_are_carried_on() -> None:
    begun = state([look((2, 120), (18, 1080))] * 60, said=("errors", "slow"))
    decision = after((spec(SLOW, ERRORS), look((120, 2), (1080, 18))), begun=begun)
    assert message(decision, "errors").startswith("canary 122 errors in 61000, stable 1098 in 549000")
    assert message(decision, "slow").startswith("canary 7320 requests over 250 ms in 61000")
    assert len(decision.state.looks) == MOST_LOOKS


def test_gates_edited_between_two_versions_are_told_apart_before_the_first_look_of_the_new_one() -> None:
    begun = state([look((2, 120), (18, 1080))] * 3, said=("errors", "slow"))
    decision = after((spec(ERRORS, SLOW), None), (spec(SLOW, ERRORS), None), begun=begun)
    assert message(decision, "errors").startswith("canary 6 errors")


@pytest.mark.parametrize("events", [(1,), (1, 2, 3)])
def test_looks_with_more_or_fewer_places_than_gates_are_nobodys(events: tuple[int, ...]) -> None:
    assert named(look(events), (ERRORS, SLOW)).gates == ()


def test_a_look_that_contradicts_itself_ends_no_reconcile() -> None:
    """Version 0.1 wrote events of one gate into the place of another."""
    found = named(look((500,), (0,), canaryServed=100, stableServed=900), (CONTRACT,))
    assert counted(CONTRACT, [found]) == [Look(100, 100, 900, 0)]


def test_answers_are_matched_by_their_bins_and_not_by_how_many_there_are() -> None:
    def answers(bins: str, canary: tuple[int, int], stable: tuple[int, int]) -> LookStatus:
        found = PredictionStatus(output="label", bins=bins, canary=canary, stable=stable)
        return look((0,), canaryServed=1000, stableServed=9000, predictions=(found,))

    gate = SHIFT.model_copy(update={"dryRun": False})
    earlier = [answers("a", (900, 100), (100, 900))] * 2
    (said,) = judge_gates(Analysis(gates=(gate,)), [*earlier, answers("b", (500, 500), (500, 500))])
    assert said.verdict == "Pass"
    assert "1,000 answers of the canary" in said.message
    many = with_look([answers("a", (90, 10), (10, 90))] * 60, answers("b", (500, 500), (500, 500)), (gate,))
    assert many[-1].predictions == (
        PredictionStatus(output="label", bins="b", canary=(500, 500), stable=(500, 500)),
    )


_requests = st.integers(0, 100_000)
_shares = st.sampled_from([0.0, 0.001, 0.01, 0.5, 1.0])


@st.composite
def _looks(draw: st.DrawFn) -> LookStatus:
    canary, stable = draw(_requests), draw(_requests)
    counts = [int(draw(_shares) * requests) for requests in (canary, stable)]
    return look((counts[0],), (counts[1],), requests=1).model_copy(
        update={"canaryRequests": canary, "stableRequests": stable}
    )


@given(st.lists(_looks(), max_size=60), st.integers(1, 20))
def test_sums_are_few_lose_no_request_and_never_speak_louder_than_their_looks(
    looks: list[LookStatus], most: int
) -> None:
    given = [named(one, (ERRORS,)) for one in looks]
    few = condensed(given, most)
    assert len(few) <= max(most, 1)
    assert sum(one.canaryRequests for one in few) == sum(one.canaryRequests for one in looks)
    assert sum(one.looks or 1 for one in few) == len(looks)
    exact, summed = counted(ERRORS, given), counted(ERRORS, few)
    assert sum(one.canary_events for one in summed) == sum(one.canary_events for one in exact)
    # Of a millionth of an event each, which is what is written down.
    slack = 1.0 + 1e-3
    for tolerated in (1.0, 1.25, 4.0):
        louder = since_any_look(harm_terms(summed, tolerated))
        assert louder <= since_any_look(harm_terms(exact, tolerated)) * slack
        louder = from_first_look(no_harm_terms(summed, tolerated))
        assert louder <= from_first_look(no_harm_terms(exact, tolerated)) * slack


def test_a_fault_is_dated_to_a_part_of_its_age_however_long_the_rollout_is() -> None:
    found: list[LookStatus] = []
    for _ in range(5_000):
        found = condensed([*found, named(look((1,)), (ERRORS,))], MOST_LOOKS)
    ages, age = [], 0
    for one in reversed(found):
        age += one.looks or 1
        ages.append(age)
    assert ages[-1] == 5_000
    assert ages[:2] == [1, 2]
    assert all(older <= 2.5 * newer for newer, older in pairwise(ages))


def test_looks_at_other_weights_stay_apart_as_long_as_there_is_room() -> None:
    low = [named(look((1,)), (ERRORS,)) for _ in range(200)]
    high = [one.model_copy(update={"stableRequests": one.canaryRequests}) for one in low]
    shares = [
        one.canaryRequests / (one.canaryRequests + one.stableRequests) for one in condensed(low + high, 24)
    ]
    assert {round(share, 6) for share in shares} == {0.1, 0.5}


def _was(status: RolloutStatus) -> before.RolloutStatus:
    """What version 0.1 makes of a status, after its CRD let it pass."""
    written = status.model_dump(mode="json", exclude_none=True)
    OAS30Validator(SCHEMA).validate(written)
    return before.RolloutStatus.model_validate(written)


_gate_lists = st.lists(st.sampled_from([ERRORS, SLOW, CONTRACT, ALIKE, SHIFT]), min_size=1, unique=True)


@st.composite
def _courses(draw: st.DrawFn) -> list[tuple[tuple[Gate, ...], LookStatus]]:
    """Looks under gates that are edited now and then."""
    course = []
    gates = tuple(draw(_gate_lists))
    for _ in range(draw(st.integers(1, 40))):
        if draw(st.integers(0, 9)) == 0:
            gates = tuple(draw(_gate_lists))
        requests, read = draw(st.integers(1, 1000)), draw(st.booleans())
        events = tuple(draw(st.integers(0, requests)) for _ in gates)
        counts = look(
            events,
            tuple(draw(st.integers(0, 9 * requests)) for _ in gates),
            requests=requests,
            canaryServed=requests if read else None,
            stableServed=9 * requests if read else None,
            pairs=requests if draw(st.booleans()) else None,
            predictions=(PredictionStatus(output="o", bins="x", canary=(1, 2), stable=(3, 4)),)
            if read
            else None,
        )
        course.append((gates, counts))
    return course


@settings(max_examples=40)
@given(_courses())
def test_what_is_written_is_read_by_version_0_1_and_never_as_another_gates_counts(
    course: list[tuple[tuple[Gate, ...], LookStatus]],
) -> None:
    looks: tuple[LookStatus, ...] = ()
    for gates, counts in course:
        looks = with_look(looks, counts, gates)
        looks = tuple(
            LookStatus.model_validate(one.model_dump(mode="json", exclude_none=True)) for one in looks
        )
    said = judge_gates(Analysis(gates=gates), looks)
    read = _was(state(looks, steps=("setWeight/1",)).model_copy(update={"gates": said}))
    assert [one.name for one in read.gates] == [gate.name for gate in gates]
    for index, gate in enumerate(gates):
        if gate in (SHIFT, ALIKE):
            continue
        for old, one in zip(read.looks, looks, strict=True):
            found = before.counted(old, index, gate.is_counted_by_pods)
            mine = counted(gate, [one])
            if found is not None:
                assert [found] == [
                    (new.canary_requests, new.canary_events, new.stable_requests, new.stable_events)
                    for new in mine
                ]


@settings(max_examples=40)
@given(_courses())
def test_without_an_edit_version_0_1_goes_on_with_every_request(
    course: list[tuple[tuple[Gate, ...], LookStatus]],
) -> None:
    looks: tuple[LookStatus, ...] = ()
    for _, counts in course:
        looks = with_look(
            looks, counts.model_copy(update={"canaryEvents": (1,), "stableEvents": (2,)}), (ERRORS,)
        )
    read = [before.counted(old, 0, False) for old in _was(state(looks)).looks]
    assert sum(found[0] for found in read if found) == sum(counts.canaryRequests for _, counts in course)
    assert sum(found[1] for found in read if found) == len(course)


def test_status_stays_small_however_long_a_rollout_with_all_gates_is() -> None:
    gates = tuple(
        Gate(name=f"{'g' * 55}-{number}", type="SlowRequests", thresholdMilliseconds=250)
        for number in range(8)
    )
    looks: tuple[LookStatus, ...] = ()
    for _ in range(200):
        looks = with_look(looks, look((1000,) * 8, requests=1_000_000), gates)
    assert len(state(looks).model_dump_json(exclude_none=True)) < 64_000
