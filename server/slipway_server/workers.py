"""A bounded crew of threads that runs the model, so that the event loop stays free to answer probes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from slipway_server.errors import Reason, not_now
from slipway_server.model import Run

T = TypeVar("T")

#: Requests that may wait for a thread. More would only wait for their deadline.
MAX_WAITING = 1024
_MAX_THREADS = 4


class Workers:
    """Runs jobs with a deadline; full or late means :class:`RequestError` (503), never an endless queue."""

    def __init__(self, threads_per_run: int, timeout_seconds: float) -> None:
        cores = len(os.sched_getaffinity(0))
        size = max(1, min(_MAX_THREADS, cores // threads_per_run))
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="model")
        self._limit = size + MAX_WAITING
        self._timeout = timeout_seconds
        self._taken = 0

    async def do(self, job: Callable[[Run], T], let_go: Callable[[], None]) -> T:
        """The job's answer; raises the job's error, or :class:`RequestError` where no thread is free in time.

        ``let_go`` is called once, when nothing holds on to the job any more: that may be after the deadline.
        """
        if self._taken >= self._limit:
            let_go()
            raise not_now(Reason.OVERLOAD, "too many requests are waiting for the model")
        run = Run()
        self._taken += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, job, run)
        future.add_done_callback(lambda done: self._finish(done, let_go))
        done, _ = await asyncio.wait([future], timeout=self._timeout)
        if done:
            return future.result()
        run.stop()
        raise not_now(
            Reason.DEADLINE,
            f"no answer within {self._timeout:g} s: send fewer rows, or again when it is calmer",
        )

    def _finish(self, future: asyncio.Future[T], let_go: Callable[[], None]) -> None:
        self._taken -= 1
        let_go()
        if not future.cancelled():
            future.exception()

    def close(self) -> None:
        """Let go of what has not begun; threads in the middle of a run are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
