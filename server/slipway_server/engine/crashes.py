"""What becomes of calls that end their process: each is refused from then on, and its sender for a while."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from slipway_server.call.call import Call, sender_of
from slipway_server.errors import Reason, RequestError, not_now
from slipway_server.protocol.tensors import Array
from slipway_server.runtime.blocklist import MOST_ENDS, PART_BYTES, Blocklist, digest_of
from slipway_server.runtime.doubts import named
from slipway_server.runtime.guard import CrashError

log = logging.getLogger(__name__)


class Crashes:
    """Remembers requests by their values, in every process of the pod."""

    def __init__(
        self,
        blocklist: Blocklist | None = None,
        doubts: Sequence[str] = (),
        count: Callable[[], None] = lambda: None,
        pictures: bool = False,
    ) -> None:
        """``doubts`` are the operators that may be at fault; ``count`` is called for each crash.

        The model of ``pictures`` has a decoder that ends its process over a damaged one.
        """
        if blocklist is None:
            blocklist = Blocklist(memoryview(bytearray(PART_BYTES)))
        self._blocklist = blocklist
        self._culprit = named(doubts)
        self._count = count
        self._pictures = pictures
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Whether there was any."""
        return bool(self._blocklist)

    def check(self, call: Call, inputs: Mapping[str, Array]) -> None:
        """Raises :class:`RequestError`: 422 for a request that ended a process before, 429 for its sender."""
        if self._blocklist.has(digest_of(inputs)):
            raise RequestError(
                422,
                Reason.MODEL_CRASH,
                "the model refuses these values: they ended the process that ran them before, "
                f"{self._culprit}, and are not run again; send other values, or fix the model",
            )
        seconds = self._blocklist.shut_out(sender_of(call))
        if seconds:
            raise RequestError(
                429,
                Reason.PEER_CRASHES,
                f"{MOST_ENDS} or more of your requests ended the model's process within a minute: "
                f"send none for {ceil(seconds)} s, and then other values",
                {"retry-after": str(ceil(seconds))},
            )

    def ended(self, call: Call, inputs: Mapping[str, Array], crash: CrashError) -> RequestError:
        """A call that was run alone ended its process; what its client is told."""
        if self._pictures and crash.number < 0:
            # It ended by itself, and costs no more than a picture that can be decoded: nobody is shut out.
            return RequestError(
                422,
                Reason.MODEL_INPUT,
                "the model refuses these values: a picture is damaged; send it again whole",
            )
        with self._lock:
            self._count()
        if crash.number == signal.SIGKILL:
            # Nothing in a model does that; the kernel does, where memory runs out.
            words = "the process that ran this request was killed, as it is where memory runs out"
            return not_now(Reason.OVERLOAD, f"{words}; send fewer rows, or again when it is calmer")
        self._blocklist.add(digest_of(inputs), sender_of(call))
        log.error(
            "a request ended the process that ran it, and is refused from now on",
            extra={"by": crash.by, "operator": self._culprit, "peer": call.peer()},
        )
        return RequestError(
            422,
            Reason.MODEL_CRASH,
            f"the model refuses these values: they ended the process that ran them ({crash.by}), "
            f"{self._culprit}; send other values, or fix the model",
        )
