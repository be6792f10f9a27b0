"""onnxruntime-extensions: operators for pictures and for tokenizers, loaded for models that have one.

They are foreign code that gets what clients send. So a model may have those named here and no others, runs in
a process of its own (:mod:`.doubts` knows none of them), and on the CPU, since only there it can. A decoder
of pictures gets them from a request as they are, so that :mod:`.pictures` can measure them before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slipway.names import EXTENSION_OPERATORS
from slipway_server.batching import onnx_outline_pb2 as pb
from slipway_server.batching.outline import OutlineError, read

_CONTRIB, _MICROSOFT = "ai.onnx.contrib", "com.microsoft.extensions"
_MISSING = re.compile(r"(?:ai\.onnx\.contrib|com\.microsoft\.extensions)\b.*is not a registered function/op")
DECODER = "DecodeImage"
#: What a model may have of the two domains.
ALLOWED = frozenset[str]().union(*EXTENSION_OPERATORS.values())
_DEEPEST = 16


class UnsupportedOperatorError(Exception):
    """The model has an operator that is not run here, or one in a place where it is not."""


def are_missing(error: str) -> bool:
    """Whether onnxruntime could not load a model for want of these operators."""
    return _MISSING.search(error) is not None


def register(options: Any, path: Path) -> dict[str, bool]:
    """Let a session of ``options`` load the model; gives its inputs of pictures, and whether of grey ones.

    Raises :class:`UnsupportedOperatorError`.
    """
    try:
        model = read(path)
    except (OutlineError, OSError, ValueError) as error:
        raise UnsupportedOperatorError(f"its operators cannot be listed ({error})") from None
    found = _Search(model)
    options.register_custom_ops_library(str(_library()))
    return found.pictures


def _library() -> Path:
    # The package itself is not imported: it would bring ONNX's, and none of its Python is needed.
    spec = find_spec("onnxruntime_extensions")
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        for file in sorted(Path(place).glob("_extensions_pydll*")):
            if file.suffix in (".so", ".pyd", ".dylib"):
                return file
    raise UnsupportedOperatorError(
        "it has operators of onnxruntime-extensions, which is not installed here: use the image of the "
        "server, or install that package"
    )


class _Search:
    """Goes over all nodes. Raises :class:`UnsupportedOperatorError`."""

    def __init__(self, model: pb.Model) -> None:
        self._own = {(each.domain, each.name) for each in model.functions}
        self.pictures: dict[str, bool] = {}
        inputs = {each.name: each.name for each in model.graph.input}
        for each in model.graph.initializer:
            inputs.pop(each.name, None)
        self._graph(model.graph, inputs, 0)
        for function in model.functions:
            # What a function is called with is not followed.
            self._nodes(function.node, {}, 0)

    def _graph(self, graph: pb.Graph, around: Mapping[str, str], depth: int) -> None:
        if depth > _DEEPEST:
            raise UnsupportedOperatorError("its graphs are nested too deeply")
        own = {each.name for each in [*graph.initializer, *(graph.input if depth else ())]}
        self._nodes(graph.node, {name: given for name, given in around.items() if name not in own}, depth)

    def _nodes(self, nodes: Sequence[pb.Node], around: Mapping[str, str], depth: int) -> None:
        #: Which input of the model a name stands for, whole or one item of it.
        given = dict(around)
        for node in nodes:
            for name in node.output:
                given.pop(name, None)
            if node.domain in ("", "ai.onnx") and node.op_type in ("Identity", "SequenceAt"):
                if node.input[:1] and node.input[0] in given:
                    given[node.output[0]] = given[node.input[0]]
            elif node.domain in (_CONTRIB, _MICROSOFT) and (node.domain, node.op_type) not in self._own:
                self._extension(node, given)
            for each in node.attribute:
                if each.HasField("g"):
                    self._graph(each.g, given, depth + 1)

    def _extension(self, node: pb.Node, given: Mapping[str, str]) -> None:
        called = f"node {(node.name or ''.join(node.output[:1]))[:100]!r} ({node.op_type[:100]})"
        if node.op_type not in ALLOWED:
            raise UnsupportedOperatorError(
                f"{called} is not run here: of {node.domain} these are: {', '.join(sorted(ALLOWED))}; do "
                "this step before the request, or bring a server of your own (runtime.server: External)"
            )
        if node.op_type != DECODER:
            return
        source = given.get(node.input[0]) if node.input else None
        if source is None:
            raise UnsupportedOperatorError(
                f"{called} decodes what is no input of the model: a picture's size could not be checked "
                "before it takes memory; let it decode an input as it comes, or one item of a list"
            )
        # As bgr, which is the default, a JPEG of one channel is read as if it had three.
        space = next((each.s for each in node.attribute if each.name == "color_space"), b"bgr")
        self.pictures[source] = self.pictures.get(source, True) and space == b"rgb"
