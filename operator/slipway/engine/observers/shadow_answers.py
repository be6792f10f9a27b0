"""What both revisions answered to the very same requests since a rollout's last look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from slipway.api.base import share
from slipway.contract import ADMIN_PORT
from slipway.core.endpoint import Endpoint, endpoint_of
from slipway.core.observed import AnswerAgreement, Fault, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.rollout.due import next_look
from slipway.core.rollout.looks import TOLERANCE
from slipway.core.rollout.shadow_agreement import Remembered, answers, common, unlike
from slipway.engine.observers.pod_counts import ready_pods
from slipway.engine.store import Key, Store

#: For which pods remember answers beyond the next look.
SPARE_SECONDS = 60
#: For which they do at most.
MOST_SECONDS = 7200
#: Answers of one revision that are compared, whatever its pods remember; each takes 0.3 kB of memory.
MOST_ENTRIES = 65_536


class Pairs:
    """Has pods remember answers while requests are copied, and compares them at each look.

    Answers are taken away as they are read, so that none counts twice; what is taken and does not come to be
    counted is lost, and decides nothing.
    """

    def __init__(
        self,
        store: Store,
        take: Callable[[Endpoint, int, int], Awaitable[Remembered | None]],
        clock: Callable[[], datetime],
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            take: takes the answers of the pod whose admin port it is, and has it go on remembering for so
                many seconds; so many entries of them at most; None where it cannot be asked.
            clock: tells the time, with a time zone.
        """
        self._store = store
        self._take = take
        self._clock = clock
        #: What is compared takes memory, whoever's it is.
        self._turn = asyncio.Lock()
        #: Rollouts whose pods remember, by what is compared.
        self._began: dict[Key, object] = {}

    async def count(self, resource: Resource, traffic: ObservedTraffic | None) -> ObservedTraffic | None:
        """The traffic with how alike answers to copies were since the last look, where a look is due."""
        key = Key(resource.owner.namespace, resource.owner.name)
        status, spec = resource.status, resource.spec
        rollout = status.rollout
        if (
            traffic is None
            or isinstance(spec, Fault)
            or rollout is None
            or not rollout.mirrorPercent
            or status.canary is None
            or status.stable is None
            or not any(gate.compares_answers for gate in spec.rollout.analysis.gates)
        ):
            self._began.pop(key, None)
            return traffic
        analysis = spec.rollout.analysis
        compared = (rollout.id, status.canary.revision, status.stable.revision)
        begun = self._began.get(key) == compared
        if begun and self._clock() < next_look(rollout, analysis):
            return traffic
        seconds = min(MOST_SECONDS, 2 * analysis.intervalSeconds + SPARE_SECONDS)
        async with self._turn:
            canary, stable = [await self._all(key, revision, seconds) for revision in compared[1:]]
            if not canary or not stable:
                return traffic
            self._began[key] = compared
            kinds = {pod.numbers for pod in (*canary, *stable) if pod.entries}
            if not begun or len(kinds) != 1:
                return traffic
            numbers = kinds.pop()
            tolerances = {
                gate.name: share(gate.tolerance or TOLERANCE)
                for gate in analysis.gates
                if gate.compares_answers
            }
            agreement = await asyncio.to_thread(_compare, canary, stable, numbers, tolerances)
        return replace(traffic, agreement=agreement)

    def forget(self, key: Key) -> None:
        """A ModelDeployment is gone."""
        self._began.pop(key, None)

    async def _all(self, key: Key, revision: str, seconds: int) -> list[Remembered] | None:
        """Of all ready pods of a revision; None where any could not be asked."""
        pods = ready_pods(self._store, key, revision)
        most = MOST_ENTRIES // max(1, len(pods))
        taken = await asyncio.gather(
            *(self._take(endpoint_of(pod, ADMIN_PORT), seconds, most) for pod in pods)
        )
        found = [one for one in taken if one is not None]
        return found if len(found) == len(pods) else None


def _compare(
    canary: Iterable[Remembered], stable: Iterable[Remembered], numbers: bool, tolerances: Mapping[str, float]
) -> AnswerAgreement:
    """By gate; in a thread, since other work waits meanwhile."""
    pairs = common(answers(canary), answers(stable))
    return AnswerAgreement(
        len(pairs), {name: unlike(pairs, numbers, tolerance) for name, tolerance in tolerances.items()}
    )
