"""docs/rollouts.md: how a rollout decides, as the code does, and how often it is wrong.

``python -m bench.rollouts.page`` writes it; with ``--check`` it exits 1 on a difference. The figures are
those of the seeded simulation, run anew each time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.rollouts.machine import mermaid
from bench.rollouts.simulation import RUNS, SHIFT_LOOKS, SHIFT_RUNS, World, ends, false_shifts, moved
from slipway.api.generated import write_or_check
from slipway.api.rollout import Rollout
from slipway.cli.drawing import told_step
from slipway.cli.main import COMMANDS
from slipway.core.gates import FALSE_ABORT, PASS_EVIDENCE
from slipway.core.prediction_shift import MINIMUM_ANSWERS
from slipway.core.rollout import steps_of

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
    }
    for name, value in parts.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def _commands() -> Iterator[str]:
    for name, (module, summary) in COMMANDS.items():
        if module != "slipway.cli.profile":
            target = "-f FILE" if name == "plan" else "NAME"
            yield f"| `kubectl slipway {name} {target}` | {summary} |"


def _steps() -> Iterator[str]:
    for strategy in ("Canary", "BlueGreen", "Shadow"):
        steps = steps_of(Rollout.model_validate({"strategy": strategy}))
        yield f"| {strategy} | {', then '.join(told_step(step) for step in steps)} |"


def _simulation(worlds: Mapping[str, World]) -> Iterator[str]:
    for words, world in worlds.items():
        ended = ends(world)
        shares = " | ".join(f"{ended[end] / RUNS:.1%}" for end in ("Promote", "Reject", "Paused"))
        yield f"| {words} | {shares} |"


if __name__ == "__main__":
    sys.exit(write_or_check("bench.rollouts.page", {PATH: page()}))
