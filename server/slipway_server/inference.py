"""One inference, from the bytes of a request to those of a response; knows no HTTP and no event loop."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass, field

from slipway_server.errors import Reason, RequestError, not_now
from slipway_server.model import Model, ModelInputError, Run, StoppedError, plain
from slipway_server.protocol.decode import decode
from slipway_server.protocol.encode import encode
from slipway_server.protocol.tensors import InferRequest

#: JSON grows up to thirtyfold when parsed. From this size on one request is parsed at a time.
_LARGE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A response body; ``header_length`` is the size of its JSON part where binary tensors follow it."""

    body: bytes
    header_length: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class Served:
    """A model under the name and version by which clients know it."""

    model: Model
    name: str
    version: str
    _large: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answer(self, body: bytes, header_length: int | None, run: Run) -> Answer:
        """Decode, run, encode. Raises :class:`RequestError` for whatever the client or the moment forbids."""
        try:
            request = self._decode(body, header_length)
            names = [choice.name for choice in request.outputs]
            tensors = self.model.run(request.inputs, names, run)
            content, length = encode(request, self.name, self.version, tensors)
        except ModelInputError as error:
            raise RequestError(
                400, Reason.MODEL_INPUT, f"the model refuses these values: {plain(str(error))}"
            ) from error
        except StoppedError:
            raise not_now(Reason.DEADLINE, "the request took longer than the server allows") from None
        except MemoryError as error:
            raise not_now(
                Reason.OVERLOAD, "not enough memory for this request now; send fewer rows at once"
            ) from error
        return Answer(content, length, request.rows)

    def _decode(self, body: bytes, header_length: int | None) -> InferRequest:
        json_bytes = len(body) if header_length is None else header_length
        with self._large if json_bytes >= _LARGE_BYTES else nullcontext():
            try:
                return decode(body, header_length, self.model.inputs, self.model.output_names)
            except RequestError as error:
                # The traceback's frames hold the parsed document, which has to go before the next one comes.
                raise error.with_traceback(None) from None
