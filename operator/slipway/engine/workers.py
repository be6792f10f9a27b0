"""Workers that take keys from the queue, and the sweep that catches what no watch told."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from slipway.engine.errors import ApiError
from slipway.engine.kube import OPTIONAL, RESOURCES, Kube
from slipway.engine.metrics import Metrics
from slipway.engine.outcome import Outcome
from slipway.engine.queue import WorkQueue
from slipway.engine.store import Key, Store

log = logging.getLogger(__name__)

SWEEP_SECONDS = 600.0
#: Between two looks for kinds that the cluster did not know.
KINDS_SECONDS = 60.0


async def work(
    queue: WorkQueue[Key], reconcile: Callable[[Key], Awaitable[Outcome]], metrics: Metrics
) -> None:
    """Take keys until the queue is closed. A failure of one key never ends the worker."""
    while (key := await queue.take()) is not None:
        begun = time.perf_counter()
        result = "error"
        metrics.active_workers.inc()
        try:
            outcome = await reconcile(key)
        except ApiError as error:
            log.info("trying again later", extra={"key": str(key), "error": str(error)})
            queue.retry(key)
        except Exception:
            log.exception("reconcile failed", extra={"key": str(key)})
            queue.retry(key)
        else:
            result = _settle(queue, key, outcome)
        finally:
            metrics.active_workers.dec()
            metrics.reconciled(result, time.perf_counter() - begun)
            queue.done(key)


def _settle(queue: WorkQueue[Key], key: Key, outcome: Outcome) -> str:
    if outcome.failed:
        queue.retry(key)
    else:
        queue.forget(key)
    if outcome.requeue_after is not None:
        queue.add_after(key, outcome.requeue_after)
        return "requeue_after"
    return "requeue" if outcome.failed else "success"


async def fill(kube: Kube, store: Store, namespaces: tuple[str, ...]) -> set[Key]:
    """List every kind into the store; the ModelDeployments whose state was not known so.

    Raises:
        ApiError: if a list cannot be had, for instance because the CRD is not installed.
    """
    changed: set[Key] = set()
    unknown: set[str] = set()
    for kind in RESOURCES:
        try:
            lists = [await kube.list(kind, namespace) for namespace in namespaces or (None,)]
        except ApiError as error:
            if error.code != 404 or kind not in OPTIONAL:
                raise
            unknown.add(kind)
            continue
        # What appeared after its namespace was listed is newer than the oldest list.
        version = min(version for _, version in lists)
        changed |= store.replace(kind, [item for items, _ in lists for item in items], version)
    store.unknown = frozenset(unknown)
    return changed


async def await_kinds(kube: Kube, unknown: frozenset[str], namespaces: tuple[str, ...]) -> None:
    """Return once the cluster knows one of the kinds that it did not know; never where there is none."""
    while True:
        await asyncio.sleep(KINDS_SECONDS)
        for kind in unknown:
            try:
                await kube.list(kind, namespaces[0] if namespaces else None)
            except ApiError:
                continue
            log.info("the cluster knows another kind now", extra={"kind": kind})
            return


async def sweep(kube: Kube, store: Store, queue: WorkQueue[Key], namespaces: tuple[str, ...]) -> None:
    """Every ten minutes or so, compare the store with the cluster and look at every ModelDeployment."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS * random.uniform(0.8, 1.2))
        try:
            changed = await fill(kube, store, namespaces)
        except ApiError as error:
            log.warning("sweep failed", extra={"error": str(error)})
            continue
        if changed:
            log.warning("sweep found what no watch told", extra={"count": len(changed)})
        for key in store.everything():
            queue.add(key)
