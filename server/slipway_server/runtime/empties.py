"""Which dimensions of a model's inputs may be 0: those that it survived when it was loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from slipway_server.errors import Reason, RequestError, show
from slipway_server.protocol.tensors import Array, TensorSpec

#: Which dimensions are 0, by input; of an input without a declared shape its whole shape.
Pattern = frozenset[tuple[str, tuple[int, ...]]]


class Empties:
    """The combinations of empty dimensions that a model survived."""

    def __init__(self, specs: Mapping[str, TensorSpec], survived: Collection[Pattern] = ()) -> None:
        self._specs = specs
        self._survived = frozenset(survived)

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Raises :class:`RequestError` (422) for empty tensors that the model is not known to survive."""
        found = pattern_of(inputs, self._specs)
        if found and found not in self._survived:
            name = min(name for name, _ in found)
            raise RequestError(
                422,
                Reason.MODEL_INPUT,
                f"the model refuses these values: it is not known to survive input {show(name)} of shape "
                f"{list(inputs[name].shape)}, which is empty; send at least one element",
            )


def pattern_of(inputs: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> Pattern:
    """Which dimensions of these inputs are 0."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for name, array in inputs.items():
        if array.size:
            continue
        declared = specs[name].shape
        if declared is None:
            found.append((name, array.shape))
            continue
        # A dimension that the model itself has as 0 was tried by its first run.
        empty = (at for at, size in enumerate(array.shape) if not size and declared[at] == -1)
        found.append((name, tuple(empty)))
    return frozenset((name, empty) for name, empty in found if empty)
