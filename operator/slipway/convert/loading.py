"""Models from files and from MLflow. Whoever loads a pickle runs the code that is in it.

XGBoost, CatBoost and Keras have formats of their own, which run nothing. Those of PyTorch are pickles inside.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slipway.convert.errors import ConvertError
from slipway.convert.originals import Original, original_of
from slipway.digest import digest_of, sha256_of
from slipway.names import DISTRIBUTION

_PICKLES = (".pkl", ".pickle", ".joblib")
#: Formats that run nothing, by the library that has them.
_FORMATS = {".ubj": "xgboost", ".json": "xgboost", ".cbm": "catboost"}
#: How CatBoost's own format begins, and what the first bytes of its JSON have.
_CBM, _CATBOOST_IN_JSON, _HEAD = b"CBM1", b'"features_info"', 200
_PROGRAM = ".pt2"
_KERAS = ".keras"
_OLD_KERAS = (".h5", ".hdf5")
_FLAVORS = ("xgboost", "catboost", "lightgbm", "sklearn", "pytorch", "keras", "tensorflow")
_MLFLOW = re.compile(r"mlflow://(?P<name>[^/@?#]+)(?P<which>@[^/@?#]+|/[1-9][0-9]*)")


def load(named: str, *, allow_pickle: bool) -> Original:
    """The model that a path or ``mlflow://NAME/VERSION`` names.

    Raises:
        ConvertError: where there is no such model, or it is a pickle and nobody allowed to run its code.
    """
    if "://" in named:
        return _logged(named, allow_pickle)
    path = Path(named)
    try:
        digest = f"sha256:{sha256_of(path)}"
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix == _PROGRAM:
        _only_if_allowed(named, allow_pickle)
        return _program(path, path.name, digest)
    if path.suffix == _KERAS:
        return _of_keras(path, path.name, digest)
    if path.suffix in _OLD_KERAS:
        raise _old_keras(named)
    if path.suffix in _FORMATS:
        return original_of(_formatted(_library(path), path), path.name, digest)
    if path.suffix not in _PICKLES:
        raise ConvertError(
            f"{path} is no file that convert reads: models of scikit-learn and LightGBM are in "
            f"{', '.join(_PICKLES)}, those of XGBoost and CatBoost also in {', '.join(_FORMATS)}, "
            f"programs of torch.export in {_PROGRAM}, and models of Keras in {_KERAS}"
        )
    _only_if_allowed(named, allow_pickle)
    return original_of(_unpickled(path), path.name, digest)


def _library(path: Path) -> str:
    """Which library wrote a file; XGBoost and CatBoost both have JSON."""
    if path.suffix == ".json" and _CATBOOST_IN_JSON in path.read_bytes()[:_HEAD]:
        return "catboost"
    return _FORMATS[path.suffix]


def _formatted(library: str, path: Path) -> Any:
    """A model in its library's own format."""
    try:
        return _READERS[library](path)
    except ConvertError:
        raise
    except ModuleNotFoundError as error:
        raise ConvertError(f"{path.name} needs the package {error.name}, which is not installed") from None
    except Exception as error:
        raise ConvertError(f"{path.name} is no model of {library}: {str(error)[:300]}") from None


def _of_xgboost(path: Path) -> Any:
    import xgboost

    config = json.loads(xgboost.Booster(model_file=path).save_config())
    has_classes = config["learner"]["objective"]["name"].startswith(("binary:", "multi:"))
    model = xgboost.XGBClassifier() if has_classes else xgboost.XGBRegressor()
    model.load_model(path)
    return model


def _of_catboost(path: Path) -> Any:
    import catboost

    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(_CBM) and _CATBOOST_IN_JSON not in head:
        raise ConvertError(
            f"{path.name} has no model of CatBoost in its formats cbm and json, the only ones that are read: "
            "save it by save_model(FILE), or log it by mlflow.catboost.log_model without format"
        )
    format = "cbm" if head.startswith(_CBM) else "json"
    loss = catboost.CatBoost().load_model(path, format).get_all_params()["loss_function"]
    has_classes = loss.startswith(("Logloss", "CrossEntropy", "MultiClass"))
    model = catboost.CatBoostClassifier() if has_classes else catboost.CatBoostRegressor()
    return model.load_model(path, format)


_READERS: Mapping[str, Callable[[Path], Any]] = {"xgboost": _of_xgboost, "catboost": _of_catboost}


def _unpickled(path: Path) -> Any:
    import joblib

    try:
        # It reads what pickle wrote, too.
        return joblib.load(path)
    except ModuleNotFoundError as error:
        raise ConvertError(
            f"{path} needs the package {error.name}, which is not installed: convert where the model was "
            "trained"
        ) from None
    except Exception as error:
        raise ConvertError(
            f"{path} cannot be loaded ({type(error).__name__}: {str(error)[:300]}): use the versions of "
            "Python and of the packages that wrote it"
        ) from None


def _logged(uri: str, allow_pickle: bool) -> Original:
    match = _MLFLOW.fullmatch(uri)
    if match is None:
        raise ConvertError(f"{uri!r} must be a file, or mlflow://NAME/VERSION or mlflow://NAME@ALIAS")
    import mlflow

    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = mlflow.artifacts.download_artifacts(
                f"models:/{match['name']}{match['which']}", dst_path=scratch
            )
            flavors = mlflow.models.Model.load(folder).flavors
        except Exception as error:
            raise ConvertError(f"{uri} cannot be had from MLflow: {str(error)[:300]}") from None
        flavor = next((flavor for flavor in _FLAVORS if flavor in flavors), None)
        if flavor is None:
            raise ConvertError(
                f"{uri} has the flavors {', '.join(sorted(flavors))}; convert takes models that were logged "
                f"with {', '.join(f'mlflow.{flavor}' for flavor in _FLAVORS)}"
            )
        digest = digest_of(Path(folder))
        if flavor in _READERS:
            return original_of(_formatted(flavor, Path(folder) / flavors[flavor]["data"]), uri, digest)
        if flavor in ("keras", "tensorflow"):
            return _of_keras_logged(Path(folder), uri, digest)
        _only_if_allowed(uri, allow_pickle)
        if flavor == "pytorch":
            return _of_pytorch(Path(folder), uri, digest)
        try:
            model = getattr(mlflow, flavor).load_model(folder)
        except Exception as error:
            raise ConvertError(
                f"{uri} cannot be loaded ({type(error).__name__}: {str(error)[:300]}): use the versions "
                "that it was logged with; they are in its requirements.txt"
            ) from None
    return original_of(model, uri, digest)


def _program(path: Path, called: str, digest: str) -> Original:
    """A program that torch.export.save wrote."""
    try:
        import onnxscript  # noqa: F401 - what the exporter is written with
        import torch

        from slipway.convert.pytorch import network_of
    except ModuleNotFoundError as error:
        raise lacking(called, error.name, "pytorch") from None
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise ConvertError(
            f"{called} cannot be loaded ({type(error).__name__}: {str(error)[:300]}): use the version of "
            "PyTorch that wrote it, with torch.export.save"
        ) from None
    return network_of(program, called, digest)


def _of_pytorch(folder: Path, uri: str, digest: str) -> Original:
    """What mlflow.pytorch logged: a program, or a pickled module whose row the version's signature gives."""
    programs = sorted(folder.rglob(f"*{_PROGRAM}"))
    if programs:
        return _program(programs[0], uri, digest)
    import mlflow

    try:
        import onnxscript  # noqa: F401 - what the exporter is written with

        from slipway.convert.pytorch import network_of, program_of

        module = mlflow.pytorch.load_model(str(folder), device="cpu")
    except ModuleNotFoundError as error:
        raise lacking(uri, error.name, "pytorch") from None
    except Exception as error:
        raise ConvertError(
            f"{uri} cannot be loaded ({type(error).__name__}: {str(error)[:300]}): use the versions "
            "that it was logged with; they are in its requirements.txt"
        ) from None
    program = program_of(module, _row(mlflow.models.Model.load(str(folder)).signature, uri))
    return network_of(program, uri, digest, f"{type(module).__module__}.{type(module).__qualname__}")


def _of_keras(path: Path, called: str, digest: str) -> Original:
    """A model in a file of Keras 3, which needs no trust: its safe mode runs no code from it."""
    # TensorFlow tells what it was built with.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tf2onnx  # noqa: F401 - what Keras exports with

        from slipway.convert.keras_models import loaded, network_of
    except ModuleNotFoundError as error:
        raise lacking(called, error.name, "keras") from None
    return network_of(loaded(path, called), called, digest)


def _of_keras_logged(folder: Path, uri: str, digest: str) -> Original:
    """What mlflow.keras or mlflow.tensorflow logged of a model of Keras."""
    found = sorted(folder.rglob(f"*{_KERAS}"))
    if found and not list(folder.rglob("*.cloudpickle")):
        return _of_keras(found[0], uri, digest)
    if found:
        raise ConvertError(
            f"{uri} has custom objects, as a pickle of code: where that code is, hand the model itself to "
            "slipway.release"
        )
    if any(list(folder.rglob(f"*{suffix}")) for suffix in _OLD_KERAS):
        raise _old_keras(uri)
    raise ConvertError(
        f"{uri} is a SavedModel of TensorFlow, which is code: log the model of Keras itself, by "
        "mlflow.keras.log_model(model), without save_exported_model"
    )


def _old_keras(called: str) -> ConvertError:
    return ConvertError(
        f"{called} is in Keras's old format, in which code can hide: where you trust it, run keras.models."
        "load_model(FILE).save('NAME.keras'), and convert that"
    )


def _row(signature: Any, uri: str) -> list[int]:
    """The shape of a row of the one input that a version's signature names."""
    inputs = getattr(signature, "inputs", None)
    if inputs is not None and inputs.is_tensor_spec() and len(inputs.inputs) == 1:
        shape = [int(size) for size in inputs.inputs[0].shape[1:]]
        if all(size > 0 for size in shape):
            return shape
    elif inputs is not None and not inputs.is_tensor_spec():
        return [len(inputs.inputs)]
    raise ConvertError(
        f"{uri} is a pickled module without a signature of one tensor, so that nobody knows what it takes: "
        "log it with mlflow.pytorch.log_model(..., serialization_format='pt2', input_example=TWO_ROWS)"
    )


def lacking(called: str, package: str | None, extra: str) -> ConvertError:
    """That a package is missing, which the extra brings unless it is the framework itself."""
    return ConvertError(
        f"{called} needs the package {package}, which is not installed: convert where the model was trained; "
        f"pip install '{DISTRIBUTION}[{extra}]' brings the exporter"
    )


def _only_if_allowed(named: str, allow_pickle: bool) -> None:
    if not allow_pickle:
        raise ConvertError(
            f"{named} is a pickle, and loading it runs code that is in it: if you trust whoever made it, "
            "say so with --allow-pickle"
        )
