"""What both revisions answered to the very same requests since a rollout's last look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from slipway.contract import ADMIN_PORT
from slipway.core.endpoint import Endpoint, endpoint_of
from slipway.core.observed import AnswerAgreement, Manifest
from slipway.core.rollout.interest import AnswerInterest
from slipway.core.rollout.shadow_agreement import Remembered, answers, common, unlike
from slipway.engine.observers.looks import Found
from slipway.engine.observers.pods import of_all, pods_of
from slipway.engine.store import Key, Store

#: Answers of one revision that are compared, whatever its pods remember; each takes 0.3 kB of memory.
MOST_ENTRIES = 65_536


class AnswerReader:
    """Has pods remember answers while requests are copied, and compares them at each look.

    Answers are taken away as they are read, so that none counts twice; what is taken and does not come to be
    counted is lost, and decides nothing.
    """

    def __init__(
        self, store: Store, take: Callable[[Endpoint, int, int], Awaitable[Remembered | None]]
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            take: takes the answers of the pod whose admin port it is, and has it go on remembering for so
                many seconds; so many entries of them at most; None where it cannot be asked.
        """
        self._store = store
        self._take = take
        #: What is compared takes memory, whoever's it is.
        self._turn = asyncio.Lock()

    async def read(
        self, key: Key, interest: AnswerInterest, memory: bool | None, _: datetime, /
    ) -> Found[bool, AnswerAgreement]:
        """See :class:`slipway.engine.observers.looks.Reader`; remembers whether pods do."""
        pods = pods_of(self._store, key, interest.revisions)
        counts = [sum(found == revision for found, _ in pods) for revision in interest.revisions]
        most = dict(zip(interest.revisions, (MOST_ENTRIES // count for count in counts), strict=True))

        async def take(found: tuple[str, Manifest]) -> Remembered | None:
            revision, pod = found
            return await self._take(endpoint_of(pod, ADMIN_PORT), interest.memory_seconds, most[revision])

        taken = await of_all(pods, take)
        canary, stable = (
            [said for said, (found, _) in zip(taken, pods, strict=True) if found == revision]
            for revision in interest.revisions
        )
        kinds = {pod.numbers for pod in taken if pod.entries}
        if memory is None or len(kinds) != 1:
            return Found(True)
        async with self._turn:
            agreement = await asyncio.to_thread(_compare, canary, stable, kinds.pop(), interest.tolerances)
        return Found(True, agreement)


def _compare(
    canary: Iterable[Remembered],
    stable: Iterable[Remembered],
    numbers: bool,
    tolerances: Iterable[tuple[str, float]],
) -> AnswerAgreement:
    """By gate; in a thread, since other work waits meanwhile."""
    pairs = common(answers(canary), answers(stable))
    return AnswerAgreement(
        len(pairs), {name: unlike(pairs, numbers, tolerance) for name, tolerance in tolerances}
    )
