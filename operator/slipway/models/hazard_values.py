"""What is known of a value before a model runs: a constant's numbers, its bounds, and who decides it."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from slipway.models import onnx_graph_pb2 as pb
from slipway.models.hazard_tables import KEEPING, OF_SHAPES, UNCHANGED, WITHIN_ONE

#: A constant of more numbers is none that decides a size.
_MOST_NUMBERS = 64
#: Formats of numbers in ``raw_data``, by ``TensorProto.DataType``.
_FORMATS = {1: "f", 2: "B", 3: "b", 4: "H", 5: "h", 6: "i", 7: "q", 9: "?", 11: "d", 12: "I", 13: "Q"}


#: Types that a number keeps its sign in, whatever it was: float, int64, double.
_WIDE = frozenset({1, 7, 11})


class Value(NamedTuple):
    """What is known of a tensor.

    Attributes:
        asked: whether its values come from what a request holds, rather than from the model or from shapes.
        numbers: its values, of a small constant.
        least: no value is smaller, where that is known.
        most: no value is larger, where that is known.
    """

    asked: bool = False
    numbers: tuple[float, ...] | None = None
    least: float | None = None
    most: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request can make it as large as it likes."""
        return self.asked and self.most is None


UNKNOWN = Value()
ASKED = Value(asked=True)


def constant(numbers: Sequence[float]) -> Value:
    """Of a few numbers, which may be none."""
    if not numbers or any(math.isnan(number) for number in numbers):
        return Value(numbers=tuple(numbers) if not numbers else None)
    return Value(numbers=tuple(numbers), least=min(numbers), most=max(numbers))


def of_tensor(tensor: pb.Tensor) -> Value:
    """Of an initializer or a constant; unknown where it is large or no number."""
    if tensor.cut or tensor.data_location == 1 or count(tensor.dims) > _MOST_NUMBERS:
        return UNKNOWN
    if tensor.raw_data:
        letter = _FORMATS.get(tensor.data_type)
        size = struct.calcsize(letter) if letter else 0
        if not letter or len(tensor.raw_data) % size:
            return UNKNOWN
        return constant(struct.unpack(f"<{len(tensor.raw_data) // size}{letter}", tensor.raw_data))
    for numbers in (tensor.int64_data, tensor.int32_data, tensor.float_data, tensor.double_data):
        if numbers:
            return constant(list(numbers))
    return UNKNOWN


def count(dims: Sequence[int]) -> int:
    """Elements of a shape."""
    return math.prod(dims)


def made(node: pb.Node, inputs: Sequence[Value], attributes: Mapping[str, pb.Attribute]) -> Value:
    """What an operator without graphs of its own makes of its inputs."""
    kind = node.op_type
    if kind == "Constant":
        return _of_constant(attributes)
    if kind in OF_SHAPES:
        return UNKNOWN
    asked = any(value.asked for value in inputs)
    if kind in WITHIN_ONE:
        return Value(asked, None, 0, 1)
    if not inputs:
        return UNKNOWN
    if kind == "Cast":
        return _cast(inputs[0], attributes)
    if kind == "Clip":
        return _clipped(inputs, attributes)
    rule = _RULES.get(kind)
    if rule is not None:
        return rule(inputs)
    if kind in KEEPING:
        return _kept(kind, inputs)
    return Value(asked)


def _of_constant(attributes: Mapping[str, pb.Attribute]) -> Value:
    for name, attribute in attributes.items():
        if attribute.cut:
            return UNKNOWN
        if name == "value":
            return of_tensor(attribute.t)
        if name in ("value_int", "value_float"):
            return constant([attribute.i if name == "value_int" else attribute.f])
        if name in ("value_ints", "value_floats"):
            numbers: list[float] = [*attribute.ints, *attribute.floats]
            return constant(numbers) if len(numbers) <= _MOST_NUMBERS else UNKNOWN
    return UNKNOWN


def _kept(kind: str, inputs: Sequence[Value]) -> Value:
    if kind == "Concat":
        numbers = None
        if all(value.numbers is not None for value in inputs):
            numbers = tuple(number for value in inputs for number in value.numbers or ())
        return Value(
            any(value.asked for value in inputs),
            numbers if numbers is not None and len(numbers) <= _MOST_NUMBERS else None,
            _least(inputs),
            _most(inputs),
        )
    first = inputs[0]
    return first if kind in UNCHANGED else Value(first.asked, None, first.least, first.most)


def _cast(first: Value, attributes: Mapping[str, pb.Attribute]) -> Value:
    if "to" in attributes and attributes["to"].i in _WIDE:
        return Value(first.asked, first.numbers, None, first.most)
    # A number far below zero may be a large one of a narrower type.
    if first.least is None or first.most is None or first.least < -(2**31) or first.most >= 2**31:
        return Value(first.asked)
    numbers = None if first.numbers is None else tuple(float(int(number)) for number in first.numbers)
    return Value(first.asked, numbers, math.floor(first.least), math.ceil(first.most))


def _smallest(inputs: Sequence[Value]) -> Value:
    known = [value.most for value in inputs if value.most is not None]
    # What shapes decide is no larger than the request, which has a limit of its own.
    asked = all(value.asked for value in inputs)
    some = any(value.asked for value in inputs)
    if some and not asked and not known:
        return UNKNOWN
    return Value(some, None, _least(inputs), min(known) if known else None)


def _largest(inputs: Sequence[Value]) -> Value:
    known = [value.least for value in inputs if value.least is not None]
    return Value(any(value.asked for value in inputs), None, max(known) if known else None, _most(inputs))


def _clipped(inputs: Sequence[Value], attributes: Mapping[str, pb.Attribute]) -> Value:
    first = inputs[0]
    low = _only(inputs[1]) if len(inputs) > 1 else _attribute(attributes, "min")
    high = _only(inputs[2]) if len(inputs) > 2 else _attribute(attributes, "max")
    least = first.least if low is None else low
    most = first.most if high is None else high
    return Value(first.asked, None, least, most)


def _remainder(inputs: Sequence[Value]) -> Value:
    divisor = _only(inputs[1]) if len(inputs) > 1 else None
    if divisor is None:
        return Value(any(value.asked for value in inputs))
    return Value(inputs[0].asked, None, -abs(divisor), abs(divisor))


def _chosen(inputs: Sequence[Value]) -> Value:
    either = inputs[1:]
    return Value(any(value.asked for value in either), None, _least(either), _most(either))


def _positive(inputs: Sequence[Value]) -> Value:
    first = inputs[0]
    return Value(first.asked, None, max(0, first.least or 0), first.most)


def _only(value: Value) -> float | None:
    return value.numbers[0] if value.numbers is not None and len(value.numbers) == 1 else None


def _attribute(attributes: Mapping[str, pb.Attribute], name: str) -> float | None:
    return attributes[name].f if name in attributes else None


def _least(values: Sequence[Value]) -> float | None:
    known = [value.least for value in values if value.least is not None]
    return min(known) if values and len(known) == len(values) else None


def _most(values: Sequence[Value]) -> float | None:
    known = [value.most for value in values if value.most is not None]
    return max(known) if values and len(known) == len(values) else None


_RULES: Mapping[str, Callable[[Sequence[Value]], Value]] = {
    "Max": _largest,
    "Min": _smallest,
    "Mod": _remainder,
    "Relu": _positive,
    "Where": _chosen,
}
