"""What status and events say in every case of ``cases/``, word for word in ``said.yaml``.

``SLIPWAY_REGENERATE=1 pytest tests/unit/core/test_what_is_said.py`` writes the file anew.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.core.tables import Answer, cases, run

SAID = Path(__file__).parent / "said.yaml"
CASES = dict(cases())
REGENERATE = "a new case or other words: SLIPWAY_REGENERATE=1 pytest tests/unit/core/test_what_is_said.py"


def said(answer: Answer) -> dict[str, Any]:
    """All of status but what is empty, and the events; what was said before stands by its name alone."""
    status = {key: found for key, found in answer.report.status.items() if found not in ([], {}, None)}
    conditions: dict[str, str] = {}
    spoken: dict[str, str] = {}
    for found in status.pop("conditions"):
        words = f"{found['status']} {found['reason']}"
        if found["message"] in spoken:
            conditions[found["type"]] = f"{words} as {spoken[found['message']]}"
        else:
            conditions[found["type"]] = f"{words}: {found['message']}"
            spoken[found["message"]] = found["type"]
    events = [
        f"{notice.reason} as {spoken[notice.message]}"
        if notice.message in spoken
        else f"{notice.reason}: {notice.message}"
        for notice in answer.report.events
    ]
    status.update(conditions=conditions, **({"events": events} if events else {}))
    return dict(yaml.safe_load(re.sub("0{60,}", "0…0", yaml.safe_dump(status, width=1e6))))


@cache
def _written() -> dict[str, Any]:
    if os.environ.get("SLIPWAY_REGENERATE"):
        found = {name: said(run(case)) for name, case in CASES.items()}
        SAID.write_text(yaml.safe_dump(found, sort_keys=False, width=1e6, allow_unicode=True))
    return dict(yaml.safe_load(SAID.read_text()))


@pytest.mark.parametrize("name", CASES)
def test_status_and_events_say_what_is_written(name: str) -> None:
    assert said(run(CASES[name])) == _written().get(name), REGENERATE


def test_nothing_is_written_of_a_case_that_is_gone() -> None:
    assert list(_written()) == list(CASES), REGENERATE
