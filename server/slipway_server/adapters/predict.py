"""KServe's V1 protocol, which is TensorFlow Serving's: ``POST /v1/models/NAME:predict``.

By rows, ``{"instances": […]}`` is answered ``{"predictions": […]}``; by columns, ``{"inputs": …}`` is
answered ``{"outputs": …}``. A model with one input or output needs no names. ``parameters`` are those of the
Open Inference Protocol, for groups and the age of data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slipway_server.adapters.nested import columns_of, document_of, each_row, plain, request_of, rows_of
from slipway_server.errors import schema_error
from slipway_server.protocol.encode import to_json
from slipway_server.protocol.tensors import InferRequest, Tensor
from slipway_server.runtime.model import Model

_BY_COLUMNS = "ask by columns, with 'inputs' instead of 'instances'"


class PredictCodec:
    """One request's way in and out."""

    def __init__(self) -> None:
        self._by_rows = True

    def decode(self, body: bytes, header_length: int | None, model: Model) -> InferRequest:
        """Raises :class:`RequestError` (400)."""
        document = document_of(body, header_length, "'instances' or 'inputs'")
        if ("instances" in document) == ("inputs" in document):
            raise schema_error("send either 'instances', a list of rows, or 'inputs', the tensors by name")
        self._by_rows = "instances" in document
        read, what = (rows_of, "instances") if self._by_rows else (columns_of, "inputs")
        arrays = read(document[what], model.taken, f"'{what}'")
        return request_of(arrays, model, document.get("parameters"))

    def encode(self, request: InferRequest, tensors: Sequence[Tensor]) -> tuple[bytes, None]:
        """Raises :class:`RequestError` (400) for rows where the model does not answer by rows."""
        answer: Any
        if self._by_rows:
            columns = each_row(tensors, request.rows, _BY_COLUMNS)
            names = [tensor.name for tensor in tensors]
            if len(names) == 1:
                answer = {"predictions": columns[0]}
            else:
                rows = zip(*columns, strict=True)
                answer = {"predictions": [dict(zip(names, row, strict=True)) for row in rows]}
        elif len(tensors) == 1:
            answer = {"outputs": plain(tensors[0])}
        else:
            answer = {"outputs": {tensor.name: plain(tensor) for tensor in tensors}}
        return to_json(answer, tensors), None

    def error(self, status: int, message: str) -> dict[str, str]:  # noqa: ARG002
        """What the protocol answers in place of an inference."""
        return {"error": message}
