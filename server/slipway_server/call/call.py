"""One inference request on its way through the server, whichever door it came in by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

    from slipway_server.protocol.tensors import Array, InferRequest, Tensor
    from slipway_server.runtime.model import Model
    from slipway_server.runtime.run import Run


class Codec(Protocol):
    """Another protocol's way of writing a request and its answer; without one, the Open Inference one's."""

    def decode(self, body: bytes, header_length: int | None, model: Model) -> InferRequest: ...

    def encode(self, request: InferRequest, tensors: Sequence[Tensor]) -> tuple[bytes, int | None]: ...


class Outputs(Protocol):
    """Chosen outputs of a model, and how their answers are written; equal ones share a run."""

    @property
    def names(self) -> list[str]: ...

    def write(self, calls: Sequence[Call], answers: Sequence[Any]) -> None:
        """Set each call's content from the answers to all of them, whose rows come in the calls' order."""

    def __hash__(self) -> int: ...


class Held(Protocol):
    """A body that holds its share of the memory for bodies."""

    def free(self) -> None: ...


class Call:
    """What is asked, then what is answered: either ``content`` or ``error`` is set by then.

    Whoever makes one overrides :meth:`answered`.
    """

    # Not for their own sake: an attribute that the first instances of a class leave alone costs every later
    # one that sets it a dict of its own, some thousand instructions.
    __slots__ = (
        "abandoned",
        "began",
        "body",
        "codec",
        "complete",
        "content",
        "deadline",
        "error",
        "gzip",
        "header_length",
        "id",
        "in_flight",
        "incoming",
        "inputs",
        "limit",
        "outputs",
        "request",
        "rows",
        "run",
        "timer",
        "unanswered",
    )

    def __init__(self, body: bytes, header_length: int | None, began: float, deadline: float) -> None:
        self.body = body
        self.header_length = header_length
        self.began = began
        self.deadline = deadline
        #: The body is compressed; unpacked it may have ``limit`` bytes.
        self.gzip = False
        self.limit = 0
        self.codec: Codec | None = None
        #: One for each of the model's inputs in its order: bytes of numbers, or an array.
        self.inputs: Sequence[bytes | memoryview | Array] | None = None
        self.rows = 0
        self.id: str | None = None
        self.outputs: Outputs | None = None
        #: As the ordinary decoder read it, where it had to.
        self.request: InferRequest | None = None
        self.content: bytes | None = None
        self.error: Exception | None = None
        #: Nobody waits for the answer any more.
        self.abandoned = False
        #: The body has arrived to its end; it holds its share of the memory for bodies.
        self.complete = False
        self.incoming: Held | None = None
        #: Counted as an inference that began, and not yet as one that was answered.
        self.unanswered = False
        #: A drain waits for it.
        self.in_flight = False
        self.run: Run | None = None
        self.timer: asyncio.TimerHandle | None = None

    def header(self, name: bytes) -> bytes | None:  # noqa: ARG002
        """A header of the request by its name in lower case, or the metadata of gRPC; read when asked for."""
        return None

    def cohort(self) -> int:
        """Of which cohort of callers whoever asks is; 0 where callers are not told apart."""
        return 0

    def peer(self) -> str:
        """The address of whoever is at the other end of the connection; empty where it is not known."""
        return ""

    def caller(self) -> str:
        """Under which name whoever asks was let in; empty for a stranger."""
        return ""

    def answered(self) -> None:
        """The answer or the error is there. Called on the event loop, once for each call."""
        raise NotImplementedError

    def free(self) -> None:
        """Nothing holds the body any more; after a deadline that may be later than :meth:`answered`."""
        if self.incoming is not None:
            self.incoming.free()


def sender_of(call: Call) -> str:
    """Who asks, as far as anybody can tell; empty for a proxy that does not say for whom it asks.

    A caller by its name: addresses of headers are what anybody may claim.
    """
    if name := call.caller():
        return f"caller {name}"
    forwarded = call.header(b"x-forwarded-for")
    if forwarded is not None:
        return f"{call.peer()} {forwarded.decode('latin-1').rpartition(',')[2].strip()}"
    for header in _PROXIES:
        if call.header(header) is not None:
            return ""
    return call.peer()


#: What proxies add that do not say for whom they ask: Envoy, and those that keep to RFC 9110.
_PROXIES = (b"x-envoy-expected-rq-timeout-ms", b"x-envoy-attempt-count", b"via", b"forwarded")
