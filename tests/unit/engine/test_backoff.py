"""What failed is tried again later and later, and never all of it together."""

from __future__ import annotations

import pytest

from slipway.engine.backoff import backoff


def test_it_doubles_from_the_least_to_the_most_and_stays_there() -> None:
    found = [backoff(failures, 1.0, 30.0, chance=0.5) for failures in (1, 2, 3, 5, 6, 7, 10_000)]
    assert found == [1.0, 2.0, 4.0, 16.0, 30.0, 30.0, 30.0]


def test_chance_makes_a_fifth_more_or_less_of_it() -> None:
    assert backoff(3, 1.0, 30.0, chance=0.0) == pytest.approx(3.2)
    assert backoff(3, 1.0, 30.0, chance=1.0) == pytest.approx(4.8)
    found = {backoff(3, 1.0, 30.0) for _ in range(100)}
    assert len(found) > 90
    assert 3.2 <= min(found) <= max(found) <= 4.8
