"""The state machine that docs/rollouts.md draws, as the code has it."""

from __future__ import annotations

import pytest

from bench.rollouts.machine import edges


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("Progressing", "Promoting", "gates pass"),
        ("Progressing", "Rejected", "a gate fails"),
        ("Progressing", "Paused", "no verdict in time"),
        ("Paused", "Progressing", "promote"),
        ("Aborting", "Rejected", "stable has ready pods again"),
        ("Promoting", "Stable", "every router sends all"),
        ("Rejected", "Progressing", "retry"),
    ],
)
def test_the_code_goes_from_phase_to_phase_as_the_picture_says(before: str, after: str, words: str) -> None:
    assert words in edges()[before, after]


def test_nothing_but_retry_leaves_a_rejection() -> None:
    assert {edge: words for edge, words in edges().items() if edge[0] == "Rejected"} == {
        ("Rejected", "Progressing"): ("retry",)
    }
