"""What each gate makes of the evidence, in a verdict and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slipway.api.rollout import Analysis, Gate, GateStatus, LookStatus
from slipway.core.evidence import (
    Look,
    above_objective_evidence,
    below_objective_evidence,
    harm_evidence,
    no_harm_evidence,
)
from slipway.core.monitoring.verdict import number
from slipway.core.prediction_shift import MINIMUM_ANSWERS, Shift, shifts

#: Chance of aborting a canary that is as good as stable, shared by all gates that can abort.
FALSE_ABORT = 0.01
#: Evidence that a gate needs to pass.
PASS_EVIDENCE = 40.0
_OBJECTIVE, _TOLERATED, _RULED_OUT, _MOST_SHIFT = "1%", "1.25", "2", "0.2"
_AGREEMENT = "98%"
#: By how much numbers that are alike may differ unless a gate says otherwise.
TOLERANCE = "1%"
_WHAT = {"ErrorRate": "errors", "Violations": "requests against the input contract"}
_UNREAD = "the pods' own counters could not be read yet"


def judge(analysis: Analysis, looks: Sequence[LookStatus]) -> tuple[GateStatus, ...]:
    """Judge every gate on the counts of all looks; recomputed from them each time, so that nothing is lost.

    A gate that takes part shares the false-abort probability with the others (Bonferroni).
    """
    acting = sum(gate.acts for gate in analysis.gates) or 1
    needed = acting / FALSE_ABORT
    return tuple(_judge(gate, index, looks, needed) for index, gate in enumerate(analysis.gates))


def share(text: str) -> float:
    """``1%`` as 0.01."""
    return float(text.removesuffix("%")) / 100.0


def _judge(gate: Gate, index: int, looks: Sequence[LookStatus], needed: float) -> GateStatus:
    if gate.is_counted_by_pods and looks and all(look.canaryServed is None for look in looks):
        return GateStatus(name=gate.name, verdict="Inconclusive", message=_UNREAD)
    if gate.type == "PredictionShift":
        return _judge_shift(gate, looks)
    if gate.compares_answers:
        return _judge_agreement(gate, index, looks, needed)
    return _judge_events(gate, _counted(gate, index, looks), needed)


def _counted(gate: Gate, index: int, looks: Sequence[LookStatus]) -> list[Look]:
    """What each look says of a gate; looks that say nothing of it are left out."""
    found = []
    for look in looks:
        canary, stable = look.canaryRequests, look.stableRequests
        if gate.is_counted_by_pods:
            if look.canaryServed is None or look.stableServed is None:
                continue
            canary, stable = look.canaryServed, look.stableServed
        if index < len(look.canaryEvents) and index < len(look.stableEvents):
            found.append(Look(canary, look.canaryEvents[index], stable, look.stableEvents[index]))
    return found


def _judge_events(gate: Gate, counted: Sequence[Look], needed: float) -> GateStatus:
    requests = sum(look.canary_requests for look in counted)
    events = sum(look.canary_events for look in counted)
    stable_requests = sum(look.stable_requests for look in counted)
    stable_events = sum(look.stable_events for look in counted)
    what = _WHAT.get(gate.type, f"requests over {gate.thresholdMilliseconds} ms")
    fact = f"canary {events} {what} in {requests}, stable {stable_events} in {stable_requests}"
    tolerated, ruled_out = gate.toleratedRatio or _TOLERATED, gate.ruledOutRatio or _RULED_OUT
    objective = gate.objective or _OBJECTIVE

    harm = harm_evidence(counted, float(tolerated))
    if harm >= needed:
        return GateStatus(
            name=gate.name,
            verdict="Fail",
            message=f"{fact}: evidence {_number(harm)} ≥ {_number(needed)} of more than "
            f"{tolerated} times stable's rate",
        )
    good = below_objective_evidence(requests, events, share(objective)) if share(objective) else 0.0
    if good >= PASS_EVIDENCE:
        return GateStatus(
            name=gate.name,
            verdict="Pass",
            message=f"{fact}: evidence {_number(good)} ≥ {PASS_EVIDENCE:.0f} of less than {objective}",
        )
    no_worse = no_harm_evidence(counted, float(ruled_out))
    if no_worse >= PASS_EVIDENCE:
        return GateStatus(
            name=gate.name,
            verdict="Pass",
            message=f"{fact}: evidence {_number(no_worse)} ≥ {PASS_EVIDENCE:.0f} of less than "
            f"{ruled_out} times stable's rate",
        )
    best = max(good, no_worse)
    return GateStatus(
        name=gate.name,
        verdict="Inconclusive",
        message=f"{fact}: evidence {_number(harm)} of {_number(needed)} against, "
        f"{_number(best)} of {PASS_EVIDENCE:.0f} for",
    )


def _judge_agreement(gate: Gate, index: int, looks: Sequence[LookStatus], needed: float) -> GateStatus:
    counted = [look for look in looks if look.pairs is not None and index < len(look.canaryEvents)]
    pairs = sum(look.pairs or 0 for look in counted)
    unlike = min(pairs, sum(look.canaryEvents[index] for look in counted))
    agreement = gate.minAgreement or _AGREEMENT
    fact = f"{unlike} of {pairs} requests were answered otherwise by the canary"
    allowed = 1.0 - share(agreement)
    against = above_objective_evidence(pairs, unlike, allowed)
    if against >= needed:
        message = f"{fact}: evidence {_number(against)} ≥ {_number(needed)} of agreement below {agreement}"
        return GateStatus(name=gate.name, verdict="Fail", message=message)
    good = below_objective_evidence(pairs, unlike, allowed)
    if good >= PASS_EVIDENCE:
        message = f"{fact}: evidence {_number(good)} ≥ {PASS_EVIDENCE:.0f} of agreement above {agreement}"
        return GateStatus(name=gate.name, verdict="Pass", message=message)
    message = (
        f"{fact}: evidence {_number(against)} of {_number(needed)} against, "
        f"{_number(good)} of {PASS_EVIDENCE:.0f} for"
    )
    return GateStatus(name=gate.name, verdict="Inconclusive", message=message)


def _judge_shift(gate: Gate, looks: Sequence[LookStatus]) -> GateStatus:
    limit = gate.maxPSI or _MOST_SHIFT
    found = shifts([look.predictions for look in looks if look.predictions is not None], float(limit))
    if not found:
        message = "no output is counted in the same bins by both revisions"
        return GateStatus(name=gate.name, verdict="Inconclusive", message=message)
    if found[0].is_beyond:
        moved = "; ".join(_shift(one) for one in found if one.is_beyond)
        return GateStatus(name=gate.name, verdict="Fail", message=f"{moved}; more than {limit}"[:1024])
    if all(one.is_ruled_out for one in found):
        return GateStatus(
            name=gate.name, verdict="Pass", message=f"{_shift(found[0])}; less than {limit}"[:1024]
        )
    few = next((one for one in found if not one.is_known), None)
    if few is None:
        undecided = next(one for one in found if not one.is_ruled_out)
        message = f"{_shift(undecided)}; too few to tell it from {limit}"
    else:
        message = f"{_answers(few)}; {MINIMUM_ANSWERS:,} of each are needed"
    return GateStatus(name=gate.name, verdict="Inconclusive", message=message[:1024])


def _shift(one: Shift) -> str:
    return f"PSI {number(one.drift.excess)} beyond noise, {_answers(one)}"


def _answers(one: Shift) -> str:
    drift = one.drift
    stable = f"{drift.reference_rows:,.0f}"
    return f"output {one.output}: {drift.rows:,.0f} answers of the canary, of stable as good as {stable}"


def _number(value: float) -> str:
    """Short, and the same for the same evidence."""
    if math.isinf(value):
        return "over 1e300"
    if value >= 1e6:
        return f"{value:.0e}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
