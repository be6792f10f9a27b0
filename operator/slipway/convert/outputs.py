"""Names of a converted model's outputs: by what they mean, and so the same for every kind of model.

Clients ask for outputs by name, and a canary's are held against those of the same name. Converters and
exporters name them after the kind of model, its steps or how many layers there were before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from slipway.convert.answers import Answers

#: As skl2onnx names them where it does so by meaning.
LABEL, PROBABILITIES, SCORES, VALUES = "label", "probabilities", "scores", "variable"
#: What ends in one of these gives shares of 1.
_PROBABLE = ("Softmax", "Sigmoid")
#: They change the shape or the datatype, and not what is meant.
_PASSING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def meanings(like: Answers) -> list[str]:
    """Of a model with scikit-learn's interface that answers like that."""
    found = [] if like.labels is None else [LABEL]
    if like.numbers is not None:
        kind = SCORES if found else VALUES
        found.append(PROBABILITIES if like.are_probabilities else kind)
    return found


def meanings_in_network(model: onnx.ModelProto, like: Answers) -> list[str]:
    """Of a network that answers like that: its own graph says which numbers are probabilities."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for place, output in enumerate(model.graph.output):
        node = makers.get(output.name)
        while node is not None and node.op_type in _PASSING:
            node = makers.get(node.input[0])
        numbers = PROBABILITIES if node is not None and node.op_type in _PROBABLE else VALUES
        found.append(LABEL if place == like.labels_at else numbers)
    return found


def with_names(model: onnx.ModelProto, meant: Sequence[str], given: Sequence[str] = ()) -> onnx.ModelProto:
    """The model whose outputs have these names.

    Args:
        model: with as many outputs.
        meant: what each is; several of one kind are numbered by their places.
        given: names that the model's author chose, where they are not empty.
    """
    chosen = given if len(given) == len(meant) else [""] * len(meant)
    named = [own or meaning for own, meaning in zip(chosen, meant, strict=True)]
    wanted = [
        name if chosen[place] or named.count(name) == 1 else f"{name}_{place}"
        for place, name in enumerate(named)
    ]
    before = [each.name for each in model.graph.output]
    inputs = {each.name for each in model.graph.input}
    if {*before} & inputs or len({*before}) < len(before) or len({*wanted}) < len(wanted):
        return model
    unlike_inputs = [_free(name, inputs) for name in wanted]
    return renamed(model, dict(zip(before, unlike_inputs, strict=True)))


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    """The model with other names of tensors, wherever they are used; who had one of them gets another."""
    names = {old: new for old, new in names.items() if old != new}
    used = _used(model.graph)
    taken = used - names.keys() | {*names.values()}
    for name in sorted({*names.values()} & used - names.keys()):
        names[name] = _free(name, taken)
        taken.add(names[name])
    _rename(model.graph, names)
    return model


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 0
    while found in taken:
        number += 1
        found = f"{name}{number}"
    return found


def _used(graph: onnx.GraphProto) -> set[str]:
    """Names of all tensors, those of branches and loops included."""
    values: list[Any] = [*graph.input, *graph.output, *graph.initializer]
    values += [each.values for each in graph.sparse_initializer]
    found = {each.name for each in values}
    for node in graph.node:
        found |= {*node.input, *node.output}
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= _used(inner)
    return found - {""}


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    values: list[Any] = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    values += [each.values for each in graph.sparse_initializer]
    for value in values:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for part in (node.input, node.output):
            for at, name in enumerate(part):
                part[at] = names.get(name, name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)
