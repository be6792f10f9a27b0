"""What gates say, whole, and with the figures that their evidence comes to."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slipway.api.rollout import Analysis
from slipway.api.rollout_status import LookStatus
from slipway.core.rollout.gates import judge_gates, number_of

ERRORS = {"type": "ErrorRate"}
SLOW = {"type": "SlowRequests", "thresholdMilliseconds": 250}
VIOLATIONS = {"type": "Violations"}
ALIKE = {"type": "ShadowAgreement"}
SHIFT = {"type": "PredictionShift"}
SERVED = {"canaryServed": 600, "stableServed": 5400}


def judged(gate: dict[str, Any], *looks: dict[str, Any]) -> str:
    analysis = Analysis.model_validate({"gates": [{"name": "g", **gate}]})
    [found] = judge_gates(analysis, [LookStatus.model_validate(one) for one in looks])
    return f"{found.verdict}: {found.message}"


def look(canary: tuple[int, int], stable: tuple[int, int], **more: Any) -> dict[str, Any]:
    """Events and requests of each."""
    return {
        "canaryEvents": (canary[0],),
        "canaryRequests": canary[1],
        "stableEvents": (stable[0],),
        "stableRequests": stable[1],
        **more,
    }


BAD = look((28, 600), (2, 5400))
WORSE = "evidence 4e+19 ≥ 100 of more than 1.25 times stable's rate"


@pytest.mark.parametrize(
    ("gate", "looks", "words"),
    [
        (
            ERRORS,
            [],
            "Inconclusive: canary 0 errors in 0, stable 0 in 0: evidence 1 of 100 against, 1 of 40 for",
        ),
        (
            ERRORS,
            [look((1, 100), (2, 900))],
            "Inconclusive: canary 1 errors in 100, stable 2 in 900: evidence 1.2 of 100 against, 0.51 of "
            "40 for",
        ),
        (ERRORS, [BAD], f"Fail: canary 28 errors in 600, stable 2 in 5400: {WORSE}"),
        (
            ERRORS,
            [look((1, 3000), (9, 27000))],
            "Pass: canary 1 errors in 3000, stable 9 in 27000: evidence 3e+10 ≥ 40 of less than 1%",
        ),
        (
            {**ERRORS, "objective": "0%"},
            [look((1, 30000), (9, 270000))],
            "Inconclusive: canary 1 errors in 30000, stable 9 in 270000: evidence 0.36 of 100 against, 0.91 "
            "of 40 for",
        ),
        (
            {**ERRORS, "objective": "0%", "ruledOutRatio": "1.5", "toleratedRatio": "1.1"},
            [look((300, 30000), (2700, 270000))],
            "Pass: canary 300 errors in 30000, stable 2700 in 270000: evidence 3e+09 ≥ 40 of less than 1.5 "
            "times stable's rate",
        ),
        (SLOW, [BAD], f"Fail: canary 28 requests over 250 ms in 600, stable 2 in 5400: {WORSE}"),
        (VIOLATIONS, [BAD], "Inconclusive: the pods' own counters could not be read yet"),
        (
            VIOLATIONS,
            [{**BAD, **SERVED}],
            f"Fail: canary 28 requests against the input contract in 600, stable 2 in 5400: {WORSE}",
        ),
        (
            ALIKE,
            [look((50, 0), (0, 0), pairs=1000)],
            "Fail: 50 of 1000 requests were answered otherwise by the canary: evidence 1e+06 ≥ 100 of "
            "agreement below 98%",
        ),
        (
            ALIKE,
            [look((1, 0), (0, 0), pairs=3000)],
            "Pass: 1 of 3000 requests were answered otherwise by the canary: evidence 6e+22 ≥ 40 of "
            "agreement above 98%",
        ),
        (
            ALIKE,
            [look((2, 0), (0, 0), pairs=100)],
            "Inconclusive: 2 of 100 requests were answered otherwise by the canary: evidence 0.31 of 100 "
            "against, 0.34 of 40 for",
        ),
        (
            {**ALIKE, "minAgreement": "90%"},
            [look((1, 0), (0, 0), pairs=1000)],
            "Pass: 1 of 1000 requests were answered otherwise by the canary: evidence 1e+41 ≥ 40 of "
            "agreement above 90%",
        ),
    ],
)
def test_counts_are_told_with_what_they_are_evidence_of(
    gate: dict[str, Any], looks: list[dict[str, Any]], words: str
) -> None:
    assert judged(gate, *looks) == words


def test_gates_that_act_together_need_more_evidence_each() -> None:
    both = Analysis.model_validate({"gates": [{"name": "a", **ERRORS}, {"name": "b", **SLOW}]})
    counts = {**BAD, "canaryEvents": (28, 6), "stableEvents": (2, 54)}
    found, other = judge_gates(both, [LookStatus.model_validate(counts)])
    assert found.message.endswith("evidence 4e+19 ≥ 200 of more than 1.25 times stable's rate")
    assert (found.name, other.name, other.verdict) == ("a", "b", "Inconclusive")
    assert "of 200 against" in other.message


def answers(*outputs: tuple[str, tuple[int, ...], tuple[int, ...]], **more: Any) -> dict[str, Any]:
    """Bins of each output, as the canary and as stable answered."""
    counted = [{"output": name, "canary": canary, "stable": stable} for name, canary, stable in outputs]
    return look((0, 1), (0, 1), **SERVED, predictions=counted or None, **more)


MOVED = ("label", (500, 1500), (9000, 1000))
SAME = ("same", (1000, 1000), (1000, 1000))


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([], "Inconclusive: no output is counted in the same bins by both revisions"),
        ([answers()], "Inconclusive: no output is counted in the same bins by both revisions"),
        (
            [answers(apart="canary a, stable b")],
            "Inconclusive: no output is counted in the same bins by both revisions: canary a, stable b",
        ),
        (
            [answers(MOVED)],
            "Fail: PSI 2.14 beyond noise, output label: 2,000 answers of the canary, of stable as good as "
            "10,000; more than 0.2",
        ),
        (
            [answers(MOVED, ("score", (100, 1900), (9000, 1000)), SAME)],
            "Fail: PSI 4.36 beyond noise, output score: 2,000 answers of the canary, of stable as good as "
            "10,000; PSI 2.14 beyond noise, output label: 2,000 answers of the canary, of stable as good as "
            "10,000; more than 0.2",
        ),
        (
            [answers(("label", (0, 900), (5000, 0)))],
            "Inconclusive: output label: 900 answers of the canary, of stable as good as 5,000; 1,000 of "
            "each are needed",
        ),
        (
            [answers(("label", (700, 1300), (1000, 1000)))],
            "Pass: PSI 0.0918 beyond noise, output label: 2,000 answers of the canary, of stable as good as "
            "2,000; less than 0.2",
        ),
    ],
)
def test_how_answers_are_spread_is_told_the_largest_shift_first(
    looks: list[dict[str, Any]], words: str
) -> None:
    assert judged(SHIFT, *looks) == words


def test_a_shift_that_cannot_be_told_from_the_limit_says_so() -> None:
    alike = answers(("label", (500, 500), (500, 500)))
    assert judged({**SHIFT, "maxPSI": "0.01"}, alike) == (
        "Inconclusive: PSI -0.002 beyond noise, output label: 1,000 answers of the canary, of stable as good "
        "as 1,000; too few to tell it from 0.01"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.123456, "0.12"),
        (9.99, "10"),
        (10.0, "10"),
        (1234.4, "1,234"),
        (999_999.4, "999,999"),
        (1e6, "1e+06"),
        (math.inf, "over 1e300"),
    ],
)
def test_evidence_is_told_shortly(value: float, words: str) -> None:
    assert number_of(value) == words
