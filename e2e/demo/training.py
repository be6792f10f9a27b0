"""A real model: a boosted classifier of scikit-learn's wine data, as ONNX in MLflow's registry."""

import logging
import os
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_wine
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import train_test_split

NAME = "wine"
ALIAS = "champion"
SEED = 7
TREES = 50
#: What tells one model from another; its bytes would not do, since their last bits depend on the machine.
RECIPE_TAG = "recipe"
_TOOLS = ", ".join(f"{tool} {version(tool)}" for tool in ("scikit-learn", "skl2onnx"))
RECIPE = f"{NAME}, {TREES} trees, seed {SEED}, {_TOOLS}"


@dataclass(frozen=True)
class Trained:
    """The same model twice, as scikit-learn has it and as ONNX, and rows that neither has seen."""

    onnx: bytes
    accuracy: float
    rows: NDArray[np.float32]
    """(rows, features) held out from training."""
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    """(rows, classes): scikit-learn's own predict_proba for the held-out rows."""


@dataclass(frozen=True)
class Registered:
    """Where the model stands in the registry."""

    version: str
    new: bool


def train() -> Trained:
    """Train and convert; the same model every time, but for rounding."""
    from skl2onnx import to_onnx

    wine = load_wine()
    features = wine.data.astype(np.float32)
    kept, held, answers, held_answers = train_test_split(
        features, wine.target, test_size=0.3, random_state=SEED, stratify=wine.target
    )
    model = GradientBoostingClassifier(n_estimators=TREES, random_state=SEED)
    model.fit(kept, answers)
    onnx = to_onnx(model, kept[:1], options={"zipmap": False}, name=NAME)
    return Trained(
        onnx=onnx.SerializeToString(),
        accuracy=float(model.score(held, held_answers)),
        rows=held,
        classes=tuple(str(name) for name in wine.target_names),
        probabilities=model.predict_proba(held),
    )


def register(trained: Trained, tracking_uri: str) -> Registered:
    """Register the model unless the champion is of the same recipe; what is new becomes the champion."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    import mlflow
    import mlflow.onnx
    import onnx
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(tracking_uri)
    client = mlflow.MlflowClient()
    try:
        champion = client.get_model_version_by_alias(NAME, ALIAS)
        if champion.tags.get(RECIPE_TAG) == RECIPE:
            return Registered(str(champion.version), new=False)
    except MlflowException:
        pass  # No champion yet.
    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        mlflow.log_metric("held_out_accuracy", trained.accuracy)
        logged = mlflow.onnx.log_model(
            onnx.load_from_string(trained.onnx),
            name="model",
            registered_model_name=NAME,
            input_example=trained.rows[:1],
            pip_requirements=["onnxruntime"],
        )
    number = str(logged.registered_model_version)
    client.set_model_version_tag(NAME, number, RECIPE_TAG, RECIPE)
    client.set_registered_model_alias(NAME, ALIAS, number)
    return Registered(number, new=True)
