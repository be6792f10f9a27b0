"""ModelDeployments, as kopf sees them. Nothing else imports kopf.

Its one handler puts what it sees into the store and a key on the queue. It is not of a kind for which kopf
would write to an object (annotations, finalizers).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import aiohttp
import kopf
from kopf._cogs.clients import errors, watching

from slipway.api.types import KIND
from slipway.engine.backoff import backoff
from slipway.engine.kube import RESOURCES, typed
from slipway.engine.store import Key, Store
from slipway.infra.kube import PAGE

log = logging.getLogger(__name__)

#: Seconds after which the API server, then the client, ends a watch and a new one begins: a connection that
#: something in between has dropped in silence is noticed.
SERVER_TIMEOUT = 240
CLIENT_TIMEOUT = 300
#: Seconds for which kopf keeps a task for an object after its last event. With a ``worker_limit`` kopf's own
#: 5 s would be a throttle of so many objects in 5 s; without one, 5 s of tasks that do nothing. Never 0: kopf
#: would give an event up before it has read it.
IDLE_SECONDS = 0.05
#: Seconds between tries of a request that failed; after the last the watch begins again, with a list.
REQUEST_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0)
#: Bounds of the back-off, in seconds, after a watch that failed.
LEAST_DELAY, MOST_DELAY = 1.0, 30.0

_FAULTS = (errors.APIError, watching.WatchingError, aiohttp.ClientError, TimeoutError, OSError, ValueError)


async def watch_model_deployments(
    store: Store,
    changed: Callable[[Key], None],
    missed: Callable[[str], None],
    namespaces: tuple[str, ...],
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watch ModelDeployments until SIGTERM, SIGINT or ``stop``.

    Args:
        store: takes in what is seen.
        changed: told of each ModelDeployment that something happened to.
        missed: told of the kind whenever its watch begins: what was deleted before may not have been seen.
        namespaces: exact names; empty for all.
        stop: set to end it from outside.
        ready: set once the watch is set up.
    """
    registry = kopf.OperatorRegistry()
    resource = RESOURCES[KIND]

    async def seen(**kwargs: Any) -> None:
        event = kwargs["event"]
        manifest = typed(event["object"], KIND)
        key = store.bury(manifest) if event["type"] == "DELETED" else store.put(manifest)
        if key is not None:
            changed(key)

    kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id="see")(seen)
    kopf.on.login(registry=registry)(_login)
    with _patient(lambda: missed(KIND)):
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


@contextmanager
def _patient(missed: Callable[[], None]) -> Iterator[None]:
    """kopf's watches less two of their faults.

    kopf ends the whole operator at an error in any watch: at an etcd that is slow for a moment, or at one
    namespace that may not be listed. And when it lists again, since the API server has forgotten the version
    that it was at, it tells nobody, though it cannot know what was deleted meanwhile.

    Args:
        missed: told at the end of each list.
    """
    original = watching.continuous_watch
    failures: dict[tuple[Any, Any], int] = {}

    async def continuous_watch(*, resource: Any, namespace: Any, **others: Any) -> AsyncIterator[Any]:
        place = (resource, namespace)
        try:
            async for event in original(resource=resource, namespace=namespace, **others):
                if event is watching.Bookmark.LISTED:
                    failures.pop(place, None)
                    missed()
                yield event
        except _FAULTS as error:
            # The next one begins with a list, since nobody knows what this one did not tell.
            failed = failures.get(place, 0)
            failures[place] = failed + 1
            log.log(
                logging.DEBUG if failed else logging.WARNING,
                "a watch failed and begins again",
                extra={"kind": resource.plural, "namespace": namespace or "", "error": str(error)},
            )
            await asyncio.sleep(backoff(failed + 1, LEAST_DELAY, MOST_DELAY))

    # kopf has no option for it; a test that runs the real kopf holds what this counts on.
    cast(Any, watching).continuous_watch = continuous_watch
    try:
        yield
    finally:
        cast(Any, watching).continuous_watch = original


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.client_timeout = CLIENT_TIMEOUT
    settings.watching.chunk_size = PAGE
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.networking.error_backoffs = REQUEST_DELAYS
    settings.persistence.diffbase_storage = _NoDifferences()
    return settings


class _NoDifferences(kopf.AnnotationsDiffBaseStorage):
    """No handler asks what has changed: for each event kopf would copy the object to tell."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing."""
        return cast(kopf.BodyEssence, {})


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """In a cluster by the ServiceAccount, elsewhere by KUBECONFIG."""
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**kwargs)
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
