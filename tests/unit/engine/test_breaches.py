"""What follows a breach: one Job for each episode, or the way back to the revision before."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.core.observed import ObjectKind
from slipway.core.rollout.machine import Command
from slipway.engine.errors import ApiError
from tests.unit.engine.test_judging import DRIFT, SHIFTED, Traffic, found, serving, spec
from tests.unit.fake import Request
from tests.unit.world import NAMESPACE, Killed, World

JOB = {
    "image": "registry.example.com/train:1",
    "command": ["train", "--register"],
    "env": [{"name": "EPOCHS", "value": "3"}],
    "secretRefs": [{"name": "mlflow"}],
    "activeDeadlineSeconds": 600,
}


def acting(action: str = "Job", **more: Any) -> dict[str, Any]:
    job = {"job": JOB} if action == "Job" else {}
    return spec({"drift": DRIFT, "onBreach": {"action": action, **job, **more}})


async def test_a_breach_has_one_job_created_however_long_it_lasts() -> None:
    world, traffic = await serving(acting()), Traffic()
    await traffic.run(world, 300)
    assert world.kube.all(ObjectKind.JOB) == []
    await traffic.run(world, 600, SHIFTED)
    [job] = world.kube.all(ObjectKind.JOB)
    episode = found(world, "Drift")["episode"]
    assert episode["job"] == job["metadata"]["name"]
    assert "Normal JobCreated" in world.told()
    [container] = job["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    assert told["EPOCHS"] == "3"
    assert told["SLIPWAY_MODEL_URI"] == "mlflow://fraud/1"
    assert told["SLIPWAY_CONDITION"] == "Drift"
    assert told["SLIPWAY_REASON"] == "FeaturesDrifted"
    assert told["SLIPWAY_MESSAGE"].startswith("1 of 3 features moved; age: PSI")
    # It is done and gone, while the episode goes on: no other one takes its place.
    world.kube.drop((ObjectKind.JOB, NAMESPACE, job["metadata"]["name"]))
    await world.restart()
    await traffic.run(world, 900, SHIFTED)
    assert world.kube.all(ObjectKind.JOB) == []
    assert found(world, "Drift")["episode"] == episode


async def test_an_episode_ends_with_a_window_that_was_good_and_the_next_has_a_job_of_its_own() -> None:
    world, traffic = await serving(acting()), Traffic()
    await traffic.run(world, 600, SHIFTED)
    await traffic.run(world, 2400, rows=200)
    assert "endedAt" in found(world, "Drift")["episode"]
    await traffic.run(world, 600, SHIFTED, rows=300)
    assert len(world.kube.all(ObjectKind.JOB)) == 2


async def test_conditions_that_are_not_named_have_no_job() -> None:
    world = await serving(acting(conditions=["Performance"]))
    await Traffic().run(world, 600, SHIFTED)
    assert world.said()["Drift"] == "True FeaturesDrifted"
    assert world.kube.all(ObjectKind.JOB) == []


async def test_an_alert_is_all_that_follows_where_nothing_else_is_asked_for() -> None:
    world = await serving(acting("Alert"))
    await Traffic().run(world, 600, SHIFTED)
    assert world.told()[-1] == "Warning FeaturesDrifted"
    assert world.kube.all(ObjectKind.JOB) == []


async def test_a_job_that_is_refused_is_tried_again_and_said_to_be_missing() -> None:
    world = await serving(acting())

    def refuse(request: Request) -> None:
        if (request.verb, request.kind) == ("create", "Job"):
            raise ApiError(403, "Forbidden", "exceeded quota: jobs")

    world.kube.before = refuse
    await Traffic().run(world, 300, SHIFTED)
    assert "exceeded quota: jobs" in found(world, "Drift")["episode"]["fault"]
    assert world.said()["Ready"] == "True Serving"
    world.kube.before = None
    await Traffic().run(world, 60, SHIFTED)
    assert len(world.kube.all(ObjectKind.JOB)) == 1
    assert "fault" not in found(world, "Drift")["episode"]


async def test_killed_at_any_request_there_is_still_one_job_for_an_episode() -> None:
    async def drifts(world: World) -> int:
        deaths, traffic = 0, Traffic()
        for _ in range(45):
            world.pods.rows(100, traffic.random, SHIFTED)
            try:
                await world.run(10)
            except Killed:
                deaths += 1
                await world.restart()
        return deaths

    calm = await serving(acting())
    begun = len(calm.kube.requests)
    assert await drifts(calm) == 0
    assert len(calm.kube.requests) - begun >= 5
    for number in range(begun + 1, len(calm.kube.requests) + 1):
        world = await serving(acting())

        def kill(request: Request, number: int = number) -> None:
            if request.number == number:
                raise Killed

        world.kube.after = kill
        assert await drifts(world) == 1
        [job] = world.kube.all(ObjectKind.JOB)
        assert found(world, "Drift")["episode"]["job"] == job["metadata"]["name"]


async def replaced(strategy: str) -> tuple[World, Traffic, str]:
    """Version 2 serves after version 1; the revision of the first."""
    asked = {**acting("Rollback"), "rollout": {"strategy": strategy}}
    if strategy == "Canary":
        asked["rollout"]["steps"] = [{"setWeight": 50}]
    world, traffic = await serving(asked), Traffic()
    await world.run(60)
    before = world.status()["stable"]["revision"]
    world.create({**asked, "model": {"uri": "mlflow://fraud/2"}})
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    return world, traffic, before


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Canary"])
async def test_a_breach_goes_back_to_the_revision_before_and_is_remembered(strategy: str) -> None:
    world, traffic, before = await replaced(strategy)
    await traffic.run(world, 300, SHIFTED)
    await world.run(120)
    status = world.status()
    assert status["stable"]["revision"] == before
    [rejection] = status["rejected"]
    assert rejection["digest"] == f"sha256:{2:064x}"
    assert rejection["message"].startswith("rolled back: Drift is True: 1 of 3 features moved; age")
    assert world.said()["RevisionReady"] == "False Rejected"
    assert world.said()["Ready"] == "True Serving"
    # As Argo CD does: the same spec again changes nothing, and neither does a restart.
    await world.restart()
    await traffic.run(world, 300)
    assert world.status()["stable"]["revision"] == before
    assert world.status()["rejected"] == [rejection]


async def test_retry_lets_a_revision_that_was_rolled_back_in_again() -> None:
    world, traffic, _ = await replaced("RollingUpdate")
    await traffic.run(world, 300, SHIFTED)
    await world.run(120)
    world.annotate(f"slipway.dev/{Command.RETRY}", world.status()["rejected"][0]["id"])
    await world.run(120)
    assert world.status()["stable"]["version"] == "2"


TEAMS = ("asked-0", "asked-1", "asked-2", "asked-3")
CALLERS = {"access": {"apiKeys": {"secretRef": {"name": "keys"}}}}


@pytest.mark.parametrize("action", ["Job", "Rollback"])
async def test_one_caller_alone_brings_about_neither_a_job_nor_a_rollback(action: str) -> None:
    """A flood of strange rows, ten times what all others send; then all others send such rows, too."""
    world, traffic = await serving({**acting(action), **CALLERS}), Traffic()
    world.create({**acting(action), **CALLERS, "model": {"uri": "mlflow://fraud/2"}})
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    for _ in range(60):
        for team in TEAMS:
            world.pods.rows(25, traffic.random, cohort=team)
        world.pods.rows(1000, traffic.random, SHIFTED, cohort="asked-7")
        await world.run(10)
    assert world.said()["Drift"] == "Unknown OneCallerDecides"
    assert "episode" not in found(world, "Drift")
    assert "one of 5 cohorts of callers decides" in found(world, "Drift")["message"]
    assert world.status()["stable"]["version"] == "2"
    assert world.kube.all(ObjectKind.JOB) == []
    for _ in range(60):
        for team in (*TEAMS, "asked-7"):
            world.pods.rows(200, traffic.random, SHIFTED, cohort=team)
        await world.run(10)
    await world.run(120)
    if action == "Job":
        assert len(world.kube.all(ObjectKind.JOB)) == 1
    else:
        assert world.status()["stable"]["version"] == "1"


async def test_cohorts_are_asked_for_only_where_a_breach_acts_and_callers_are_known() -> None:
    for asked in (acting("Rollback"), {**acting("Alert"), **CALLERS}):
        world, traffic = await serving(asked), Traffic()
        for _ in range(30):
            world.pods.rows(1000, traffic.random, SHIFTED, cohort="asked-7")
            world.pods.rows(50, traffic.random, cohort="asked-1")
            world.pods.rows(50, traffic.random, cohort="asked-2")
            await world.run(10)
        assert world.said()["Drift"] == "True FeaturesDrifted"


async def test_there_is_no_way_back_from_the_first_revision() -> None:
    world = await serving(acting("Rollback"))
    await Traffic().run(world, 600, SHIFTED)
    assert world.said()["Drift"] == "True FeaturesDrifted"
    assert world.said()["Ready"] == "True Serving"
    assert world.status()["stable"]["version"] == "1"
    assert not world.status().get("rejected")


async def test_killed_at_any_request_of_a_rollback_the_next_operator_comes_to_the_same_end() -> None:
    async def back(world: World, traffic: Traffic) -> int:
        deaths = 0
        for _ in range(45):
            world.pods.rows(100, traffic.random, SHIFTED)
            try:
                await world.run(10)
            except Killed:
                deaths += 1
                await world.restart()
        return deaths

    calm, traffic, _ = await replaced("RollingUpdate")
    begun = len(calm.kube.requests)
    await back(calm, traffic)
    assert calm.status()["stable"]["version"] == "1"
    for number in range(begun + 1, len(calm.kube.requests) + 1, 3):
        world, traffic, before = await replaced("RollingUpdate")

        def kill(request: Request, number: int = number) -> None:
            if request.number == number:
                raise Killed

        world.kube.after = kill
        assert await back(world, traffic) == 1
        assert world.status()["stable"]["revision"] == before
        assert len(world.status()["rejected"]) == 1
