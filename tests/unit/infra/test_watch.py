"""Watches, against an API server that tests tell what to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.engine.controller.sweep import fill
from slipway.engine.kube import RESOURCES
from slipway.engine.store import Key, Store
from slipway.infra import watch as watching
from slipway.infra.kube import WATCH_PATIENCE, WATCH_TIMEOUT, KubeClient
from tests.unit.infra.api_server import api_server
from tests.unit.infra.watched_cluster import WatchedCluster, error

KEY = Key("payments", "fraud")


def _object(version: int, name: str = "fraud", namespace: str = "payments", uid: str = "") -> dict[str, Any]:
    # Items of lists come without their kind.
    meta = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"{namespace} {name}",
        "resourceVersion": str(version),
        "labels": {naming.MODEL_LABEL: "fraud"},
    }
    return {"metadata": meta}


@dataclass
class _Running:
    """Watches of a :class:`WatchedCluster`."""

    cluster: WatchedCluster
    store: Store
    changed: list[Key]
    missed: list[str]
    task: asyncio.Task[None]
    asked: list[tuple[str, str]]

    async def until(self, holds: Callable[[], object], seconds: float = 30.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    assert not self.task.done(), "watching ended"
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError("it never came to be") from None


@asynccontextmanager
async def _watching(
    monkeypatch: pytest.MonkeyPatch,
    cluster: WatchedCluster,
    namespaces: tuple[str, ...] = (),
    *,
    filled: bool = False,
) -> AsyncIterator[_Running]:
    """``filled``: whether all was listed before, as the operator does."""
    store, changed, missed = Store(), list[Key](), list[str]()
    monkeypatch.setattr(watching, "LEAST_DELAY", 0.05)
    monkeypatch.setattr(watching, "MOST_DELAY", 0.2)
    async with api_server(cluster) as server:
        kube = KubeClient(server.client, lambda *_: None, lambda: 0.0)
        if filled:
            await fill(kube, store, namespaces)
        task = asyncio.create_task(
            watching.watch(kube, store, RESOURCES, changed.append, missed.append, namespaces)
        )
        try:
            yield _Running(cluster, store, changed, missed, task, server.asked)
        finally:
            task.cancel()
            cluster.told.set()
            await asyncio.gather(task, return_exceptions=True)


MODELS, PODS = RESOURCES[KIND].path(), RESOURCES[ObjectKind.POD].path()


async def test_all_kinds_are_watched_from_where_their_lists_ended_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = WatchedCluster()
    cluster.version = 7
    cluster.items[MODELS] = [_object(1)]
    async with _watching(monkeypatch, cluster, filled=True) as running:
        await running.until(lambda: len(cluster.watched) == len(RESOURCES))
        assert {tuple(since) for since in cluster.since.values()} == {("7",)}
        cluster.tell(MODELS, "MODIFIED", _object(8))
        await running.until(lambda: _version_of(running.store) == 8)
        assert running.changed == [KEY], "what the list told is no news"
    assert {method for method, _ in running.asked} == {"GET"}
    listed = [path for _, path in running.asked if "watch=" not in path]
    assert len(listed) == len(RESOURCES), "nothing is listed twice"
    watched = {path.partition("?")[0] for _, path in running.asked if "watch=" in path}
    assert watched == {found.path() for found in RESOURCES.values()}
    labelled = {path.partition("?")[0] for _, path in running.asked if "labelSelector=" in path}
    assert labelled == watched - {MODELS}


async def test_what_goes_is_forgotten_and_its_key_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = WatchedCluster()
    cluster.items[MODELS] = [_object(1)]
    async with _watching(monkeypatch, cluster, filled=True) as running:
        cluster.tell(MODELS, "DELETED", _object(2))
        await running.until(lambda: running.changed == [KEY])
        assert running.store.resource(KEY) is None


async def test_an_event_from_the_past_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = WatchedCluster()
    services = RESOURCES[ObjectKind.SERVICE].path()
    async with _watching(monkeypatch, cluster, filled=True) as running:
        for version in (5, 4, 6):
            cluster.tell(services, "MODIFIED", {**_object(version), "spec": {"ports": [version]}})
        await running.until(lambda: len(running.changed) == 2)
        await asyncio.sleep(0.1)
        assert running.changed == [KEY, KEY]


async def test_a_watch_that_ended_goes_on_where_it_was_and_a_bookmark_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = WatchedCluster()
    cluster.items[MODELS] = [_object(1)]
    async with _watching(monkeypatch, cluster, filled=True) as running:
        cluster.tell(MODELS, "MODIFIED", _object(2))
        cluster.tell(MODELS, "BOOKMARK", {"metadata": {"resourceVersion": "9"}})
        cluster.tell(MODELS, "END", {})
        await running.until(lambda: cluster.watched[MODELS] == 2)
        assert cluster.since[MODELS] == ["1", "9"]
        cluster.tell(MODELS, "MODIFIED", _object(10))
        await running.until(lambda: _version_of(running.store) == 10)
        lists = [path for _, path in running.asked if path.startswith(MODELS) and "watch=" not in path]
        assert len(lists) == 1


async def test_watches_that_end_at_once_are_not_begun_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = WatchedCluster()
    cluster.told.set()
    async with _watching(monkeypatch, cluster, filled=True):
        await asyncio.sleep(1.0)
    assert 2 <= cluster.watched[MODELS] <= 25


def test_a_watch_that_went_silent_is_noticed_by_server_and_client() -> None:
    assert WATCH_TIMEOUT < WATCH_PATIENCE <= 300


async def test_thousands_of_events_are_handed_on_at_once_without_a_task_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = WatchedCluster()
    cluster.items[PODS] = [_object(1, name=f"p{number}") for number in range(1200)]
    async with _watching(monkeypatch, cluster, filled=True) as running:
        for number in range(2000):
            cluster.tell(PODS, "ADDED", _object(2, name=f"late{number}"))
        await running.until(lambda: running.store.count(ObjectKind.POD) == 3200, 20.0)
        assert len(asyncio.all_tasks()) < 200, "no task for each object"


async def test_a_line_of_a_watch_may_be_long_and_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = WatchedCluster()
    async with _watching(monkeypatch, cluster, filled=True) as running:
        long = _object(2)
        long["spec"] = {"text": "é" * 2_000_000}
        cluster.tell(MODELS, "ADDED", long)
        cluster.tell(MODELS, "MODIFIED", _object(3))
        await running.until(lambda: _version_of(running.store) == 3)


async def test_what_is_no_event_is_an_error_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = WatchedCluster()
    async with _watching(monkeypatch, cluster, filled=True) as running:
        cluster.events[MODELS].put_nowait({"type": "ADDED", "object": "nothing"})
        cluster.tell(MODELS, "END", {})
        await running.until(lambda: cluster.watched[MODELS] == 2)
        cluster.tell(MODELS, "ADDED", _object(2))
        await running.until(lambda: _version_of(running.store) == 2)


async def test_states_of_one_object_arrive_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = WatchedCluster()
    cluster.items[MODELS] = [_object(1)]
    async with _watching(monkeypatch, cluster, filled=True) as running:
        for version in range(2, 300):
            cluster.tell(MODELS, "MODIFIED", _object(version))
        await running.until(lambda: _version_of(running.store) == 299)
        assert len(running.changed) == 298, "none was refused as older than one before"


@pytest.mark.parametrize("code", [410, 429, 500, 504])
async def test_an_error_in_a_watch_is_a_list_more_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    cluster = WatchedCluster()
    cluster.items[MODELS] = [_object(1)]
    async with _watching(monkeypatch, cluster) as running:
        everybody = len(RESOURCES)
        await running.until(lambda: len(cluster.watched) == everybody and _version_of(running.store) == 1)
        running.changed.clear()
        pods = cluster.watched[PODS]
        # It goes while nobody watches.
        cluster.items[MODELS], cluster.version = [], 5
        cluster.tell(MODELS, "ERROR", error(code))
        await running.until(lambda: running.changed == [KEY])
        assert running.store.resource(KEY) is None
        assert cluster.watched[PODS] == pods, "others are left alone"
        cluster.tell(MODELS, "ADDED", _object(6, uid="another"))
        await running.until(lambda: _version_of(running.store) == 6)
        assert cluster.since[MODELS] == ["1", "5"]


async def test_a_namespace_that_may_not_be_watched_ends_nothing_and_is_watched_once_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = WatchedCluster()
    here, there = RESOURCES[KIND].path("payments"), RESOURCES[KIND].path("elsewhere")
    cluster.items[here] = [_object(1)]
    cluster.items[there] = [_object(1, namespace="elsewhere")]
    cluster.forbidden = {found.path("elsewhere") for found in RESOURCES.values()}
    async with _watching(monkeypatch, cluster, ("payments", "elsewhere"), filled=True) as running:
        await running.until(lambda: _version_of(running.store) == 1 and cluster.watched[here])
        for version in range(2, 5):
            cluster.tell(here, "MODIFIED", _object(version))
            await running.until(lambda version=version: _version_of(running.store) == version)
            await asyncio.sleep(0.2)
        assert not running.store.count(KIND) > 1
        assert "elsewhere" in running.store.unseen
        assert running.missed == []
        cluster.forbidden = set()
        await running.until(lambda: running.store.resource(Key("elsewhere", "fraud")) is not None)
        await running.until(lambda: KIND in running.missed)


def _version_of(store: Store) -> int:
    found = store.resource(KEY)
    return int(found["metadata"]["resourceVersion"]) if found is not None else 0
