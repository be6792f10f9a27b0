"""A call as a port has it, from its head to its answer, whatever the port speaks."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from slipway_server.call.call import Call
from slipway_server.errors import Reason, RequestError

if TYPE_CHECKING:
    from slipway_server.call.body import Body
    from slipway_server.lifecycle import Lifecycle
    from slipway_server.metrics.counters import Counters
    from slipway_server.metrics.tracing import Tracing
    from slipway_server.wire.head import Head


class Books(Protocol):
    """Where a request is counted."""

    counters: Counters
    lifecycle: Lifecycle
    tracing: Tracing | None


def cohort_of(head: Head) -> int:
    """Of which cohort of callers whoever sent a head is."""
    return 0 if head.caller is None else int(head.caller.cohort)


class Request(Call):
    """Counted once, and kept in mind by a drain.

    Whoever makes one sets ``site`` and ``head``, and overrides :meth:`answered` and :meth:`send_error`. They
    are not set here, since one more ``__init__`` costs a request more than all of its counting.
    """

    __slots__ = ("head", "site")

    site: Books
    head: Head
    incoming: Body | None

    def header(self, name: bytes) -> bytes | None:
        return self.head.headers.get(name)

    def cohort(self) -> int:
        return cohort_of(self.head)

    def caller(self) -> str:
        return "" if self.head.caller is None else str(self.head.caller.owner or "")

    def send_error(self, error: RequestError | None) -> None:
        """Answer with an error; without one the server failed, which is no business of the client."""
        raise NotImplementedError

    def refuse(self, error: Exception | None) -> None:
        """Answer with an error; anything but a :class:`RequestError` is the server's own fault."""
        if isinstance(error, RequestError):
            if self.unanswered:
                self.site.counters.refused(error.reason)
                self.count(error.status)
            self.send_error(error)
            return
        if self.unanswered:
            self.count(500)
        self.send_error(None)

    def abandon(self) -> None:
        """The client has left, or wants no answer any more."""
        if self.unanswered:
            self.site.counters.refused(Reason.CLIENT_GONE)
            self.count(499)  # nobody will see it; nginx made the number known
        self.abandoned = True
        if self.run is not None:
            self.run.leave()
        if not self.complete:
            self.free()
        self.written()

    def written(self) -> None:
        """The answer is written, or never will be: a drain need not wait for it."""
        if self.in_flight:
            self.in_flight = False
            self.site.lifecycle.ended()

    def count(self, code: int) -> None:
        """It is answered; ``code`` is a status of HTTP."""
        self.unanswered = False
        site = self.site
        seconds = perf_counter() - self.began
        site.counters.answered(code, seconds)
        if self.head.payer is not None:
            self.head.payer.end(self.rows if code == 200 else 0)
        if site.tracing is not None:
            site.tracing.record(self.head, seconds, code)
