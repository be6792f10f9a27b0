"""Complete lists of the cluster: the first one, and those that find what no watch told."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection

from slipway.api.types import KIND
from slipway.core.resource import Resource
from slipway.engine.backoff import backoff
from slipway.engine.errors import ApiError
from slipway.engine.kube import OPTIONAL, RESOURCES, Kube
from slipway.engine.queue import WorkQueue
from slipway.engine.store import Key, Store

log = logging.getLogger(__name__)

#: Seconds between two comparisons of everything.
SWEEP_SECONDS = 600.0
#: Between two tries to list a namespace that could not be listed.
UNSEEN_SECONDS = 60.0
#: Bounds of the back-off after a list that failed.
LEAST_DELAY, MOST_DELAY = 2.0, 120.0
#: Bounds of the back-off before the first lists are there.
FIRST_DELAY, MOST_FIRST_DELAY = 1.0, 15.0
#: For watches of several kinds that begin again at once.
GATHERING = 0.5
#: Over so much time for each key all are looked at: those of a sweep, and those of an operator that begins.
SPREAD_SECONDS, BEGINNING_SECONDS = 0.02, 0.002
#: Objects of a page that are taken in before others get a turn.
AT_ONCE = 25
#: How often a list that lasts longer than the API server remembers is begun again.
RESTARTS = 3
#: Between two looks for kinds that the cluster did not know.
KINDS_SECONDS = 60.0


async def fill(
    kube: Kube, store: Store, namespaces: tuple[str, ...], kinds: Collection[str] = tuple(RESOURCES)
) -> set[Key]:
    """List kinds into the store; the ModelDeployments whose state was not known so.

    A namespace that may not be listed keeps nobody from the others: it is noted as unseen until it can be.

    Args:
        kube: the API.
        store: takes in what is listed.
        namespaces: exact names; empty for all.
        kinds: to be listed; of a namespace that was unseen, all are.

    Raises:
        ApiError: if a list cannot be had, for instance because the CRD is not installed.
    """
    changed: set[Key] = set()
    for namespace in namespaces or (None,):
        try:
            changed |= await _fill_one(kube, store, namespace, kinds)
        except ApiError as error:
            if error.code != 403 or namespace is None:
                raise
            _lose(store, namespace, error)
    return changed


async def _fill_one(kube: Kube, store: Store, namespace: str | None, kinds: Collection[str]) -> set[Key]:
    appears = namespace in store.unseen
    changed: set[Key] = set()
    for kind in RESOURCES if appears else kinds:
        try:
            changed |= await list_kind(kube, store, kind, namespace)
        except ApiError as error:
            if error.code != 404 or kind not in OPTIONAL:
                raise
            store.unknown |= {kind}
        else:
            store.unknown -= {kind}
    if appears:
        store.unseen -= {namespace}
        log.info("a namespace can be listed again", extra={"namespace": namespace})
        changed |= {key for key in store.everything() if key.namespace == namespace}
    return changed


async def list_kind(kube: Kube, store: Store, kind: str, namespace: str | None) -> set[Key]:
    """List a kind into the store; whom the differences concern.

    Raises:
        ApiError: if it cannot be listed.
    """
    listing = store.listing(kind, namespace)
    version = 0
    for restarts in range(RESTARTS + 1):
        try:
            async for page in kube.pages(kind, namespace):
                for first in range(0, len(page.items), AT_ONCE):
                    if first:
                        await asyncio.sleep(0)
                    listing.take(page.items[first : first + AT_ONCE])
                version = page.version
        except ApiError as error:
            if error.code != 410 or restarts == RESTARTS:
                raise
            listing.again()
        else:
            break
    for _ in listing.ending(version):
        await asyncio.sleep(0)
    return listing.changed


def _lose(store: Store, namespace: str, error: ApiError) -> None:
    if namespace not in store.unseen:
        log.warning(
            "a namespace cannot be listed and is left alone until it can be; give the operator its role "
            "there, or take the namespace out of watchNamespaces",
            extra={"namespace": namespace, "error": str(error)},
        )
    store.unseen |= {namespace}


def begin(store: Store, queue: WorkQueue[Key]) -> None:
    """Have everything looked at, by and by: what nobody has looked at yet before the rest."""
    everything = store.everything()
    new = {key for key in everything if _is_new(store.read(key))}
    for number, key in enumerate((*new, *(everything - new))):
        queue.add_after(key, BEGINNING_SECONDS * number)


def _is_new(resource: Resource | None) -> bool:
    return resource is not None and resource.status.observedGeneration != resource.generation


def _spread(store: Store, queue: WorkQueue[Key]) -> None:
    keys = store.everything()
    for key in keys:
        queue.add_after(key, random.uniform(0.0, SPREAD_SECONDS * len(keys)))


async def await_kinds(kube: Kube, unknown: frozenset[str], namespaces: tuple[str, ...]) -> None:
    """Return once the cluster knows one of the kinds that it did not know; never where there is none."""
    while True:
        await asyncio.sleep(KINDS_SECONDS)
        for kind in unknown:
            for namespace in namespaces or (None,):
                try:
                    await kube.list(kind, namespace)
                except ApiError:
                    continue
                log.info("the cluster knows another kind now", extra={"kind": kind})
                return


class Sweep:
    """Compares the store with the cluster: every ten minutes or so, and at once what may have been missed."""

    def __init__(self, kube: Kube, store: Store, queue: WorkQueue[Key], namespaces: tuple[str, ...]) -> None:
        """``namespaces``: exact names; empty for all."""
        self._kube = kube
        self._store = store
        self._queue = queue
        self._namespaces = namespaces
        self._missed: set[str] = set()
        #: When everything was last compared.
        self._compared = _now()
        self._woken = asyncio.Event()

    def missed(self, kind: str) -> None:
        """A watch of a kind begins: what was deleted before that, it does not tell."""
        self._missed.add(kind)
        self._woken.set()

    async def first(self) -> None:
        """List everything, however often it takes: the CRD or the API server may come after the operator."""
        self._compared = _now()
        await self._list(RESOURCES)

    async def again(self) -> None:
        """List ModelDeployments as they are: by their status a replica that begins to lead deletes.

        Of children watches have told since the first list, and whoever writes one finds what is there.
        """
        await self._list((KIND,))

    async def _list(self, kinds: Collection[str]) -> None:
        delay = FIRST_DELAY
        while True:
            self._missed -= set(kinds)
            try:
                await fill(self._kube, self._store, self._namespaces, kinds)
                if not self._namespaces or self._store.unseen < set(self._namespaces):
                    return
            except ApiError as error:
                log.warning("cannot list yet", extra={"error": str(error)})
            await asyncio.sleep(delay)
            delay = min(delay * 2, MOST_FIRST_DELAY)

    async def watch(self) -> None:
        """Compare, for ever."""
        # At once, where a replica that now leads has only watched for long.
        failures, due = 0, self._compared + SWEEP_SECONDS * random.uniform(0.8, 1.2)
        while True:
            await self._wait(due - _now())
            whole = _now() >= due
            kinds = set(RESOURCES) if whole else self._missed
            # Where nothing was missed, only what could not be listed is tried again.
            namespaces = self._namespaces if kinds else tuple(sorted(self._store.unseen))
            self._missed = set()
            try:
                changed = await fill(self._kube, self._store, namespaces, kinds)
            except ApiError as error:
                failures += 1
                log.warning("sweep failed; trying again soon", extra={"error": str(error)})
                self._missed |= kinds
                await asyncio.sleep(max(backoff(failures, LEAST_DELAY, MOST_DELAY), error.retry_after))
                self._woken.set()
                continue
            failures = 0
            if changed:
                log.warning("sweep found what no watch told", extra={"count": len(changed)})
            for key in changed:
                self._queue.add(key)
            if whole:
                due = _now() + SWEEP_SECONDS * random.uniform(0.8, 1.2)
                _spread(self._store, self._queue)

    async def _wait(self, seconds: float) -> None:
        """Until something was missed, or for so long; less where a namespace may have come back."""
        if self._store.unseen:
            seconds = min(seconds, UNSEEN_SECONDS * random.uniform(0.8, 1.2))
        try:
            await asyncio.wait_for(self._woken.wait(), max(seconds, 0.0))
        except TimeoutError:
            return
        await asyncio.sleep(GATHERING)
        self._woken.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
