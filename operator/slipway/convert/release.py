"""``slipway.release``: from a fitted model to a version that Slipway can serve."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import numpy as np
import pandas as pd
import yaml

from slipway.conversion import EDGES, Conversion, Rows
from slipway.convert.errors import ConvertError
from slipway.convert.loading import lacking
from slipway.convert.make import TOLERANCE, Result, convert, summary
from slipway.convert.originals import Original, original_of
from slipway.names import API_VERSION, KIND, PROOF_FILE
from slipway.profile import Profile
from slipway.profiling.make import make_profile
from slipway.profiling.registry import log_beside, log_profile

#: The column of the true answers, where these have no name.
_LABELS = "label"


@dataclass(frozen=True)
class Released:
    """A version in MLflow's registry, and what is known of it; ``manifest`` is YAML for a pull request."""

    uri: str
    proof: Conversion = field(repr=False)
    profile: Profile = field(repr=False)
    manifest: str = field(repr=False)


def release(
    model: Any,
    X: Any,  # noqa: N803 - as scikit-learn names it
    y: Any = None,
    *,
    name: str,
    sensitive: Sequence[str] = (),
    ignore: Sequence[str] = (),
    holdout: Any = None,
    alias: str | None = None,
    tolerance: float = TOLERANCE,
    accept: Collection[str] = (),
    float64: bool | None = None,
    strict: bool = False,
    keep_output_names: bool = False,
) -> Released:
    """Convert a model, compare the answers, profile its data, and log all of it as a version of ``name``.

    ``MLFLOW_TRACKING_URI`` or ``mlflow.set_tracking_uri`` says where MLflow is. What was compared and the
    manifest are printed.

    Args:
        model: fitted, with scikit-learn's interface, one of Keras, a module of PyTorch that takes the columns
            of ``X`` as one tensor, or a program of ``torch.export``.
        X: the rows that it was trained on, as a frame of pandas, polars or pyarrow. A model that was fitted
            with a frame takes its columns by name, and others are left aside.
        y: the true answers.
        name: of the registered model.
        sensitive: columns of ``X`` whose groups are counted in the profile.
        ignore: columns of ``X`` that the model does not take.
        holdout: rows that the model was not trained on, with the true answers in a column named as ``y`` is,
            or ``label``.
        alias: means this version from now on; no alias moves unless it is given.
        tolerance: largest difference of probabilities, and of values relative to those above 1.
        accept: edges at which differences are written down, but not refused: ``thresholds``, ``missing``,
            ``unknown``, ``outside``.
        float64: whether the model takes real numbers of 64 bits, or of 32; None: of 32 where it answers as
            the original then, and of 64 where it does not.
        strict: refuse differences at the largest numbers of 32 bits and infinities, too.
        keep_output_names: leave the outputs the names that the converter gives, and not ``label``,
            ``probabilities``, ``scores`` or ``variable`` after what they mean.

    Raises:
        ConvertError: where the model has no ONNX or answers otherwise, or the data does not fit it; nothing
            is logged.
        ProfileError: where the data cannot be profiled; nothing is logged.
    """
    _check(name, accept)
    rows = _frame(X)
    _there(rows, [*sensitive, *ignore])
    original = _original(model, len(rows.columns.difference([*ignore, *sensitive])))
    aside = [*ignore] if original.knows_names else [*ignore, *sensitive]
    made = convert(
        original,
        rows.drop(columns=aside),
        tolerance=tolerance,
        accept=[Rows(edge) for edge in accept],
        double=float64,
        strict=strict,
        keep_output_names=keep_output_names,
    )
    shaped = next((each for each in made.layout.inputs if len(each.shape) > 1), None)
    if shaped is not None:
        raise ConvertError(
            f"a row of the input {shaped.name!r} has the shape {list(shaped.shape)}, and a profile is one of "
            "columns: make the ONNX model by slipway convert, and log it by mlflow.onnx.log_model"
        )
    profile = _profile(made, rows, y, sensitive, holdout)
    logged = mlflow.onnx.log_model(
        made.model, name="model", registered_model_name=name, pip_requirements=["onnx", "onnxruntime"]
    )
    profile = log_profile(profile, logged)
    # MLflow writes the model's file again.
    proof = made.proof.model_copy(update={"modelDigest": profile.modelDigest})
    log_beside(logged, PROOF_FILE, proof.text())
    version = str(logged.registered_model_version)
    if alias is not None:
        mlflow.MlflowClient().set_registered_model_alias(name, alias, version)
    registered = f"mlflow://{quote(name, safe='')}"
    uri = f"{registered}/{version}"
    manifest = _manifest(name, uri if alias is None else f"{registered}@{quote(alias, safe='')}")
    print("\n".join(f"# {line}" for line in summary(proof)))
    print(manifest, end="")
    return Released(uri, proof, profile, manifest)


def _original(model: Any, columns: int) -> Original:
    called = type(model).__qualname__
    libraries = {each.__module__.partition(".")[0] for each in type(model).__mro__}
    try:
        if "keras" in libraries:
            import tf2onnx  # noqa: F401 - what Keras exports with

            from slipway.convert.keras_models import network_of

            return network_of(model, called)
        if "torch" in libraries:
            import onnxscript  # noqa: F401 - what PyTorch exports with

            from slipway.convert.pytorch import network_in_memory

            return network_in_memory(model, called, columns)
    except ModuleNotFoundError as error:
        raise lacking(called, error.name, "keras" if "keras" in libraries else "pytorch") from None
    return original_of(model, called)


def _check(name: str, accept: Collection[str]) -> None:
    if not name or {*name} & {*"/:"}:
        raise ConvertError(f"name is {name!r}: a model in MLflow has a name without '/' and ':'")
    if isinstance(accept, str) or not {*accept} <= {*EDGES}:
        raise ConvertError(f"accept is {accept!r}: give a list of any of {', '.join(EDGES)}")


def _frame(given: Any) -> pd.DataFrame:
    if not isinstance(given, pd.DataFrame) and hasattr(given, "to_pandas"):
        given = given.to_pandas()
    if not isinstance(given, pd.DataFrame):
        raise ConvertError(f"X is a {type(given).__name__}: give a frame of pandas, polars or pyarrow")
    return given.rename(columns=str)


def _there(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in rows.columns:
            raise ConvertError(f"X has no column {column!r}; it has {', '.join(map(str, rows.columns[:30]))}")


def _profile(made: Result, rows: pd.DataFrame, y: Any, sensitive: Sequence[str], holdout: Any) -> Profile:
    # By position the model takes the columns in its own order, which need not be that of the rows.
    table = rows[list(dict.fromkeys([*made.layout.names, *sensitive]))]
    labels = None
    if y is not None:
        labels = str(getattr(y, "name", None) or _LABELS)
        if labels in table.columns:
            raise ConvertError(
                f"X has a column {labels!r}, which is the name of the true answers: rename it in y"
            )
        answers = np.asarray(y).reshape(-1)
        if len(answers) != len(table):
            raise ConvertError(
                f"X has {len(table)} rows, and y has {len(answers)}: give an answer for each row"
            )
        table = table.assign(**{labels: answers})
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        made.write(path)
        return make_profile(table, path, labels=labels, sensitive=sensitive, holdout=holdout)


def _manifest(name: str, uri: str) -> str:
    resource = re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789")[:40].strip("-") or "model"
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": resource},
        "spec": {"model": {"uri": uri}},
    }
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
