"""Networks: functions from tensors to tensors, of which the first dimension is the rows.

A row of data becomes a row of each tensor: with one input, all columns in their order; with several, the
columns ``NAME``, or ``NAME.0``, ``NAME.1`` and so on, of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd

from slipway.convert.answers import Answers, answers_of
from slipway.convert.errors import ConvertError
from slipway.convert.layout import ALL, Column, Layout, Tensor
from slipway.convert.originals import Original

Array = npt.NDArray[Any]

#: The newest that every server of Slipway runs, and the oldest that exporters write by themselves.
OPSET = 18
#: Protobuf's own limit; larger models need their weights next to them.
_LARGEST = 2**31 - 1
_SHOWN = 6


@dataclass(frozen=True)
class Taken:
    """An input: ``shape`` of a row, with None for a dimension that the data decides."""

    name: str
    datatype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Network(Original):
    """A network, which is made to run and to be exported by the library that made it.

    Attributes:
        inputs: in the order in which ``run`` takes them.
        run: gives all outputs, in the order of the ONNX model.
        export: the ONNX model, whose inputs have these names.
        outputs: names that the author of the model chose, empty where its library made one up; none at all
            where nobody chose any.
    """

    inputs: tuple[Taken, ...] = ()
    run: Callable[[list[Array]], list[Array]] | None = None
    export: Callable[[Sequence[Taken]], onnx.ModelProto] | None = None
    outputs: tuple[str, ...] = ()

    @property
    def labels(self) -> bool:
        return False

    @property
    def by_name(self) -> bool:
        return len(self.inputs) > 1

    @property
    def knows_names(self) -> bool:
        return self.by_name

    def columns(self, offered: Sequence[str]) -> list[str]:
        return [name for names in self._by_input(offered) for name in names]

    def answers(self, frame: pd.DataFrame) -> Answers:
        tensors = self.layout([str(name) for name in frame.columns]).tensors(frame)
        return answers_of(self._ran([tensors[each.name] for each in self._named()]), len(frame))

    def layout(self, names: Sequence[str]) -> Layout:
        """Of data with these columns; raises :class:`ConvertError` where they do not fit."""
        parts = self._by_input(names)
        tensors = tuple(
            Tensor(each.name, each.datatype, _sized(each, len(part)))
            for each, part in zip(self._named(), parts, strict=True)
        )
        columns = tuple(
            Column(name, each.datatype) for each, part in zip(tensors, parts, strict=True) for name in part
        )
        return Layout(columns, together=not self.by_name, inputs=tensors)

    def exported(self) -> onnx.ModelProto:
        """The network as ONNX; raises :class:`ConvertError` where its library cannot export it."""
        assert self.export is not None
        model = self.export(self._named())
        if model.ByteSize() > _LARGEST:
            raise ConvertError(
                "the converted model is larger than 2 GiB, which is more than one ONNX file holds: export it "
                "with its weights next to it (external data), and put no proof next to it"
            )
        return model

    def _named(self) -> list[Taken]:
        return [replace(self.inputs[0], name=ALL)] if len(self.inputs) == 1 else list(self.inputs)

    def _by_input(self, offered: Sequence[str]) -> list[list[str]]:
        """The columns of each input."""
        if not self.by_name:
            _sized(self.inputs[0], len(offered))
            return [list(offered)]
        parts = []
        for each in self.inputs:
            part = [each.name] if each.name in offered else _numbered(each.name, offered)
            if not part:
                raise ConvertError(
                    f"the model takes the input {each.name!r}, and the data has no column {each.name!r} nor "
                    f"{each.name}.0, {each.name}.1 and so on; it has {', '.join(offered[:_SHOWN])}"
                )
            _sized(each, len(part))
            parts.append(part)
        return parts

    def _ran(self, given: list[Array]) -> list[Array]:
        assert self.run is not None
        rows = len(given[0])
        # Programs are exported for two rows and more, since one row would be taken for a constant.
        if rows == 1:
            given = [np.repeat(each, 2, axis=0) for each in given]
        return [each[:rows] if each.ndim and len(each) == max(rows, 2) else each for each in self.run(given)]


def _numbered(name: str, offered: Sequence[str]) -> list[str]:
    there = {*offered}
    found: list[str] = []
    while f"{name}.{len(found)}" in there:
        found.append(f"{name}.{len(found)}")
    return found


def _sized(taken: Taken, count: int) -> tuple[int, ...]:
    """The shape of a row of so many columns."""
    known = prod(size for size in taken.shape if size is not None)
    free = taken.shape.count(None)
    if free == 0 and known == count:
        return tuple(size or 0 for size in taken.shape)
    if free == 1 and known and count % known == 0 and count:
        return tuple(count // known if size is None else size for size in taken.shape)
    if free > 1:
        raise ConvertError(
            f"the input {taken.name!r} has {free} free dimensions next to that of the rows: export the model "
            "with one at most"
        )
    wanted = f"{known}" if not free else f"a multiple of {known}"
    raise ConvertError(
        f"a row of the input {taken.name!r} has the shape {_told(taken.shape)}, which takes {wanted} "
        f"columns, and the data has {count}; name those that it does not take in --ignore, or give arrays "
        "as .npy or .npz"
    )


def _told(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('free' if size is None else str(size) for size in shape)}]"
