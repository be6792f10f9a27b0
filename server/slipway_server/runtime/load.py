"""From a directory to a model that answers: verify the digest, find the file, load it, warm up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from slipway.digest import DigestError, digest_of
from slipway.names import PROFILE_FILE, ModelFault
from slipway.recorded import first_difference
from slipway_server.runtime.devices import DeviceError
from slipway_server.runtime.doubts import doubts
from slipway_server.runtime.extensions import UnsupportedOperatorError
from slipway_server.runtime.guard import Guard
from slipway_server.runtime.model import Model, ModelInputError, UnsupportedTensorError, plain
from slipway_server.runtime.onnx_bytes import Shape, look_at
from slipway_server.runtime.profile import Profile, measure
from slipway_server.runtime.run import Run
from slipway_server.runtime.trial import Trial
from slipway_server.settings import Serving

if TYPE_CHECKING:
    from slipway.contract import Failure


class LoadError(Exception):
    """The model cannot be served; ``failure`` says why, and what to do."""

    def __init__(self, fault: ModelFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message[:900]

    @property
    def failure(self) -> Failure:
        from slipway.contract import Failure

        return Failure(reason=self.fault, message=self.message)


def load(directory: Path, config: Serving, example: Mapping[str, Any] | None = None) -> Model:
    """The model in a directory, verified, loaded and warmed up. Raises :class:`LoadError`.

    With ``example``, a profile's recorded row and answer, the model has to give that answer.
    """
    _verify(directory, config.digest)
    path = find_model(directory)
    try:
        model = Model(path, config.threads, config.device)
        model.warm_up()
        if example is not None:
            check_example(model, example, path.name)
        return model
    except LoadError:
        raise
    except (UnsupportedTensorError, UnsupportedOperatorError) as error:
        raise LoadError(ModelFault.MODEL_LOAD_FAILED, f"{path.name}: {error}") from error
    except DeviceError as error:
        raise LoadError(ModelFault.DEVICE_UNAVAILABLE, str(error)) from error
    except MemoryError as error:
        raise LoadError(
            ModelFault.MODEL_LOAD_FAILED, f"{path.name}: not enough memory; raise spec.runtime.resources"
        ) from error
    except Exception as error:
        # onnxruntime derives its errors from RuntimeError and ValueError alike, without a base of their own.
        raise _diagnosed(path, str(error)) from error


def load_profiled(
    directory: Path, config: Serving, example: Mapping[str, Any] | None = None, guarded: bool = False
) -> tuple[Model, Profile]:
    """As :func:`load`, and how the model is best run: elsewhere, where it is ``guarded`` or in doubt."""
    model = load(directory, config, example)
    path = find_model(directory)
    most = config.maxBatchRows if config.batching == "Auto" else 1
    trial = Trial(model)
    model.doubts = doubts(path)
    if model.doubts or guarded:
        guard(model, path, config.threads, fresh=config.threads > 1)
    profile = measure(model, path, most)
    model.empties = trial.result()
    return model, profile


def guard(model: Model, path: Path, threads: int, fresh: bool) -> None:
    """Run the model in processes of its own from now on; each loads it by itself if ``fresh``.

    That is needed where threads are running, or may be running, the model. On a GPU nothing is done: what it
    is used by does not outlive a fork.
    """
    if model.is_on_cpu and model.guard is None:
        model.guard = Guard(model, (lambda: Model(path, threads)) if fresh else None)


def check_example(model: Model, example: Mapping[str, Any], name: str) -> None:
    """Run a profile's recorded row. Raises :class:`LoadError` where the answer is not the recorded one."""
    difference: str | None = None
    try:
        inputs = {
            tensor["name"]: np.array(
                [np.nan if value is None else value for value in tensor["data"]],
                model.inputs[tensor["name"]].datatype.dtype,
            ).reshape(tensor["shape"])
            for tensor in example["inputs"]
        }
        tensors = model.run(inputs, [tensor["name"] for tensor in example["outputs"]], Run())
    except (ModelInputError, KeyError, TypeError, ValueError) as error:
        difference = f"it does not take it: {plain(str(error))}"
    else:
        for recorded, tensor in zip(example["outputs"], tensors, strict=True):
            found = first_difference(recorded["data"], tensor.array.reshape(-1).tolist())
            if found:
                difference = f"output {recorded['name']!r}: {found}"
                break
    if difference:
        raise LoadError(
            ModelFault.MODEL_LOAD_FAILED,
            f"{name} does not answer the profile's recorded row as it did when the profile was made "
            f"({difference}): under onnxruntime {ort.__version__} it is another model; export it again, "
            "or make its profile again with 'slipway profile'",
        )


def find_model(directory: Path) -> Path:
    """The file to load: the one ``*.onnx``, else ``model.onnx`` at the top, else the only file there is."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    files = [path for path in files if path != directory / PROFILE_FILE]
    models = [path for path in files if path.suffix.lower() == ".onnx"]
    top = directory / "model.onnx"
    if len(models) == 1:
        return models[0]
    if top in models:
        return top
    if not models and len(files) == 1:
        return files[0]
    names = ", ".join(str(path.relative_to(directory)) for path in (models or files)[:10])
    if models:
        raise LoadError(
            ModelFault.MODEL_LOAD_FAILED,
            f"several models ({names}): name the one to serve model.onnx, at the top",
        )
    raise LoadError(
        ModelFault.NOT_AN_ONNX_MODEL, f"there is no *.onnx file among {names}: export the model to ONNX"
    )


def _verify(directory: Path, expected: str) -> None:
    try:
        found = digest_of(directory)
    except (DigestError, OSError) as error:
        raise LoadError(ModelFault.MODEL_LOAD_FAILED, f"the model's files cannot be read: {error}") from error
    if found != expected:
        raise LoadError(
            ModelFault.DIGEST_MISMATCH,
            f"the model's files have digest {found}, but {expected} was to be served: "
            "they changed after they were resolved; publish them again under a new version",
        )


def _diagnosed(path: Path, error: str) -> LoadError:
    name, runtime = path.name, f"onnxruntime {ort.__version__}"
    opset = re.search(
        r"Opset (\d+) is under development.*?domain (\S+) is till opset (\d+)", error, re.DOTALL
    )
    if opset:
        return LoadError(
            ModelFault.UNSUPPORTED_OPSET,
            f"{name} needs opset {opset[1]} of {opset[2]}, but {runtime} goes up to {opset[3]}: "
            f"export it again with target_opset {opset[3]} or lower",
        )
    version = re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", error)
    if version:
        return LoadError(
            ModelFault.UNSUPPORTED_OPSET,
            f"{name} has ONNX IR version {version[1]}, but {runtime} goes up to {version[2]}: "
            "export it again with an older onnx package or a lower opset",
        )
    shape = look_at(path)
    if shape is Shape.EMPTY:
        return LoadError(ModelFault.MODEL_TRUNCATED, f"{name} is empty (0 bytes): upload the model again")
    if shape is Shape.CUT_OFF:
        return LoadError(
            ModelFault.MODEL_TRUNCATED,
            f"{name} starts as an ONNX model but ends early ({path.stat().st_size} bytes): upload it again",
        )
    if "Protobuf parsing failed" in error or "No graph was found" in error:
        what = "is not an ONNX model" if shape is Shape.FOREIGN else "is a damaged ONNX model"
        return LoadError(
            ModelFault.NOT_AN_ONNX_MODEL, f"{name} {what}: export the model to ONNX and upload that"
        )
    return LoadError(ModelFault.MODEL_LOAD_FAILED, f"{name}: {runtime} cannot load it: {plain(error)}")
