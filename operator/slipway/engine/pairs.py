"""What both revisions answered to the very same requests since a rollout's last look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from slipway.contract import ADMIN_PORT
from slipway.core.agreement import Remembered, answers, common, unlike
from slipway.core.gates import TOLERANCE, share
from slipway.core.observed import Agreement, Fault, Traffic
from slipway.core.resource import Resource
from slipway.engine.served import ready_pods
from slipway.engine.store import Key, Store

#: For which pods remember answers beyond the next look.
SPARE_SECONDS = 60
#: For which they do at most.
MOST_SECONDS = 7200


class Pairs:
    """Has pods remember answers while requests are copied, and compares them at each look.

    Answers are taken away as they are read, so that none counts twice; what is taken and does not come to be
    counted is lost, and decides nothing.
    """

    def __init__(
        self,
        store: Store,
        take: Callable[[str, int], Awaitable[Remembered | None]],
        clock: Callable[[], datetime],
    ) -> None:
        """
        Args:
            store: what the cluster holds.
            take: takes the answers of the pod whose admin port is ``host:port``, and has it go on remembering
                for so many seconds; None where it cannot be asked.
            clock: tells the time, with a time zone.
        """
        self._store = store
        self._take = take
        self._clock = clock
        #: Rollouts whose pods remember, by what is compared.
        self._began: dict[Key, object] = {}

    async def count(self, resource: Resource, traffic: Traffic | None) -> Traffic | None:
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
        since = datetime.fromisoformat(rollout.lookedAt or rollout.startedAt)
        begun = self._began.get(key) == compared
        if begun and self._clock() < since + timedelta(seconds=analysis.intervalSeconds):
            return traffic
        seconds = min(MOST_SECONDS, 2 * analysis.intervalSeconds + SPARE_SECONDS)
        canary, stable = [await self._all(key, revision, seconds) for revision in compared[1:]]
        if not canary or not stable:
            return traffic
        self._began[key] = compared
        kinds = {pod.numbers for pod in (*canary, *stable) if pod.entries}
        if not begun or len(kinds) != 1:
            return traffic
        pairs, numbers = common(answers(canary), answers(stable)), kinds.pop()
        found = {
            gate.name: unlike(pairs, numbers, share(gate.tolerance or TOLERANCE))
            for gate in analysis.gates
            if gate.compares_answers
        }
        return replace(traffic, agreement=Agreement(len(pairs), found))

    async def _all(self, key: Key, revision: str, seconds: int) -> list[Remembered] | None:
        """Of all ready pods of a revision; None where any could not be asked."""
        pods = ready_pods(self._store, key, revision)
        taken = await asyncio.gather(
            *(self._take(f"{pod['status']['podIP']}:{ADMIN_PORT}", seconds) for pod in pods)
        )
        found = [one for one in taken if one is not None]
        return found if len(found) == len(pods) else None
