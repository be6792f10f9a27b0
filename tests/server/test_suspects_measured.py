"""What is seen of real attacks and of plain traffic is what the documentation prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.suspects.__main__ import RESULT, measure
from bench.suspects.models import NAMES, Served
from bench.suspects.senders import ATTACKS, PLAIN

ROOT = Path(__file__).parents[2]


def test_the_documentation_prints_what_was_measured() -> None:
    table = RESULT.read_text()
    assert table in (ROOT / "docs/security.md").read_text()
    assert [line.split(" | ")[0].lstrip("| ") for line in table.splitlines()[2:]] == [*ATTACKS, *PLAIN]


@pytest.mark.long
def test_attacks_by_classes_turn_answers_and_plain_traffic_hardly_does(tmp_path: Path) -> None:
    models = [Served(name, tmp_path) for name in NAMES]
    found = {name: measure(sender, models, 3) for name, sender in (ATTACKS | PLAIN).items()}
    turned = {name: [each.shares[1] for each in senders] for name, senders in found.items()}
    for name in ("HopSkipJump, by classes", "Boundary, by classes"):
        assert min(turned[name]) > 0.05, name
        assert all(each.is_named for each in found[name]), name
    hidden = "HopSkipJump, 9 plain rows after each query"
    assert min(turned[hidden]) > 0.05
    # What it cannot see, as the page says.
    for name in ("Square, by scores", "HopSkipJump, spread over 1,000 callers"):
        assert not any(each.is_named for each in found[name]), name
    for name in PLAIN:
        assert np.mean(turned[name]) < 0.1, name
    by_chance = "rows of the data, by chance"
    # Rows of one sender may turn by chance; the page prints the mean over senders.
    assert np.mean(turned[by_chance]) < 0.005
    assert not any(each.is_named for each in found[by_chance])
