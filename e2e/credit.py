"""A model with a profile: who pays a loan back; and applicants, as they were and as they have become."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from numpy.typing import NDArray

from slipway.names import PROFILE_FILE
from slipway.profile import Profile

NAME = "credit"
TENSOR = "X"
FEATURES = ("income", "debt", "age", "years_employed")
#: The parameter of a request that says who asked, its values, and the class that is good for an applicant.
ATTRIBUTE, GROUPS, REFERENCE_GROUP, FAVORABLE = "sex", ("female", "male"), "male", "1"
#: Where a request says how old it is, in the words of ``spec.monitoring.freshness``.
FRESHNESS = {"source": "Parameter", "name": "made_at", "maxAgeSeconds": 3600}
#: How much larger incomes and debts became, in standard deviations of those that the model was trained on.
SHIFT = 1.5
ROWS_PER_REQUEST = 50
_TRAINING_ROWS, _HELD_OUT_ROWS, _SEED = 6_000, 2_000, 11


@dataclass(frozen=True)
class Applicants:
    """Rows (rows, features), what became of them (rows), and their groups (rows)."""

    rows: NDArray[np.float32]
    paid_back: NDArray[np.int64]
    groups: tuple[str, ...]

    def batches(self, size: int = ROWS_PER_REQUEST) -> Iterator[Applicants]:
        """The same in requests of so many rows."""
        for start in range(0, len(self.rows), size):
            part = slice(start, start + size)
            yield Applicants(self.rows[part], self.paid_back[part], self.groups[part])


@dataclass(frozen=True)
class Made:
    """The model as ONNX, and the profile of its training data."""

    model: onnx.ModelProto
    profile: Profile

    def save(self, folder: Path) -> Path:
        """Write both as a model server reads them; returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.model.SerializeToString())
        (folder / PROFILE_FILE).write_bytes(self.profile.text())
        return folder


def applicants(count: int, seed: int, *, shift: float = 0.0) -> Applicants:
    """Made-up people; ``shift`` moves incomes and debts by so many standard deviations."""
    random = np.random.default_rng(seed)
    groups = random.choice(GROUPS, count)
    # Whole numbers, so that no bin's edge depends on rounding.
    columns = (
        40 + 12 * random.standard_normal(count) + 12 * shift - 3 * (groups == "female"),
        15 + 6 * random.standard_normal(count) + 6 * shift,
        random.integers(18, 80, count),
        random.exponential(8, count),
    )
    rows = np.round(np.stack(columns, axis=1)).astype(np.float32)
    score = 0.08 * (rows[:, 0] - 40) - 0.15 * (rows[:, 1] - 15) + 0.05 * (rows[:, 3] - 8) + 0.5
    paid_back = (random.random(count) < 1 / (1 + np.exp(-score))).astype(np.int64)
    return Applicants(rows, paid_back, tuple(map(str, groups)))


@cache
def make(leniency: float = 0.0) -> Made:
    """Train, convert and profile; the same model every time, but for rounding.

    `leniency` is added to everybody's log-odds of paying back, after training.
    """
    import pandas as pd
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from slipway.profiling import make_profile

    everyone = applicants(_TRAINING_ROWS + _HELD_OUT_ROWS, _SEED)
    frame = pd.DataFrame(everyone.rows, columns=list(FEATURES))
    frame["paid_back"], frame[ATTRIBUTE] = everyone.paid_back, everyone.groups
    training, held_out = frame[:_TRAINING_ROWS], frame[_TRAINING_ROWS:]
    rows = training[list(FEATURES)].to_numpy()
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, training["paid_back"])
    classifier[-1].intercept_ += leniency
    model: onnx.ModelProto = to_onnx(classifier, rows[:1], options={"zipmap": False}, name=NAME)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        profile = make_profile(training, path, labels="paid_back", sensitive=[ATTRIBUTE], holdout=held_out)
    return Made(model, profile)


def register(name: str, tracking_uri: str, leniency: float = 0.0) -> str:
    """Log the model with its profile to MLflow, each time with another digest; returns the version."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    import mlflow
    import mlflow.onnx

    from slipway.profiling import log_profile

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    made = make(leniency)
    model = onnx.ModelProto()
    model.CopyFrom(made.model)
    model.doc_string = f"registered {time.time()}"
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(name)
    with mlflow.start_run():
        logged = mlflow.onnx.log_model(
            model, name="model", registered_model_name=name, pip_requirements=["onnxruntime"]
        )
    log_profile(made.profile, logged)
    return str(logged.registered_model_version)


def ask(client: httpx.Client, asked: Applicants, model: str = NAME) -> list[str]:
    """Ask the model about people; returns one feedback token a row, or none where answers have none."""
    tensor = {
        "name": TENSOR,
        "datatype": "FP32",
        "shape": list(asked.rows.shape),
        "data": asked.rows.ravel().tolist(),
    }
    parameters = {ATTRIBUTE: list(asked.groups), FRESHNESS["name"]: time.time()}
    body = {"inputs": [tensor], "parameters": parameters}
    answer = client.post(f"/v2/models/{model}/infer", json=body).raise_for_status().json()
    return str(answer.get("parameters", {}).get("feedback_token", "")).split()


def tell(client: httpx.Client, tokens: list[str], asked: Applicants, model: str = NAME) -> int:
    """Say what became of people that the model was asked about; returns how many labels were taken."""
    labels = [
        {"token": token, "label": int(label)} for token, label in zip(tokens, asked.paid_back, strict=True)
    ]
    answer = client.post(f"/v2/models/{model}/feedback", json={"feedback": labels}).raise_for_status()
    return int(answer.json()["accepted"])


def ask_all(client: httpx.Client, asked: Applicants, model: str = NAME) -> list[str]:
    """Ask about everybody in requests of a few; returns all tokens."""
    return list(itertools.chain.from_iterable(ask(client, each, model) for each in asked.batches()))


def feedback_keys(namespace: str, name: str) -> dict[str, Any]:
    """A Secret with a key for feedback tokens."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"2026-01": secrets.token_hex(32)},
    }


def resource(namespace: str, uri: str, secret: str) -> dict[str, Any]:
    """The ModelDeployment that serves it; ``secret`` is the one of :func:`feedback_keys`."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "model": {"uri": uri},
            "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
            "scaling": {"maxReplicas": 1},
            "monitoring": {
                "performance": {
                    "feedback": {"secretRef": {"name": secret}},
                    "objectives": [{"metric": "Accuracy", "minimum": "60%"}],
                },
                "freshness": FRESHNESS,
                "slos": {"latency": {"thresholdMilliseconds": 100}},
            },
            "fairness": {
                "sensitiveAttributes": [
                    {
                        "name": ATTRIBUTE,
                        "parameter": ATTRIBUTE,
                        "groups": list(GROUPS),
                        "referenceGroup": REFERENCE_GROUP,
                    }
                ],
                "favorableOutcomes": [FAVORABLE],
                "metrics": [
                    {"name": "DisparateImpactRatio", "minimum": "70%"},
                    {"name": "DemographicParityDifference", "maximum": "20%"},
                ],
            },
        },
    }
