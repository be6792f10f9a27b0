"""A bounded crew of threads that runs the model, so that the event loop stays free to answer probes.

A thread that is free takes what waits, as many calls as may share a run of the model, and none waits for a
timer: under load batches grow by themselves, and a lone call leaves at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence

from slipway_server.call.call import Call
from slipway_server.engine.served import Served
from slipway_server.errors import Reason, not_now
from slipway_server.runtime.run import Run

#: Requests that may wait for a thread. More would only wait for their deadline.
MAX_WAITING = 1024
MAX_THREADS = 4
#: The most calls that a thread takes at once.
_MAX_TAKEN = 64


class Crew:
    """Settles calls on threads of its own; full or late means 503, never an endless queue."""

    def __init__(self, size: int) -> None:
        self.waiting: deque[Call] = deque()
        self._size = max(1, min(MAX_THREADS, size))
        self._served: Served | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Condition()
        self._closed = False

    def start(self, served: Served) -> None:
        """Begin to work; called on the event loop that is to hear of the answers."""
        self._served = served
        self._loop = asyncio.get_running_loop()
        served.on_deadline = self._hurry_soon
        for number in range(self._size):
            threading.Thread(target=self._work, args=(served,), name=f"model-{number}", daemon=True).start()

    def submit(self, call: Call) -> None:
        """Queue a call; raises :class:`RequestError` where too many wait."""
        if len(self.waiting) >= MAX_WAITING:
            raise not_now(Reason.OVERLOAD, "too many requests are waiting for the model")
        if self._loop is None:
            raise not_now(Reason.NOT_READY, "the model is still being loaded")
        seconds = max(0.0, call.deadline - time.perf_counter())
        call.timer = self._loop.call_later(seconds, self._late, call)
        with self._wake:
            self.waiting.append(call)
            self._wake.notify()

    def close(self) -> None:
        """Stop when idle; a thread in the middle of a run is not waited for."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _late(self, call: Call) -> None:
        if call.abandoned:
            return
        call.abandoned = True
        if call.run is not None:
            call.run.leave()
        call.error = deadline_error(call)
        call.answered()

    def _hurry_soon(self, call: Call) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hurry, call)

    def _hurry(self, call: Call) -> None:
        """The deadline came forward. A call that runs on the event loop has no timer, and needs none."""
        if call.timer is not None and not call.abandoned and self._loop is not None:
            call.timer.cancel()
            seconds = max(0.0, call.deadline - time.perf_counter())
            call.timer = self._loop.call_later(seconds, self._late, call)

    def _work(self, served: Served) -> None:
        loop = self._loop
        while loop is not None:
            calls = self._take(served)
            if not calls:
                return
            run = Run(len(calls))
            for call in calls:
                call.run = run
            served.answer([call for call in calls if not call.abandoned], run)
            try:
                loop.call_soon_threadsafe(self._deliver, calls)
            except RuntimeError:
                return  # the loop is closed, and the process about to end

    def _take(self, served: Served) -> list[Call]:
        """Wait for calls; none means that the crew is closed."""
        with self._wake:
            while not self.waiting:
                if self._closed:
                    return []
                self._wake.wait()
            most = _MAX_TAKEN if served.profile.batches else 1
            return [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]

    def _deliver(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if call.timer is not None:
                call.timer.cancel()
            call.free()
            if not call.abandoned:
                call.abandoned = True
                call.answered()


def deadline_error(call: Call) -> Exception:
    seconds = round(call.deadline - call.began, 3)
    return not_now(
        Reason.DEADLINE, f"no answer within {seconds:g} s: send fewer rows, or again when it is calmer"
    )
