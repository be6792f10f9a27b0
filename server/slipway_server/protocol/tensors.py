"""Tensors as the Open Inference Protocol names them, and numpy's types for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Datatype(StrEnum):
    """The datatypes of the protocol; ``BYTES`` holds UTF-8 strings, as ONNX does, or bytes."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type, little-endian as on the wire; ``object`` (of ``str``) for ``BYTES``."""
        return _DTYPES[self]

    @property
    def is_float(self) -> bool:
        return self in (Datatype.FP16, Datatype.FP32, Datatype.FP64)


_DTYPES: dict[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype("<u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("<i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BYTES: np.dtype(object),
}

ParameterValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as the model declares it.

    ``shape`` has -1 for a dimension of any size; ``None`` says that the model declares no shape at all (or a
    scalar, which onnxruntime does not tell apart).
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...] | None
    #: An input that has a value of its own unless one is sent.
    optional: bool = False
    #: A ``BYTES`` of ``bytes``, whatever they are, in place of strings; JSON has them as base64.
    raw: bool = False

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension counts rows."""
        return bool(self.shape) and self.shape is not None and self.shape[0] == -1


@dataclass(frozen=True, slots=True)
class Tensor:
    """An answer of the model: ``array`` has the datatype's dtype, of any shape."""

    name: str
    datatype: Datatype
    array: Array
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputChoice:
    """An output that a request wants, and whether as binary data after the JSON."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request that fits the model: every input once, with the declared datatype and shape."""

    id: str | None
    inputs: Mapping[str, Array]
    outputs: tuple[OutputChoice, ...]
    rows: int
    #: The client's own limit, from the request parameter ``timeout``.
    timeout_microseconds: int | None = None
    #: Of the request, as it came.
    parameters: Mapping[str, Any] = field(default_factory=dict)
