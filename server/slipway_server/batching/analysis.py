"""The proof that a model's rows stay apart, or the operator at which it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

# Each of these registers its rules.
from slipway_server.batching import dense, entrywise, layout, reductions, tables  # noqa: F401
from slipway_server.batching import onnx_outline_pb2 as pb
from slipway_server.batching.kinds import BOOL, INT64, kinds
from slipway_server.batching.operators import RULES, Use, tensor
from slipway_server.batching.outline import OutlineError, read
from slipway_server.batching.scans import scan_slices, scan_stacks
from slipway_server.batching.sizes import computed
from slipway_server.batching.values import UNKNOWN_CONSTANT, Count, Mixes, Value

Known = Value | Mixes
#: Functions in functions could make a small file into an endless graph.
_MOST_NODES = 20_000
_DEEPEST = 16
#: Whose result may differ from call to call though no input does.
_RANDOM = frozenset(
    {
        *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        *("Multinomial", "Bernoulli", "Dropout"),
    }
)
#: Rules that look at the numbers of their inputs, or need no more of them than their shape.
_TAKE_COUNTS = frozenset({"Reshape", "Expand", "ConstantOfShape", "Tile", "Resize", "Shape", "Size", "Slice"})
#: Rules that overlook padding.
_TAKE_PADDING = frozenset({"TfIdfVectorizer", "Flatten"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether rows of several requests may share a call, and why not, as a sentence without its stop."""

    apart: bool
    why: str = ""


def judge(path: Path, inputs: Mapping[str, Sequence[int]], threads: int = 1) -> Verdict:
    """Whether each row of each output of a model depends on the same row of its inputs alone.

    ``inputs`` has the shape of each; the first dimension counts rows, the others are sizes. ``threads``
    share the work of a kernel. Never raises for what is in the file: what is not understood is not apart.
    """
    try:
        model = read(path)
    except (OutlineError, OSError, ValueError) as error:
        return Verdict(False, f"the model file could not be read for a proof: {error}")
    for name, shape in inputs.items():
        if not shape or any(size < 0 for size in shape[1:]):
            return Verdict(False, f"input {name!r} leaves open what a row is")
    walk = _Walk(model, threads > 1)
    types = {each.name: each.type.tensor_type.elem_type for each in model.graph.input}
    given: dict[str, Known] = {
        name: Value((Count(1), *shape[1:]), kind=types.get(name, 0)) for name, shape in inputs.items()
    }
    try:
        found = walk.graph(model.graph, given, walk.versions, {}, 0)
    except Mixes as problem:
        return Verdict(False, f"the model {problem}")
    for output, value in zip(model.graph.output, found, strict=True):
        if isinstance(value, Mixes):
            return Verdict(False, f"output {output.name!r}: {value}")
        if value.shape is None or not value.shape or value.shape[0] != Count(1) or value.padding is not None:
            return Verdict(
                False, f"output {output.name!r} is not one entry for each row along its first axis"
            )
    return Verdict(True)


class _Walk:
    """Goes over nodes in their order, which is one in which each comes after what it needs."""

    def __init__(self, model: pb.Model, is_parallel: bool) -> None:
        self._functions = {(each.domain, each.name, each.overload): each for each in model.functions}
        self.versions = _versions(model.opset_import)
        self._left = _MOST_NODES
        self._is_parallel = is_parallel

    def graph(
        self,
        graph: pb.Graph,
        around: Mapping[str, Known],
        versions: Mapping[str, int],
        outer: Mapping[str, pb.Attribute],
        depth: int,
    ) -> list[Known]:
        """What is known of a graph's outputs; ``around`` are its inputs, and all it sees around it.

        ``outer`` are the attributes of the function that it is in.
        """
        names: dict[str, Known] = dict(around)
        for each in graph.initializer:
            names[each.name] = tensor(each)
        for sparse in graph.sparse_initializer:
            names[sparse.values.name] = UNKNOWN_CONSTANT
        # An initializer that is an input too is its default: who sends one is not batched.
        self._nodes(graph.node, names, versions, outer, depth)
        return [_look_up(names, output.name) for output in graph.output]

    def _nodes(
        self,
        nodes: Sequence[pb.Node],
        names: dict[str, Known],
        versions: Mapping[str, int],
        outer: Mapping[str, pb.Attribute],
        depth: int,
    ) -> None:
        for node in nodes:
            self._left -= 1
            if self._left < 0 or depth > _DEEPEST:
                raise Mixes("has more operators, or deeper ones, than a proof is tried for")
            found = self._node(node, names, versions, outer, depth)
            for name, value in zip_longest(node.output, found):
                if name:
                    names[name] = value or Mixes(f"{_called(node)} has more outputs than are understood")

    def _node(
        self,
        node: pb.Node,
        names: Mapping[str, Known],
        versions: Mapping[str, int],
        outer: Mapping[str, pb.Attribute],
        depth: int,
    ) -> list[Known]:
        given = [_look_up(names, name) if name else None for name in node.input]
        for value in given:
            if isinstance(value, Mixes):
                return [value] * len(node.output)
        inputs = [value for value in given if not isinstance(value, Mixes)]
        try:
            attributes = _attributes(node, outer)
            function = self._functions.get((node.domain, node.op_type, node.overload))
            if function is not None:
                if (node.domain, node.op_type) in RULES:
                    raise Mixes("has the name of a known operator, but is one of the model's functions")
                return self._function(function, inputs, attributes, depth)
            domain = "" if node.domain == "ai.onnx" else node.domain
            version = versions.get(domain, 1)
            use = Use(node.op_type, inputs, attributes, version, node.output, self._is_parallel)
            if not domain and node.op_type in ("If", "Loop", "Scan"):
                return self._branches(use, names, versions, outer, depth)
            return _typed(domain, use, _judged(domain, use))
        except Mixes as problem:
            found = problem if str(problem).startswith("node ") else Mixes(f"{_called(node)} {problem}")
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError):
            found = Mixes(f"{_called(node)} is used in a way that is not understood")
        return [found] * len(node.output)

    def _function(
        self,
        function: pb.Function,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, pb.Attribute],
        depth: int,
    ) -> list[Known]:
        pairs = zip_longest(function.input, inputs)
        names: dict[str, Known] = {name: value for name, value in pairs if name and value is not None}
        own = {each.name: each for each in function.attribute_proto} | dict(attributes)
        self._nodes(function.node, names, _versions(function.opset_import), own, depth + 1)
        return [_look_up(names, name) for name in function.output]

    def _branches(
        self,
        use: Use,
        names: Mapping[str, Known],
        versions: Mapping[str, int],
        outer: Mapping[str, pb.Attribute],
        depth: int,
    ) -> list[Known]:
        """Graphs within an operator, where no request decides how often which of them runs."""
        if use.kind == "If":
            use.constants(0)
            graphs = [use.attributes[name].g for name in ("then_branch", "else_branch")]
            found = [self.graph(graph, names, versions, outer, depth + 1) for graph in graphs]
            return [_agreed(pair) for pair in zip(*found, strict=True)]
        if use.kind == "Scan":
            return self._scan(use, names, versions, outer, depth)
        use.constants(0, 1)
        body = use.attributes["body"].g
        carried: list[Known] = [use.given(index) for index in range(2, len(use.inputs))]
        for _ in range(len(carried) + 2):
            inner = dict(names)
            fresh: list[Known] = [Value((), kind=INT64), Value((), kind=BOOL), *carried]
            inner |= {each.name: value for each, value in zip(body.input, fresh, strict=True)}
            again, *results = self.graph(body, inner, versions, outer, depth + 1)
            if isinstance(again, Mixes) or not again.is_constant:
                raise Mixes("goes on for as long as the rows ask for")
            after = [_agreed(pair) for pair in zip(carried, results[: len(carried)], strict=True)]
            if after == carried:
                scanned: list[Known] = [Mixes("is collected by a loop")] * (len(results) - len(carried))
                return [*carried, *scanned]
            carried = after
        raise Mixes("is a loop that is not understood")

    def _scan(
        self,
        use: Use,
        names: Mapping[str, Known],
        versions: Mapping[str, int],
        outer: Mapping[str, pb.Attribute],
        depth: int,
    ) -> list[Known]:
        """A loop over slices along axes that are not the rows', such as the points that rows are near to."""
        body, slices, times = use.attributes["body"].g, *scan_slices(use)
        states = len(use.inputs) - len(slices)
        carried: list[Known] = [use.given(index) for index in range(states)]
        for _ in range(states + 2):
            fresh = [*carried, *slices]
            inner = dict(names) | {each.name: value for each, value in zip(body.input, fresh, strict=True)}
            results = self.graph(body, inner, versions, outer, depth + 1)
            after = [_agreed(pair) for pair in zip(carried, results[:states], strict=True)]
            if after == carried:
                return [*carried, *scan_stacks(use, results[states:], times)]
            carried = after
        raise Mixes("is a loop that is not understood")


def _judged(domain: str, use: Use) -> list[Known]:
    values = [value for value in use.inputs if value is not None]
    if not domain and use.kind == "Constant":
        return [_constant(use)]
    is_constant = all(value.is_constant for value in values)
    try:
        small = None if domain else computed(use)
    except (Mixes, ArithmeticError, IndexError, KeyError, TypeError, ValueError):
        if not is_constant:
            raise
        small = None
    if small is not None:
        return [small]
    if any(value.has_counts for value in values) and use.kind not in _TAKE_COUNTS:
        raise Mixes("computes with the number of rows")
    if any(value.padding is not None for value in values) and use.kind not in _TAKE_PADDING:
        raise Mixes("looks at what pads the rows")
    rule = RULES.get((domain, use.kind))
    if rule is None:
        if is_constant and domain in ("", "ai.onnx.ml") and use.kind not in _RANDOM:
            return [UNKNOWN_CONSTANT] * len(use.outputs)
        raise Mixes("is not known to keep rows apart")
    try:
        found = rule(use)
    except (Mixes, IndexError, KeyError, TypeError, ValueError):
        if is_constant and use.kind not in _RANDOM:
            return [UNKNOWN_CONSTANT] * len(use.outputs)
        raise
    return [found] if isinstance(found, Value) else list(found)


def _typed(domain: str, use: Use, found: list[Known]) -> list[Known]:
    if (domain, use.kind) not in RULES and use.kind != "Constant":
        return found
    given = [0 if value is None else value.kind for value in use.inputs]
    types = kinds(use.kind, domain, use.attributes, given, len(found))
    pairs = zip(found, types, strict=True)
    return [value if isinstance(value, Mixes) else replace(value, kind=kind) for value, kind in pairs]


def _constant(use: Use) -> Value:
    if "value" in use.attributes:
        return tensor(use.attributes["value"].t)
    for name in ("value_int", "value_float"):
        if name in use.attributes:
            return Value((), (use.attribute(name, 0),))
    for name in ("value_ints", "value_floats"):
        found = use.attributes.get(name)
        if found is not None and not found.cut:
            numbers = tuple(found.ints or found.floats)
            return Value((len(numbers),), numbers)
    return Value(()) if "value_string" in use.attributes else UNKNOWN_CONSTANT


def _agreed(pair: Sequence[Known]) -> Known:
    """What holds whichever of two is the tensor."""
    one, other = pair
    if isinstance(one, Mixes) or isinstance(other, Mixes):
        return one if isinstance(one, Mixes) else other
    if one == other:
        return one
    if one.has_counts or other.has_counts or one.padding != other.padding:
        return Mixes("is one of two sizes")
    kind = one.kind if one.kind == other.kind else 0
    if one.shape == other.shape:
        return Value(one.shape, kind=kind)
    if (
        one.shape is None
        or other.shape is None
        or len(one.shape) != len(other.shape)
        or one.axis != other.axis
    ):
        return UNKNOWN_CONSTANT if one.is_constant and other.is_constant else Mixes("is one of two shapes")
    dims = tuple(a if a == b else None for a, b in zip(one.shape, other.shape, strict=True))
    if one.axis is not None and dims[one.axis] is None:
        return Mixes("is one of two shapes")
    return Value(dims, kind=kind)


def _look_up(names: Mapping[str, Known], name: str) -> Known:
    return names.get(name) or Mixes(f"{name!r} is not defined")


def _attributes(node: pb.Node, outer: Mapping[str, pb.Attribute]) -> dict[str, pb.Attribute]:
    """A node's attributes by name, those of the function around it put in for references."""
    found: dict[str, pb.Attribute] = {}
    for each in node.attribute:
        if not each.name:
            raise Mixes("has an attribute without a name")
        if not each.ref_attr_name:
            found[each.name] = each
        elif each.ref_attr_name in outer:
            found[each.name] = outer[each.ref_attr_name]
    return found


def _versions(imports: Sequence[pb.OperatorSet]) -> dict[str, int]:
    return {"" if each.domain == "ai.onnx" else each.domain: each.version for each in imports}


def _called(node: pb.Node) -> str:
    """How messages call a node."""
    name = node.name[:100] or (node.output[0][:100] if node.output else "")
    return f"node {name!r} ({node.op_type[:100]})"
