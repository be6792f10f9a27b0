"""Which operators of a model might end its process by the values that they are given.

onnxruntime checks most of what it reads from tensors, and gives an error. Some kernels leave it to the
processor: the least integer divided by -1, an index that nobody checked. Known are the operators that were
tried with values of the whole range of their types, those of classical and of dense models among them;
whatever else a model has is doubted, and then it runs in a process of its own (:mod:`.guard`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

# Registers the rules of all operators that are understood.
from slipway_server.batching import analysis  # noqa: F401
from slipway_server.batching import onnx_outline_pb2 as pb
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
_OTHER_TYPES = """ArgMax ArgMin Cast CastLike CategoryMapper Constant ConstantOfShape ConvInteger Equal
Greater GreaterOrEqual IsInf IsNaN LabelEncoder Less LessOrEqual MatMulInteger OneHot OneHotEncoder
QuantizeLinear Shape Size Tokenizer Where"""
#: Their first output is not of the type of their first input.
_RETYPED = frozenset(_OTHER_TYPES.split())
_NUMBERS = """FeatureVectorizer LinearRegressor Normalizer Scaler SVMRegressor TfIdfVectorizer
TreeEnsembleRegressor"""
#: Their output holds floating-point numbers, whatever their input does.
_ALWAYS_FLOAT = frozenset(_NUMBERS.split())
_FLOATS = frozenset({1, 10, 11, 16})
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
    found = list(search.graph(model.graph, set()))
    for function in model.functions:
        found += search.nodes(function.node, set(), {})
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

    def graph(self, graph: pb.Graph, floats: set[str]) -> Iterator[str]:
        constants = {each.name: each for each in graph.initializer}
        floats |= {name for name, each in constants.items() if each.data_type in _FLOATS}
        for given in graph.input:
            # A default may be replaced by a request.
            constants.pop(given.name, None)
            if given.type.tensor_type.elem_type in _FLOATS:
                floats.add(given.name)
        yield from self.nodes(graph.node, floats, constants)

    def nodes(
        self, nodes: Sequence[pb.Node], floats: set[str], constants: dict[str, pb.Tensor]
    ) -> Iterator[str]:
        for node in nodes:
            attributes = {each.name: each for each in node.attribute}
            if node.op_type == "Constant" and "value" in attributes:
                constants[node.output[0]] = attributes["value"].t
            called = (node.domain, node.op_type) in self._functions
            if not called and not _is_harmless(node, floats, constants):
                name = node.name[:100] or (node.output[0][:100] if node.output else "")
                yield f"node {name!r} ({node.op_type[:100]})"
            _learn(node, attributes, floats)
            for each in node.attribute:
                if each.HasField("g"):
                    yield from self.graph(each.g, set(floats))


def _is_harmless(node: pb.Node, floats: Collection[str], constants: dict[str, pb.Tensor]) -> bool:
    domain = "" if node.domain == "ai.onnx" else node.domain
    if not domain and node.op_type in _PLAIN:
        return True
    if (domain, node.op_type) not in RULES or node.op_type in _UNSAFE:
        return False
    if domain or node.op_type not in _DIVISIONS or any(name in floats for name in node.input):
        return True
    divisor = constants.get(node.input[1]) if len(node.input) > 1 else None
    entries = None if divisor is None else tensor(divisor).entries
    return entries is not None and not any(entry in (0, -1) for entry in entries)


def _learn(node: pb.Node, attributes: dict[str, pb.Attribute], floats: set[str]) -> None:
    """Which outputs of a node hold floating-point numbers, as far as it is known."""
    if not node.output:
        return
    if node.op_type in ("Cast", "Constant"):
        is_float = (
            attributes["to"].i in _FLOATS
            if "to" in attributes
            else "value_float" in attributes
            or "value_floats" in attributes
            or ("value" in attributes and attributes["value"].t.data_type in _FLOATS)
        )
    elif node.op_type == "Where":
        is_float = any(name in floats for name in node.input[1:])
    elif node.domain == "ai.onnx.ml" and node.op_type.endswith("Classifier"):
        floats.update(node.output[1:])
        return
    else:
        follows = node.op_type not in _RETYPED and bool(node.input) and node.input[0] in floats
        is_float = follows or node.op_type in _ALWAYS_FLOAT
    if is_float:
        floats.add(node.output[0])
        if node.op_type == "Split":
            floats.update(node.output)
    else:
        # The name may have been another one's in a graph around this one.
        floats.difference_update(node.output)
