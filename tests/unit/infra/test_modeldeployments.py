"""kopf as it is set up, and as it runs: it only watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import web
from kopf._core.intents.handlers import WatchingHandler

from slipway.api.types import KIND
from slipway.core import naming
from slipway.engine.controller.sweep import fill
from slipway.engine.kube import RESOURCES
from slipway.engine.store import Key, Store
from slipway.infra import modeldeployments as watching
from slipway.infra.kube import KubeClient
from tests.unit.infra.api_server import api_server
from tests.unit.infra.watched_cluster import WatchedCluster, error

KEY = Key("payments", "fraud")


class _Captured:
    """What :func:`slipway.infra.modeldeployments.watch_model_deployments` hands to kopf."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}

    async def operator(self, **arguments: Any) -> None:
        self.arguments = arguments


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> _Captured:
    captured = _Captured()
    monkeypatch.setattr(kopf, "operator", captured.operator)
    return captured


async def _watch(
    captured: _Captured, namespaces: tuple[str, ...] = ()
) -> tuple[dict[str, Any], Store, list[Key]]:
    store, changed = Store(), list[Key]()
    stop, ready = asyncio.Event(), asyncio.Event()
    async with api_server(_Cluster()) as server:
        kube = KubeClient(server.client, lambda *_: None, lambda: 0.0)
        await watching.watch_model_deployments(
            kube, store, changed.append, lambda _: None, namespaces, stop, ready
        )
    assert captured.arguments["stop_flag"] is stop
    assert captured.arguments["ready_flag"] is ready
    return captured.arguments, store, changed


async def test_they_are_watched_by_an_event_handler_and_nothing_else(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    registry = arguments["registry"]
    assert [handler.id for handler in registry._watching.get_all_handlers()] == ["see"]
    for other in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert other.get_all_handlers() == [], "kopf would write to objects for these"


async def test_nothing_makes_kopf_add_a_finalizer(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    registry = arguments["registry"]
    # kopf asks these two registries whether an object needs one.
    for handlers in (registry._changing, registry._spawning):
        assert not [found for found in handlers.get_all_handlers() if found.requires_finalizer]
    assert all(type(found) is WatchingHandler for found in registry._watching.get_all_handlers())


async def test_kopf_posts_no_events_and_needs_no_peers_nor_cluster_wide_rights(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured, ("payments", "other"))
    settings = arguments["settings"]
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert arguments["standalone"] is True
    assert arguments["clusterwide"] is False
    assert arguments["namespaces"] == ("payments", "other")


async def test_without_namespaces_all_are_watched(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    assert arguments["clusterwide"] is True


async def test_all_of_them_are_watched_whatever_their_labels(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    assert arguments["settings"].watching.label_selectors == {}


async def test_a_watch_that_went_silent_is_noticed_by_server_and_client(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    settings = arguments["settings"].watching
    assert settings.server_timeout < settings.client_timeout <= 300


async def _handler(captured: _Captured) -> tuple[Any, Store, list[Key]]:
    arguments, store, changed = await _watch(captured)
    (handler,) = arguments["registry"]._watching.get_all_handlers()
    return handler.fn, store, changed


def _object(version: int, name: str = "fraud", namespace: str = "payments") -> dict[str, Any]:
    # Items of kopf's own listing come without their kind.
    meta = {
        "name": name,
        "namespace": namespace,
        "uid": f"{namespace} {name}",
        "resourceVersion": str(version),
        "labels": {naming.MODEL_LABEL: "fraud"},
    }
    return {"metadata": meta}


async def test_what_is_seen_goes_to_the_store_and_its_key_is_told(captured: _Captured) -> None:
    see, store, changed = await _handler(captured)
    assert await see(event={"type": None, "object": _object(1)}) is None
    assert changed == [KEY]
    assert store.resource(KEY) == {**_object(1), "kind": KIND, **_versioned(store.resource(KEY))}
    await see(event={"type": "DELETED", "object": _object(2)})
    assert changed == [KEY, KEY]
    assert store.resource(KEY) is None


async def test_an_event_from_the_past_wakes_nobody(captured: _Captured) -> None:
    see, _, changed = await _handler(captured)
    await see(event={"type": "ADDED", "object": _object(5)})
    await see(event={"type": "MODIFIED", "object": _object(4)})
    assert changed == [KEY]


@pytest.mark.parametrize("kubeconfig", ["/somewhere", ""])
def test_logging_in_follows_kubeconfig_where_there_is_one(
    kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    monkeypatch.setattr(kopf, "login_with_kubeconfig", lambda **_: "kubeconfig")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: "service account")
    logged_in: Any = watching._login()
    assert logged_in == ("kubeconfig" if kubeconfig else "service account")


def _versioned(manifest: Any) -> dict[str, Any]:
    return {"apiVersion": manifest["apiVersion"]} if "apiVersion" in manifest else {}


class _Cluster(WatchedCluster):
    """It also says which kinds it has, which kopf asks for first."""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        versions = {f"{found.group}/{found.version}" for found in RESOURCES.values() if found.group}
        if request.path == "/api":
            return web.json_response({"versions": ["v1"]})
        if request.path == "/apis":
            groups = [
                {"name": group, "versions": [{"version": version}], "preferredVersion": {"version": version}}
                for group, version in (found.split("/") for found in sorted(versions))
            ]
            return web.json_response({"groups": groups})
        kinds = [kind for kind, found in RESOURCES.items() if request.path == found.path().rpartition("/")[0]]
        if kinds:
            found = [(RESOURCES[kind].plural, kind, True) for kind in kinds]
            if request.path == "/api/v1":
                # kopf begins with what it needs itself, whether it may look at it or not.
                found += [("namespaces", "Namespace", False), ("events", "Event", True)]
            listed = [
                {
                    "name": plural,
                    "kind": kind,
                    "singularName": kind.lower(),
                    "namespaced": namespaced,
                    "verbs": ["list", "watch", "patch"],
                }
                for plural, kind, namespaced in found
            ]
            return web.json_response({"resources": listed})
        return await super().__call__(request)


@dataclass
class _Running:
    """kopf itself, watching a :class:`_Cluster`."""

    cluster: _Cluster
    store: Store
    changed: list[Key]
    missed: list[str]
    task: asyncio.Task[None]
    asked: list[tuple[str, str]]

    async def until(self, holds: Callable[[], object], seconds: float = 30.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    assert not self.task.done(), "kopf ended"
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError("it never came to be") from None


@asynccontextmanager
async def _kopf(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cluster: _Cluster,
    namespaces: tuple[str, ...] = (),
    *,
    filled: bool = False,
) -> AsyncIterator[_Running]:
    """``filled``: whether all was listed before, as the operator does."""
    store, changed, missed = Store(), list[Key](), list[str]()
    stop, ready = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(watching, "REQUEST_DELAYS", (0.01,))
    monkeypatch.setattr(watching, "LEAST_DELAY", 0.05)
    monkeypatch.setattr(watching, "MOST_DELAY", 0.2)
    async with api_server(cluster) as server:
        config = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
            "clusters": [{"name": "it", "cluster": {"server": str(server.server.make_url("")).rstrip("/")}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        kube = KubeClient(server.client, lambda *_: None, lambda: 0.0)
        if filled:
            await fill(kube, store, namespaces)
        task = asyncio.create_task(
            watching.watch_model_deployments(
                kube, store, changed.append, missed.append, namespaces, stop, ready
            )
        )
        try:
            yield _Running(cluster, store, changed, missed, task, server.asked)
            assert ready.is_set()
        finally:
            stop.set()
            cluster.told.set()
            await asyncio.wait_for(task, 20)


MODELS = RESOURCES[KIND].path()


async def test_kopf_lists_watches_and_stops_without_writing_a_thing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = _Cluster()
    cluster.items[MODELS] = [_object(1)]
    cluster.tell(MODELS, "MODIFIED", _object(2))
    async with _kopf(monkeypatch, tmp_path, cluster) as running:
        await running.until(lambda: _version_of(running.store) == 2)
        assert len(running.changed) >= 2, "the listed one, and its change"
        # Long enough for kopf to act on what it saw, were it to.
        await asyncio.sleep(0.5)
    assert {method for method, _ in running.asked} == {"GET"}
    watched = {path.partition("?")[0] for _, path in running.asked if "watch=" in path}
    assert watched == {MODELS}


async def test_a_thousand_objects_are_handed_on_in_the_time_of_kopfs_hundreds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its defaults and a limit of 100 kopf hands on 100 in 5 s: this would take a minute."""
    cluster = _Cluster()
    cluster.items[MODELS] = [_object(1, name=f"m{number}") for number in range(1200)]
    cluster.tell(MODELS, "ADDED", _object(2, name="late"))
    async with _kopf(monkeypatch, tmp_path, cluster) as running:
        await running.until(lambda: running.store.count(KIND) == 1201, 40.0)
        # Nor does kopf keep a task for each of them.
        await running.until(lambda: len(asyncio.all_tasks()) < 600)


async def test_states_of_one_object_arrive_in_their_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = _Cluster()
    cluster.items[MODELS] = [_object(1)]
    for version in range(2, 300):
        cluster.tell(MODELS, "MODIFIED", _object(version))
    async with _kopf(monkeypatch, tmp_path, cluster) as running:
        await running.until(lambda: _version_of(running.store) == 299)
        assert len(running.changed) == 299, "none was refused as older than one before"


@pytest.mark.parametrize("code", [410, 429, 500, 504])
async def test_an_error_in_a_watch_is_a_list_more_and_not_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    cluster = _Cluster()
    cluster.items[MODELS] = [_object(1)]
    async with _kopf(monkeypatch, tmp_path, cluster) as running:
        await running.until(lambda: cluster.watched and _version_of(running.store) == 1)
        # All of a kind goes while nobody watches: an empty list tells nothing by itself.
        cluster.items[MODELS], cluster.version = [], 7
        running.changed.clear()
        cluster.tell(MODELS, "ERROR", error(code))
        await running.until(lambda: running.changed == [KEY])
        assert running.store.resource(KEY) is None
        await running.until(lambda: cluster.since[MODELS] == ["1", "7"])
        cluster.tell(MODELS, "ADDED", _object(8, name="late"))
        await running.until(lambda: running.store.resource(Key("payments", "late")) is not None)


async def test_what_was_listed_is_not_listed_again_and_is_watched_from_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = _Cluster()
    cluster.items[MODELS], cluster.version = [_object(1)], 5
    cluster.tell(MODELS, "MODIFIED", _object(6))
    async with _kopf(monkeypatch, tmp_path, cluster, filled=True) as running:
        await running.until(lambda: _version_of(running.store) == 6)
        assert running.changed == [KEY], "what was known is no news"
    lists = [path for _, path in running.asked if path.startswith(MODELS) and "watch=" not in path]
    assert len(lists) == 1
    assert cluster.since[MODELS] == ["5"]


async def test_a_watch_that_the_api_server_ends_goes_on_from_what_was_seen_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = _Cluster()
    cluster.items[MODELS] = [_object(1)]
    async with _kopf(monkeypatch, tmp_path, cluster) as running:
        cluster.tell(MODELS, "MODIFIED", _object(4))
        cluster.tell(MODELS, "END", {})
        await running.until(lambda: cluster.watched[MODELS] == 2)
        assert cluster.since[MODELS] == ["1", "4"]


async def test_a_namespace_that_may_not_be_watched_ends_nothing_and_is_watched_once_it_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = _Cluster()
    here, there = RESOURCES[KIND].path("payments"), RESOURCES[KIND].path("elsewhere")
    cluster.items[here] = [_object(1)]
    cluster.items[there] = [_object(1, namespace="elsewhere")]
    cluster.forbidden = {found.path("elsewhere") for found in RESOURCES.values()}
    async with _kopf(monkeypatch, tmp_path, cluster, ("payments", "elsewhere")) as running:
        await running.until(lambda: _version_of(running.store) == 1 and cluster.watched[here])
        for version in range(2, 5):
            cluster.tell(here, "MODIFIED", _object(version))
            await running.until(lambda version=version: _version_of(running.store) == version)
            await asyncio.sleep(0.2)
        assert not running.store.count(KIND) > 1
        running.store.unseen = frozenset({"elsewhere"})
        cluster.forbidden = set()
        await running.until(lambda: running.store.resource(Key("elsewhere", "fraud")) is not None)
        await running.until(lambda: running.missed == [KIND])


def _version_of(store: Store) -> int:
    found = store.resource(KEY)
    return int(found["metadata"]["resourceVersion"]) if found is not None else 0
