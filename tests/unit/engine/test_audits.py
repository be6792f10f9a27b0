"""Audits through the engine: what fails never has a pod, whatever the strategy, and what passes goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slipway.contract import Audited, AuditTask, Evaded, Tally, TerminationMessage, Unaudited, Withstood
from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.core.rollout.machine import Command
from slipway.engine.controller.audit_turns import MOST_AUDITS
from slipway.engine.errors import ApiError
from slipway.engine.metrics.audits import AuditCollector
from tests.unit.fake import Request
from tests.unit.world import NAME, NAMESPACE, Killed, World

DATA = f"sha256:{'d' * 64}"
AUDIT: dict[str, Any] = {
    "name": "groups",
    "type": "Subgroups",
    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}, "digest": DATA},
    "labelColumn": "repaid",
    "attributes": [{"column": "sex", "groups": ["female", "male"], "referenceGroup": "male"}],
    "favorableOutcomes": ["1"],
    "metrics": [{"name": "DisparateImpactRatio", "minimum": "80%"}],
    "minimumAccuracy": "80%",
}
ROLLOUTS: dict[str, dict[str, Any]] = {
    "RollingUpdate": {},
    "Canary": {"rollout": {"strategy": "Canary", "steps": [{"setWeight": 20}]}},
    "BlueGreen": {"rollout": {"strategy": "BlueGreen", "steps": [{"setMirror": {"percent": 100}}]}},
    "Shadow": {"rollout": {"strategy": "Shadow", "steps": [{"setMirror": {"percent": 50}}]}},
    "Recreate": {"rollout": {"strategy": "Recreate"}},
    "by numbers of pods": {
        "traffic": {"provider": "ReplicaRatio"},
        "rollout": {"strategy": "Canary", "steps": [{"setWeight": 50}]},
    },
}
every_strategy = pytest.mark.parametrize("strategy", ROLLOUTS)

Answer = Callable[[AuditTask], Audited | Withstood | Evaded | Unaudited | str | None]


def spec(version: int, strategy: str = "RollingUpdate", **audit: Any) -> dict[str, Any]:
    asked = {"model": {"uri": f"mlflow://fraud/{version}"}, **ROLLOUTS[strategy]}
    rollout = {**asked.get("rollout", {}), "audits": [{**AUDIT, **audit}]}
    return {**asked, "scaling": {"minReplicas": 2}, "rollout": rollout}


def tally(tp: int, fp: int, fn: int, tn: int, gained: int = 0, lost: int = 0) -> Tally:
    return (tp, fp, fn, tn, tp + tn, gained, lost, 0, 0, 0, 0)


def counted(task: AuditTask, women: Tally, men: Tally) -> Audited:
    return Audited(
        digest=task.digest,
        baseline=task.baseline,
        dataDigest=task.dataDigest or DATA,
        rows=tuple(map(sum, zip(women, men, strict=True))),
        groups=((women, men),),
    )


def fair(task: AuditTask) -> Audited:
    return counted(task, tally(450, 50, 50, 450), tally(450, 50, 50, 450))


def unfair(task: AuditTask) -> Audited:
    return counted(task, tally(100, 20, 200, 680), tally(450, 50, 50, 450))


def small(task: AuditTask) -> Audited:
    return counted(task, tally(5, 1, 1, 5), tally(450, 50, 50, 450))


def of_version(version: int, then: Answer, otherwise: Answer = fair) -> Answer:
    """Says something else of one version."""
    return lambda task: (then if task.digest.endswith(f"{version:x}") else otherwise)(task)


async def serving(strategy: str = "RollingUpdate", **audit: Any) -> World:
    """Version 1 has passed, and serves."""
    world = World()
    world.audits = fair
    await world.operator.start()
    world.create(spec(1, strategy, **audit))
    world.routers.requests_per_second = 100
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["AuditsPassed"] == "True AuditsPassed"
    return world


def jobs(world: World) -> list[dict[str, Any]]:
    return world.kube.all(ObjectKind.JOB)


def result(world: World, version: int, name: str = NAME) -> dict[str, Any]:
    return next(found for found in world.status(name)["audits"] if found["version"] == str(version))


def has_pods(world: World, version: int) -> bool:
    """Whether anything serves this version, by the digest that its pods fetch."""
    return any(
        f"{version:064x}" in str(found["spec"]["template"]) for found in world.kube.all(ObjectKind.DEPLOYMENT)
    )


@every_strategy
async def test_nothing_of_a_version_is_there_before_its_audit_has_passed(strategy: str) -> None:
    world = await serving(strategy)
    world.audits = lambda _: None
    world.create(spec(2, strategy))
    await world.run(120)
    assert world.said()["RevisionReady"] == "Unknown Auditing"
    assert world.said()["RolloutComplete"] == "False Auditing"
    assert world.said()["Ready"] == "True Serving"
    assert world.said()["AuditsPassed"] == "True AuditsPassed", "of the version that serves"
    assert not has_pods(world, 2)
    assert "canary" not in world.status()
    [job] = jobs(world)
    assert job["metadata"]["labels"][naming.COMPONENT_LABEL] == "audit"
    world.audits = fair
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    assert world.said()["AuditsPassed"] == "True AuditsPassed"
    assert jobs(world) == []


@every_strategy
async def test_a_version_that_fails_is_rejected_before_it_has_a_pod_and_remembered(strategy: str) -> None:
    world = await serving(strategy)
    world.audits = of_version(2, unfair)
    served: list[bool] = []
    world.kube.listeners.append(lambda *_: served.append(has_pods(world, 2)))
    world.create(spec(2, strategy))
    await world.run(300)
    [rejection] = world.status()["rejected"]
    assert rejection["message"].startswith("audit groups: sex: DisparateImpactRatio 0.24")
    assert world.said()["RevisionReady"] == "False Rejected"
    assert world.said()["Ready"] == "True Serving"
    assert world.status()["stable"]["version"] == "1"
    assert result(world, 2)["verdict"] == "Fail"
    assert "Warning Rejected" in world.told()
    asked = len(world.audited)
    # As Argo CD does, and a restart.
    world.create(spec(2, strategy))
    await world.restart()
    await world.run(600)
    assert world.status()["rejected"] == [rejection]
    assert len(world.audited) == asked
    assert not any(served)


async def test_the_first_version_serves_nobody_before_it_has_passed() -> None:
    world = World()
    world.audits = unfair
    await world.operator.start()
    world.create(spec(1))
    await world.run(300)
    assert world.said()["Ready"] == "False Rejected"
    assert world.said()["AuditsPassed"] == "False AuditFailed"
    assert world.kube.all(ObjectKind.DEPLOYMENT) == []
    assert not world.kube.has(ObjectKind.SERVICE, NAMESPACE, NAME)
    assert len(world.status()["rejected"]) == 1
    world.audits = fair
    world.annotate(f"slipway.dev/{Command.RETRY}", world.status()["rejected"][0]["id"])
    await world.run(300)
    assert world.said()["Ready"] == "True Serving"
    assert not world.status().get("rejected")


async def test_retry_has_a_version_audited_again() -> None:
    world = await serving()
    world.audits = of_version(2, unfair)
    world.create(spec(2))
    await world.run(120)
    rejected = world.status()["rejected"][0]["id"]
    world.annotate(f"slipway.dev/{Command.RETRY}", rejected)
    await world.run(120)
    assert len([task for task in world.audited if task.digest.endswith("2")]) == 2
    again = world.status()["rejected"][0]["id"]
    assert again != rejected
    world.audits = fair
    world.annotate(f"slipway.dev/{Command.RETRY}", again)
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"


async def test_too_few_rows_hold_a_version_until_people_let_such_in() -> None:
    world = await serving()
    world.audits = of_version(2, small)
    world.create(spec(2))
    await world.run(600)
    assert world.said()["RevisionReady"] == "Unknown Suspended"
    assert world.said()["Suspended"] == "True Suspended"
    assert "female" not in world.message("Suspended"), "a group of 12 rows is not shown"
    assert "onInconclusive: Continue" in world.message("Suspended")
    assert not has_pods(world, 2)
    asked = len(world.audited)
    world.create(spec(2, onInconclusive="Continue"))
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    assert world.said()["AuditsPassed"] == "Unknown AuditInconclusive"
    assert len(world.audited) == asked, "the answer is the same one"


async def test_a_report_holds_nothing() -> None:
    world = await serving(onFail="Report")
    world.audits = of_version(2, unfair)
    world.create(spec(2, onFail="Report"))
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    assert world.said()["AuditsPassed"] == "False AuditFailed"
    assert "Warning AuditFailed" in world.told()
    assert not world.status().get("rejected")


async def test_what_passed_as_a_candidate_is_not_audited_again_as_the_stable_version() -> None:
    world = await serving(maxAccuracyLoss="5%")
    assert [task.baseline for task in world.audited] == [None]
    world.create(spec(2, maxAccuracyLoss="5%"))
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"
    await world.restart()
    await world.run(3600)
    assert [task.baseline for task in world.audited] == [None, f"sha256:{1:064x}"]
    assert result(world, 2)["baseline"] == f"sha256:{1:064x}"


async def test_a_version_that_is_less_often_right_than_the_stable_one_fails() -> None:
    world = await serving(maxAccuracyLoss="2%")

    def loses(task: AuditTask) -> Audited:
        return counted(task, tally(450, 50, 50, 450, lost=100), tally(450, 50, 50, 450))

    world.audits = of_version(2, loses)
    world.create(spec(2, maxAccuracyLoss="2%"))
    await world.run(300)
    assert world.status()["stable"]["version"] == "1"
    assert "are lost to the stable version" in world.status()["rejected"][0]["message"]


async def test_an_edited_audit_is_another_one() -> None:
    world = await serving()
    world.create(spec(1, minimumAccuracy="95%"))
    await world.run(120)
    assert len(world.audited) == 2
    assert world.said()["AuditsPassed"] == "False AuditFailed"
    assert world.said()["Ready"] == "True Serving"
    assert "Warning AuditFailed" in world.told()


async def test_an_audit_that_cannot_be_done_holds_says_why_and_is_tried_again() -> None:
    world = await serving()
    why = Unaudited(message="the table rows.csv has no column 'repaid'; it has income, age")
    world.audits = of_version(2, lambda _: why)
    world.create(spec(2))
    await world.run(120)
    assert world.said()["RevisionReady"] == "False AuditError"
    assert world.said()["Stalled"] == "True AuditError"
    assert "has no column 'repaid'" in world.message("RevisionReady")
    assert not has_pods(world, 2)
    asked = len(world.audited)
    await world.run(120)
    assert len(world.audited) == asked
    world.audits = fair
    await world.run(600)
    assert world.status()["stable"]["version"] == "2"


async def test_a_job_that_gives_up_is_no_verdict() -> None:
    world = await serving()
    world.audits = of_version(2, lambda _: "Job was active longer than specified deadline")
    world.create(spec(2))
    await world.run(120)
    assert world.said()["RevisionReady"] == "False AuditError"
    assert "longer than specified deadline" in world.message("RevisionReady")
    world.audits = fair
    await world.run(600)
    assert world.status()["stable"]["version"] == "2"


def _other_model(task: AuditTask) -> Audited:
    return fair(task).model_copy(update={"digest": f"sha256:{9:064x}"})


def _other_table(task: AuditTask) -> Audited:
    return fair(task).model_copy(update={"dataDigest": f"sha256:{9:064x}"})


def _other_groups(task: AuditTask) -> Audited:
    return fair(task).model_copy(update={"groups": ()})


def _impossible(task: AuditTask) -> Audited:
    rows = (*fair(task).rows[:4], 10**9, *fair(task).rows[5:])
    return fair(task).model_copy(update={"rows": rows})


@pytest.mark.parametrize("answer", [_other_model, _other_table, _other_groups, _impossible])
async def test_an_answer_to_something_else_is_not_believed(answer: Answer) -> None:
    world = await serving()
    world.audits = of_version(2, answer)
    world.create(spec(2))
    await world.run(120)
    assert world.said()["RevisionReady"] == "False AuditError"
    assert not has_pods(world, 2)


@pytest.mark.parametrize("owner", ["nobody", "a Job of a stranger", "a Job that is not there"])
async def test_the_pod_of_a_stranger_is_not_believed(owner: str) -> None:
    world = await serving()
    world.audits = lambda _: None
    world.create(spec(2))
    await world.run(60)
    [job] = jobs(world)
    [pod] = [
        found
        for found in world.kube.all(ObjectKind.POD)
        if found["metadata"]["name"].startswith(job["metadata"]["name"])
    ]
    theirs = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "theirs",
        "controller": True,
        "uid": "u-theirs",
    }
    owners = {
        "nobody": [],
        "a Job of a stranger": [theirs],
        "a Job that is not there": [{**theirs, "uid": "?"}],
    }
    if owner == "a Job of a stranger":
        meta = {"name": "theirs", "namespace": NAMESPACE, "labels": job["metadata"]["labels"]}
        world.kube.update({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job["spec"]})
        owners[owner] = [
            {**theirs, "uid": world.kube.find(ObjectKind.JOB, NAMESPACE, "theirs")["metadata"]["uid"]}
        ]
    task = AuditTask.model_validate_json(pod["spec"]["containers"][0]["env"][0]["value"])
    words = TerminationMessage(outcome=fair(task)).model_dump_json()
    ended = {"terminated": {"exitCode": 0, "message": words}}
    world.kube.update(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "forged",
                "namespace": NAMESPACE,
                "labels": pod["metadata"]["labels"],
                "ownerReferences": owners[owner],
            },
            "spec": {"containers": []},
            "status": {
                "phase": "Succeeded",
                "containerStatuses": [{"name": "audit", "image": "i", "state": ended}],
            },
        },
        "stranger",
    )
    await world.run(300)
    assert world.said()["RevisionReady"] == "Unknown Auditing"
    assert not has_pods(world, 2)


async def test_a_job_of_a_stranger_with_the_same_name_is_neither_taken_nor_believed() -> None:
    other = await serving()
    other.audits = lambda _: None
    other.create(spec(2))
    await other.run(60)
    [job] = jobs(other)
    world = await serving()
    world.audits = of_version(2, lambda _: None)
    meta = {"name": job["metadata"]["name"], "namespace": NAMESPACE, "labels": {}}
    world.kube.update(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job["spec"]}, "them"
    )
    world.create(spec(2))
    await world.run(60)
    assert world.said()["RevisionReady"] == "False NameTaken"
    assert not has_pods(world, 2)


async def test_a_namespace_has_so_many_audits_at_once_and_all_get_their_turn() -> None:
    world = World()
    await world.operator.start()
    names = [f"model-{number}" for number in range(MOST_AUDITS + 3)]
    for name in names:
        world.create(spec(1), name)
    most = 0

    def count(*_: Any) -> None:
        nonlocal most
        most = max(most, sum(not job.get("status") for job in jobs(world)))

    world.kube.listeners.append(count)
    await world.run(60)
    assert len(jobs(world)) == MOST_AUDITS
    waiting = [name for name in names if "waits for its turn" in str(world.status(name)["conditions"])]
    assert len(waiting) == 3
    world.audits = fair
    await world.run(300)
    assert {world.said(name)["Ready"] for name in names} == {"True Serving"}
    assert most == MOST_AUDITS


async def test_the_stable_version_is_audited_again_and_only_told_of() -> None:
    data = {"configMapRef": {"name": "held-out", "key": "rows.csv"}}
    world = await serving(data=data, repeatSeconds=3600)
    await world.run(3000)
    assert len(world.audited) == 1
    world.audits = lambda task: unfair(task).model_copy(update={"dataDigest": f"sha256:{'e' * 64}"})
    await world.run(1200)
    assert len(world.audited) == 2
    assert world.said()["AuditsPassed"] == "False AuditFailed"
    assert world.said()["Ready"] == "True Serving"
    assert world.told().count("Warning AuditFailed") == 1
    assert not world.status().get("rejected")
    [found] = world.status()["audits"]
    assert found["dataDigest"] == f"sha256:{'e' * 64}"
    world.audits = fair
    await world.run(3700)
    assert world.said()["AuditsPassed"] == "True AuditsPassed"
    assert "Normal AuditsPassed" in world.told()


async def test_an_audit_that_is_added_during_a_rollout_ends_it_where_it_fails() -> None:
    asked = spec(1, "Canary")
    asked["rollout"]["steps"] = [{"setWeight": 20}, {"pause": {"untilApproved": True}}]
    audits = asked["rollout"].pop("audits")
    world = World()
    await world.operator.start()
    world.create(asked)
    world.routers.requests_per_second = 100
    await world.run(120)
    asked = {**asked, "model": {"uri": "mlflow://fraud/2"}}
    world.create(asked)
    await world.run(120)
    assert world.status()["rollout"]["weight"] == 20
    world.create({**asked, "rollout": {**asked["rollout"], "audits": audits}})
    await world.run(60)
    assert world.status()["rollout"]["weight"] == 20, "it goes on while it is audited"
    world.audits = of_version(2, unfair)
    await world.run(300)
    assert world.routers.weights[-1] == 0
    assert world.status()["rejected"][0]["message"].startswith("audit groups: sex")
    assert world.status()["stable"]["version"] == "1"


async def test_metrics_tell_of_the_stable_version_and_of_the_one_that_was_audited_last() -> None:
    world = await serving()
    world.audits = of_version(2, unfair)
    world.create(spec(2))
    await world.run(120)
    families = {family.name: family for family in AuditCollector(world.operator.store).collect()}
    stable = world.status()["stable"]["revision"]
    verdicts = {
        (sample.labels["revision"] == stable, sample.labels["verdict"])
        for sample in families["slipway_audit_verdict"].samples
        if sample.value
    }
    assert verdicts == {(True, "Pass"), (False, "Fail")}
    values = {
        (sample.labels["metric"], sample.labels["bound"]): sample.value
        for sample in families["slipway_audit_value"].samples
        if sample.labels["revision"] != stable and sample.labels["of"] == "sex: female to male"
    }
    assert values["DisparateImpactRatio", "value"] == pytest.approx(0.24)
    assert values["DisparateImpactRatio", "high"] < 0.8
    passed = {sample.labels["status"]: sample.value for sample in families["slipway_audits_passed"].samples}
    assert passed == {"True": 1.0, "False": 0.0, "Unknown": 0.0}


async def test_a_quota_that_has_no_room_for_the_job_is_told_of() -> None:
    world = await serving()

    def refuse(request: Request) -> None:
        if (request.verb, request.kind) == ("create", "Job"):
            raise ApiError(403, "Forbidden", "exceeded quota: jobs")

    world.kube.before = refuse
    world.create(spec(2))
    await world.run(120)
    assert "exceeded quota: jobs" in world.message("RevisionReady")
    assert not has_pods(world, 2)
    world.kube.before = None
    await world.run(300)
    assert world.status()["stable"]["version"] == "2"


async def test_audits_that_nobody_asks_for_any_more_leave_nothing() -> None:
    world = await serving()
    world.audits = lambda _: None
    world.create(spec(2))
    await world.run(60)
    assert len(jobs(world)) == 1
    asked = spec(2)
    del asked["rollout"]["audits"]
    world.create(asked)
    await world.run(300)
    assert jobs(world) == []
    assert world.status()["stable"]["version"] == "2"
    assert "AuditsPassed" not in world.said()
    assert "audits" not in world.status()


async def test_nothing_is_written_while_an_audit_runs_or_has_run() -> None:
    world = await serving(repeatSeconds=86_400)
    world.audits = lambda _: None
    before = world.writes()
    await world.run(1800)
    assert world.writes() == before
    world.create(spec(2))
    await world.run(120)
    before = world.writes()
    await world.run(1800)
    assert world.writes() == before


async def test_killed_at_any_request_a_version_is_audited_once_and_comes_to_the_same_end() -> None:
    async def second(world: World) -> int:
        deaths = 0
        for _ in range(30):
            try:
                await world.run(10)
            except Killed:
                deaths += 1
                await world.restart()
        return deaths

    for answer, end in ((fair, "2"), (unfair, "1")):
        calm = await serving()
        calm.audits = of_version(2, answer)
        begun = len(calm.kube.requests)
        calm.create(spec(2))
        await second(calm)
        assert calm.status()["stable"]["version"] == end
        for number in range(begun + 1, len(calm.kube.requests) + 1, 3):
            world = await serving()
            world.audits = of_version(2, answer)

            def kill(request: Request, number: int = number) -> None:
                if request.number == number:
                    raise Killed

            world.kube.after = kill
            world.create(spec(2))
            assert await second(world) == 1
            assert world.status()["stable"]["version"] == end
            assert len(world.status().get("rejected", ())) == (end == "1")
            assert len([task for task in world.audited if task.digest.endswith("2")]) == 1
            assert jobs(world) == []
