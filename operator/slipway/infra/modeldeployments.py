"""ModelDeployments, as kopf sees them. Nothing else imports kopf.

Its one handler puts what it sees into the store and a key on the queue. It is not of a kind for which kopf
would write to an object (annotations, finalizers). Lists are our own.
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
from slipway.engine.controller.sweep import list_kind
from slipway.engine.errors import ApiError
from slipway.engine.kube import RESOURCES, Kube, typed
from slipway.engine.store import Key, Store

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

_FAULTS = (
    ApiError,
    errors.APIError,
    watching.WatchingError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    ValueError,
)


async def watch_model_deployments(
    kube: Kube,
    store: Store,
    changed: Callable[[Key], None],
    missed: Callable[[str], None],
    namespaces: tuple[str, ...],
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watch ModelDeployments from where the store's last list ended, until SIGTERM, SIGINT or ``stop``.

    Args:
        kube: the API, for lists.
        store: takes in what is seen.
        changed: told of each ModelDeployment that something happened to.
        missed: told of the kind where it can be listed in a namespace where it could not be.
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
    with _patient(_Lists(kube, store, changed, missed)):
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


class _Lists:
    """Where the watch of each namespace, or of all, goes on; found by a list where nobody knows."""

    def __init__(
        self, kube: Kube, store: Store, changed: Callable[[Key], None], missed: Callable[[str], None]
    ) -> None:
        self._kube = kube
        self._store = store
        self._changed = changed
        self._missed = missed
        self._versions: dict[str | None, str | None] = {}

    async def version(self, namespace: str | None) -> str:
        """The resource version from which on it is to be watched."""
        listed = self._store.listed.get((KIND, namespace))
        found = self._versions.setdefault(namespace, None if listed is None else str(listed))
        if found is None:
            for key in await list_kind(self._kube, self._store, KIND, namespace):
                self._changed(key)
            found = self._versions[namespace] = str(self._store.listed[KIND, namespace])
            if namespace in self._store.unseen:
                self._missed(KIND)
        return found

    def note(self, namespace: str | None, version: str | None) -> None:
        """What was seen last; None after an error: nobody knows what a broken watch did not tell."""
        self._versions[namespace] = version


@contextmanager
def _patient(lists: _Lists) -> Iterator[None]:
    """kopf's watches, less its lists and one fault.

    kopf lists by itself, has a task for each object that is listed, and cannot know what was deleted before.
    And it ends the whole operator at an error in any watch: at an etcd that is slow for a moment, or at one
    namespace that may not be listed.
    """
    original = watching.continuous_watch
    failures: dict[str | None, int] = {}

    async def continuous_watch(*, namespace: Any, **others: Any) -> AsyncIterator[Any]:
        try:
            since = await lists.version(namespace)
            yield watching.Bookmark.LISTED
            async for event in watching.watch_objs(namespace=namespace, since=since, **others):
                if event["type"] == "ERROR":
                    raise watching.WatchingError(str(event["object"]))
                lists.note(namespace, str(event["object"]["metadata"]["resourceVersion"]))
                failures.pop(namespace, None)
                yield event
        except _FAULTS as error:
            # The next one begins with a list.
            lists.note(namespace, None)
            failed = failures.get(namespace, 0)
            failures[namespace] = failed + 1
            log.log(
                logging.DEBUG if failed else logging.WARNING,
                "a watch failed and begins again",
                extra={"kind": KIND, "namespace": namespace or "", "error": str(error)},
            )
            least = error.retry_after if isinstance(error, ApiError) else 0.0
            await asyncio.sleep(max(backoff(failed + 1, LEAST_DELAY, MOST_DELAY), least))

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
