"""Reads the pods of both revisions: all of them, or it is as if none could be read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from slipway.core.endpoint import ready_pods
from slipway.core.observed import Manifest, revision_of_object
from slipway.engine.observers.looks import NothingToReadError, UnreadError
from slipway.engine.store import Key, Store

T = TypeVar("T")

#: Pods of one ModelDeployment that are read at once.
AT_ONCE = 4


def pods_of(store: Store, key: Key, revisions: Iterable[str]) -> list[tuple[str, Manifest]]:
    """The ready pods of revisions, each with its revision.

    Raises:
        NothingToReadError: if one of the revisions has none.
    """
    ready = [pod for pod in ready_pods(store.children(key)) if store.is_believed(pod)]
    found: list[tuple[str, Manifest]] = []
    for revision in revisions:
        pods = [pod for pod in ready if revision_of_object(pod) == revision]
        if not pods:
            raise NothingToReadError(f"revision {revision} has no ready pod")
        found += [(revision, pod) for pod in pods]
    return found


async def of_all(
    pods: Sequence[tuple[str, Manifest]], read: Callable[[tuple[str, Manifest]], Awaitable[T | None]]
) -> list[T]:
    """What each pod says, in their order.

    Raises:
        UnreadError: as soon as one cannot be read; the others are not waited for.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(found: tuple[str, Manifest]) -> T:
        async with room:
            said = await read(found)
        if said is None:
            raise UnreadError(f"pod {found[1]['metadata']['name']} could not be read")
        return said

    tasks = [asyncio.create_task(one(found)) for found in pods]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
