"""Keys are due at their time, once, whatever was said of them before."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from slipway.engine.timetable import Timetable

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_key_is_due_once_and_not_before_its_time() -> None:
    table: Timetable[str] = Timetable()
    table.set("late", BEGIN + timedelta(seconds=1.5))
    table.set("early", BEGIN + timedelta(seconds=1.2))
    assert table.take(BEGIN + timedelta(seconds=1.1)) == []
    assert table.take(BEGIN + timedelta(seconds=1.2)) == ["early"]
    assert table.take(BEGIN + timedelta(seconds=9)) == ["late"]
    assert table.take(BEGIN + timedelta(seconds=99)) == []


def test_it_is_due_as_a_list_of_all_of_them_would_have_it() -> None:
    """Against the plain way: a dict that is gone through each time."""
    chance = random.Random(7)
    table: Timetable[int] = Timetable()
    plain: dict[int, datetime] = {}
    now = BEGIN
    for _ in range(5000):
        key, due = chance.randrange(50), now + timedelta(seconds=chance.uniform(-2.0, 30.0))
        if chance.random() < 0.2:
            table.drop(key)
            plain.pop(key, None)
        else:
            table.set(key, due)
            plain[key] = due
        now += timedelta(seconds=chance.choice((0.0, 0.1, 0.5, 3.0)))
        expected = sorted((one for one, when in plain.items() if when <= now), key=lambda one: plain[one])
        assert table.take(now) == expected
        for one in expected:
            del plain[one]
