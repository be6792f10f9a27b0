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
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return head, None
    return b"".join([head, *blobs]), len(head)


def _to_json(array: Array, datatype: Datatype) -> object:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.tolist() if datatype is Datatype.BYTES else flat


def to_bytes(tensor: Tensor) -> bytes:
    """A tensor's values in row-major order, little-endian; strings have their length before them."""
    if tensor.datatype is not Datatype.BYTES:
        return tensor.array.astype(tensor.datatype.dtype, copy=False).tobytes()
    values = [value.encode() for value in tensor.array.reshape(-1).tolist()]
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def _count_nonfinite(tensor: Tensor) -> int:
    if not tensor.datatype.is_float:
        return 0
    return int(tensor.array.size - np.count_nonzero(np.isfinite(tensor.array)))
