"""Workers that take keys from the queue."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from slipway.engine.errors import ApiError
from slipway.engine.metrics.controller import Metrics
from slipway.engine.queue import WorkQueue
from slipway.engine.result import Result
from slipway.engine.store import Key

log = logging.getLogger(__name__)


class Rounds:
    """Lets one run begin in each round of the event loop.

    Workers share a thread: were all of them to begin in one round, whatever else is due, such as a probe of
    the kubelet or the lease, would wait for all of them together.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def next(self) -> None:
        """Wait for a round in which no other run has begun; first come, first served."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._give)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _give(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            # One that was cancelled has no use for it.
            if not turn.done():
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._give)
                return
        self._taken = False


async def work(
    queue: WorkQueue[Key],
    reconcile: Callable[[Key], Awaitable[Result]],
    metrics: Metrics,
    rounds: Rounds | None = None,
) -> None:
    """Take keys until the queue is closed. A failure of one key never ends the worker.

    ``rounds``: of all workers of the queue; a worker that is alone needs none.
    """
    rounds = rounds or Rounds()
    while (key := await queue.take()) is not None:
        await rounds.next()
        begun = time.perf_counter()
        result = "error"
        metrics.active_workers.inc()
        try:
            outcome = await reconcile(key)
        except ApiError as error:
            log.info("trying again later", extra={"key": str(key), "error": str(error)})
            queue.retry(key, at_least=error.retry_after)
        except Exception:
            log.exception("reconcile failed", extra={"key": str(key)})
            queue.retry(key, steady=True)
        else:
            result = _settle(queue, key, outcome)
        finally:
            metrics.active_workers.dec()
            metrics.reconciled(result, time.perf_counter() - begun)
            queue.done(key)


def _settle(queue: WorkQueue[Key], key: Key, outcome: Result) -> str:
    if outcome.failed:
        # A quota, a policy, a name that is taken: only a person can change that.
        queue.retry(key, steady=True)
    else:
        queue.forget(key)
    if outcome.requeue_after is not None:
        queue.add_after(key, outcome.requeue_after)
        return "requeue_after"
    return "requeue" if outcome.failed else "success"
