"""Where each call runs: at once on the event loop with all others of this moment, or on a thread.

Short calls are gathered for one turn of the loop and then run as one (a *tick*): no thread hop, no timer, and
what arrived together shares a call of the model. Anything that may take long goes to the crew.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from slipway_server.call.call import Call
from slipway_server.engine.crew import MAX_WAITING, Crew, deadline_error
from slipway_server.engine.served import Served
from slipway_server.errors import Reason, not_now
from slipway_server.runtime.profile import INLINE_BATCH_SECONDS, Profile
from slipway_server.runtime.run import Run
from slipway_server.runtime.tryout import Tryout

log = logging.getLogger(__name__)

#: A larger body takes long enough to read that the loop should not do it.
_INLINE_BYTES = 64 * 1024
#: A tick that took so much CPU time was a mistake: from then on the model runs on threads.
_SURPRISE_SECONDS = 0.1
_WATCH_SECONDS = 0.1


class Engine:
    """Takes calls and settles each of them once, on the event loop."""

    def __init__(self, threads: int, timeout_seconds: float) -> None:
        self.timeout = timeout_seconds
        self.served: Served | None = None
        self.crew = Crew(threads)
        self._pending: list[Call] = []
        self._inline = False
        self._inline_rows = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch = _Watch(timeout_seconds)
        #: The clock on the wall said that a tick took too long: now its CPU time is looked at as well.
        self._suspicious = False

    def start(self, served: Served) -> None:
        """Take calls from now on; called on the event loop."""
        self._loop = loop = asyncio.get_running_loop()
        self.served = served
        if served.profile.untried:
            most = served.profile.max_rows
            served.tryout = Tryout(served.model, most, lambda found: _tell(loop, self._adopt, found))
        self.crew.start(served)
        self._follow(served.profile)

    def _adopt(self, profile: Profile) -> None:
        log.info(
            "measured by requests",
            extra={"batches": profile.batches, "inline": profile.inline, "batching": profile.why},
        )
        if self.served is not None:
            self.served.adopt(profile)
            self._follow(profile)

    def _follow(self, profile: Profile) -> None:
        row = max(profile.row_seconds, 1e-7)
        self._inline_rows = max(1, int(INLINE_BATCH_SECONDS / row))
        self._inline = profile.inline
        if self._inline:
            self._watch.start()

    def submit(self, call: Call) -> None:
        """Run a call soon; raises :class:`RequestError` where there is no room or no model."""
        if not self._inline or len(call.body) > _INLINE_BYTES or call.gzip:
            self.crew.submit(call)
            return
        pending = self._pending
        if not pending:
            self._loop.call_soon(self._tick)  # type: ignore[union-attr]
        elif len(pending) >= MAX_WAITING:
            raise not_now(Reason.OVERLOAD, "too many requests are waiting for the model")
        pending.append(call)

    def close(self) -> None:
        self.crew.close()
        self._watch.close()

    def _tick(self) -> None:
        calls, self._pending = self._pending, []
        began = time.perf_counter()
        if began - calls[0].began > 0.05:
            calls = self._timely(calls, began)
        served = self.served
        if served is None or not calls:
            return
        run = self._watch.enter(began)
        # Of this thread, not of the clock: a container that is throttled stands still for as long.
        spent = time.thread_time() if self._suspicious else 0.0
        later = served.answer(calls, run, self._inline_rows)
        self._watch.leave()
        if time.perf_counter() - began > _SURPRISE_SECONDS:
            self._surprised(spent)
        if later:
            calls = [call for call in calls if call not in later]
            for call in later:
                self._hand_over(call)
        for call in calls:
            call.free()
            call.answered()

    def _hand_over(self, call: Call) -> None:
        try:
            self.crew.submit(call)
        except Exception as error:
            call.error = error
            call.free()
            call.answered()

    def _timely(self, calls: list[Call], now: float) -> list[Call]:
        """The calls that are still in time; the others are refused."""
        for call in calls:
            if call.deadline <= now:
                call.error = deadline_error(call)
                call.free()
                call.answered()
        return [call for call in calls if call.deadline > now]

    def _surprised(self, spent: float) -> None:
        """A tick took too long by the wall's clock: the model moves away if it does by its CPU time too."""
        if not self._suspicious:
            # Reading a thread's CPU time is a system call, too much for every tick.
            self._suspicious = True
        elif self._inline and time.thread_time() - spent > _SURPRISE_SECONDS:
            log.warning("a run took longer than measured, so the model moves off the event loop")
            self._inline = False
            self._watch.close()


class _Watch:
    """Stops a run on the event loop that goes on beyond the deadline, which nothing else could."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._run = Run()
        self._began = 0.0
        self._closed = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._work, name="watch", daemon=True).start()

    def enter(self, now: float) -> Run:
        if self._run.stopped:
            self._run = Run()
        self._began = now
        return self._run

    def leave(self) -> None:
        self._began = 0.0

    def close(self) -> None:
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.wait(_WATCH_SECONDS):
            began, run = self._began, self._run
            if began and time.perf_counter() - began > self._seconds:
                run.stop()


def _tell(loop: asyncio.AbstractEventLoop, who: Callable[[Profile], None], found: Profile) -> None:
    with suppress(RuntimeError):  # the loop is closed, and the process about to end
        loop.call_soon_threadsafe(who, found)
