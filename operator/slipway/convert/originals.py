"""The model to be converted: what it takes, what it answers, and which packages made it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_outlier_detector, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import SVC, NuSVC

from slipway.conversion import Source
from slipway.convert.answers import Answers
from slipway.convert.errors import ConvertError
from slipway.convert.libraries import library_of, names_of

Array = npt.NDArray[Any]

#: What may be in a version's list, by the name that pip has.
_PACKAGES = (
    "scikit-learn",
    "skl2onnx",
    "onnxmltools",
    "onnx",
    "onnxruntime",
    "onnxruntime-extensions",
    "pillow",
    "sentencepiece",
    "tokenizers",
    "numpy",
    "pandas",
    "xgboost",
    "xgboost-cpu",
    "lightgbm",
    "catboost",
    "torch",
    "onnxscript",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "tf2onnx",
    "slipway-serving",
)


@dataclass(frozen=True)
class Original:
    """A fitted model with scikit-learn's interface: ``predict``, and ``predict_proba`` where it has
    classes."""

    model: Any
    source: Source

    @property
    def labels(self) -> bool:
        """Whether it answers with classes, or with values."""
        return bool(is_classifier(self.model) or is_outlier_detector(self.model))

    @property
    def by_name(self) -> bool:
        """Whether parts of it take some of the columns only."""
        return any(isinstance(part, ColumnTransformer) for part in parts(self.model))

    @property
    def knows_names(self) -> bool:
        """Whether it was fitted with a frame."""
        return _names(self.model) is not None

    def columns(self, offered: Sequence[str]) -> list[str]:
        """Which of the columns it takes, in its order.

        Raises:
            ConvertError: where that is not clear.
        """
        known = _names(self.model)
        if known is not None:
            if library_of(self.model) == "lightgbm":
                # It has them with each space as an underscore.
                spelled = {name.replace(" ", "_"): name for name in offered}
                known = [spelled.get(name, name) for name in known]
            lost = [name for name in known if name not in offered]
            if lost:
                raise ConvertError(
                    f"the model takes the column {lost[0]!r}, which the data has not; it has "
                    f"{_listed(offered)}"
                )
            return known
        count = 1 if _takes_text(self.model) else getattr(self.model, "n_features_in_", len(offered))
        if count != len(offered):
            raise ConvertError(
                f"the model takes {count} columns, and the data has {len(offered)}: {_listed(offered)}; name "
                "those that it does not take in --ignore"
            )
        return list(offered)

    def answers(self, frame: pd.DataFrame) -> Answers:
        """Of rows with the columns that it takes; raises whatever the model raises."""
        given: Any = frame
        if _takes_text(self.model):
            given = frame.iloc[:, 0]
        elif _names(self.model) is None and not self.by_name:
            given = frame.to_numpy()
        with np.errstate(all="ignore"):
            answer = np.asarray(self.model.predict(given))
            if not self.labels:
                return Answers(None, answer.astype(np.float64).reshape(len(frame), -1))
            answer = answer.reshape(len(frame), -1)
            if answer.shape[1] != 1:
                raise ConvertError("the model gives several labels a row: convert a model for each label")
            labels = answer[:, 0]
            if hasattr(self.model, "predict_proba"):
                table = self._table(self.model.predict_proba(given))
                return Answers(labels, table, are_probabilities=True, margins=_votes(self.model, given))
            if not hasattr(self.model, "decision_function"):
                return Answers(labels, None)
            margins = _votes(self.model, given)
            if margins is None:
                margins = self._table(self.model.decision_function(given))
        if is_outlier_detector(self.model):
            return Answers(labels, margins)
        # Converters disagree about how scores of classes look.
        return Answers(labels, None, margins=margins)

    @staticmethod
    def _table(numbers: Any) -> Array:
        made = np.asarray(numbers, np.float64)
        return made.reshape(len(made), -1)


def original_of(model: Any, called: str, digest: str | None = None) -> Original:
    """The model as an original; without the digest of a file, that of its pickle.

    Raises:
        ConvertError: for what is no fitted model that predicts.
    """
    if not isinstance(model, BaseEstimator) and not (library_of(model) and hasattr(model, "get_params")):
        raise ConvertError(
            f"{called} is a {type(model).__name__}: convert takes models of scikit-learn, XGBoost, LightGBM "
            "and CatBoost with scikit-learn's interface, such as XGBClassifier"
        )
    if not (is_classifier(model) or is_regressor(model) or is_outlier_detector(model)):
        raise ConvertError(
            f"{called} is a {type(model).__name__}, which predicts no classes and no values: convert the "
            "whole pipeline, with the model as its last step"
        )
    if digest is None:
        digest = f"sha256:{hashlib.sha256(cloudpickle.dumps(model)).hexdigest()}"
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return Original(model, Source(called=called[:500], kind=kind, digest=digest))


def parts(model: Any) -> Iterator[Any]:
    """The model, and the estimators that it is made of."""
    yield model
    inner: list[Any] = []
    if isinstance(model, Pipeline):
        inner = [step for _, step in model.steps]
    elif isinstance(model, ColumnTransformer):
        inner = [step for _, step, _ in model.transformers_]
    elif isinstance(model, FeatureUnion):
        inner = [step for _, step in model.transformer_list]
    for each in inner:
        if isinstance(each, BaseEstimator) or library_of(each):
            yield from parts(each)


def versions() -> dict[str, str]:
    """Of the packages that take part, as far as they are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _votes(model: Any, given: Any) -> Array | None:
    """How clear the closest vote was, where votes between pairs of classes decide and not the scores."""
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    if not isinstance(last, SVC | NuSVC) or len(last.classes_) < 3 or last.break_ties:
        return None
    voting = copy(last)
    voting.decision_function_shape = "ovo"
    rows = model[:-1].transform(given) if isinstance(model, Pipeline) else given
    closest: Array = np.abs(voting.decision_function(rows)).min(axis=1, keepdims=True)
    return closest


def _names(model: Any) -> list[str] | None:
    """The columns' names that it was fitted with; None where it knows none."""
    while isinstance(model, Pipeline):
        # The first step that does anything is the one that knows.
        model = next((step for _, step in model.steps if step not in (None, "passthrough")), None)
    if library_of(model) == "catboost":
        return names_of(model)
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _takes_text(model: Any) -> bool:
    """Whether it takes one column of text, as a list and not as a table."""
    while isinstance(model, Pipeline | FeatureUnion):
        model = model.steps[0][1] if isinstance(model, Pipeline) else model.transformer_list[0][1]
    return isinstance(model, CountVectorizer | HashingVectorizer)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:30])) + (" …" if len(names) > 30 else "")
