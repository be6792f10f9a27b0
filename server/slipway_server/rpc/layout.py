"""Requests that differ from one before in nothing but their numbers, which need no parsing.

Protobuf writes the fields of a message in the order of their numbers, so the raw contents of a ``ModelInfer``
request come last, and what stands before them is the same as long as a client asks the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from slipway_server.protocol.tensors import Array, InferRequest, OutputChoice
from slipway_server.rpc.open_inference_pb2 import ModelInferRequest

_RAW_INPUT = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in a message."""

    name: str
    start: int
    dtype: np.dtype[Any]
    size: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A request seen before: which bytes have to be the same, and where its tensors lie.

    ``same`` has pieces by the position where they start.
    """

    same: tuple[tuple[int, bytes], ...]
    places: tuple[_Place, ...]
    id: str | None
    outputs: tuple[OutputChoice, ...]
    rows: int
    parameters: Mapping[str, Any]

    def fits(self, body: bytes) -> bool:
        """Whether a message of the same size is this one with other numbers."""
        return all(body.startswith(piece, start) for start, piece in self.same)

    def request(self, body: bytes) -> InferRequest:
        """The request in a message that fits."""
        arrays: dict[str, Array] = {}
        for place in self.places:
            array = np.frombuffer(body, place.dtype, place.size, place.start).reshape(place.shape)
            # onnxruntime reads the memory in place: it has to be aligned.
            arrays[place.name] = array if array.flags.aligned else array.copy()
        return InferRequest(self.id, arrays, self.outputs, self.rows, None, self.parameters)


def layout_of(body: bytes, blobs: Sequence[bytes], request: InferRequest) -> Layout | None:
    """The layout of a raw request that was read in full; ``None`` where its numbers need a look each time."""
    if not blobs or request.timeout_microseconds is not None:
        return None
    arrays = request.inputs.values()
    if any(array.dtype.hasobject or array.dtype == np.bool_ or not array.size for array in arrays):
        return None
    prefixes = [field_head(_RAW_INPUT, len(blob)) for blob in blobs]
    position = len(body) - sum(map(len, prefixes)) - sum(map(len, blobs))
    if not 0 < position <= _MAX_TEXT:
        return None
    same: list[tuple[int, bytes]] = [(0, body[:position])]
    places: list[_Place] = []
    for prefix, blob, (name, array) in zip(prefixes, blobs, request.inputs.items(), strict=True):
        same.append((position, prefix))
        position += len(prefix)
        places.append(_Place(name, position, array.dtype, array.size, array.shape))
        position += len(blob)
    # Another way to write the same message is allowed, and is parsed each time.
    known = Layout(tuple(same), tuple(places), request.id, request.outputs, request.rows, request.parameters)
    return known if known.fits(body) and _is_whole(same[0][1]) else None


def _is_whole(text: bytes) -> bool:
    """Whether these bytes are a message by themselves, without raw contents."""
    try:
        return not ModelInferRequest.FromString(text).raw_input_contents
    except DecodeError:
        return False


def field_head(number: int, size: int) -> bytes:
    """What stands before so many bytes in a field of protobuf that holds bytes."""
    out = bytearray((number << 3 | 2,))
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    out.append(size)
    return bytes(out)
