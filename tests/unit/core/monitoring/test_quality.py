"""What is said of missing, invalid, unknown and old data."""

from __future__ import annotations

import math

import pytest

from slipway.api.reasons import Reason
from slipway.core.monitoring.quality import Ages, FeatureQuality, QualityLimits, judge_quality, median_age
from slipway.core.monitoring.verdict import Status

LIMITS = QualityLimits()
AGED = QualityLimits(data_age_seconds=3600.0, model_age_days=90.0)
NO_AGES = Ages()


def test_complete_and_valid_data_is_good() -> None:
    good = FeatureQuality("age", 1000, missing=10, violations={"range": 0, "type": 0})
    verdict, ratios = judge_quality([good], NO_AGES, LIMITS)
    assert (verdict.status, verdict.reason, verdict.is_breach) == (Status.TRUE, Reason.DATA_IS_GOOD, False)
    assert verdict.message == "worst is age: 0% range of 1,000 values, 1% allowed"
    assert {ratio.what for ratio in ratios} == {"missing", "unknown", "range", "type"}


def test_missing_values_are_named_with_their_share() -> None:
    verdict, _ = judge_quality([FeatureQuality("age", 1000, missing=200)], NO_AGES, LIMITS)
    assert (verdict.status, verdict.reason, verdict.is_breach) == (
        Status.FALSE,
        Reason.TOO_MUCH_MISSING,
        True,
    )
    assert verdict.message == "age: 20% missing of 1,000 values, 5% allowed"


def test_a_broken_rule_is_named() -> None:
    bad = FeatureQuality("age", 1000, violations={"range": 50, "type": 0})
    verdict, _ = judge_quality([FeatureQuality("pay", 1000), bad], NO_AGES, LIMITS)
    assert (verdict.status, verdict.reason) == (Status.FALSE, Reason.TOO_MANY_VIOLATIONS)
    assert verdict.message == "age: 5% range of 1,000 values, 1% allowed"


def test_rejected_values_count_although_they_are_in_no_bin() -> None:
    verdict, _ = judge_quality([FeatureQuality("age", 100, violations={"type": 300})], NO_AGES, LIMITS)
    assert verdict.status is Status.FALSE
    assert "100% type of 300 values" in verdict.message


def test_unknown_categories_count_beyond_what_the_reference_had() -> None:
    usual = FeatureQuality("city", 1000, unknown=200, reference_unknown=0.2)
    unusual = FeatureQuality("city", 1000, unknown=300, reference_unknown=0.2)
    assert judge_quality([usual], NO_AGES, LIMITS)[0].status is Status.TRUE
    verdict, _ = judge_quality([unusual], NO_AGES, LIMITS)
    assert verdict.message == "city: 30% unknown of 1,000 values, 21% allowed"


def test_a_share_a_little_beyond_its_limit_needs_rows_to_count() -> None:
    few, many = FeatureQuality("age", 200, missing=14), FeatureQuality("age", 20_000, missing=1400)
    assert judge_quality([few], NO_AGES, LIMITS)[0].status is Status.TRUE
    assert judge_quality([many], NO_AGES, LIMITS)[0].status is Status.FALSE


def test_too_few_rows_say_nothing() -> None:
    verdict, ratios = judge_quality([FeatureQuality("age", 99, missing=99)], NO_AGES, LIMITS)
    assert (verdict.status, verdict.reason, ratios) == (Status.UNKNOWN, Reason.TOO_FEW_ROWS, ())
    assert verdict.message == "1 of 1 features wait for 100 rows"


def test_no_feature_says_nothing() -> None:
    verdict, _ = judge_quality([], NO_AGES, LIMITS)
    assert (verdict.status, verdict.message) == (Status.UNKNOWN, "no feature is counted")


@pytest.mark.parametrize(
    ("ages", "reason", "message"),
    [
        (Ages(7200.0, 1.0), Reason.DATA_IS_STALE, "half of the data is older than 120 min, 60 allowed"),
        (Ages(60.0, 91.0), Reason.MODEL_IS_STALE, "the model is 91 days old, 90 allowed"),
        (
            Ages(7200.0, 91.0),
            Reason.DATA_IS_STALE,
            "half of the data is older than 120 min, 60 allowed; the model is 91 days old, 90 allowed",
        ),
    ],
    ids=["data", "model", "both"],
)
def test_old_data_and_old_models_are_said(ages: Ages, reason: Reason, message: str) -> None:
    verdict, _ = judge_quality([FeatureQuality("age", 1000)], ages, AGED)
    assert (verdict.status, verdict.reason, verdict.message) == (Status.FALSE, reason, message)


def test_ages_within_their_limits_are_told_also_where_no_feature_is_counted() -> None:
    fresh = "half of the data is younger than 1 min, 60 allowed; the model is 3 days old, 90 allowed"
    verdict, _ = judge_quality([], Ages(60.0, 3.0), AGED)
    assert (verdict.status, verdict.reason, verdict.message) == (Status.TRUE, Reason.DATA_IS_GOOD, fresh)
    verdict, _ = judge_quality([FeatureQuality("age", 1000)], Ages(60.0, 3.0), AGED)
    assert verdict.message.startswith("worst is age: 0% ")
    assert verdict.message.endswith(fresh)


def test_data_whose_age_is_asked_for_and_not_known_is_not_called_good() -> None:
    verdict, _ = judge_quality([FeatureQuality("age", 1000)], Ages(None, 3.0), AGED)
    assert (verdict.status, verdict.reason) == (Status.UNKNOWN, Reason.TOO_FEW_ROWS)
    assert verdict.message == "the age of the data waits for 100 rows"


def test_an_age_without_a_limit_is_no_matter() -> None:
    verdict, _ = judge_quality([FeatureQuality("age", 1000)], Ages(1e9, 1e6), QualityLimits())
    assert verdict.status is Status.TRUE


@pytest.mark.parametrize("stale", [0, 1, 49, 50, 51, 99, 100])
@pytest.mark.parametrize("limit", [60.0, 3600.0, 31_536_000.0])
def test_data_is_stale_just_where_more_than_half_of_the_rows_are_older(stale: int, limit: float) -> None:
    ages = {1.0: 0.0, limit: 100.0 - stale, 315_360_000.0: 100.0, math.inf: 100.0}
    limits = QualityLimits(data_age_seconds=limit)
    good = FeatureQuality("age", 1000, missing=10)
    verdict, _ = judge_quality([good], Ages(data_seconds=median_age(ages, 100)), limits)
    assert (verdict.reason is Reason.DATA_IS_STALE) == (stale > 50)


def test_of_too_few_rows_no_age_is_told() -> None:
    assert median_age({60.0: 99.0, math.inf: 99.0}, 100) is None
    assert median_age({}, 100) is None
    assert median_age({60.0: 0.0, math.inf: 0.0}, 0) is None
