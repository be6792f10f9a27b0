"""The state machine of a rollout, found by asking :func:`slipway.core.rollout.decide` from every state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from slipway.api.rollout import AnalysisStep, Pause, Rollout, Step
from slipway.api.rollout_status import LookStatus, Rejection, RolloutStatus
from slipway.core.rollout import commands
from slipway.core.rollout.machine import decide
from slipway.core.rollout.situation import Command, Situation, StepOutcome

_START = datetime(2026, 1, 1, tzinfo=UTC)
_SPEC = Rollout(
    strategy="Canary",
    steps=(Step(setWeight=10), Step(pause=Pause(untilApproved=True)), Step(analysis=AnalysisStep())),
)
_GOOD = LookStatus(canaryRequests=50_000, canaryEvents=(5,), stableRequests=50_000, stableEvents=(5,))
_BAD = LookStatus(canaryRequests=5_000, canaryEvents=(2_500,), stableRequests=50_000, stableEvents=(50,))
_END = {StepOutcome.PROMOTE: "Stable", StepOutcome.REJECT: "Rejected"}


@dataclass(frozen=True)
class Happening:
    """One thing that can happen to a rollout, in words and as what is seen of it."""

    words: str
    ready: int = 4
    stable: int = 4
    counts: LookStatus | None = None
    commands: frozenset[Command] = frozenset()
    paused: bool = False
    after: int = 40
    #: What it has to end otherwise than; the quiet course of things unless given.
    unlike: Happening | None = None


#: What happens where nothing in particular does: everything is well, and the routers follow.
_QUIET = Happening("steps are done")
_ABORT = Happening("abort", commands=frozenset({Command.ABORT}))
#: What that means between two phases.
_QUIET_WORDS = {
    ("Progressing", "Paused"): "a step that pauses",
    ("Paused", "Progressing"): "resume, or the pause is over",
    ("Promoting", "Stable"): "every router sends all",
    ("Aborting", "Rejected"): "stable has ready pods again",
}
_HAPPENINGS = (
    _QUIET,
    Happening("gates pass", counts=_GOOD),
    Happening("a gate fails", counts=_BAD),
    Happening("no verdict in time", after=4000),
    Happening("no ready pods in time", ready=0, after=700),
    Happening("spec.rollout.paused", paused=True),
    Happening(
        "abort, while only the canary has ready pods", stable=0, commands=_ABORT.commands, unlike=_ABORT
    ),
    *(Happening(command.value, commands=frozenset({command})) for command in Command if command != "retry"),
)


def edges() -> dict[tuple[str, str], tuple[str, ...]]:
    """Every change of phase that the code makes: (from, to) → what brings it about, in words.

    A happening counts only where the quiet course of things would have ended elsewhere.
    """
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    first = decide(_SPEC, None, _seen(None, replace(_QUIET, ready=0)), _START).state
    found["[*]", first.phase].add("a new revision")
    waiting, known = [(first, _START)], {_key(first)}
    while waiting:
        state, now = waiting.pop()
        quiet = _next(state, _QUIET, now)[0]
        for happening in _HAPPENINGS:
            name, after, then = _next(state, happening, now)
            usual = _next(state, happening.unlike, now)[0] if happening.unlike else quiet
            if name != state.phase and (happening is _QUIET or name != usual):
                edge = state.phase, name
                quietly = _QUIET_WORDS.get(edge, happening.words)
                found[edge].add(quietly if happening is _QUIET else happening.words)
            if name == after.phase and _key(after) not in known:
                known.add(_key(after))
                waiting.append((after, then))
    if _retries():
        found["Rejected", first.phase].add(Command.RETRY.value)
    return {edge: tuple(sorted(words)) for edge, words in sorted(found.items())}


def mermaid() -> str:
    """The state machine as a mermaid diagram."""
    return "\n".join(["stateDiagram-v2", *_lines()])


def _lines() -> Iterator[str]:
    for (before, after), words in edges().items():
        yield f"    {before} --> {after}: {', '.join(words)}"
    yield "    Stable --> [*]"


def _next(state: RolloutStatus, happening: Happening, now: datetime) -> tuple[str, RolloutStatus, datetime]:
    then = now + timedelta(seconds=happening.after)
    spec = _SPEC.model_copy(update={"paused": happening.paused})
    decision = decide(spec, state, _seen(state, happening), then)
    return _END.get(decision.outcome, decision.state.phase), decision.state, then


def _seen(state: RolloutStatus | None, happening: Happening) -> Situation:
    weights = frozenset({state.weight if state else 0})
    return Situation(
        canary="b",
        canary_ready=happening.ready,
        canary_routed=happening.ready,
        stable_ready=happening.stable,
        max_replicas=10,
        seen_weights=weights,
        counts=happening.counts,
        commands=happening.commands,
    )


def _key(state: RolloutStatus) -> tuple[object, ...]:
    return state.phase, state.step, state.weight, tuple(gate.verdict for gate in state.gates)


def _retries() -> bool:
    """Whether the annotation of ``retry`` lets a rejected revision in again."""
    rejection = Rejection(revision="b", digest="", id="b.1", rejectedAt="", message="")
    return commands.is_retried({commands.annotation(Command.RETRY): rejection.id}, rejection)
