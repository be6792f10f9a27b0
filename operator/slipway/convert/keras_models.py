"""Models of Keras 3, by Keras's own exporter; its backend is TensorFlow."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx

from slipway.conversion import Source
from slipway.convert.errors import ConvertError
from slipway.convert.exporters import bare, first_line, quiet
from slipway.convert.networks import OPSET, Network, Taken
from slipway.convert.outputs import renamed

Array = npt.NDArray[Any]

_DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}
#: In older ones a file could step around the safe mode.
_OLDEST = (3, 12)
_UNKNOWN = re.compile(r"Could not (?:locate|find) (?:class|function|object) '(?P<name>[^']+)'")


def loaded(path: Path, called: str) -> Any:
    """The model in a ``.keras`` file, which runs no code of its own in Keras's safe mode.

    Raises:
        ConvertError: for what is no such file, or needs code that Keras does not have.
    """
    _check_keras()
    try:
        with quiet():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ConvertError(_refusal(called, error)) from None


def network_of(model: Any, called: str, digest: str | None = None) -> Network:
    """A model as a network; without the digest of a file, that of its structure and weights.

    Raises:
        ConvertError: for a model whose inputs are not known, or are no tensors with the rows first.
    """
    _check_keras()
    try:
        # Whatever structure the inputs and outputs have, in order.
        flat = keras.Model(list(model.inputs), list(model.outputs))
    except (AttributeError, TypeError, ValueError):
        raise ConvertError(
            f"{called} is a {type(model).__name__} whose inputs Keras does not know: give it some, by inputs "
            "= keras.Input(SHAPE_OF_A_ROW); model = keras.Model(inputs, model(inputs))"
        ) from None
    inputs = tuple(_taken(each) for each in flat.inputs)

    def run(given: list[Array]) -> list[Array]:
        with quiet():
            answer = flat([np.ascontiguousarray(each) for each in given], training=False)
        return [np.asarray(keras.ops.convert_to_numpy(each)) for each in keras.tree.flatten(answer)]

    def export(taken: Sequence[Taken]) -> onnx.ModelProto:
        try:
            made = _exported(flat)
        except ModuleNotFoundError:
            raise
        except Exception as error:
            raise ConvertError(f"{called} cannot be converted to ONNX: {_why(flat, error)}") from None
        return _named(made, [each.name for each in taken], flat.output_names)

    kind = type(model).__name__ if type(model).__module__.startswith("keras.") else type(model).__qualname__
    module = type(model).__module__.partition(".src.")[0]
    source = Source(called=called[:500], kind=f"{module}.{kind}", digest=digest or _digest(model))
    return Network(model, source, inputs, run, export, _chosen(model, flat))


def _chosen(model: Any, flat: Any) -> tuple[str, ...]:
    """Names of the outputs, empty where Keras counted: it has dense_7 of what was dense a training before."""
    try:
        structure = model.output
    except (AttributeError, ValueError):
        structure = None
    if isinstance(structure, dict):
        keys = {id(output): str(key) for key, output in structure.items()}
        return tuple(keys.get(id(output), "") for output in model.outputs)
    classes = {each.name: type(each).__name__.lower() for each in flat.operations}
    return tuple(
        "" if re.fullmatch(rf"{classes.get(name, '.*')}[0-9]*", name.replace("_", "")) else name
        for name in flat.output_names
    )


def _check_keras() -> None:
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < _OLDEST:
        raise ConvertError(
            f"Keras is {keras.__version__} here, whose safe mode files can step around: pip install 'keras>="
            f"{_OLDEST[0]}.{_OLDEST[1]}', which reads older .keras files too"
        )
    if keras.backend.backend() != "tensorflow":
        raise ConvertError(
            f"Keras computes by {keras.backend.backend()} here: set KERAS_BACKEND=tensorflow, with which its "
            "exporter takes any number of rows; a .keras file is the same for all backends"
        )


def _refusal(called: str, error: Exception) -> str:
    """Why Keras does not load a model, and what to do."""
    words = str(error)
    if "Lambda" in words and "safe_mode" in words:
        return (
            f"{called} has a Lambda layer, which holds code that would run when it is loaded, and Keras's "
            "safe mode stays on: write that step with keras.ops between layers, copy the weights, and save "
            "the model again"
        )
    unknown = _UNKNOWN.search(words)
    if unknown:
        return (
            f"{called} has the custom object {unknown['name']!r}, whose code is not in a .keras file: where "
            "that code is, hand the model itself to slipway.release"
        )
    return (
        f"{called} cannot be loaded ({type(error).__name__}: {first_line(error)}): use the version of Keras "
        "that wrote it, by model.save('NAME.keras')"
    )


def _taken(value: Any) -> Taken:
    name, dtype = str(value.name), keras.backend.standardize_dtype(value.dtype)
    if dtype not in _DATATYPES or getattr(value, "sparse", False) or getattr(value, "ragged", False):
        raise ConvertError(
            f"the input {name!r} is of {dtype}: convert a model that takes dense tensors of "
            f"{', '.join(_DATATYPES)}; steps for texts are put before it by --pipeline text"
        )
    if not value.shape or value.shape[0] is not None:
        raise ConvertError(
            f"the input {name!r} takes exactly {value.shape[0] if value.shape else 'no'} rows at once, and "
            "clients send any number: build it with keras.Input(shape=SHAPE_OF_A_ROW), without a batch size"
        )
    return Taken(name, _DATATYPES[dtype], tuple(value.shape[1:]))


def _exported(model: Any) -> onnx.ModelProto:
    """Of a model with lists of inputs and outputs; raises whatever its exporter raises."""
    specs = [keras.InputSpec(shape=each.shape, dtype=each.dtype, name=each.name) for each in model.inputs]
    with TemporaryDirectory() as scratch, quiet(logging.ERROR):
        path = Path(scratch) / "model.onnx"
        model.export(path, format="onnx", opset_version=OPSET, verbose=False, input_signature=[specs])
        made = bare(onnx.load(path))
    # It writes what it does not know as it was.
    foreign = next((node for node in made.graph.node if not onnx.defs.has(node.op_type, node.domain)), None)
    if foreign is not None:
        raise ConvertError(f"TensorFlow's operation {foreign.op_type} has no ONNX")
    return made


def _why(model: Any, error: Exception) -> str:
    """With the name of the layer that cannot be exported by itself."""
    for layer in _operations(model):
        try:
            alone = keras.Model(layer.input, layer.output)
        except Exception:
            # One that is used twice, or takes more than tensors.
            continue
        try:
            _exported(keras.Model(list(alone.inputs), list(alone.outputs)))
        except Exception as found:
            return f"its layer {layer.name!r} ({type(layer).__name__}) cannot: {first_line(found)}"
    return first_line(error)


def _operations(model: Any) -> Iterator[Any]:
    for each in model.operations:
        if isinstance(each, keras.layers.InputLayer):
            continue
        if hasattr(each, "operations"):
            yield from _operations(each)
        elif isinstance(each, keras.Sequential):
            yield from each.layers
        else:
            yield each


def _named(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """With these names of inputs, and of outputs where each has one of its own."""
    names = dict(zip([each.name for each in model.graph.input], inputs, strict=True))
    found = [each.name for each in model.graph.output]
    if len({*outputs, *inputs}) == len(inputs) + len(found):
        names |= dict(zip(found, outputs, strict=True))
    return renamed(model, names)


def _digest(model: Any) -> str:
    hashed = hashlib.sha256(model.to_json().encode())
    for weights in model.get_weights():
        hashed.update(np.ascontiguousarray(weights).tobytes())
    return f"sha256:{hashed.hexdigest()}"
