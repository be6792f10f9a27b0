"""What in a model's graph could take a server down: found by reading it, without running anything.

A model is a program. What it does with its constants alone shows when a server tries it, before it is ready:
such a version never gets traffic. What a request decides does not show then, so that is what is looked for
here: how often a loop runs and how large a tensor is made. Next to that: operators that are foreign, graphs
that grow without end when they are unfolded, and tensors that claim more than their file holds.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from slipway.models import onnx_graph_pb2 as pb
from slipway.models.hazard_tables import (
    ALLOWED,
    ELEMENT_BYTES,
    GENERATORS,
    SIZED_BY_ATTRIBUTE,
    SIZES,
    STRING,
    SUMMED,
    Around,
)
from slipway.models.hazard_values import ASKED, UNKNOWN, Value, constant, count, made, of_tensor
from slipway.names import EXTENSION_OPERATORS

#: Loops within loops run so often at most, all together.
MOST_TRIPS = 1_000_000
#: So many operators a graph has at most, with all functions unfolded where they are called.
MOST_OPERATORS = 200_000
#: Graphs within operators, and functions that call functions.
DEEPEST = 16
#: Elements of one tensor where nothing says what memory there is.
MOST_ELEMENTS = 1 << 34

_TOO_DEEP = (
    f"the function {{}} is one of functions that call each other more than {DEEPEST} deep: unfold them, with "
    "onnx.inliner for example, before the model is published"
)
#: Numbers of the fields with a tensor's values: as many bytes each value has there at least.
_LEAST_BYTES = {4: 4, 5: 1, 6: 2, 7: 1, 10: 8, 11: 1}
_RAW_DATA = 9
_NUMBERS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


class HazardError(Exception):
    """Something in the model must not run; ``str()`` names the node and says what to do."""


def look(model: pb.Model, around: Around) -> None:
    """Read the whole model. Raises :class:`HazardError` for the first hazard."""
    _Look(model, around).all()


class _Place(NamedTuple):
    """Where in a model a graph is: how deep, and how often it runs."""

    depth: int = 0
    trips: int = 1


class _Scope(dict[str, Value]):
    """Values by name; what is not here is looked up further out."""

    def __init__(self, outer: _Scope | None = None) -> None:
        super().__init__()
        self.outer = outer

    def __missing__(self, name: str) -> Value:
        return UNKNOWN if self.outer is None else self.outer[name]


class _Look:
    def __init__(self, model: pb.Model, around: Around) -> None:
        self.model = model
        self.around = around
        self.functions = {(function.domain, function.name): function for function in model.functions}
        self.most = around.memory or MOST_ELEMENTS
        self.seen = 0

    def all(self) -> None:
        heights: dict[tuple[str, str], int] = {}
        for name in self.functions:
            # Also one that nothing calls: a runtime may look at it all the same.
            self._height(name, (), heights)
        self.seen = 0
        scope = _Scope()
        given = {tensor.name for tensor in self.model.graph.initializer}
        for named in self.model.graph.input:
            if named.name not in given:
                scope[named.name] = ASKED
        self._graph(self.model.graph, scope, _Place())

    def _height(
        self, name: tuple[str, str], within: tuple[tuple[str, str], ...], heights: dict[tuple[str, str], int]
    ) -> int:
        """How deep the functions are that a function calls, itself counted."""
        if name in within:
            raise HazardError(f"the function {_named(name)} calls itself: export the model again without it")
        if name not in heights:
            if len(within) >= DEEPEST:
                raise HazardError(_TOO_DEEP.format(_named(name)))
            called = [
                (node.domain, node.op_type)
                for node in self._nodes_of(self.functions[name].node, 0)
                if (node.domain, node.op_type) in self.functions
            ]
            heights[name] = 1 + max(
                (self._height(other, (*within, name), heights) for other in called), default=0
            )
        if heights[name] + len(within) > DEEPEST:
            raise HazardError(_TOO_DEEP.format(_named(name)))
        return heights[name]

    def _nodes_of(self, nodes: Sequence[pb.Node], depth: int) -> Iterator[pb.Node]:
        self._count(len(nodes))
        for node in nodes:
            yield node
            for attribute in node.attribute:
                for graph in _graphs(attribute):
                    self._deep(node, depth)
                    yield from self._nodes_of(graph.node, depth + 1)

    def _graph(self, graph: pb.Graph, scope: _Scope, place: _Place) -> None:
        for tensor in graph.initializer:
            self._tensor(tensor, f"tensor {tensor.name!r}")
            scope[tensor.name] = of_tensor(tensor)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse, f"tensor {sparse.values.name!r}")
            scope[sparse.values.name] = UNKNOWN
        self._run(graph.node, scope, place)

    def _run(self, nodes: Sequence[pb.Node], scope: _Scope, place: _Place) -> None:
        self._count(len(nodes))
        for node in nodes:
            inputs = [scope[name] if name else UNKNOWN for name in node.input]
            function = self.functions.get((node.domain, node.op_type))
            if function is None:
                self._allowed(node)
            attributes = {attribute.name: attribute for attribute in node.attribute}
            for attribute in node.attribute:
                self._held(attribute, node)
            self._sized(node, inputs, attributes)
            if function is not None:
                results = self._called(function, inputs, place)
            elif any(_graphs(attribute) for attribute in node.attribute):
                results = self._with_graphs(node, inputs, scope, place)
            else:
                results = [made(node, inputs, attributes)] * len(node.output)
            for name, value in zip(node.output, results, strict=False):
                scope[name] = value

    def _called(self, function: pb.Function, inputs: Sequence[Value], place: _Place) -> list[Value]:
        scope = _Scope()
        scope.update(zip(function.input, inputs, strict=False))
        self._run(function.node, scope, place)
        return [scope[output] for output in function.output]

    def _with_graphs(
        self,
        node: pb.Node,
        inputs: Sequence[Value],
        scope: _Scope,
        place: _Place,
    ) -> list[Value]:
        """What an operator makes that runs graphs: a branch, a loop, a walk along a sequence."""
        self._deep(node, place.depth)
        trips = place.trips
        if node.op_type == "Loop":
            trips *= self._trips(node, inputs, place)
        inner = _Place(place.depth + 1, trips)
        graphs = [graph for attribute in node.attribute for graph in _graphs(attribute)]
        if node.op_type == "If":
            both = [self._inside(graph, scope, inner, ()) for graph in graphs]
            return [
                _either([values[at] for values in both if at < len(values)]) for at in range(len(node.output))
            ]
        # A loop says first whether it goes on.
        ahead = 1 if node.op_type == "Loop" else 0
        results: list[Value] = []
        for graph in graphs:
            results = self._turns(graph, scope, inner, inputs, ahead)
        for at, value in enumerate(inputs[2 * ahead :]):
            if at < len(results) and value.asked:
                results[at] = ASKED
        return results

    def _turns(
        self, graph: pb.Graph, scope: _Scope, place: _Place, inputs: Sequence[Value], ahead: int
    ) -> list[Value]:
        """What a graph makes that is run again and again, with what it made the turn before."""
        asked = [value.asked for value in inputs[: len(graph.input)]]
        asked += [any(asked)] * (len(graph.input) - len(asked))
        for last in (False, True):
            given = [ASKED if one else UNKNOWN for one in asked]
            if ahead:
                # The turn's number, and whether there is to be another.
                given[:2] = [
                    Value(inputs[0].asked, None, 0, inputs[0].most),
                    Value(asked[1:2] == [True], None, 0, 1),
                ]
            made = self._inside(graph, scope, place, given)
            more = [
                one or (at >= 2 * ahead and at - ahead < len(made) and made[at - ahead].asked)
                for at, one in enumerate(asked)
            ]
            if more == asked or last:
                break
            asked = [any(more)] * len(more) if more != asked else more
        return [ASKED if value.asked else UNKNOWN for value in made[ahead:]]

    def _inside(self, graph: pb.Graph, scope: _Scope, place: _Place, given: Sequence[Value]) -> list[Value]:
        inner = _Scope(scope)
        inner.update(zip((named.name for named in graph.input), given, strict=False))
        self._graph(graph, inner, place)
        return [inner[named.name] for named in graph.output]

    def _trips(self, node: pb.Node, inputs: Sequence[Value], place: _Place) -> int:
        """How often a loop runs at most; 1 where shapes say."""
        if not node.input or not node.input[0]:
            raise HazardError(
                f"{_called(node)} has no greatest number of trips: give its first input a constant of "
                f"{MOST_TRIPS} at most"
            )
        trips = inputs[0]
        if trips.is_open:
            raise HazardError(
                f"{_called(node)} runs as often as a request decides: bound its first input by Min with a "
                f"constant of {MOST_TRIPS} at most"
            )
        most = int(min(max(trips.most or 1, 1), 2**63))
        if place.trips * most > MOST_TRIPS:
            raise HazardError(
                f"{_called(node)} may run {place.trips * most} times, and {MOST_TRIPS} are the most: "
                "bound its first input"
            )
        return most

    def _sized(self, node: pb.Node, inputs: Sequence[Value], attributes: Mapping[str, pb.Attribute]) -> None:
        kind = node.op_type
        named = attributes.get(SIZED_BY_ATTRIBUTE.get(kind, ""))
        if named is not None and not named.cut:
            self._fits(node, [constant(list(named.ints) or [named.i])])
        if kind == "Range":
            self._range(node, inputs)
        if kind in GENERATORS:
            self._deciding(node, inputs[GENERATORS[kind] : GENERATORS[kind] + 1])
        if kind == "CenterCropPad":
            # It makes axes smaller, or larger with zeros.
            self._fits(node, inputs[1:2])
        elif kind in SIZES:
            deciding = [inputs[at] for at in SIZES[kind] if at < len(inputs)]
            self._deciding(node, deciding)
            self._fits(node, deciding)

    def _range(self, node: pb.Node, inputs: Sequence[Value]) -> None:
        start, limit, step = [*inputs, UNKNOWN, UNKNOWN, UNKNOWN][:3]
        if (start.asked and start.least is None) or step.asked:
            self._deciding(node, [ASKED])
        self._deciding(node, [limit])
        if start.numbers and limit.numbers and step.numbers and step.numbers[0]:
            self._fits(node, [constant([(limit.numbers[0] - start.numbers[0]) / step.numbers[0]])])

    def _deciding(self, node: pb.Node, values: Sequence[Value]) -> None:
        if any(value.is_open for value in values):
            raise HazardError(
                f"{_called(node)} makes as much as a request decides: bound the input that decides its size, "
                "by Min with a constant for example, or take it from the shape of another"
            )

    def _fits(self, node: pb.Node, values: Sequence[Value]) -> None:
        for value in values:
            numbers = [abs(number) for number in value.numbers or ()]
            if not numbers:
                continue
            size = sum(numbers) if node.op_type in SUMMED else _product(numbers)
            if size > self.most:
                raise HazardError(
                    f"{_called(node)} makes {size:.3g} values, and {self.most} bytes of memory are the most: "
                    "make less, or give spec.runtime.resources.limits more memory"
                )

    def _allowed(self, node: pb.Node) -> None:
        if node.domain in self.around.domains or node.op_type in EXTENSION_OPERATORS.get(node.domain, ()):
            return
        if node.domain not in ALLOWED:
            raise HazardError(
                f"{_called(node)} is of the domain {node.domain[:100]!r}, of which the server has other "
                "operators or none: export the model with those of ONNX and ai.onnx.ml"
            )
        if node.op_type in ALLOWED[node.domain]:
            raise HazardError(
                f"{_called(node)} runs native code that comes with the model: publish the model that it was "
                "compiled from"
            )

    def _held(self, attribute: pb.Attribute, node: pb.Node) -> None:
        what = f"{_called(node)}, attribute {attribute.name!r},"
        if attribute.HasField("t"):
            self._tensor(attribute.t, what)
        for tensor in attribute.tensors:
            self._tensor(tensor, what)
        if attribute.HasField("sparse_tensor"):
            self._sparse(attribute.sparse_tensor, what)
        for sparse in attribute.sparse_tensors:
            self._sparse(sparse, what)

    def _sparse(self, sparse: pb.SparseTensor, what: str) -> None:
        self._tensor(sparse.values, what)
        self._tensor(sparse.indices, what)
        if any(size < 0 for size in sparse.dims) or count(sparse.dims) > self.most:
            raise HazardError(
                f"{what} stands for {count(sparse.dims)} values, and "
                f"{self.most} bytes of memory are the most: save the model without it"
            )

    def _tensor(self, tensor: pb.Tensor, what: str) -> None:
        """A tensor has as many bytes as its shape says, in the model or in a file beside it."""
        if any(size < 0 for size in tensor.dims):
            raise HazardError(f"{what} has a shape below zero: save the model again")
        elements = count(tensor.dims)
        width = 1 if tensor.data_type == STRING else ELEMENT_BYTES.get(tensor.data_type, 0)
        declared = elements * width
        if tensor.data_location == 1:
            held: float = self._beside(tensor, what)
        else:
            numbers = sum(len(getattr(tensor, name)) for name in _NUMBERS) + len(tensor.string_data)
            held = len(tensor.raw_data) + numbers * max(width, 1)
            for cut in tensor.cut:
                length, number = divmod(cut, 64)
                held += (
                    length if number == _RAW_DATA else length // _LEAST_BYTES.get(number, 1) * max(width, 1)
                )
        if declared > held:
            raise HazardError(
                f"{what} declares {int(declared)} bytes and has {int(held)}: "
                "the model was not written completely, or is made to fill memory; save it again"
            )

    def _beside(self, tensor: pb.Tensor, what: str) -> int:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        size = self.around.files.get(posixpath.normpath(entries.get("location", "")), 0)
        try:
            offset = int(entries.get("offset") or 0)
            length = int(entries.get("length") or max(size - offset, 0))
        except ValueError:
            raise HazardError(
                f"{what} has no numbers for its place in a file: save the model again"
            ) from None
        if offset < 0 or length < 0 or offset + length > size:
            raise HazardError(
                f"{what} is at the bytes {offset} to {offset + length} of a file of {size}: upload the "
                "files of one version together, or save the model again"
            )
        return length

    def _deep(self, node: pb.Node, depth: int) -> None:
        if depth >= DEEPEST:
            raise HazardError(f"{_called(node)} has graphs {DEEPEST} deep: export the model again, flatter")

    def _count(self, more: int) -> None:
        self.seen += more
        if self.seen > MOST_OPERATORS:
            raise HazardError(
                f"the graph has more than {MOST_OPERATORS} operators once its functions are unfolded: "
                "export a smaller model"
            )


def _graphs(attribute: pb.Attribute) -> list[pb.Graph]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _either(values: Sequence[Value]) -> Value:
    if any(value.is_open for value in values):
        return ASKED
    most = [value.most for value in values if value.most is not None]
    whole = len(most) == len(values)
    return Value(any(value.asked for value in values), None, None, max(most) if most and whole else None)


def _product(numbers: Sequence[float]) -> float:
    size = 1.0
    for number in numbers:
        size *= number
    return size


def _named(function: tuple[str, str]) -> str:
    return repr(f"{function[0]}.{function[1]}"[:100])


def _called(node: pb.Node) -> str:
    """What messages call a node: its own name, else that of what it makes."""
    name = node.name or (node.output[0] if node.output else "")
    return f"node {name[:100]!r} ({node.op_type[:60]})"
