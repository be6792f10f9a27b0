"""How many models share calls, counted and as docs/model-server.md has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from slipway_server.runtime import profile
from slipway_server.runtime.model import Model, ModelInputError

_PAGE = Path(__file__).parents[2] / "docs" / "model-server.md"


def assert_the_page_has(kind: str, models: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where a row of the table tells another share of these models. Whether a batch takes less time
    than its rows alone is not counted: that is for each machine to say."""
    monkeypatch.setattr(profile, "_PATIENCE_SECONDS", 60.0)
    proofs: dict[str, str] = {}
    trials: dict[str, str] = {}
    for name, path in models.items():
        loaded = Model(path, 1)
        verdict = profile._judge(loaded, path, profile.MAX_ROWS)
        proofs[name] = trials[name] = verdict.why
        if verdict.apart:
            trials[name] = _tried(loaded)
    row = re.search(rf"^\| {re.escape(kind)} \| (\d+) of (\d+) \| (\d+) \|$", _PAGE.read_text(), re.MULTILINE)
    assert row, (kind, trials)
    told = [int(number) for number in row.groups()]
    assert [_yes(proofs), len(models), _yes(trials)] == told, trials


def _yes(reasons: Mapping[str, str]) -> int:
    return sum(not why for why in reasons.values())


def _tried(loaded: Model) -> str:
    try:
        return profile._tried(loaded, profile.made_up(loaded.inputs.values()), profile.MAX_ROWS, {})
    except ModelInputError:
        return "refuses made-up rows"
