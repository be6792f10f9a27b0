"""What each gate makes of the evidence, in a verdict and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from slipway.api.base import share
from slipway.api.rollout import Analysis, Gate
from slipway.api.rollout_status import GateStatus, LookStatus
from slipway.core.monitoring.verdict import number
from slipway.core.naming import content_hash
from slipway.core.rollout.evalues import (
    Look,
    above_objective_terms,
    below_objective_terms,
    harm_terms,
    held,
    no_harm_terms,
    since_any_look,
)
from slipway.core.rollout.looks import counted, named
from slipway.core.rollout.prediction_shift import MINIMUM_ANSWERS, Shift, shifts

#: Chance that any gate ever fails a canary whose rates stay within what is tolerated: over the whole rollout,
#: all its looks, and all gates that act together, as long as nobody edits them.
FALSE_ABORT = 0.01
#: Evidence that a gate needs to pass: it passes a canary that is as bad as what is to be ruled out in one of
#: so many rollouts at most.
PASS_EVIDENCE = 40.0
_OBJECTIVE, _TOLERATED, _RULED_OUT, _MOST_SHIFT = "1%", "1.25", "2", "0.2"
_AGREEMENT = "98%"
_WHAT = {"ErrorRate": "errors", "Violations": "requests against the input contract"}
_UNREAD = "the pods' own counters could not be read yet"
_Said = tuple[Literal["Pass", "Fail", "Inconclusive"], str]


def judge_gates(analysis: Analysis, looks: Sequence[LookStatus]) -> tuple[GateStatus, ...]:
    """Judge every gate on the counts of all looks; recomputed from them each time, so that nothing is lost.

    A gate that takes part shares the false-abort probability with the others (Bonferroni).
    """
    acting = sum(gate.acts for gate in analysis.gates) or 1
    needed = acting / FALSE_ABORT
    known = [named(look, analysis.gates) for look in looks]
    return tuple(_judge(gate, known, needed) for gate in analysis.gates)


def is_judged(analysis: Analysis, said: Sequence[GateStatus]) -> bool:
    """Whether verdicts are of these very gates: none of what they ask was edited since."""
    return [(gate.name, _asked(gate)) for gate in analysis.gates] == [(one.name, one.asked) for one in said]


def _asked(gate: Gate) -> str:
    return content_hash(gate.model_dump(mode="json", exclude={"dryRun"}, exclude_none=True))


def _judge(gate: Gate, looks: Sequence[LookStatus], needed: float) -> GateStatus:
    verdict, message = _verdict(gate, looks, needed)
    return GateStatus(name=gate.name, verdict=verdict, message=message[:1024], asked=_asked(gate))


def _verdict(gate: Gate, looks: Sequence[LookStatus], needed: float) -> _Said:
    if gate.is_counted_by_pods and looks and all(look.canaryServed is None for look in looks):
        return "Inconclusive", _UNREAD
    if gate.type == "PredictionShift":
        return _judge_shift(gate, looks)
    if gate.compares_answers:
        return _judge_agreement(gate, counted(gate, looks), needed)
    return _judge_events(gate, counted(gate, looks), needed)


def _judge_events(gate: Gate, looks: Sequence[Look], needed: float) -> _Said:
    requests = sum(look.canary_requests for look in looks)
    events = sum(look.canary_events for look in looks)
    stable_requests = sum(look.stable_requests for look in looks)
    stable_events = sum(look.stable_events for look in looks)
    what = _WHAT.get(gate.type, f"requests over {gate.thresholdMilliseconds} ms")
    fact = f"canary {events} {what} in {requests}, stable {stable_events} in {stable_requests}"
    tolerated, ruled_out = gate.toleratedRatio or _TOLERATED, gate.ruledOutRatio or _RULED_OUT
    objective = gate.objective or _OBJECTIVE

    harm = since_any_look(harm_terms(looks, float(tolerated)))
    if harm >= needed:
        against = (
            f"evidence {number_of(harm)} ≥ {number_of(needed)} of more than {tolerated} times stable's rate"
        )
        return "Fail", f"{fact}: {against}"
    good = held(below_objective_terms(looks, share(objective))) if share(objective) else 0.0
    if good >= PASS_EVIDENCE:
        return "Pass", f"{fact}: evidence {number_of(good)} ≥ {PASS_EVIDENCE:.0f} of less than {objective}"
    no_worse = held(no_harm_terms(looks, float(ruled_out)))
    if no_worse >= PASS_EVIDENCE:
        than = f"less than {ruled_out} times stable's rate"
        return "Pass", f"{fact}: evidence {number_of(no_worse)} ≥ {PASS_EVIDENCE:.0f} of {than}"
    return "Inconclusive", f"{fact}: {_undecided(harm, needed, max(good, no_worse))}"


def _judge_agreement(gate: Gate, looks: Sequence[Look], needed: float) -> _Said:
    pairs = sum(look.canary_requests for look in looks)
    unlike = sum(look.canary_events for look in looks)
    agreement = gate.minAgreement or _AGREEMENT
    fact = f"{unlike} of {pairs} requests were answered otherwise by the canary"
    allowed = 1.0 - share(agreement)
    against = since_any_look(above_objective_terms(looks, allowed))
    if against >= needed:
        return (
            "Fail",
            f"{fact}: evidence {number_of(against)} ≥ {number_of(needed)} of agreement below {agreement}",
        )
    good = held(below_objective_terms(looks, allowed))
    if good >= PASS_EVIDENCE:
        words = f"evidence {number_of(good)} ≥ {PASS_EVIDENCE:.0f} of agreement above {agreement}"
        return "Pass", f"{fact}: {words}"
    return "Inconclusive", f"{fact}: {_undecided(against, needed, good)}"


def _undecided(against: float, needed: float, good: float) -> str:
    return (
        f"evidence {number_of(against)} of {number_of(needed)} against, "
        f"{number_of(good)} of {PASS_EVIDENCE:.0f} for"
    )


def _judge_shift(gate: Gate, looks: Sequence[LookStatus]) -> _Said:
    limit = gate.maxPSI or _MOST_SHIFT
    known = [(look.predictions, look.looks or 1) for look in looks if look.predictions is not None]
    found = shifts([one for one, _ in known], float(limit), [length for _, length in known])
    if not found:
        why = f": {looks[-1].apart}" if looks and looks[-1].apart else ""
        return "Inconclusive", f"no output is counted in the same bins by both revisions{why}"
    if found[0].is_beyond:
        moved = "; ".join(_shift(one) for one in found if one.is_beyond)
        return "Fail", f"{moved}; more than {limit}"
    if all(one.is_ruled_out for one in found):
        return "Pass", f"{_shift(found[0])}; less than {limit}"
    few = next((one for one in found if not one.is_known), None)
    if few is not None:
        return "Inconclusive", f"{_answers(few)}; {MINIMUM_ANSWERS:,} of each are needed"
    undecided = next(one for one in found if not one.is_ruled_out)
    return "Inconclusive", f"{_shift(undecided)}; too few to tell it from {limit}"


def _shift(one: Shift) -> str:
    return f"PSI {number(one.drift.excess)} beyond noise, {_answers(one)}"


def _answers(one: Shift) -> str:
    drift = one.drift
    stable = f"{drift.reference_rows:,.0f}"
    return f"output {one.output}: {drift.rows:,.0f} answers of the canary, of stable as good as {stable}"


def number_of(value: float) -> str:
    """Short, and the same for the same evidence."""
    if math.isinf(value):
        return "over 1e300"
    if value >= 1e6:
        return f"{value:.0e}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
