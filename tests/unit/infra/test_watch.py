"""kopf as it is set up: it only watches."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
import pytest
from kopf._core.intents.handlers import WatchingHandler

from slipway.api.types import KIND
from slipway.core import names
from slipway.core.observed import Kind
from slipway.engine.kube import RESOURCES
from slipway.engine.store import Key, Store
from slipway.infra import watch as watching

KEY = Key("payments", "fraud")


class _Captured:
    """What :func:`slipway.infra.watch.watch` hands to kopf."""

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
    await watching.watch(store, changed.append, namespaces, stop, ready)
    assert captured.arguments["stop_flag"] is stop
    assert captured.arguments["ready_flag"] is ready
    return captured.arguments, store, changed


async def test_every_kind_is_watched_by_an_event_handler_and_nothing_else(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    registry = arguments["registry"]
    assert {handler.id for handler in registry._watching.get_all_handlers()} == {
        f"see-{kind}" for kind in RESOURCES
    }
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


async def test_children_are_watched_by_their_label_and_model_deployments_all(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    selectors = arguments["settings"].watching.label_selectors
    assert set(selectors.values()) == {names.MODEL_LABEL}
    own = RESOURCES[KIND]
    assert (own.group, own.version, own.plural) not in selectors
    assert len(selectors) == len(RESOURCES) - 1


async def test_a_watch_that_went_silent_is_noticed_by_server_and_client(captured: _Captured) -> None:
    arguments, _, _ = await _watch(captured)
    settings = arguments["settings"].watching
    assert settings.server_timeout < settings.client_timeout <= 300


async def _handler(captured: _Captured, kind: str) -> tuple[Any, Store, list[Key]]:
    arguments, store, changed = await _watch(captured)
    (handler,) = [
        found for found in arguments["registry"]._watching.get_all_handlers() if found.id == f"see-{kind}"
    ]
    return handler.fn, store, changed


def _object(version: int) -> dict[str, Any]:
    # Items of kopf's own listing come without their kind.
    meta = {
        "name": "fraud",
        "namespace": "payments",
        "uid": "u",
        "resourceVersion": str(version),
        "labels": {names.MODEL_LABEL: "fraud"},
    }
    return {"metadata": meta}


async def test_what_is_seen_goes_to_the_store_and_its_key_is_told(captured: _Captured) -> None:
    see, store, changed = await _handler(captured, KIND)
    assert await see(event={"type": None, "object": _object(1)}) is None
    assert changed == [KEY]
    assert store.resource(KEY) == {**_object(1), "kind": KIND, **_versioned(store.resource(KEY))}
    await see(event={"type": "DELETED", "object": _object(2)})
    assert changed == [KEY, KEY]
    assert store.resource(KEY) is None


async def test_an_event_from_the_past_wakes_nobody(captured: _Captured) -> None:
    see, _, changed = await _handler(captured, Kind.SERVICE)
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
