"""From the model's answers to the bytes of a response.

JSON holds no NaN and no infinity. An answer that has some gets ``null`` in their place, and the output's
parameter ``nonfinite`` says how many; as binary data it is exact. Numbers are written in the fewest digits
that give the same bits back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from slipway_server.errors import Reason, RequestError, show
from slipway_server.protocol.tensors import Array, Datatype, InferRequest, Tensor


def encode(
    request: InferRequest, model: str, version: str, tensors: Sequence[Tensor]
) -> tuple[bytes, int | None]:
    """The response body, and the size of its JSON part where binary tensors follow it.

    ``tensors`` are the outputs that the request chose, in its order.
    """
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        document["id"] = request.id
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for choice, tensor in zip(request.outputs, tensors, strict=True):
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.array.shape,
        }
        parameters = dict(tensor.parameters)
        if choice.binary:
            blobs.append(to_bytes(tensor))
            parameters["binary_data_size"] = len(blobs[-1])
        else:
            output["data"] = _to_json(tensor.array, tensor.datatype)
            nonfinite = _count_nonfinite(tensor)
            if nonfinite:
                parameters["nonfinite"] = nonfinite
        if parameters:
            output["parameters"] = parameters
        outputs.append(output)
    document["outputs"] = outputs
    head = to_json(document, tensors)
    if not blobs:
        return head, None
    return b"".join([head, *blobs]), len(head)


def to_json(document: object, tensors: Sequence[Tensor]) -> bytes:
    """Raises :class:`RequestError` (500) where a model's string is no UTF-8, which no JSON can hold."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        name = next((each.name for each in tensors if _has_bytes(each)), None)
        if name is None:
            raise
        raise not_text(name) from None


def not_text(name: str) -> RequestError:
    return RequestError(
        500,
        Reason.MODEL_OUTPUT,
        f"the model is at fault: its output {show(name)} holds a string that is not UTF-8, which JSON cannot "
        "hold; ask for it as binary data",
    )


def _has_bytes(tensor: Tensor) -> bool:
    return tensor.datatype is Datatype.BYTES and bytes in map(type, tensor.array.reshape(-1).tolist())


def encoded(value: str | bytes) -> bytes:
    """A string's bytes; one that the model gave as no UTF-8 is bytes already."""
    return value if isinstance(value, bytes) else value.encode()


def _to_json(array: Array, datatype: Datatype) -> object:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.tolist() if datatype is Datatype.BYTES else flat


def to_bytes(tensor: Tensor) -> bytes:
    """A tensor's values in row-major order, little-endian; strings have their length before them."""
    if tensor.datatype is not Datatype.BYTES:
        return tensor.array.astype(tensor.datatype.dtype, copy=False).tobytes()
    values = [encoded(value) for value in tensor.array.reshape(-1).tolist()]
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def _count_nonfinite(tensor: Tensor) -> int:
    if not tensor.datatype.is_float:
        return 0
    return int(tensor.array.size - np.count_nonzero(np.isfinite(tensor.array)))
