"""One inference, from the bytes of a request to those of a response; knows no HTTP and no event loop."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_server.errors import Reason, RequestError, not_now
from slipway_server.load import plain
from slipway_server.model import Model, ModelInputError, Run, StoppedError
from slipway_server.protocol.decode import decode
from slipway_server.protocol.encode import encode


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

    def answer(self, body: bytes, header_length: int | None, run: Run) -> Answer:
        """Decode, run, encode. Raises :class:`RequestError` for whatever the client or the moment forbids."""
        try:
            request = decode(body, header_length, self.model.inputs, self.model.output_names)
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
