"""What the operator finds in the counts of pods, from the scrape to the conditions."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from scipy import stats

from slipway.core.observed import ObjectKind
from slipway.engine.metrics.monitoring import MonitoringCollector
from slipway.engine.observers.monitoring import BARREN, INTERVAL
from slipway.engine.store import Key
from slipway.names import Metric
from tests.unit.fake import Request
from tests.unit.fake_pods import Profile
from tests.unit.world import KEY, NAME, NAMESPACE, Killed, World

GOLDEN = Path(__file__).parent / "golden_monitoring.yaml"
BINS = [f"{position:02}" for position in range(10)]
PROFILE: Profile = {feature: dict.fromkeys(BINS, 0.1) for feature in ("age", "income", "city")}
SHIFTED: Profile = {"age": {name: (1 + 9 * (name > "04")) / 55 for name in BINS}}
DRIFT = {"windowSeconds": 600}


def spec(monitoring: dict[str, Any] | None = None, **blocks: Any) -> dict[str, Any]:
    found = {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": 3}, **blocks}
    return found if monitoring is None else {**found, "monitoring": monitoring}


async def serving(asked: dict[str, Any] | None = None, profile: Profile = PROFILE) -> World:
    world = World()
    world.pods.profile = profile
    await world.operator.start()
    world.create(asked or spec({"drift": DRIFT}))
    await world.settle()
    assert world.said()["Ready"] == "True Serving"
    return world


class Traffic:
    """Rows that reach the pods while time goes by."""

    def __init__(self, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)

    async def run(self, world: World, seconds: int, shares: Profile | None = None, rows: int = 100) -> None:
        """So many rows every ten seconds."""
        for _ in range(seconds // 10):
            world.pods.rows(rows, self.random, shares)
            await world.run(10)


def found(world: World, type_: str) -> dict[str, Any]:
    verdict: dict[str, Any] = next(
        one for one in world.status()["monitoring"]["verdicts"] if one["type"] == type_
    )
    return verdict


async def test_shifted_inputs_turn_drift_true_within_two_looks_and_back_once_the_window_is_past() -> None:
    world, traffic = await serving(), Traffic()
    await traffic.run(world, 600)
    assert world.said()["Drift"] == "False NoDrift"
    assert world.said()["DataQuality"] == "True DataIsGood"
    before = world.now
    while world.said()["Drift"] != "True FeaturesDrifted":
        await traffic.run(world, 10, SHIFTED, rows=1000)
    # The first look after it, and one that agrees; in steps of ten seconds they are 20 s apart.
    assert world.now - before <= timedelta(seconds=50)
    message = world.message("Drift")
    assert message.startswith("1 of 3 features moved; age: PSI 0.")
    [named] = found(world, "Drift")["features"]
    assert named["name"] == "age"
    assert float(named["psi"]) > 0.05
    assert world.said()["Ready"] == "True Serving"
    assert "Warning FeaturesDrifted" in world.told()
    await traffic.run(world, 1200, rows=300)
    assert world.said()["Drift"] == "False NoDrift"
    assert found(world, "Drift").get("features", []) == []
    assert world.told()[-1] == "Normal NoDrift"


async def test_a_model_with_a_profile_is_judged_though_its_spec_says_nothing() -> None:
    world = await serving(spec())
    await Traffic().run(world, 180, SHIFTED)
    assert world.said()["Drift"] == "True FeaturesDrifted"


async def test_features_that_are_too_many_to_be_counted_are_told() -> None:
    world = await serving()
    world.pods.left_out = 12
    await Traffic().run(world, 600)
    assert world.message("Drift").endswith(
        "; 12 more of the profile are beyond what is counted, the least important ones"
    )


async def test_a_model_without_a_profile_is_hardly_ever_looked_at_and_has_no_condition() -> None:
    world = await serving(spec(), profile={})
    await world.run(60)
    reads = world.pods.reads
    assert reads == 3
    await world.run(0.7 * BARREN)
    assert world.pods.reads == reads
    await world.run(0.3 * BARREN)
    assert world.pods.reads == 2 * reads
    parts = {"Ready", "ModelResolved", "RevisionReady", "RouteReady", "RolloutComplete"}
    assert set(world.said()) - {"AccessControlled"} == parts


async def test_drift_that_is_asked_for_without_a_profile_says_what_is_missing() -> None:
    world = await serving(spec({"drift": {}}), profile={})
    await world.run(60)
    assert world.said()["Drift"] == "Unknown NoReference"
    assert "log a profile beside the model" in world.message("Drift")


async def test_too_few_rows_are_said_and_never_guessed_about() -> None:
    world = await serving()
    await Traffic().run(world, 600, SHIFTED, rows=10)
    assert world.said()["Drift"] == "Unknown TooFewRows"
    assert "rows of the 1,000 needed" in world.message("Drift")


async def test_a_restarted_operator_lets_the_last_verdict_stand_until_it_has_counted_enough() -> None:
    world, traffic = await serving(), Traffic()
    # Of pods that are younger than a window it knows all that they counted.
    await traffic.run(world, 610, rows=1)
    await traffic.run(world, 300, SHIFTED)
    drifted = found(world, "Drift")
    await world.restart()
    writes = world.writes()
    await traffic.run(world, 60, rows=50)
    assert found(world, "Drift") == drifted
    assert world.writes() == writes
    await traffic.run(world, 300)
    again = found(world, "Drift")
    assert again["status"] == "False"
    # Only what was counted since the restart says so.
    assert drifted["countedSince"] < again["countedSince"]


async def test_a_verdict_does_not_outlive_a_whole_window_without_rows() -> None:
    world, traffic = await serving(), Traffic()
    await traffic.run(world, 610, rows=1)
    await traffic.run(world, 300, SHIFTED)
    await world.restart()
    await world.run(700)
    assert world.said()["Drift"] == "Unknown TooFewRows"


@pytest.mark.parametrize("how", ["container", "pod"])
async def test_pods_that_restart_within_the_window_change_nothing(how: str) -> None:
    """All counts are taken before a pod goes: then the figures are those of pods that stay."""
    calm, rough = await serving(), await serving()
    for world in (calm, rough):
        traffic = Traffic(7)
        for _ in range(6):
            await traffic.run(world, 40, SHIFTED)
            await world.run(40)
            if world is rough and how == "container":
                world.pods.restart(world.pods.names()[0])
            elif world is rough:
                world.kube.take((ObjectKind.POD, NAMESPACE, world.pods.names()[0]))
            await world.run(10)
    judged = [world.operator.judge._watched[KEY] for world in (calm, rough)]
    assert all(one.tally is not None for one in judged)
    sums = [{name: value for name, value in one.tally.totals.items() if value} for one in judged if one.tally]
    by_bin = [sum(counts.values()) for counts in sums]
    assert by_bin[0] == pytest.approx(by_bin[1], abs=0.01 * by_bin[0])
    assert found(calm, "Drift")["features"][0]["psi"][:3] == found(rough, "Drift")["features"][0]["psi"][:3]


async def test_what_a_pod_counted_before_it_was_first_seen_belongs_to_no_window() -> None:
    world, traffic = await serving(), Traffic()
    await traffic.run(world, 610, rows=1)
    mute = world.pods.names()[0]
    for _ in range(10):
        world.pods.rows(1000, traffic.random, SHIFTED)
    world.pods.mute = {mute}
    await world.restart()
    await traffic.run(world, 120)
    world.pods.mute = set()
    await traffic.run(world, 300)
    assert world.said()["Drift"] == "False NoDrift"


async def test_pods_that_cannot_be_read_make_everything_unknown_after_a_while() -> None:
    world, traffic = await serving(), Traffic()
    await traffic.run(world, 300)
    world.pods.mute = set(world.pods.names())
    await traffic.run(world, 240)
    assert world.said()["Drift"] == "False NoDrift"
    await traffic.run(world, 120)
    assert world.said()["Drift"] == "Unknown CountersUnavailable"
    assert world.said()["DataQuality"] == "Unknown CountersUnavailable"
    assert "no pod of version 1 could be read since" in world.message("Drift")
    writes = world.writes()
    await traffic.run(world, 300)
    assert world.writes() == writes
    world.pods.mute = set()
    await traffic.run(world, 60)
    assert world.said()["Drift"] == "False NoDrift"


async def test_one_pod_that_cannot_be_read_keeps_nobody_from_judging() -> None:
    world = await serving()
    world.pods.mute = {world.pods.names()[0]}
    await Traffic().run(world, 600, SHIFTED)
    assert world.said()["Drift"] == "True FeaturesDrifted"


async def test_nothing_is_written_while_the_same_traffic_goes_on() -> None:
    world, traffic = await serving(), Traffic()
    await traffic.run(world, 900)
    writes = world.writes()
    await traffic.run(world, 1800)
    assert world.writes() == writes


async def test_fifty_model_deployments_at_rest_are_looked_at_and_not_written() -> None:
    world = World()
    world.pods.profile = PROFILE
    await world.operator.start()
    for number in range(50):
        world.create({"model": {"uri": "mlflow://fraud/1"}}, f"model-{number}")
        if number % 10 == 9:
            await world.settle()
    judge = world.operator.judge
    for _ in range(3):
        await judge.round()
        world.now += timedelta(seconds=INTERVAL)
        await world.settle()
    writes, reads = world.writes(), world.pods.reads
    for _ in range(20):
        world.now += timedelta(seconds=INTERVAL)
        await judge.round()
    assert not world.operator.dirty
    assert world.writes() == writes
    assert world.pods.reads >= reads + 50 * 15


async def test_a_limit_that_changes_judges_anew_and_makes_no_revision() -> None:
    world, traffic = await serving(), Traffic()
    shares: Profile = {"age": {name: 0.1 + 0.035 * (1 if name > "04" else -1) for name in BINS}}
    await traffic.run(world, 600, shares)
    assert world.said()["Drift"] == "True FeaturesDrifted"
    revision, pods = world.status()["stable"]["revision"], world.pods.names()
    world.create(spec({"drift": {**DRIFT, "psi": {"warning": "0.5", "critical": "0.5"}}}))
    await traffic.run(world, 20, shares)
    assert world.said()["Drift"] == "False NoDrift"
    assert "0.5 allowed" in world.message("Drift")
    assert (world.status()["stable"]["revision"], world.pods.names()) == (revision, pods)


async def test_another_version_is_judged_by_its_own_counts_alone() -> None:
    world, traffic = await serving(), Traffic()
    await traffic.run(world, 300, SHIFTED)
    world.create({**spec({"drift": DRIFT}), "model": {"uri": "mlflow://fraud/2"}})
    await world.run(60)
    assert world.status()["stable"]["version"] == "2"
    await world.run(60)
    assert world.status()["monitoring"]["version"] == "2"
    assert world.said()["Drift"] == "Unknown TooFewRows"
    await traffic.run(world, 300)
    assert world.said()["Drift"] == "False NoDrift"


async def test_pods_whose_profiles_differ_are_judged_by_what_they_have_in_common() -> None:
    world, traffic = await serving(), Traffic()
    for _ in range(60):
        world.pods.count(Metric.FEATURE_VALUES, {"feature": "age", "bin": "another"}, 50)
        await traffic.run(world, 10, {**SHIFTED, "city": SHIFTED["age"]})
    assert world.said()["Drift"] == "True FeaturesDrifted"
    assert [one["name"] for one in found(world, "Drift")["features"]] == ["city"]


async def test_a_model_that_cannot_be_judged_keeps_nobody_else_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await serving()
    judge = world.operator.judge

    async def fail(key: Key) -> None:
        raise ValueError(f"{key} is odd")

    monkeypatch.setattr(judge, "_look", fail)
    await judge.round()
    monkeypatch.undo()
    await Traffic().run(world, 240)
    assert world.said()["Drift"] == "False NoDrift"


async def test_data_or_a_model_that_is_too_old_makes_the_data_bad() -> None:
    freshness = {"source": "Header", "name": "x-time", "maxAgeSeconds": 3600}
    world, traffic = await serving(spec({"drift": DRIFT, "freshness": freshness})), Traffic()
    bounds = (60.0, 3600.0, 86_400.0)
    for _ in range(30):
        for bound in bounds:
            world.pods.count(f"{Metric.DATA_AGE}_bucket", {"le": str(bound)}, 100 if bound > 3600 else 20)
        world.pods.count(f"{Metric.DATA_AGE}_bucket", {"le": "+Inf"}, 100)
        await traffic.run(world, 10)
    assert world.said()["DataQuality"] == "False DataIsStale"
    assert "half of the data is older than" in world.message("DataQuality")
    world.create({**spec({"drift": DRIFT}), "card": {"maxAgeDays": 1}})
    await traffic.run(world, 60)
    assert world.said()["DataQuality"] == "True DataIsGood"
    world.now += timedelta(days=2)
    await traffic.run(world, 300)
    assert world.said()["DataQuality"] == "False ModelIsStale"


FEEDBACK = {"secretRef": {"name": "keys"}}
OBJECTIVES = [{"metric": "Accuracy", "minimum": "82%"}]


def label(world: World, right: int, wrong: int, **where: Any) -> None:
    for outcome, count in (("1", right), ("0", wrong)):
        labels = {"outcome": outcome, "label": "1", "correct": str(outcome == "1").lower()}
        world.pods.count(Metric.FEEDBACK_LABELS, labels, count, **where)


async def test_labels_that_come_back_say_how_often_the_model_is_right() -> None:
    world = await serving(spec({"performance": {"feedback": FEEDBACK, "objectives": OBJECTIVES}}))
    await world.run(30)
    assert world.said()["Performance"] == "Unknown TooFewLabels"
    label(world, 950, 50)
    await world.run(60)
    assert world.said()["Performance"] == "True ObjectivesMet"
    assert "Accuracy 95% of 1,000 labels" in world.message("Performance")
    label(world, 500, 500)
    await world.run(60)
    assert world.said()["Performance"] == "False ObjectiveMissed"
    assert "Warning ObjectiveMissed" in world.told()
    # Labels of a version that was replaced say nothing of this one.
    label(world, 100_000, 0, version="0")
    await world.run(700)
    assert world.said()["Performance"] == "False ObjectiveMissed"


FAIRNESS = {
    "sensitiveAttributes": [
        {"name": "sex", "parameter": "sex", "groups": ["female", "male"], "referenceGroup": "male"}
    ],
    "favorableOutcomes": ["1"],
    "metrics": [
        {"name": "DisparateImpactRatio", "minimum": "80%"},
        {"name": "DemographicParityDifference", "maximum": "10%"},
    ],
}


def grant(world: World, group: str, favorable: int, unfavorable: int) -> None:
    for outcome, count in (("favorable", favorable), ("unfavorable", unfavorable)):
        labels = {"attribute": "sex", "group": group, "outcome": outcome}
        world.pods.count(Metric.GROUP_PREDICTIONS, labels, count)


async def test_groups_that_are_treated_otherwise_are_named_with_their_shares() -> None:
    world = await serving(spec(fairness=FAIRNESS), profile={})
    grant(world, "male", 300, 700)
    await world.run(60)
    assert world.said()["Fairness"] == "Unknown TooSmallGroups"
    grant(world, "male", 300, 700)
    grant(world, "female", 180, 820)
    await world.run(60)
    assert world.said()["Fairness"] == "False LimitExceeded"
    assert "sex: DisparateImpactRatio 0.6" in world.message("Fairness")
    assert "female 18% of 1,000, male 30% of 2,000" in world.message("Fairness")


async def test_only_what_is_counted_of_fairness_makes_a_revision() -> None:
    world = await serving(spec(fairness=FAIRNESS), profile={})
    revision = world.status()["stable"]["revision"]
    attribute = {**FAIRNESS["sensitiveAttributes"][0], "referenceGroup": "female"}  # type: ignore[index]
    judged = {"metrics": [], "windowSeconds": 60, "confidence": "99%", "minimumGroupRows": 50}
    world.create(spec(fairness={**FAIRNESS, **judged, "sensitiveAttributes": [attribute]}))
    await world.settle()
    assert world.status()["stable"]["revision"] == revision
    world.create(spec(fairness={**FAIRNESS, "favorableOutcomes": ["0"]}))
    await world.settle()
    assert world.status()["stable"]["revision"] != revision


async def test_this_hour_is_compared_with_the_same_hour_yesterday_once_there_was_one() -> None:
    asked = spec({"drift": {"windowSeconds": 3600, "compareWith": "SameHourYesterday"}})
    world, random = await serving(asked), np.random.default_rng(3)

    async def hours(count: int, shares: Profile | None) -> None:
        """Looked at every five minutes, which is what a busy operator comes to."""
        for _ in range(12 * count):
            world.pods.rows(400, random, shares)
            world.now += timedelta(seconds=300)
            await world.operator.judge.round()
            while world.operator.dirty:
                await world.operator.look(min(world.operator.dirty))

    await hours(12, SHIFTED)
    assert world.said()["Drift"] == "Unknown NoReference"
    await hours(12, None)
    await hours(2, SHIFTED)
    assert world.said()["Drift"] == "False NoDrift"
    await hours(8, SHIFTED)
    assert world.said()["Drift"] == "False NoDrift"
    await hours(4, SHIFTED)
    assert world.said()["Drift"] == "True FeaturesDrifted"


async def test_the_operator_tells_prometheus_the_limits_that_it_judges_by() -> None:
    asked = spec(
        {
            "drift": {**DRIFT, "psi": {"warning": "0.1"}, "minimumRows": 500},
            "performance": {"feedback": FEEDBACK, "objectives": OBJECTIVES},
            "slos": {"availability": "99.5%", "latency": {"thresholdMilliseconds": 250}},
        },
        fairness=FAIRNESS,
    )
    world = await serving(asked)
    await Traffic().run(world, 120, SHIFTED)
    registry = CollectorRegistry()
    registry.register(MonitoringCollector(world.operator.store, world.operator.judge))
    text = generate_latest(registry).decode()
    of = f'model="{NAME}",namespace="{NAMESPACE}"'
    for line in (
        f'slipway_monitoring_limit{{limit="psi_warning",{of}}} 0.1',
        f'slipway_monitoring_limit{{limit="psi_critical",{of}}} 0.25',
        f'slipway_monitoring_limit{{limit="drift_rows",{of}}} 500.0',
        f'slipway_monitoring_limit{{limit="accuracy",{of}}} 0.82',
        f'slipway_monitoring_limit{{limit="availability",{of}}} 0.995',
        f'slipway_monitoring_limit{{limit="latency",{of}}} 0.99',
        f'slipway_monitoring_limit{{limit="disparate_impact_ratio",{of}}} 0.8',
        f'slipway_slo_latency_bound{{le="0.25",{of}}} 1.0',
        f'slipway_drift_compared_with{{{of},with="Reference"}} 1.0',
        f'slipway_fairness_reference_group{{attribute="sex",group="male",{of}}} 1.0',
        f'slipway_monitoring_verdict{{condition="Drift",name="{NAME}",namespace="{NAMESPACE}",'
        'status="True"} 1.0',
    ):
        assert line in text.splitlines(), line
    [critical] = {
        line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith("slipway_drift_cri")
    }
    # Nine degrees of freedom at a thousandth, shared by three features.
    assert float(critical) == pytest.approx(stats.chi2.isf(0.001 / 3, 9))


async def _drifted(world: World) -> int:
    """Drift comes and goes, whoever is killed meanwhile; how often that was."""
    deaths, traffic = 0, Traffic()
    for shares, seconds in ((None, 200), (SHIFTED, 200), (None, 900)):
        for _ in range(seconds // 10):
            world.pods.rows(100, traffic.random, shares)
            try:
                await world.run(10)
            except Killed:
                deaths += 1
                await world.restart()
    return deaths


async def test_killed_at_any_request_the_verdicts_come_to_the_same_end() -> None:
    calm = await serving()
    begun = len(calm.kube.requests)
    await _drifted(calm)
    assert len(calm.kube.requests) > begun + 4
    for number in range(begun + 1, len(calm.kube.requests) + 1):
        world = await serving()

        def kill(request: Request, number: int = number) -> None:
            if request.number == number:
                raise Killed

        world.kube.after = kill
        assert await _drifted(world) == 1
        assert world.said() == calm.said()


async def test_a_reader_of_the_resource_finds_all_numbers_in_words() -> None:
    """The golden file is written anew with ``SLIPWAY_REGENERATE=1``."""
    monitoring = {
        "drift": DRIFT,
        "performance": {"feedback": FEEDBACK, "objectives": OBJECTIVES},
        "onBreach": {"action": "Job", "conditions": ["Drift"], "job": {"image": "train"}},
    }
    world, traffic = await serving(spec(monitoring, fairness=FAIRNESS)), Traffic()
    await traffic.run(world, 300)
    label(world, 950, 50)
    grant(world, "male", 300, 700)
    grant(world, "female", 180, 820)
    await traffic.run(world, 300, SHIFTED)
    status = world.status()
    types = {one["type"] for one in status["monitoring"]["verdicts"]}
    found = {
        "conditions": [one for one in status["conditions"] if one["type"] in types],
        "monitoring": status["monitoring"],
    }
    text = yaml.safe_dump(found, sort_keys=False, width=110)
    if os.environ.get("SLIPWAY_REGENERATE"):
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text, "if that is meant: SLIPWAY_REGENERATE=1"
    assert all(len(one["message"]) <= 1024 for one in found["conditions"])
