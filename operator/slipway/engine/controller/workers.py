"""Workers that take keys from the queue."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from slipway.engine.errors import ApiError
from slipway.engine.metrics.controller import Metrics
from slipway.engine.queue import WorkQueue
from slipway.engine.result import Result
from slipway.engine.store import Key

log = logging.getLogger(__name__)


async def work(
    queue: WorkQueue[Key], reconcile: Callable[[Key], Awaitable[Result]], metrics: Metrics
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
        # A run that had nothing to wait for let nobody else have a turn.
        await asyncio.sleep(0)


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
