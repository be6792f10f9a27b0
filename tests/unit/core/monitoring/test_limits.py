"""What alerts are held against has one name, in the operator's metric, in rules and in what people set."""

from __future__ import annotations

from slipway.core.monitoring.limits import Limit


def test_a_limit_is_exported_by_its_own_name() -> None:
    assert [one for one in Limit if one.value != one.name.lower()] == []
