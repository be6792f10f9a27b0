"""What each gate makes of the evidence, in a verdict and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slipway.api.rollout import Analysis, Gate, GateStatus, LookStatus
from slipway.core.evidence import Look, below_objective_evidence, harm_evidence, no_harm_evidence

#: Chance of aborting a canary that is as good as stable, shared by all gates that can abort.
FALSE_ABORT = 0.01
#: Evidence that a gate needs to pass.
PASS_EVIDENCE = 40.0


def judge(analysis: Analysis, looks: Sequence[LookStatus]) -> tuple[GateStatus, ...]:
    """Judge every gate on the counts of all looks; recomputed from them each time, so that nothing is lost.

    A gate that takes part shares the false-abort probability with the others (Bonferroni).
    """
    acting = sum(not gate.dryRun for gate in analysis.gates) or 1
    needed = acting / FALSE_ABORT
    return tuple(_judge(gate, index, looks, needed) for index, gate in enumerate(analysis.gates))


def share(text: str) -> float:
    """``1%`` as 0.01."""
    return float(text.removesuffix("%")) / 100.0


def _judge(gate: Gate, index: int, looks: Sequence[LookStatus], needed: float) -> GateStatus:
    counted = [
        Look(look.canaryRequests, look.canaryEvents[index], look.stableRequests, look.stableEvents[index])
        for look in looks
        if index < len(look.canaryEvents) and index < len(look.stableEvents)
    ]
    requests = sum(look.canary_requests for look in counted)
    events = sum(look.canary_events for look in counted)
    stable_requests = sum(look.stable_requests for look in counted)
    stable_events = sum(look.stable_events for look in counted)
    what = "errors" if gate.type == "ErrorRate" else f"requests over {gate.thresholdMilliseconds} ms"
    fact = f"canary {events} {what} in {requests}, stable {stable_events} in {stable_requests}"

    harm = harm_evidence(counted, float(gate.toleratedRatio))
    if harm >= needed:
        return GateStatus(
            name=gate.name,
            verdict="Fail",
            message=f"{fact}: evidence {_number(harm)} ≥ {_number(needed)} of more than "
            f"{gate.toleratedRatio} times stable's rate",
        )
    good = below_objective_evidence(requests, events, share(gate.objective)) if share(gate.objective) else 0.0
    if good >= PASS_EVIDENCE:
        return GateStatus(
            name=gate.name,
            verdict="Pass",
            message=f"{fact}: evidence {_number(good)} ≥ {PASS_EVIDENCE:.0f} of less than {gate.objective}",
        )
    no_worse = no_harm_evidence(counted, float(gate.ruledOutRatio))
    if no_worse >= PASS_EVIDENCE:
        return GateStatus(
            name=gate.name,
            verdict="Pass",
            message=f"{fact}: evidence {_number(no_worse)} ≥ {PASS_EVIDENCE:.0f} of less than "
            f"{gate.ruledOutRatio} times stable's rate",
        )
    best = max(good, no_worse)
    return GateStatus(
        name=gate.name,
        verdict="Inconclusive",
        message=f"{fact}: evidence {_number(harm)} of {_number(needed)} against, "
        f"{_number(best)} of {PASS_EVIDENCE:.0f} for",
    )


def _number(value: float) -> str:
    """Short, and the same for the same evidence."""
    if math.isinf(value):
        return "over 1e300"
    if value >= 1e6:
        return f"{value:.0e}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
