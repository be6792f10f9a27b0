"""Which operators of a model might end its process by the values that they are given.

onnxruntime checks most of what it reads from tensors, and gives an error. Some kernels leave it to the
processor: the least integer divided by -1, an index that nobody checked. Known are the operators that were
tried with values of the whole range of their types, those of classical and of dense models among them;
whatever else a model has is doubted, and then it runs in a process of its own (:mod:`.guard`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Registers the rules of all operators that are understood.
from slipway_server.batching import analysis  # noqa: F401
from slipway_server.batching import onnx_outline_pb2 as pb
from slipway_server.batching.kinds import FLOATS, kinds
from slipway_server.batching.operators import RULES, tensor
from slipway_server.batching.outline import OutlineError, read

_UNCHECKED = """Attention DFT GatherBlockQuantized GridSample Inverse LayerNormalization MatMulNBits
MultiHeadAttention OneHot RMSNormalization Range Resize ReverseSequence STFT SimplifiedLayerNormalization
SkipLayerNormalization SkipSimplifiedLayerNormalization Upsample"""
#: Understood as to their rows, and yet they read from tensors what their kernels do not check.
_UNSAFE = frozenset(_UNCHECKED.split())
#: Nothing but values and graphs, whose nodes are looked at by themselves.
_PLAIN = frozenset({"Constant", "If"})
_DIVISIONS = frozenset({"Div", "Mod"})
#: So many are named.
_MOST_NAMED = 3


def doubts(path: Path) -> list[str]:
    """The doubted nodes of a file, as messages call them.

    Never raises for what is in the file: what cannot be read is doubted.
    """
    try:
        model = read(path)
    except (OutlineError, OSError, ValueError) as error:
        return [f"a file that could not be read for a proof ({error})"]
    search = _Search(model)
    found = list(search.graph(model.graph, {}))
    for function in model.functions:
        found += search.nodes(function.node, {}, {})
    return list(dict.fromkeys(found))


def named(found: Sequence[str]) -> str:
    """Doubted nodes for a message."""
    if not found:
        return "none of its operators is known to do that"
    shown = ", ".join(found[:_MOST_NAMED])
    if len(found) == 1:
        return f"by {shown}"
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"by one of {shown}{more}"


class _Search:
    def __init__(self, model: pb.Model) -> None:
        # What is in them is looked at by itself.
        self._functions = {(each.domain, each.name) for each in model.functions}

    def graph(self, graph: pb.Graph, types: dict[str, int]) -> Iterator[str]:
        """``types`` are those of the tensors around it, by their names."""
        constants = {each.name: each for each in graph.initializer}
        types |= {name: each.data_type for name, each in constants.items()}
        for given in graph.input:
            # A default may be replaced by a request.
            constants.pop(given.name, None)
            types[given.name] = given.type.tensor_type.elem_type
        yield from self.nodes(graph.node, types, constants)

    def nodes(
        self, nodes: Sequence[pb.Node], types: dict[str, int], constants: dict[str, pb.Tensor]
    ) -> Iterator[str]:
        for node in nodes:
            attributes = {each.name: each for each in node.attribute}
            if node.op_type == "Constant" and "value" in attributes:
                constants[node.output[0]] = attributes["value"].t
            called = (node.domain, node.op_type) in self._functions
            if not called and not _is_harmless(node, types, constants):
                name = node.name[:100] or (node.output[0][:100] if node.output else "")
                yield f"node {name!r} ({node.op_type[:100]})"
            for each in node.attribute:
                if each.HasField("g"):
                    yield from self.graph(each.g, dict(types))
            # The names may have been others' in a graph around this one.
            types |= dict.fromkeys(node.output, 0)
            if not called and ((node.domain, node.op_type) in RULES or node.op_type == "Constant"):
                given = [types.get(name, 0) for name in node.input]
                found = kinds(node.op_type, node.domain, attributes, given, len(node.output))
                types |= zip(node.output, found, strict=True)


def _is_harmless(node: pb.Node, types: Mapping[str, int], constants: Mapping[str, pb.Tensor]) -> bool:
    domain = "" if node.domain == "ai.onnx" else node.domain
    if not domain and node.op_type in _PLAIN:
        return True
    if (domain, node.op_type) not in RULES or node.op_type in _UNSAFE:
        return False
    if domain or node.op_type not in _DIVISIONS or any(types.get(name) in FLOATS for name in node.input):
        return True
    divisor = constants.get(node.input[1]) if len(node.input) > 1 else None
    entries = None if divisor is None else tensor(divisor).entries
    return entries is not None and not any(entry in (0, -1) for entry in entries)
