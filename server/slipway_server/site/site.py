"""What a port offers, as the HTTP side sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway_server.call.call import Call
from slipway_server.door.admission import Admission
from slipway_server.door.listen import most_connections
from slipway_server.errors import show
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import Counters
from slipway_server.site.codec import RestCodec
from slipway_server.wire.head import Head
from slipway_server.wire.limits import LIMITS, Limits
from slipway_server.wire.response import Response, json_response

if TYPE_CHECKING:
    from slipway_server.metrics.tracing import Tracing

#: Answers a request that needs no body.
Page = Callable[[Head], Response | Awaitable[Response]]


class RouteError(Exception):
    """Nothing is at this path, or nothing for this method; not counted as an inference."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


@dataclass(frozen=True, slots=True)
class Inference:
    """A path that takes inference requests: of which model and version, and in which protocol."""

    model: str
    version: str | None = None
    codec: RestCodec | None = None
    #: Taken beside the media types of the Open Inference Protocol.
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A path that takes a body of ``limit`` bytes at most and answers at once, without the model."""

    answer: Callable[[bytes], Response]
    limit: int


class Site:
    """One port's paths; this one has none, and takes no inference."""

    def __init__(
        self, lifecycle: Lifecycle, counters: Counters, limits: Limits = LIMITS, body_bytes: int = 0
    ) -> None:
        """``body_bytes`` is what bodies may take of memory at once."""
        self.lifecycle = lifecycle
        self.counters = counters
        self.limits = limits
        #: What this port shares with the others of its process.
        self.admission = Admission(limits, most_connections(), body_bytes)
        #: Where spans of inference requests go, if they go anywhere.
        self.tracing: Tracing | None = None
        #: Seconds that an inference may take.
        self.timeout = 0.0

    def find(self, head: Head) -> Page | Inference | Upload:
        """What answers a request; raises :class:`RouteError`, or :class:`RequestError` for another model."""
        raise NotImplementedError

    def is_known(self, head: Head) -> bool:  # noqa: ARG002
        """Whether these bytes may be taken again as they are: nobody was shut out since they were checked."""
        return True

    def check_infer(self, inference: Inference, head: Head) -> None:
        """All checks of an inference request that need no body; raises :class:`RequestError`."""
        raise NotImplementedError

    def submit(self, call: Call) -> None:
        """Run a call soon; raises :class:`RequestError` where there is no room or no model."""
        raise NotImplementedError

    def deadline(self, head: Head, began: float) -> float:
        """When an answer would come too late, on the clock of ``time.perf_counter``."""
        return began + (self.timeout if head.seconds is None else min(self.timeout, head.seconds))


def not_allowed(head: Head, allow: str) -> Response:
    message = f"{show(head.path)} takes {allow}, not {show(head.method)}"
    return json_response({"error": message}, 405, [(b"allow", allow.encode())])
