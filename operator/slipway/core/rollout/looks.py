"""What status keeps of a rollout's looks: counts by gate, the older ones as sums.

Gates are edited while rollouts go on, so counts are found by the gate's name and what it counts, never by its
place. The places of ``canaryEvents`` and ``stableEvents`` are for operators of version 0.1 alone, which go on
with these looks after a rollback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slipway.api.base import share
from slipway.api.rollout import MAX_GATES, Gate
from slipway.api.rollout_status import (
    MAX_OUTPUTS,
    GateCountStatus,
    LookStatus,
    PredictionStatus,
    RolloutStatus,
)
from slipway.core.naming import content_hash
from slipway.core.rollout.evalues import Look

#: Looks that are kept; with more of them, older ones are summed.
MOST_LOOKS = 24
#: By how much numbers that are alike may differ unless a gate says otherwise.
TOLERANCE = "1%"
#: Sums of looks whose split differs by more than about this are avoided.
_NEAR = 0.05


def gate_key(gate: Gate) -> str:
    """The gate's name, and a hash of all that changes what its counts mean.

    What the counts are held against (objective, ratios, limits) is none of it, nor whether the gate acts.
    """
    meaning: list[object] = [gate.type]
    if gate.type == "SlowRequests":
        meaning.append(gate.thresholdMilliseconds)
    if gate.type == "ShadowAgreement":
        meaning.append(share(gate.tolerance or TOLERANCE))
    return f"{gate.name}/{content_hash(meaning)}"


def named(look: LookStatus, gates: Sequence[Gate | None]) -> LookStatus:
    """The look with what it counted by gate.

    Args:
        look: one that version 0.1 wrote has its events by place alone.
        gates: whose places those are; None where a gate is no more. With more or fewer places the events are
            nobody's.
    """
    if look.gates is not None:
        return look
    if not len(look.canaryEvents) == len(look.stableEvents) == len(gates):
        return look.model_copy(update={"gates": ()})
    places = zip(gates, look.canaryEvents, look.stableEvents, strict=True)
    counts = (_count(gate, look, *events) for gate, *events in places if gate is not None)
    return look.model_copy(update={"gates": tuple(found for found in counts if found is not None)})


def carried_over(state: RolloutStatus, gates: Sequence[Gate]) -> tuple[LookStatus, ...]:
    """The looks of a rollout that version 0.1 began, by gate; others are so already.

    Its places are those of the gates that it gave its last verdicts on.
    """
    by_name = {gate.name: gate for gate in gates}
    places = [by_name.get(said.name) for said in state.gates] if state.gates else gates
    return tuple(named(look, places) for look in state.looks)


def counted(gate: Gate, looks: Iterable[LookStatus]) -> list[Look]:
    """What looks say of a gate, oldest first; those that say nothing of it are left out.

    Args:
        gate: as it is now.
        looks: that are :func:`named`.
    """
    key = gate_key(gate)
    return [_look(count) for look in looks for count in look.gates or () if count.gate == key]


def with_look(looks: Iterable[LookStatus], new: LookStatus, gates: Sequence[Gate]) -> tuple[LookStatus, ...]:
    """The looks and a new one, as status keeps them: :data:`MOST_LOOKS` at most."""
    found = condensed([named(look, gates) for look in (*looks, new)], MOST_LOOKS)
    return tuple(_in_places(look, gates) for look in found)


def condensed(looks: Sequence[LookStatus], most: int) -> list[LookStatus]:
    """So many looks at most: neighbours are summed, long ago rather than lately.

    A sum grows with its age, so that a fault is dated to within about a half of the time since it began,
    however long the rollout is. Looks at different weights are summed last.
    """
    found = list(looks)
    while len(found) > most:
        after, costs = 0, []
        for place in range(len(found) - 2, -1, -1):
            earlier, later = found[place], found[place + 1]
            length = (earlier.looks or 1) + (later.looks or 1)
            costs.append((length / (after + 1) * (1.0 + (_apart(earlier, later) / _NEAR) ** 2), place))
            after += later.looks or 1
        _, place = min(costs)
        found[place : place + 2] = [_sum(found[place], found[place + 1])]
    return found


def _apart(one: LookStatus, other: LookStatus) -> float:
    shares = [
        look.canaryRequests / max(1, look.canaryRequests + look.stableRequests) for look in (one, other)
    ]
    return abs(shares[0] - shares[1])


def _sum(earlier: LookStatus, later: LookStatus) -> LookStatus:
    return LookStatus(
        canaryRequests=earlier.canaryRequests + later.canaryRequests,
        canaryEvents=(),
        stableRequests=earlier.stableRequests + later.stableRequests,
        stableEvents=(),
        canaryServed=_plus(earlier.canaryServed, later.canaryServed),
        stableServed=_plus(earlier.stableServed, later.stableServed),
        pairs=_plus(earlier.pairs, later.pairs),
        predictions=_predictions(earlier.predictions, later.predictions),
        apart=later.apart,
        looks=(earlier.looks or 1) + (later.looks or 1),
        gates=_gates(earlier.gates or (), later.gates or ()),
    )


def _plus(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other


def _gates(
    earlier: Sequence[GateCountStatus], later: Sequence[GateCountStatus]
) -> tuple[GateCountStatus, ...]:
    """Of both, the later ones first where gates were edited so often that there is no room for all."""
    found = {count.gate: count for count in later}
    for count in earlier:
        if count.gate in found:
            found[count.gate] = _status(count.gate, _look(count) + _look(found[count.gate]))
        elif len(found) < MAX_GATES:
            found[count.gate] = count
    return tuple(found.values())


def _predictions(
    earlier: tuple[PredictionStatus, ...] | None, later: tuple[PredictionStatus, ...] | None
) -> tuple[PredictionStatus, ...] | None:
    if earlier is None or later is None:
        return earlier if later is None else later
    found = {(one.output, one.bins, len(one.canary)): one for one in later}
    for one in earlier:
        key = (one.output, one.bins, len(one.canary))
        if key in found:
            arms = {
                arm: tuple(map(sum, zip(getattr(one, arm), getattr(found[key], arm), strict=True)))
                for arm in ("canary", "stable")
            }
            found[key] = one.model_copy(update=arms)
        elif len(found) < MAX_OUTPUTS:
            found[key] = one
    return tuple(found.values())


def _count(gate: Gate, look: LookStatus, canary: int, stable: int) -> GateCountStatus | None:
    """What a look counted for a gate, or None where it says nothing of it."""
    requests = _requests(gate, look)
    if requests is None:
        return None
    asked, other = requests
    return GateCountStatus(
        gate=gate_key(gate),
        looks=look.looks or 1,
        canaryRequests=asked,
        canaryEvents=min(canary, asked),
        stableRequests=other,
        stableEvents=min(stable, other),
    )


def _requests(gate: Gate, look: LookStatus) -> tuple[int, int] | None:
    if gate.type == "PredictionShift":
        return None
    if gate.compares_answers:
        return None if look.pairs is None else (look.pairs, 0)
    if gate.is_counted_by_pods:
        served = look.canaryServed is not None and look.stableServed is not None
        return (look.canaryServed or 0, look.stableServed or 0) if served else None
    return look.canaryRequests, look.stableRequests


def _in_places(look: LookStatus, gates: Sequence[Gate]) -> LookStatus:
    """With events in the places of the gates, where all of them are known for all of the look's requests."""
    found = {count.gate: count for count in look.gates or ()}
    canary, stable = [], []
    for gate in gates:
        requests, count = _requests(gate, look), found.get(gate_key(gate))
        if requests is None:
            # Version 0.1 does not read what is here either.
            canary.append(0)
            stable.append(0)
        elif count is not None and requests == (count.canaryRequests, count.stableRequests):
            canary.append(count.canaryEvents)
            stable.append(count.stableEvents)
        else:
            return look.model_copy(update={"canaryEvents": (), "stableEvents": ()})
    return look.model_copy(update={"canaryEvents": tuple(canary), "stableEvents": tuple(stable)})


def _look(count: GateCountStatus) -> Look:
    return Look(
        count.canaryRequests,
        min(count.canaryEvents, count.canaryRequests),
        count.stableRequests,
        min(count.stableEvents, count.stableRequests),
        count.looks,
        float(count.expected) if count.expected is not None else None,
        float(count.spread) if count.spread is not None else 0.0,
    )


def _status(gate: str, look: Look) -> GateCountStatus:
    return GateCountStatus(
        gate=gate,
        looks=look.looks,
        canaryRequests=look.canary_requests,
        canaryEvents=look.canary_events,
        stableRequests=look.stable_requests,
        stableEvents=look.stable_events,
        expected=f"{look.events * look.share:.6f}",
        spread=f"{look.spread:.6f}",
    )
