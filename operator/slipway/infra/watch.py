"""Watches of what belongs to ModelDeployments: what is seen goes to the store, its key on the queue.

ModelDeployments themselves are watched by kopf (:mod:`slipway.infra.modeldeployments`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from slipway.engine.backoff import backoff
from slipway.engine.controller.sweep import list_kind
from slipway.engine.errors import ApiError
from slipway.engine.kube import Kube
from slipway.engine.store import Key, Store

log = logging.getLogger(__name__)

#: Bounds of the back-off, in seconds, after a watch that failed or ended at once.
LEAST_DELAY, MOST_DELAY = 1.0, 30.0
#: Events that are taken in before others get a turn.
AT_ONCE = 25


async def watch(
    kube: Kube,
    store: Store,
    kinds: Collection[str],
    changed: Callable[[Key], None],
    missed: Callable[[str], None],
    namespaces: tuple[str, ...],
) -> None:
    """Watch those of the kinds that the cluster knows, each from where the store's last list of it ended.

    Runs until cancelled: no error of the API server ends it.

    Args:
        kube: the API, over as many connections as there are watches.
        store: takes in what is seen.
        kinds: what to watch.
        changed: told of each ModelDeployment that something happened to.
        missed: told of each kind that can be listed in a namespace where it could not be.
        namespaces: exact names; empty for all.
    """
    async with asyncio.TaskGroup() as tasks:
        for kind in kinds:
            for namespace in namespaces or (None,):
                if kind not in store.unknown:
                    tasks.create_task(_Watch(kube, store, changed, missed, kind, namespace).keep())


class _Watch:
    """Of one kind, in one namespace or in all."""

    def __init__(
        self,
        kube: Kube,
        store: Store,
        changed: Callable[[Key], None],
        missed: Callable[[str], None],
        kind: str,
        namespace: str | None,
    ) -> None:
        self._kube = kube
        self._store = store
        self._changed = changed
        self._missed = missed
        self._kind = kind
        self._namespace = namespace
        #: Of the last event or list; None where only a list tells what there is.
        self._version = store.listed.get((kind, namespace))
        self._failures = 0

    async def keep(self) -> None:
        while True:
            try:
                if self._version is None:
                    await self._list()
                began = asyncio.get_running_loop().time()
                await self._follow()
                if asyncio.get_running_loop().time() < began + LEAST_DELAY:
                    await asyncio.sleep(LEAST_DELAY)
            except ApiError as error:
                # Nobody knows what this one did not tell.
                self._version = None
                await self._rest(error)

    async def _list(self) -> None:
        for key in await list_kind(self._kube, self._store, self._kind, self._namespace):
            self._changed(key)
        self._version = self._store.listed[self._kind, self._namespace]
        if self._namespace in self._store.unseen:
            self._missed(self._kind)

    async def _follow(self) -> None:
        """Until the API server ends the watch, as it does every few minutes; the next one goes on there."""
        assert self._version is not None
        taken = 0
        async for type_, manifest in self._kube.watch(self._kind, self._namespace, self._version):
            self._version = int(manifest["metadata"]["resourceVersion"])
            self._failures = 0
            if type_ == "BOOKMARK":
                continue
            key = self._store.bury(manifest) if type_ == "DELETED" else self._store.put(manifest)
            if key is not None:
                self._changed(key)
            taken += 1
            if not taken % AT_ONCE:
                await asyncio.sleep(0)

    async def _rest(self, error: ApiError) -> None:
        log.log(
            logging.DEBUG if self._failures else logging.WARNING,
            "a watch failed and begins again",
            extra={"kind": self._kind, "namespace": self._namespace or "", "error": str(error)},
        )
        self._failures += 1
        await asyncio.sleep(max(backoff(self._failures, LEAST_DELAY, MOST_DELAY), error.retry_after))
