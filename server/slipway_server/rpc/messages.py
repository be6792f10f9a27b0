"""``ModelInfer`` from the bytes of its request to those of its response.

Follows the gRPC half of the Open Inference Protocol. Contents may be typed or raw, one way for all tensors of
a message; the answer comes the way the request did, and raw where a tensor is FP16, which has no typed
contents. Unlike JSON both hold NaN and infinity exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, TypeVar

import numpy as np
import orjson
from google.protobuf.message import DecodeError, Message

from slipway_server.errors import listing, schema_error, show
from slipway_server.protocol.decode import (
    OF_INPUTS,
    OF_OUTPUTS,
    OF_REQUESTS,
    check_complete,
    count_rows,
    decode_outputs,
    decode_shape,
    decode_timeout,
    refuse_unoffered,
)
from slipway_server.protocol.encode import encoded, to_bytes
from slipway_server.protocol.tensors import Array, Datatype, InferRequest, OutputChoice, Tensor, TensorSpec
from slipway_server.protocol.values import check_size, from_bytes, from_json
from slipway_server.rpc.layout import Layout, field_head, layout_of
from slipway_server.rpc.open_inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from slipway_server.rpc.outline import LARGE_MESSAGE_BYTES, check_outline
from slipway_server.runtime.model import Model

_RAW_OUTPUT = ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_MAX_REMEMBERED = 256
#: More than any shape may have.
_MAX_DIMENSIONS = 64
M = TypeVar("M", bound=Message)

_CONTENTS = {
    Datatype.BOOL: "bool_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}

#: What the integers of typed contents are, before they become narrower.
_WIDE = {
    "bool_contents": np.bool_,
    "uint_contents": np.uint32,
    "uint64_contents": np.uint64,
    "int_contents": np.int32,
    "int64_contents": np.int64,
}


def parse_message(kind: type[M], body: bytes) -> M:
    """A protobuf message; raises :class:`RequestError` (400)."""
    try:
        return kind.FromString(body)
    except DecodeError:
        raise schema_error(f"the message is not an {kind.DESCRIPTOR.full_name}") from None


class InferCodec:
    """Reads requests for one model and version, and writes their answers."""

    def __init__(self, name: str, version: str, check_name: Callable[[str, str | None], None]) -> None:
        self._of = (name, version)
        self._check_name = check_name
        self._layouts: dict[int, Layout] = {}
        self._heads: dict[tuple[object, ...], bytes] = {}

    def decode(self, body: bytes, header_length: int | None, model: Model) -> InferRequest:  # noqa: ARG002
        """Raises :class:`RequestError` (404 for another model, 400 for what does not fit this one)."""
        layout = self._layouts.get(len(body))
        if layout is not None and layout.fits(body):
            return layout.request(body)
        if len(body) >= LARGE_MESSAGE_BYTES:
            check_outline(body, model.taken, len(model.output_names))
        message = parse_message(ModelInferRequest, body)
        self._check_name(message.model_name, message.model_version or None)
        raw = len(message.raw_input_contents) > 0
        parameters = _values(message.parameters)
        timeout = decode_timeout({"parameters": parameters})
        refuse_unoffered(parameters, OF_REQUESTS, "request parameters")
        choices = decode_outputs(
            {"outputs": [_wish(each) for each in message.outputs]},
            model.output_names,
            model.unsupported,
        )
        arrays = _inputs(message, raw, model.taken)
        raw = raw or any(model.outputs[choice.name].datatype is Datatype.FP16 for choice in choices)
        if raw:
            choices = tuple(OutputChoice(choice.name, True) for choice in choices)
        rows = count_rows(arrays, model.inputs)
        request = InferRequest(message.id or None, arrays, choices, rows, timeout, parameters)
        layout = layout_of(body, message.raw_input_contents, request)
        if layout is not None:
            if len(self._layouts) >= _MAX_REMEMBERED:
                self._layouts.clear()
            self._layouts[len(body)] = layout
        return request

    def encode(self, request: InferRequest, tensors: Sequence[Tensor]) -> tuple[bytes, None]:
        """The response's bytes for the outputs that the request chose, in its order."""
        if request.id is not None or not all(choice.binary for choice in request.outputs):
            return self._message(request, tensors).SerializeToString(), None
        # All but the numbers is the same for all answers of one shape; and the numbers come last.
        key = tuple((tensor.name, tensor.array.shape, *tensor.parameters.values()) for tensor in tensors)
        head = self._heads.get(key)
        if head is None:
            message = self._message(request, tensors)
            del message.raw_output_contents[:]
            if len(self._heads) >= _MAX_REMEMBERED:
                self._heads.clear()
            head = self._heads[key] = message.SerializeToString()
        parts = [head]
        for tensor in tensors:
            blob = to_bytes(tensor)
            parts += (field_head(_RAW_OUTPUT, len(blob)), blob)
        return b"".join(parts), None

    def _message(self, request: InferRequest, tensors: Sequence[Tensor]) -> ModelInferResponse:
        name, version = self._of
        message = ModelInferResponse(model_name=name, model_version=version, id=request.id or "")
        for choice, tensor in zip(request.outputs, tensors, strict=True):
            output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
            for key, value in tensor.parameters.items():
                output.parameters[key].CopyFrom(_parameter(value))
            if choice.binary:
                message.raw_output_contents.append(to_bytes(tensor))
                continue
            values = tensor.array.reshape(-1).tolist()
            if tensor.datatype is Datatype.BYTES:
                values = [encoded(value) for value in values]
            getattr(output.contents, _CONTENTS[tensor.datatype]).extend(values)
        return message


def _inputs(message: ModelInferRequest, raw: bool, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    blobs = message.raw_input_contents
    if raw and len(blobs) != len(message.inputs):
        raise schema_error(
            f"'raw_input_contents' has {len(blobs)} items for {len(message.inputs)} inputs; send one for each"
        )
    # Values come last: whatever else is wrong costs nothing to find.
    readers: dict[str, Callable[[], Array]] = {}
    for position, tensor in enumerate(message.inputs):
        name = tensor.name
        spec = specs.get(name)
        if spec is None:
            raise schema_error(f"the model has no input {show(name)}; its inputs are {listing(list(specs))}")
        if name in readers:
            raise schema_error(f"input {show(name)} is given twice; send each input once")
        where = f"input {show(name)}"
        if tensor.datatype != spec.datatype:
            found = f"is {show(tensor.datatype)}" if tensor.datatype else "is missing"
            raise schema_error(f"{where}: 'datatype' {found}; the model takes {spec.datatype}")
        if tensor.parameters:
            refuse_unoffered(_values(tensor.parameters), OF_INPUTS, where)
        shape = decode_shape(list(tensor.shape[:_MAX_DIMENSIONS]), spec, where)
        if not raw:
            values = _typed(tensor.contents, spec.datatype, shape, where)
            readers[name] = partial(_from_typed, values, spec, shape, where)
            continue
        if tensor.HasField("contents"):
            raise schema_error(f"{where}: has both 'contents' and 'raw_input_contents'; send one of them")
        blob = blobs[position]
        check_size(len(blob), spec.datatype, shape, where, "the length of 'raw_input_contents' is")
        readers[name] = partial(from_bytes, blob, spec.datatype, shape, where, spec.raw)
    arrays = {name: read() for name, read in readers.items()}
    check_complete(arrays, specs)
    return arrays


def _typed(contents: Any, datatype: Datatype, shape: tuple[int, ...], where: str) -> Sequence[Any]:
    """The values of typed contents, as many as the shape needs."""
    wanted = _CONTENTS.get(datatype)
    if wanted is None:
        raise schema_error(f"{where}: {datatype} has no typed contents; send it in 'raw_input_contents'")
    others = [field.name for field, _ in contents.ListFields() if field.name != wanted]
    if others:
        raise schema_error(f"{where}: the contents are in {listing(others)}; {datatype} goes into '{wanted}'")
    values: Sequence[Any] = getattr(contents, wanted)
    if len(values) != prod(shape):
        raise schema_error(
            f"{where}: 'contents' has {len(values)} values; shape {list(shape)} needs {prod(shape)}"[:500]
        )
    return values


def _from_typed(values: Sequence[Any], spec: TensorSpec, shape: tuple[int, ...], where: str) -> Array:
    datatype = spec.datatype
    if spec.raw:
        return np.array(list(values), dtype=object).reshape(shape)
    if datatype is Datatype.BYTES:
        return np.array(list(_texts(values, where)), dtype=object).reshape(shape)
    if datatype.is_float:
        return np.fromiter(values, datatype.dtype, len(values)).reshape(shape)
    wide: Array = np.fromiter(values, _WIDE[_CONTENTS[datatype]], len(values))
    narrow = wide.astype(datatype.dtype)
    if datatype is not Datatype.BOOL and (narrow != wide).any():
        return from_json(wide.tolist(), datatype, shape, where)  # which has the words for it
    return narrow.reshape(shape)


def _texts(values: Iterable[bytes], where: str) -> Iterable[str]:
    for position, value in enumerate(values):
        try:
            yield value.decode()
        except UnicodeDecodeError:
            raise schema_error(f"{where}: string {position} is not UTF-8, which the model needs") from None


def _wish(output: Any) -> dict[str, Any]:
    """An output that the request names, as JSON has it."""
    parameters = {name: value for name, value in _values(output.parameters).items() if name in OF_OUTPUTS}
    return {"name": output.name, "parameters": parameters}


def _values(parameters: Mapping[str, InferParameter]) -> dict[str, object]:
    return {name: _value(given) for name, given in parameters.items()}


def _value(parameter: InferParameter) -> object:
    """A parameter as JSON has it. One value for each row comes as the text of a list, which gRPC lacks."""
    choice = parameter.WhichOneof("parameter_choice")
    value = None if choice is None else getattr(parameter, choice)
    if isinstance(value, str) and value.startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _parameter(value: str | int | float | bool) -> InferParameter:
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int):
        return InferParameter(int64_param=value)
    return (
        InferParameter(string_param=value) if isinstance(value, str) else InferParameter(double_param=value)
    )
