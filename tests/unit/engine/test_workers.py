"""Workers, with the metrics that they leave."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from slipway.api.types import KIND
from slipway.core.observed import ObjectKind
from slipway.engine.controller.workers import Rounds, work
from slipway.engine.errors import ApiError
from slipway.engine.metrics.controller import Metrics, ModelDeploymentCollector
from slipway.engine.queue import WorkQueue
from slipway.engine.result import Result
from slipway.engine.store import Key
from slipway.names import OperatorMetric
from tests.unit.fake import FakeKube
from tests.unit.world import KEY, NAMESPACE, World

GOOD, BAD = Key("payments", "good"), Key("payments", "bad")


class Bench:
    """A queue with its metrics, and a worker on it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.queue: WorkQueue[Key] = WorkQueue(self.metrics, least_delay=0.01)
        self.runs: list[Key] = []

    async def work_on(self, answers: dict[Key, list[Result | BaseException]], rounds: int) -> None:
        """Let a worker run until it has made so many runs."""

        async def reconcile(key: Key) -> Result:
            self.runs.append(key)
            if len(self.runs) == rounds:
                self.queue.close()
            left = answers[key]
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        for key in answers:
            self.queue.add(key)
        await asyncio.wait_for(work(self.queue, reconcile, self.metrics), 5)

    def value(self, metric: str, /, **labels: str) -> float | None:
        return self.registry.get_sample_value(metric, labels)

    def results(self) -> dict[str, float | None]:
        return {
            result: self.value(
                "controller_runtime_reconcile_total", controller="modeldeployment", result=result
            )
            for result in ("success", "error", "requeue", "requeue_after")
        }


async def test_an_exception_never_ends_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bad: list[Result | BaseException] = [
        ZeroDivisionError("a bug"),
        ApiError(503, "Sorry", "later"),
        Result(),
    ]
    await bench.work_on({BAD: bad, GOOD: [Result()]}, rounds=4)
    assert bench.runs == [BAD, GOOD, BAD, BAD]
    assert bench.results() == {"success": 2, "error": 2, "requeue": 0, "requeue_after": 0}
    assert bench.value("controller_runtime_reconcile_errors_total", controller="modeldeployment") == 2
    assert bench.value("workqueue_retries_total", name="modeldeployment") == 2
    assert "a bug" in caplog.text, "a bug is shown with its traceback"


async def test_a_failed_write_is_tried_again_and_is_no_error() -> None:
    bench = Bench()
    await bench.work_on({GOOD: [Result(failed=True), Result()]}, rounds=2)
    assert bench.results() == {"success": 1, "error": 0, "requeue": 1, "requeue_after": 0}


async def test_a_look_that_was_asked_for_later_comes() -> None:
    bench = Bench()
    await bench.work_on({GOOD: [Result(requeue_after=0.01), Result()]}, rounds=2)
    assert bench.runs == [GOOD, GOOD]
    assert bench.results()["requeue_after"] == 1


async def test_a_success_ends_the_back_off() -> None:
    bench = Bench()
    await bench.work_on({GOOD: [*[Result(failed=True)] * 3, Result()]}, rounds=4)
    assert bench.queue._failures == {}


async def test_a_cancelled_worker_gives_its_key_back() -> None:
    bench = Bench()
    begun = asyncio.Event()

    async def reconcile(_: Key) -> Result:
        begun.set()
        await asyncio.sleep(60)
        return Result()

    bench.queue.add(GOOD)
    worker = asyncio.create_task(work(bench.queue, reconcile, bench.metrics))
    await begun.wait()
    assert bench.value("controller_runtime_active_workers", controller="modeldeployment") == 1
    bench.queue.add(GOOD)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert bench.value("controller_runtime_active_workers", controller="modeldeployment") == 0
    assert await bench.queue.take() == GOOD


async def test_runs_that_wait_for_nothing_leave_turns_for_others() -> None:
    """A lease is renewed and an API server's answers are read between them."""
    bench, beats = Bench(), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    async def reconcile(key: Key) -> Result:
        if key.name == "last":
            bench.queue.close()
        return Result()

    for number in range(1000):
        bench.queue.add(Key("payments", f"m{number}"))
    bench.queue.add(Key("payments", "last"))
    beating = asyncio.create_task(beat())
    await asyncio.gather(*(work(bench.queue, reconcile, bench.metrics) for _ in range(16)))
    beating.cancel()
    assert beats > 1000 / 16 / 2


def test_model_deployments_are_told_as_metrics_with_their_model() -> None:
    world = World()
    registry = CollectorRegistry()
    registry.register(ModelDeploymentCollector(world.operator.store))
    place = {"namespace": NAMESPACE, "name": "fraud"}
    assert registry.get_sample_value("slipway_modeldeployment_ready", place) is None
    world.create()
    asyncio.run(world.settle())
    stable = world.status()["stable"]
    assert registry.get_sample_value("slipway_modeldeployment_ready", place) == 1
    assert registry.get_sample_value("slipway_modeldeployment_replicas", place) == 1
    info = {**place, "revision": stable["revision"], "version": "1", "digest": stable["digest"]}
    assert registry.get_sample_value("slipway_modeldeployment_info", info) == 1
    role = {**place, "revision": stable["revision"], "role": "stable"}
    assert registry.get_sample_value("slipway_modeldeployment_revision_ready_replicas", role) == 1
    world.kube.take((KIND, NAMESPACE, "fraud"))
    assert registry.get_sample_value("slipway_modeldeployment_ready", place) is None


def test_the_age_of_the_model_that_serves_is_told_beside_what_its_card_allows() -> None:
    world = World()
    registry = CollectorRegistry()
    registry.register(ModelDeploymentCollector(world.operator.store))
    place = {"namespace": NAMESPACE, "model": "fraud"}
    spec = {"model": {"uri": "mlflow://fraud/1"}, "card": {"maxAgeDays": 30}}
    world.create(spec)
    asyncio.run(world.settle())
    assert registry.get_sample_value(OperatorMetric.MODEL_MAX_AGE, place) == 30 * 86_400
    status = world.status()
    made = status["stable"]["modelCreatedAt"]
    assert made == status["model"]["createdAt"]
    told = registry.get_sample_value(OperatorMetric.MODEL_CREATED, {**place, "model_version": "1"})
    assert told == datetime.fromisoformat(made).timestamp()
    revision = status["stable"]["revision"]
    world.create({**spec, "card": {"owner": "risk"}})
    asyncio.run(world.settle())
    assert world.status()["stable"]["revision"] == revision
    assert registry.get_sample_value(OperatorMetric.MODEL_MAX_AGE, place) is None
    # Another runtime is another revision of a model that is no younger for it.
    world.create({**spec, "runtime": {"threads": 2}})
    asyncio.run(world.settle())
    assert world.status()["stable"]["revision"] != revision
    assert world.status()["stable"]["modelCreatedAt"] == made


async def test_of_many_workers_one_begins_in_each_round_of_the_loop() -> None:
    bench, rounds, now, began = Bench(), Rounds(), 0, []

    async def count_rounds() -> None:
        nonlocal now
        while True:
            now += 1
            await asyncio.sleep(0)

    async def reconcile(_: Key) -> Result:
        began.append(now)
        if len(began) == 40:
            bench.queue.close()
        return Result()

    for number in range(40):
        bench.queue.add(Key("payments", f"model-{number}"))
    counting = asyncio.create_task(count_rounds())
    await asyncio.gather(*(work(bench.queue, reconcile, bench.metrics, rounds) for _ in range(8)))
    counting.cancel()
    assert len(set(began)) == len(began) == 40


async def test_a_worker_that_is_cancelled_keeps_no_other_from_its_round() -> None:
    rounds = Rounds()
    begun, cancelled, last = (asyncio.create_task(rounds.next()) for _ in range(3))
    await asyncio.sleep(0)
    assert begun.done()
    cancelled.cancel()
    await asyncio.wait_for(last, 5)
    assert cancelled.cancelled()


def test_requests_and_leadership_are_counted() -> None:
    bench = Bench()
    bench.metrics.requested("PATCH", 200)
    bench.metrics.requested("GET", 0)
    bench.metrics.lead(lambda: 4.5)
    assert bench.value("rest_client_requests_total", code="200", method="PATCH") == 1
    assert bench.value("rest_client_requests_total", code="<error>", method="GET") == 1
    assert bench.value("leader_election_master_status", name="slipway-operator") == 1
    bench.metrics.lead(lambda: 0.0)
    assert bench.value("leader_election_master_status", name="slipway-operator") == 0


def test_every_series_of_the_queue_and_of_reconciles_is_there_from_the_start() -> None:
    assert Bench().results() == {"success": 0, "error": 0, "requeue": 0, "requeue_after": 0}
    assert Bench().value("workqueue_depth", name="modeldeployment") == 0


async def test_a_status_never_reaches_another_resource_of_the_same_name() -> None:
    world = World()
    world.create()
    await world.settle()
    known: Any = world.operator.store.resource(KEY)
    world.operator.end()
    world.kube.take((KIND, NAMESPACE, "fraud"))
    world.create()
    with pytest.raises(ApiError) as raised:
        await world.operator.reconciler._writer.write_status(known, {"observedGeneration": 9})
    assert raised.value.code == 409
    assert world.kube.find(KIND, NAMESPACE, "fraud")["status"] == {"observedGeneration": 0}


async def test_deleting_never_hits_a_successor() -> None:
    kube = FakeKube(lambda: datetime(2026, 11, 24, tzinfo=UTC))
    old = kube.update({"kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {}})
    kube.take(("Service", "n", "a"))
    kube.update({"kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {}})
    await kube.delete(old)
    assert kube.has(ObjectKind.SERVICE, "n", "a")
