"""The newest look of a rollout: what both arms answered since the one before, as status keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slipway.api.rollout import Gate
from slipway.api.rollout_status import MAX_OUTPUTS, LookStatus, PredictionStatus
from slipway.core import naming
from slipway.core.observed import AnswerAgreement, ArmCount, ObservedTraffic, ServedCount
from slipway.core.rollout.prediction_shift import bin_names, common_bins

#: Letters of an output's name in a message.
_SHOWN = 40


def new_look(gates: Iterable[Gate], traffic: ObservedTraffic) -> LookStatus | None:
    """The counts since the last look as status keeps them, or None where they could not be had."""
    if traffic.canary is None or traffic.stable is None:
        return None
    listed = tuple(gates)
    canary, stable = traffic.canary_served, traffic.stable_served
    served = canary is not None and stable is not None
    shifts = served and any(gate.type == "PredictionShift" for gate in listed)
    predictions = _predictions(canary, stable) if canary and stable and shifts else None
    return LookStatus(
        canaryRequests=traffic.canary.requests,
        canaryEvents=tuple(_events(gate, traffic.canary, canary, traffic.agreement) for gate in listed),
        stableRequests=traffic.stable.requests,
        stableEvents=tuple(_events(gate, traffic.stable, stable) for gate in listed),
        canaryServed=canary.requests if canary is not None and served else None,
        stableServed=stable.requests if stable is not None and served else None,
        pairs=traffic.agreement.pairs if traffic.agreement is not None else None,
        predictions=predictions,
        apart=_apart(canary, stable) if canary and stable and predictions == () else None,
    )


def _events(
    gate: Gate, count: ArmCount, served: ServedCount | None, agreement: AnswerAgreement | None = None
) -> int:
    # Counters are read one after the other while requests go on.
    match gate.type:
        case "ErrorRate":
            return min(count.errors, count.requests)
        case "SlowRequests":
            return min(count.slow.get(gate.thresholdMilliseconds or 0, 0), count.requests)
        case "Violations":
            return min(served.violations, served.requests) if served is not None else 0
        case "ShadowAgreement":
            return agreement.unlike.get(gate.name, 0) if agreement is not None else 0
        case _:
            return 0


def _predictions(canary: ServedCount, stable: ServedCount) -> tuple[PredictionStatus, ...]:
    found: list[PredictionStatus] = []
    for output in sorted(canary.predictions.keys() & stable.predictions.keys()):
        arms = (canary.predictions[output], stable.predictions[output])
        bins = common_bins(*arms)
        if bins is not None and len(found) < MAX_OUTPUTS:
            counted = naming.content_hash(bin_names(*arms))
            found.append(PredictionStatus(output=output[:253], bins=counted, canary=bins[0], stable=bins[1]))
    return tuple(found)


def _apart(canary: ServedCount, stable: ServedCount) -> str | None:
    """What each counts, of which none can be compared; None where neither counts any."""
    ours, others = sorted(canary.predictions), sorted(stable.predictions)
    if not ours and not others:
        return None
    if ours == others:
        return f"both count {_listed(ours)}, but in other bins"[:512]
    return f"the canary counts {_listed(ours)}, and stable {_listed(others)}"[:512]


def _listed(outputs: Sequence[str]) -> str:
    return " and ".join(f"{output[:_SHOWN]!r}" for output in outputs[:MAX_OUTPUTS]) or "none"
