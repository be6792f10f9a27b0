"""A small model of each operator of onnxruntime that a random graph can have, and what it answers here."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from slipway_server.runtime.forked import said_by_child
from tests.server.test_batching_random import Graph, schemas, values

#: Ways to try an operator before it is left out: most need shapes or attributes that chance finds seldom.
_TRIES = 6
#: Whose answers differ from process to process, or from processor to processor.
_RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"})
_RANDOM |= frozenset({"RandomUniformLike", "Dropout", "Inverse"})
#: Text operators, whose kernels need the locales of the image: words, and what they have to become.
_TEXT: list[tuple[str, str, dict[str, Any], list[str], list[Any]]] = [
    (
        "StringNormalizer",
        "",
        {"case_change_action": "LOWER", "is_case_sensitive": 1},
        ["ÄRGER", "Été", "ΣΟΦΙΑ"],
        ["ärger", "été", "σοφια"],
    ),
    (
        "Tokenizer",
        "com.microsoft",
        {"mark": 0, "mincharnum": 1, "pad_value": "#", "tokenexp": r"[\w]+"},
        ["one two", "three"],
        [["one", "two"], ["three", "#"]],
    ),
]


def cases(folder: Path) -> dict[str, Any]:
    """By the operator's domain and name; those that end a process are left out."""
    found = {
        f"{domain}:{kind}": _text(kind, domain, attributes, words, expected)
        for kind, domain, attributes, words, expected in _TEXT
    }
    for number, schema in enumerate(each for each in schemas() if each.name not in _RANDOM):
        path = folder / f"{number}.json"
        said_by_child(lambda schema=schema, path=path: _write(schema, path), 10)  # type: ignore[misc]
        if path.exists():
            found.setdefault(f"{schema.domain}:{schema.name}", json.loads(path.read_text()))
    return found


def _write(schema: Any, path: Path) -> str:
    for seed in range(_TRIES):
        graph = Graph(seed)
        if graph.grow(schema):
            model = graph.model(list(graph.nodes[-1].output))
            random = np.random.default_rng(1)
            given = {name: values(kind, tuple(graph.shape), random) for name, kind in graph.inputs.items()}
            path.write_text(json.dumps(_case(graph, model, given)))
            return "written"
    return "nothing"


def _case(graph: Graph, model: onnx.ModelProto, given: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": base64.b64encode(model.SerializeToString()).decode(),
        "inputs": {name: _plain(array) for name, array in given.items()},
        "answers": [_plain(answer) for answer, _ in graph.run(model)],
    }


def _plain(array: Any) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "shape": array.shape, "data": array.reshape(-1).tolist()}


def _text(
    kind: str, domain: str, attributes: dict[str, Any], words: list[str], expected: list[Any]
) -> dict[str, Any]:
    answer, value = np.array(expected, object), helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, ["s"], ["t"], domain=domain, **attributes)],
        "g",
        [value("s", TensorProto.STRING, ["N"])],
        [value("t", TensorProto.STRING, ["N"] * answer.ndim)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return {
        "model": base64.b64encode(model.SerializeToString()).decode(),
        "inputs": {"s": _plain(np.array(words, object))},
        "answers": [_plain(answer)],
    }
