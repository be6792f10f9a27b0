"""A rollout told with numbers: the page's program prints what it shows, and its figures are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.rollouts import evidence
from e2e import snippets
from slipway.api.generated import ROOT
from slipway.core.rollout.gates import FALSE_ABORT, PASS_EVIDENCE

PAGE = "docs/evidence.md"
TEXT = (ROOT / PAGE).read_text()


def test_the_pages_program_prints_what_it_shows(tmp_path: Path) -> None:
    [program] = [block for block in snippets.blocks(PAGE) if block.language == "python"]
    [typed] = snippets.commands(PAGE)
    (tmp_path / "evidence.py").write_text(program.text)
    words = [sys.executable, *typed.text.split()[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == typed.output


def test_the_picture_and_the_table_are_of_the_code_that_decides() -> None:
    assert (ROOT / evidence.PATH).read_text() == evidence.picture(), "run `python -m bench.rollouts.evidence`"
    assert evidence.table() in TEXT


def test_the_bounds_are_those_of_the_gates() -> None:
    assert (1 / FALSE_ABORT, PASS_EVIDENCE) == (100, 40)
    assert "## Why 100" in TEXT
    assert "## Why 40" in TEXT


def test_a_usual_test_at_each_of_fifteen_minutes_errs_as_often_as_printed() -> None:
    random = np.random.default_rng(1)
    canary = random.binomial(600, 0.01, (4000, 15)).cumsum(1)
    stable = random.binomial(5400, 0.01, (4000, 15)).cumsum(1)
    n, m = np.arange(1, 16) * 600, np.arange(1, 16) * 5400
    rate = (canary + stable) / (n + m)
    z = (canary / n - stable / m) / np.sqrt(rate * (1 - rate) * (1 / n + 1 / m))
    wrong = (abs(z) > 1.96).any(1).mean()
    [told] = re.findall(r"calls (\d+)% of such healthy canaries", TEXT)
    assert abs(100 * wrong - int(told)) < 1
