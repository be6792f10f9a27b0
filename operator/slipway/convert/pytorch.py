"""Programs of PyTorch's ``torch.export``, and modules that are exported first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch.utils import _pytree as pytree

from slipway.conversion import Source
from slipway.convert.errors import ConvertError
from slipway.convert.exporters import bare, first_line, quiet
from slipway.convert.networks import OPSET, Network, Taken

Array = npt.NDArray[Any]

_DATATYPES = {
    torch.float32: "FP32",
    torch.float64: "FP64",
    torch.int64: "INT64",
    torch.int32: "INT32",
    torch.bool: "BOOL",
}
#: Rows that a module is exported with: exporters take one row for a constant.
_ROWS = 3


def network_in_memory(model: Any, called: str, columns: int) -> Network:
    """A program, or a module that takes one tensor with so many columns, as it answers without training.

    The module itself stays as it is, in training and on whatever device.

    Raises:
        ConvertError: where ``torch.export`` cannot export it.
    """
    if isinstance(model, torch.export.ExportedProgram):
        return network_of(model, called, _digest(model))
    try:
        program = program_of(deepcopy(model).cpu(), [columns])
    except ConvertError as error:
        raise ConvertError(
            f"{str(error).partition('. Export it yourself')[0]}. It was given {columns} columns of "
            "numbers; of a model that takes whole numbers, or several tensors, give the program that "
            "torch.export.export makes, with dynamic_shapes for any number of rows"
        ) from None
    return network_of(
        program, called, _digest(program), f"{type(model).__module__}.{type(model).__qualname__}"
    )


def program_of(module: Any, row: Sequence[int]) -> Any:
    """A module that takes one tensor of numbers, exported for any number of rows of that shape.

    Raises:
        ConvertError: where ``torch.export`` cannot.
    """
    weights = next((each for each in module.parameters() if each.is_floating_point()), None)
    dtype = torch.float32 if weights is None else weights.dtype
    example = torch.randn((_ROWS, *row), dtype=dtype)
    try:
        with quiet():
            return torch.export.export(
                module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},)
            )
    except Exception as error:
        raise ConvertError(
            f"torch.export cannot export the {type(module).__name__}: {first_line(error)}. Export it "
            "yourself with torch.export.save, and convert that file"
        ) from None


def network_of(program: Any, called: str, digest: str, kind: str | None = None) -> Network:
    """A program as a network; ``kind`` is the class that it was exported of.

    Raises:
        ConvertError: for inputs that are no tensors with the rows first.
    """
    named = program.graph_signature.user_inputs
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    inputs = tuple(_taken(str(name), values.get(name)) for name in named)
    positional, by_name = _call(program)
    if not inputs or positional + len(by_name) != len(inputs):
        raise ConvertError(
            f"{called} takes lists or maps of tensors: export a model whose forward takes each tensor as an "
            "argument of its own"
        )
    module = program.module()

    def run(given: list[Array]) -> list[Array]:
        tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in given]
        with torch.no_grad(), quiet():
            answer = module(*tensors[:positional], **dict(zip(by_name, tensors[positional:], strict=True)))
        found = [each for each in pytree.tree_leaves(answer) if isinstance(each, torch.Tensor)]
        return [each.detach().cpu().numpy() for each in found]

    def export(taken: Sequence[Taken]) -> onnx.ModelProto:
        try:
            with quiet():
                made = torch.onnx.export(
                    program,
                    (),
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=[each.name for each in taken],
                    external_data=False,
                    verbose=False,
                )
        except ModuleNotFoundError:
            raise
        except Exception as error:
            # Its own words are of steps and of reports; the cause names the operator.
            why = first_line(error.__cause__ or error)
            raise ConvertError(f"{called} cannot be converted to ONNX: {why}") from None
        return bare(made.model_proto)

    source = Source(called=called[:500], kind=kind or "torch.export.ExportedProgram", digest=digest)
    return Network(module, source, inputs, run, export, _chosen(program))


def _chosen(program: Any) -> tuple[str, ...]:
    """Names of the outputs where forward returns a map or a named tuple of tensors; none otherwise."""
    spec = program.call_spec.out_spec
    answer = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    named = answer._asdict() if hasattr(answer, "_asdict") else answer
    if not isinstance(named, dict) or [*named.values()] != list(range(spec.num_leaves)):
        return ()
    return tuple(map(str, named))


def _taken(name: str, value: Any) -> Taken:
    if not isinstance(value, torch.Tensor):
        raise ConvertError(f"the input {name!r} is no tensor: export a model that takes tensors alone")
    if value.dtype not in _DATATYPES:
        raise ConvertError(
            f"the input {name!r} is of {str(value.dtype).removeprefix('torch.')}: export a model that takes "
            f"{', '.join(str(each).removeprefix('torch.') for each in _DATATYPES)}"
        )
    if not value.ndim or isinstance(value.shape[0], int):
        exactly = f"exactly {value.shape[0]} rows" if value.ndim else "no rows"
        raise ConvertError(
            f"the input {name!r} takes {exactly} at once, and clients send any number: export it from an "
            f"example of two rows or more with dynamic_shapes={{{name!r}: {{0: torch.export.Dim.AUTO}}}}; "
            "mlflow.pytorch.log_model needs an input_example of two rows or more for that"
        )
    shape = tuple(size if isinstance(size, int) else None for size in value.shape[1:])
    return Taken(name, _DATATYPES[value.dtype], shape)


def _call(program: Any) -> tuple[int, list[str]]:
    """How many tensors a program takes by position, and which by name."""
    arguments, named = program.call_spec.in_spec.children()
    if not all(each.is_leaf() for each in (*arguments.children(), *named.children())):
        return -1, []
    return arguments.num_children, list(named.context)


def _digest(program: Any) -> str:
    """Of what a program computes and of its weights."""
    hashed = hashlib.sha256(program.graph_module.code.encode())
    for name, weights in sorted(program.state_dict.items()):
        raw = weights.detach().cpu().contiguous().flatten().view(torch.uint8)
        hashed.update(name.encode() + raw.numpy().tobytes())
    return f"sha256:{hashed.hexdigest()}"
