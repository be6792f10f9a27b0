"""What the operator finds of old data and of an old model."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from slipway.names import Metric
from tests.unit.engine.test_judging import serving, spec
from tests.unit.world import World

FRESHNESS: dict[str, Any] = {"source": "Header", "name": "x-data-time", "maxAgeSeconds": 900}


def answer(world: World, fresh: int, stale: int) -> None:
    """So many rows whose data is younger than the limit, and so many that are an hour older at most."""
    for le, count in (("60.0", 0), ("900.0", fresh), ("3600.0", fresh + stale), ("+Inf", fresh + stale)):
        world.pods.count(f"{Metric.DATA_AGE}_bucket", {"le": le}, count)


async def test_data_turns_stale_and_fresh_again_with_the_rows_that_come() -> None:
    world = await serving(spec({"freshness": FRESHNESS, "drift": {"windowSeconds": 600}}), profile={})
    await world.run(60)
    assert world.said()["DataQuality"] == "Unknown TooFewRows"
    assert world.message("DataQuality") == "the age of the data waits for 100 rows; no feature is counted"
    answer(world, 600, 400)
    await world.run(60)
    assert world.said()["DataQuality"] == "True DataIsGood"
    answer(world, 0, 1000)
    await world.run(60)
    assert world.said()["DataQuality"] == "False DataIsStale"
    assert "half of the data is older than" in world.message("DataQuality")
    assert "Warning DataIsStale" in world.told()
    for _ in range(70):
        answer(world, 100, 0)
        await world.run(10)
    assert world.said()["DataQuality"] == "True DataIsGood"


async def test_a_model_past_its_card_is_said_by_its_age_and_a_new_limit_makes_no_revision() -> None:
    world = await serving(spec(card={"maxAgeDays": 2}), profile={})
    await world.run(60)
    assert world.said()["DataQuality"] == "True DataIsGood"
    revision = world.status()["stable"]["revision"]
    world.now += timedelta(days=3)
    await world.run(60)
    assert world.said()["DataQuality"] == "False ModelIsStale"
    assert world.message("DataQuality") == "the model is 3 days old, 2 allowed"
    world.create(spec(card={"maxAgeDays": 30, "owner": "risk"}))
    await world.run(60)
    assert world.said()["DataQuality"] == "True DataIsGood"
    assert world.status()["stable"]["revision"] == revision


async def test_a_card_without_an_age_asks_for_nothing() -> None:
    world = await serving(spec(card={"owner": "risk"}), profile={})
    await world.run(60)
    assert "DataQuality" not in world.said()
