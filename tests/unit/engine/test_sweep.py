"""The first listing and the sweep, whatever the API server says meanwhile."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.engine.controller import sweep as sweeping
from slipway.engine.controller.sweep import Sweep, begin, fill
from slipway.engine.errors import ApiError
from slipway.engine.kube import RESOURCES, Page
from slipway.engine.metrics.controller import Metrics, UnseenCollector
from slipway.engine.queue import WorkQueue
from slipway.engine.store import Key, Store
from tests.unit.fake import FakeKube, Request
from tests.unit.world import KEY, NAMESPACE, World

OTHER = "elsewhere"
ROUTERS = Key(NAMESPACE, "", routers=True)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_DELAY", "FIRST_DELAY", "GATHERING", "UNSEEN_SECONDS"):
        monkeypatch.setattr(sweeping, name, 0.01)


def _queue() -> WorkQueue[Key]:
    return WorkQueue(Metrics(CollectorRegistry()))


@asynccontextmanager
async def _sweeping(
    kube: FakeKube, store: Store, namespaces: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Sweep, WorkQueue[Key]]]:
    queue = _queue()
    sweep = Sweep(kube, store, queue, namespaces)
    task = asyncio.create_task(sweep.watch())
    try:
        yield sweep, queue
    finally:
        task.cancel()


async def _taken(queue: WorkQueue[Key], number: int = 1) -> set[Key]:
    found = set()
    while len(found) < number:
        key = await asyncio.wait_for(queue.take(), 20)
        assert key is not None
        found.add(key)
        queue.done(key)
    return found


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(4000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


def _forbid(namespace: str, kind: str | None = None) -> Callable[[Request], None]:
    """What an API server says where a RoleBinding is gone."""

    def before(request: Request) -> None:
        if request.verb == "list" and request.name == namespace and kind in (None, request.kind):
            raise ApiError(403, "Forbidden", f'{request.kind} is forbidden in the namespace "{namespace}"')

    return before


async def test_the_first_listing_fills_the_store_with_every_kind() -> None:
    world = World()
    world.create({"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": 2}})
    await world.settle()
    store = Store()
    changed = await fill(world.kube, store, ())
    assert changed == {KEY}
    for kind in set(RESOURCES) - {ObjectKind.CONFIG_MAP, ObjectKind.HTTP_ROUTE, ObjectKind.JOB}:
        assert store.count(kind) == len(world.kube.all(kind)) > 0
    assert await fill(world.kube, store, ()) == set()


async def test_listing_by_namespace_sees_those_alone() -> None:
    world = World()
    world.create()
    world.kube.update({"kind": KIND, "metadata": {"name": "other", "namespace": "elsewhere"}, "spec": {}})
    store = Store()
    assert await fill(world.kube, store, (NAMESPACE, "empty")) == {KEY}
    assert store.resource(Key("elsewhere", "other")) is None


async def test_what_appears_while_namespaces_are_listed_one_after_another_is_not_lost() -> None:
    world = World()
    store = Store()
    kube = world.kube

    def appear(request: Request) -> None:
        """After the first namespace was listed, and before the second."""
        if (request.verb, request.kind, request.name) == ("list", KIND, "elsewhere"):
            world.create()
            store.put(kube.find(KIND, NAMESPACE, "fraud"))
            # Something else moves the version of the second list beyond it.
            kube.update({"kind": "ConfigMap", "metadata": {"name": "x", "namespace": "elsewhere"}})

    kube.before = appear
    await fill(kube, store, (NAMESPACE, "elsewhere"))
    assert store.resource(KEY) is not None


async def test_the_sweep_looks_at_everything_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.02)
    world = World()
    world.create()
    async with _sweeping(world.kube, Store()) as (_, queue):
        assert await _taken(queue, 2) == {KEY, ROUTERS}
        assert "sweep found what no watch told" in caplog.text
        assert await _taken(queue, 2) == {KEY, ROUTERS}, "though nothing changed"


async def test_a_sweep_that_failed_is_tried_again_soon_and_not_at_the_next_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next time is ten minutes away; this test is over in a moment."""
    world, store = World(), Store()
    world.create()
    await fill(world.kube, store, ())
    world.kube.take((KIND, NAMESPACE, "fraud"))
    failures = iter(range(3))

    def fail(_: Request) -> None:
        if next(failures, None) is not None:
            raise ApiError(0, "NoAnswer", "connection refused")

    world.kube.before = fail
    async with _sweeping(world.kube, store) as (sweep, queue):
        sweep.missed(KIND)
        assert await _taken(queue) == {KEY}
    assert store.resource(KEY) is None
    assert caplog.text.count("sweep failed") == 3


async def test_what_was_deleted_before_a_watch_began_again_is_noticed_at_once() -> None:
    world, store = World(), Store()
    world.create()
    await fill(world.kube, store, ())
    world.kube.take((KIND, NAMESPACE, "fraud"))
    before = len(world.kube.requests)
    async with _sweeping(world.kube, store) as (sweep, queue):
        sweep.missed(KIND)
        assert await _taken(queue) == {KEY}
    assert store.resource(KEY) is None
    asked = {request.kind for request in world.kube.requests[before:]}
    assert asked == {KIND}, "what no watch missed is not listed"


async def test_no_more_than_a_page_is_held_as_the_api_server_sent_it() -> None:
    """A pod is 32 kB there and 8 kB in the store: of 50,000 all that matters is that they come in pages."""

    class Sent(dict[str, object]):
        """A dict that can be referred to weakly."""

    class Paged(FakeKube):
        async def pages(self, kind: str, namespace: str | None) -> AsyncIterator[Page]:
            del namespace
            for number in range(10 if kind == ObjectKind.POD else 1):
                assert sum(one() is not None for one in sent) <= 50, "pages before the last are let go"
                pods = [Sent(pod(number * 50 + one)) for one in range(50)] if kind == ObjectKind.POD else []
                sent.extend(weakref.ref(one) for one in pods)
                page = Page(tuple(pods), 7)
                del pods
                yield page
                del page
                gc.collect()

    def pod(number: int) -> dict[str, object]:
        labels = {naming.MODEL_LABEL: "fraud"}
        meta = {"name": f"p{number}", "namespace": NAMESPACE, "uid": str(number), "resourceVersion": "1"}
        return {
            "kind": "Pod",
            "metadata": {**meta, "labels": labels},
            "spec": {"containers": []},
            "status": {},
        }

    sent: list[weakref.ref[Sent]] = []
    store = Store()
    await fill(Paged(World().kube.now), store, ())
    assert store.count(ObjectKind.POD) == 500
    gc.collect()
    assert not [one for one in sent if one() is not None], "the store keeps what is worth it"


@pytest.mark.parametrize("times", [1, 3])
async def test_a_list_that_expires_between_its_pages_begins_again(times: int) -> None:
    world, store = World(), Store()
    for number in range(5):
        world.create(name=f"m{number}")
    world.kube.page = 2
    lists = 0
    expiries = iter(range(times))

    def expire(request: Request) -> None:
        nonlocal lists
        if request.kind != KIND:
            return
        lists += 1
        if lists % 2 == 0 and next(expiries, None) is not None:
            # What the first page showed goes before the list begins again.
            if world.kube.has(KIND, NAMESPACE, "m0"):
                world.kube.take((KIND, NAMESPACE, "m0"))
            raise ApiError(410, "Expired", "The provided continue parameter is too old")

    world.kube.before = expire
    await fill(world.kube, store, ())
    assert sorted(key.name for key in store.resources()) == ["m1", "m2", "m3", "m4"]


async def test_a_list_that_always_expires_is_an_error_and_not_for_ever() -> None:
    world = World()
    for number in range(3):
        world.create(name=f"m{number}")
    world.kube.page = 1
    asked = 0

    def expire(_: Request) -> None:
        nonlocal asked
        asked += 1
        if asked % 2 == 0:
            raise ApiError(410, "Expired", "too old")

    world.kube.before = expire
    with pytest.raises(ApiError):
        await fill(world.kube, Store(), ())


@pytest.mark.parametrize("kind", [None, KIND, ObjectKind.POD, ObjectKind.JOB])
async def test_a_namespace_that_may_not_be_listed_keeps_nobody_from_the_others(
    kind: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    world, store = World(), Store()
    world.create()
    world.kube.before = _forbid(OTHER, kind)
    assert await fill(world.kube, store, (OTHER, NAMESPACE)) == {KEY}
    assert store.unseen == {OTHER}
    assert caplog.text.count("cannot be listed") == 1
    await fill(world.kube, store, (OTHER, NAMESPACE))
    assert caplog.text.count("cannot be listed") == 1, "told once"
    registry = CollectorRegistry()
    registry.register(UnseenCollector(store))
    assert registry.get_sample_value("slipway_operator_namespace_unseen", {"namespace": OTHER}) == 1
    assert registry.get_sample_value("slipway_operator_namespace_unseen", {"namespace": NAMESPACE}) is None


async def test_nothing_is_done_in_a_namespace_of_which_only_a_part_can_be_seen() -> None:
    world = World()
    world.create()
    await world.settle()
    world.operator.store.unseen = frozenset({NAMESPACE})
    before = world.writes()
    world.create({"model": {"uri": "mlflow://fraud/2"}})
    for key in (KEY, ROUTERS):
        await world.operator.look(key)
    assert world.writes() == before


async def test_a_namespace_that_comes_back_is_served_without_a_restart() -> None:
    world, store = World(), Store()
    world.create()
    world.kube.update({"kind": KIND, "metadata": {"name": "other", "namespace": OTHER}, "spec": {}})
    world.kube.before = _forbid(OTHER)
    async with _sweeping(world.kube, store, (NAMESPACE, OTHER)) as (sweep, queue):
        await sweep.first()
        assert store.unseen == {OTHER}
        await asyncio.sleep(0.05)
        assert store.unseen == {OTHER}
        world.kube.before = None
        assert await _taken(queue, 2) == {Key(OTHER, "other"), Key(OTHER, "", routers=True)}
        assert store.unseen == frozenset()


async def test_a_namespace_that_is_lost_while_the_operator_runs_is_no_error_of_the_sweep(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.02)
    world, store = World(), Store()
    world.create()
    async with _sweeping(world.kube, store, (NAMESPACE, OTHER)) as (sweep, queue):
        await sweep.first()
        world.kube.before = _forbid(OTHER)
        await _until(lambda: OTHER in store.unseen)
        assert KEY in await _taken(queue, 2)
    assert "sweep failed" not in caplog.text


async def test_an_operator_that_may_list_no_namespace_waits_for_one() -> None:
    world, store = World(), Store()
    world.create()
    world.kube.before = _forbid(NAMESPACE)
    sweep = Sweep(world.kube, store, _queue(), (NAMESPACE,))
    task = asyncio.create_task(sweep.first())
    await asyncio.sleep(0.1)
    assert not task.done()
    world.kube.before = None
    await asyncio.wait_for(task, 20)
    assert store.resource(KEY) is not None


async def test_a_role_that_is_missing_for_all_namespaces_is_an_error() -> None:
    world = World()

    def forbid(_: Request) -> None:
        raise ApiError(403, "Forbidden", "no")

    world.kube.before = forbid
    with pytest.raises(ApiError):
        await fill(world.kube, Store(), ())


async def test_an_operator_that_begins_does_not_put_everything_on_the_queue_at_once() -> None:
    store, queue = Store(), _queue()
    for number in range(1000):
        meta = {"name": f"m{number}", "namespace": NAMESPACE, "uid": str(number), "resourceVersion": "1"}
        store.put({"kind": KIND, "metadata": meta})
    begin(store, queue)
    assert len(queue._since) < 1000
    assert len(queue._timers) == 1001
    await _taken(queue, 1001)


async def test_an_operator_that_begins_looks_first_at_what_nobody_has_looked_at_yet() -> None:
    store, queue = Store(), _queue()
    for number in range(200):
        meta = {"name": f"m{number}", "namespace": NAMESPACE, "uid": str(number), "resourceVersion": "1"}
        status = {"observedGeneration": 1 if number in (7, 150) else 2}
        store.put({"kind": KIND, "metadata": {**meta, "generation": 2}, "status": status})
    begin(store, queue)
    assert await _taken(queue, 2) == {Key(NAMESPACE, "m7"), Key(NAMESPACE, "m150")}


async def test_a_replica_that_begins_to_lead_lists_model_deployments_and_nothing_else() -> None:
    world, store = World(), Store()
    world.create()
    await world.settle()
    async with _sweeping(world.kube, store) as (sweep, _):
        await sweep.first()
        world.kube.edit((KIND, NAMESPACE, KEY.name), lambda live: live["status"].update(replicas=7))
        before = len(world.kube.requests)
        await sweep.again()
        assert [(found.verb, found.kind) for found in world.kube.requests[before:]] == [("list", KIND)]
        resource = store.read(KEY)
        assert resource is not None
        assert resource.status.replicas == 7


async def test_a_replica_that_has_only_watched_for_long_compares_everything_once_it_leads() -> None:
    world, store, queue = World(), Store(), _queue()
    world.create()
    await world.settle()
    sweep = Sweep(world.kube, store, queue, ())
    await sweep.first()
    # Nobody tells of it.
    store.remove(next(child for child in store.children(KEY) if child["kind"] == ObjectKind.SERVICE))
    sweep._compared -= 1.2 * sweeping.SWEEP_SECONDS
    task = asyncio.create_task(sweep.watch())
    try:
        assert KEY in await _taken(queue)
    finally:
        task.cancel()
