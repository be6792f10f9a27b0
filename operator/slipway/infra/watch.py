"""kopf, and all that it is here for: to log in, to watch, and to stop. Nothing else imports it.

Handlers put what they see into the store and a key on the queue. No handler is of a kind for which kopf
would write to an object (annotations, finalizers).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

import kopf

from slipway.api.types import KIND
from slipway.core import names
from slipway.engine.kube import RESOURCES, typed
from slipway.engine.store import Key, Store

#: Seconds after which the API server, then the client, ends a watch and a new one begins: a connection that
#: something in between has dropped in silence is noticed.
SERVER_TIMEOUT = 240
CLIENT_TIMEOUT = 300


async def watch(
    store: Store,
    changed: Callable[[Key], None],
    namespaces: tuple[str, ...],
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watch until SIGTERM, SIGINT or ``stop``.

    Args:
        store: takes in what is seen, and says which kinds the cluster does not know.
        changed: told of each ModelDeployment that something happened to.
        namespaces: exact names; empty for all.
        stop: set to end it from outside.
        ready: set once the watches are set up.
    """
    registry = kopf.OperatorRegistry()
    for kind in RESOURCES:
        if kind not in store.unknown:
            _watch_kind(registry, kind, store, changed)
    kopf.on.login(registry=registry)(_login)
    await kopf.operator(
        registry=registry,
        settings=_settings(),
        # Only peering uses it, which is off; without one kopf asks the system for a user's name.
        identity=cast(Any, "slipway"),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        ready_flag=ready,
    )


def _watch_kind(
    registry: kopf.OperatorRegistry, kind: str, store: Store, changed: Callable[[Key], None]
) -> None:
    resource = RESOURCES[kind]

    async def seen(**kwargs: Any) -> None:
        event = kwargs["event"]
        manifest = typed(event["object"], kind)
        key = store.remove(manifest) if event["type"] == "DELETED" else store.put(manifest)
        if key is not None:
            changed(key)

    kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=f"see-{kind}")(
        seen
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.client_timeout = CLIENT_TIMEOUT
    settings.watching.chunk_size = 500
    settings.queueing.worker_limit = 100
    for kind, resource in RESOURCES.items():
        if kind != KIND:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = (
                names.MODEL_LABEL
            )
    return settings


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """In a cluster by the ServiceAccount, elsewhere by KUBECONFIG."""
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**kwargs)
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
