"""The chi-square distribution, against scipy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slipway.core.monitoring.chi_square import upper_quantile, upper_tail


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 19, 21, 99, 1000])
@pytest.mark.parametrize("probability", [0.999, 0.5, 0.05, 0.001, 0.001 / 30, 1e-9, 1e-12])
def test_the_quantile_is_scipys(probability: float, freedom: int) -> None:
    assert upper_quantile(probability, freedom) == pytest.approx(
        stats.chi2.isf(probability, freedom), rel=1e-9
    )


@given(st.floats(0.0, 500.0), st.integers(1, 200))
def test_the_tail_is_scipys_also_where_it_is_tiny(value: float, freedom: int) -> None:
    assert upper_tail(value, freedom) == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-9, abs=1e-250)


@given(st.floats(1e-12, 0.999999), st.integers(1, 200))
def test_the_tail_of_a_quantile_is_its_probability(probability: float, freedom: int) -> None:
    assert upper_tail(upper_quantile(probability, freedom), freedom) == pytest.approx(probability, rel=1e-9)


@pytest.mark.parametrize("probability", [0.0, 1.0, -1.0, 2.0])
def test_a_probability_that_is_none_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        upper_quantile(probability, 1)


def test_no_degree_of_freedom_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        upper_quantile(0.5, 0)
    with pytest.raises(ValueError, match="at least 1"):
        upper_tail(1.0, 0)
