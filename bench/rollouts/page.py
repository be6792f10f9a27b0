"""docs/rollouts.md: how a rollout decides, as the code does, and how often it is wrong.

``python -m bench.rollouts.page`` writes it; with ``--check`` it exits 1 on a difference. The figures are
those of the seeded simulation, run anew each time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.rollouts.machine import mermaid
from bench.rollouts.simulation import (
    GOOD_LOOKS,
    LATE_RUNS,
    LONG_LOOKS,
    LONG_RUNS,
    RUNS,
    SHIFT_LOOKS,
    SHIFT_RUNS,
    World,
    ends,
    false_shifts,
    late_rejections,
    long_false_aborts,
    moved,
)
from slipway.api.generated import write_or_check
from slipway.api.rollout import Rollout
from slipway.cli.drawing import told_step
from slipway.cli.parser import COMMANDS
from slipway.core.rollout.evalues import Look, harm_terms, held, no_harm_terms, since_any_look
from slipway.core.rollout.gates import FALSE_ABORT, PASS_EVIDENCE, number_of
from slipway.core.rollout.looks import MOST_LOOKS
from slipway.core.rollout.machine import steps_of
from slipway.core.rollout.prediction_shift import MINIMUM_ANSWERS

PATH = "docs/rollouts.md"
WORLDS = {
    "as good as stable, 50 requests a second": World(50, 0.01, 0.01),
    "as good, both fail ten times as often in every fifth minute": World(50, 0.01, 0.01, outages=0.2),
    "as good, traffic rises and falls": World(50, 0.01, 0.01, ramp=True),
    "as good, 5 requests a second": World(5, 0.05, 0.05),
    "three times as bad, 50 requests a second": World(50, 0.01, 0.03),
    "three times as bad, 5 requests a second": World(5, 0.01, 0.03),
    "five times as bad, 50 requests a second": World(50, 0.01, 0.05),
    "healthy, 0.1% of requests fail": World(50, 0.001, 0.001),
    "no traffic": World(0, 0.01, 0.01),
}
#: A limit at which only the chi-square quantile keeps noise from alarming.
SMALL_SHIFT = 0.001
SERVED = {
    "as many requests against the contract as stable, 3%": World(50, 0.03, 0.03, gate="Violations"),
    "three times as many, 50 requests a second": World(50, 0.01, 0.03, gate="Violations"),
    "the same answers, 50 a second": World(50, 0, 0, gate="PredictionShift"),
    "the same answers, traffic rises and falls": World(50, 0, 0, ramp=True, gate="PredictionShift"),
    "a tenth of the answers moved (PSI 0.04)": World(50, 0, 0, gate="PredictionShift", answers=moved(0.1)),
    "three tenths of the answers moved (PSI 0.37)": World(
        50, 0, 0, gate="PredictionShift", answers=moved(0.3)
    ),
    "the same answers, one a minute": World(1 / 60, 0, 0, gate="PredictionShift"),
}
#: How many times as often as stable's a canary's requests fail, to the end.
LONG = {"as often as stable": 1.0, "1.25 times as often: at the limit": 1.25}
LATE = {
    "ten times as bad, 50 requests a second": (World(50, 0.01, 0.01), 10),
    "ten times as bad, 5 requests a second": (World(5, 0.01, 0.01), 10),
    "three times as bad, 50 requests a second": (World(50, 0.01, 0.01), 3),
}
#: Errors of the canary at each look of the example, of 600 requests: those of a good one, and of a bad one.
EXAMPLE = ((5, 17), (8, 20), (6, 18), (4, 16))
PAIRS = {
    "1%, 50 requests a second": World(50, 0, 0.01, gate="ShadowAgreement"),
    "1%, 1 a second": World(1, 0, 0.01, gate="ShadowAgreement"),
    "2%, 50 a second: at the limit": World(50, 0, 0.02, gate="ShadowAgreement"),
    "5%, 50 a second": World(50, 0, 0.05, gate="ShadowAgreement"),
    "5%, 1 a second": World(1, 0, 0.05, gate="ShadowAgreement"),
    "none are answered": World(0, 0, 0.5, gate="ShadowAgreement"),
}


def page() -> str:
    """The whole page."""
    text = Path(__file__).with_name("page.md").read_text()
    parts = {
        "MACHINE": mermaid(),
        "COMMANDS": "\n".join(_commands()),
        "STEPS": "\n".join(_steps()),
        "SIMULATION": "\n".join(_simulation(WORLDS)),
        "SERVED": "\n".join(_simulation(SERVED)),
        "PAIRS": "\n".join(_simulation(PAIRS)),
        "FALSE_SHIFTS": str(false_shifts(SMALL_SHIFT)),
        "SMALL_SHIFT": str(SMALL_SHIFT),
        "SHIFT_RUNS": f"{SHIFT_RUNS:,}",
        "SHIFT_LOOKS": str(SHIFT_LOOKS),
        "MINIMUM_ANSWERS": f"{MINIMUM_ANSWERS:,}",
        "FALSE_ABORT": f"{FALSE_ABORT:.0%}",
        "ABORT_EVIDENCE": f"{1 / FALSE_ABORT:.0f}",
        "PASS_EVIDENCE": f"{PASS_EVIDENCE:.0f}",
        "RUNS": str(RUNS),
        "MOST_LOOKS": str(MOST_LOOKS),
        "EXAMPLE": "\n".join(_example()),
        "LONG_RUNS": f"{LONG_RUNS:,}",
        "LONG_LOOKS": f"{LONG_LOOKS:,}",
        "LONG": "\n".join(_long()),
        "GOOD_LOOKS": str(GOOD_LOOKS),
        "LATE_RUNS": str(LATE_RUNS),
        "LATE": "\n".join(_late()),
    }
    for name, value in parts.items():
        text = text.replace("{{" + name + "}}", value)
    return text


#: Commands that ask no cluster for what they do, or are no matter of rollouts.
_NO_CLUSTER = {
    *("profile", "convert", "convert-manifest", "serve"),
    *("sign", "verify", "version", "completion"),
}


def _commands() -> Iterator[str]:
    targets = {
        "get": "",
        "doctor": "",
        "plan": " -f FILE",
        "check": " PATH",
        "key": " new NAME CALLER",
        "set-model": " NAME URI",
    }
    for name, command in COMMANDS.items():
        if name not in _NO_CLUSTER:
            yield f"| `kubectl slipway {name}{targets.get(name, ' NAME')}` | {command.summary} |"


def _steps() -> Iterator[str]:
    for strategy in ("Canary", "BlueGreen", "Shadow"):
        steps = steps_of(Rollout.model_validate({"strategy": strategy}))
        yield f"| {strategy} | {', then '.join(told_step(step) for step in steps)} |"


def _example() -> Iterator[str]:
    """Evidence look by look, as a gate with nothing but its name and type computes it."""
    arms: tuple[list[Look], list[Look]] = ([], [])
    for number, errors in enumerate(EXAMPLE, 1):
        cells = [str(number)]
        for looks, found in zip(arms, errors, strict=True):
            looks.append(Look(600, found, 5400, 54))
            against, good = since_any_look(harm_terms(looks, 1.25)), held(no_harm_terms(looks, 2.0))
            cells += [f"{found} of 600 fail", number_of(against), number_of(good)]
        yield f"| {' | '.join(cells)} |"


def _long() -> Iterator[str]:
    for words, ratio in LONG.items():
        yield f"| {words} | {long_false_aborts(ratio, 1.25)} of {LONG_RUNS:,} |"


def _late() -> Iterator[str]:
    for words, (world, times) in LATE.items():
        found = sorted(late_rejections(world, times))
        yield f"| {words} | {found[0]} to {found[-1]} |"


def _simulation(worlds: Mapping[str, World]) -> Iterator[str]:
    for words, world in worlds.items():
        ended = ends(world)
        shares = " | ".join(f"{ended[end] / RUNS:.1%}" for end in ("Promote", "Reject", "Paused"))
        yield f"| {words} | {shares} |"


if __name__ == "__main__":
    sys.exit(write_or_check("bench.rollouts.page", {PATH: page()}))
