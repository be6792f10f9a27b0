"""One use of an operator, as its rule sees it, and the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipway_server.batching import onnx_outline_pb2 as pb
from slipway_server.batching.values import MOST_ENTRIES, Dim, Mixes, Value, known

#: What :meth:`Use.attribute` gives for a value that was left out as too large.
CUT = object()
#: Data types of tensors whose numbers are read, by ``TensorProto.DataType``.
_DTYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 11: "<f8"}


@dataclass(frozen=True, slots=True)
class Use:
    """A node of the graph with what is known of its inputs; an optional one left out is None."""

    kind: str
    inputs: Sequence[Value | None]
    attributes: Mapping[str, pb.Attribute]
    version: int
    outputs: Sequence[str]
    #: Several threads share a kernel's work, and part it where they like.
    is_parallel: bool = False

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def given(self, index: int = 0) -> Value:
        """An input that is there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise Mixes("lacks an input")
        return value

    def shape(self, index: int = 0) -> tuple[Dim, ...]:
        return known(self.given(index))

    def all_given(self) -> list[Value]:
        return [value for value in self.inputs if value is not None]

    def constants(self, *indices: int) -> None:
        """Raises :class:`Mixes` where one of these inputs, or any from the last on, is no constant."""
        for index in indices:
            if self.has(index) and not self.given(index).is_constant:
                raise Mixes(f"takes its input {index} from the rows")

    def constants_from(self, index: int) -> None:
        self.constants(*range(index, len(self.inputs)))

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's plain value; :data:`CUT` where it is too large."""
        found = self.attributes.get(name)
        if found is None:
            return default
        if found.cut:
            return CUT
        for field, value in found.ListFields():
            if field.name not in ("name", "ref_attr_name", "cut"):
                return list(value) if field.is_repeated else value
        # A value of protobuf's default may not be written; an empty list is not, either.
        return 0 if default is None or isinstance(default, int) else default

    def integer(self, name: str, default: int) -> int:
        value = self.attribute(name, default)
        if not isinstance(value, int):
            raise Mixes(f"has an attribute {name!r} of another type")
        return value

    def flag(self, name: str, default: int = 0) -> bool:
        """Yes or no; of other numbers kernels think differently."""
        value = self.integer(name, default)
        if value not in (0, 1):
            raise Mixes(f"has an attribute {name!r} that is neither 0 nor 1")
        return bool(value)

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int] | None:
        """A list of integers; the default where it is absent."""
        found = self.attributes.get(name)
        if found is None:
            return None if default is None else list(default)
        if found.cut:
            raise Mixes(f"has a long attribute {name!r}")
        return list(found.ints)

    def word(self, name: str, default: str) -> str:
        value = self.attribute(name, default.encode())
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else default

    def count_of(self, *names: str) -> int | None:
        """How long the first of these lists that is there is, where that is known."""
        for name in names:
            found = self.attributes.get(name)
            if found is not None:
                size = len(found.ints) or len(found.strings) or len(found.floats)
                return None if found.cut or not size else size
        return None

    def entries(self, index: int) -> list[Any]:
        """The numbers of an input, counts of rows among them; it has to be a number or a list."""
        value = self.given(index)
        if value.entries is None or value.axis is not None or len(value.shape or ()) > 1:
            raise Mixes(f"takes sizes (input {index}) that are not known before a request")
        return list(value.entries)

    def numbers(self, index: int) -> list[int]:
        """As :meth:`entries`, where no request changes them."""
        found = self.entries(index)
        if any(not isinstance(entry, (int, float)) for entry in found):
            raise Mixes(f"takes sizes (input {index}) that depend on the number of rows")
        return found

    def listed(self, name: str, index: int) -> list[int] | None:
        """Integers of an attribute, as old versions have them, or of an input, as new ones do."""
        return self.numbers(index) if self.has(index) else self.integers(name)

    def axis(self, default: int, rank: int, name: str = "axis") -> int:
        return at(self.integer(name, default), rank)


def at(axis: int, rank: int) -> int:
    """A dimension's number, counted from the front."""
    if not -rank <= axis < rank:
        raise Mixes("names an axis that there is not")
    return int(axis) % rank


def apart(value: Value, *axes: int) -> None:
    """Raises :class:`Mixes` where rows lie along one of these axes."""
    if value.axis in axes:
        raise Mixes("works along the axis of the rows")


def rows_first(value: Value, rank: int | None = None) -> tuple[Dim, ...]:
    """The shape of a tensor whose rows, if any, come first. Raises :class:`Mixes` otherwise."""
    shape = known(value)
    if value.axis not in (None, 0) or (rank is not None and len(shape) != rank):
        raise Mixes("does not take its rows along the first axis")
    if value.axis == 0 and len(shape) < 2:
        raise Mixes("takes a list of one axis as a single row")
    return shape


Answer = Value | Sequence[Value | Mixes]
Rule = Callable[[Use], Answer]
#: By domain ("" is ONNX's own) and operator.
RULES: dict[tuple[str, str], Rule] = {}


def rule(names: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register a rule for the operators of these names, parted by spaces."""

    def register(function: Rule) -> Rule:
        for name in names.split():
            RULES[domain, name] = function
        return function

    return register


def tensor(proto: pb.Tensor) -> Value:
    """A constant of the model."""
    shape = tuple(proto.dims)
    size = 1
    for dim in shape:
        size *= dim
    dtype = _DTYPES.get(proto.data_type)
    if proto.cut or size > MOST_ENTRIES or dtype is None or proto.data_location:
        return Value(shape, kind=proto.data_type)
    if proto.raw_data:
        flat = np.frombuffer(proto.raw_data, dtype)
    else:
        numbers = proto.int64_data or proto.int32_data or proto.float_data or proto.double_data
        flat = np.array(numbers, dtype)
    if flat.size != size:
        return Value(shape, kind=proto.data_type)
    return Value(shape, tuple(flat.tolist()), kind=proto.data_type)
