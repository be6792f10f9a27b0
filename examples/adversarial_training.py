"""Train a classifier that stays right while values move, as a Job or a pipeline may do after an audit failed.

A model that leans on a small difference between values is wrong as soon as they move a little. Here each
row is also learned as the worst that an attack makes of it: rounds of training, and of moving every row
within a radius towards the other class (Goodfellow et al., "Explaining and harnessing adversarial
examples", 2015). The attack is one of the Adversarial Robustness Toolbox, which is in the extra ``audit``.

    python examples/adversarial_training.py train.csv model.onnx --label repaid --radius 0.5 --fixed age

The radius is in standard deviations of each column, all columns together, as it is in an audit. Register
what this writes as a new version (docs/converting.md): its own audit decides whether it is let in.
``--radius 0`` trains without moved rows, to compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

ROUNDS = 10


def moved(
    model: LogisticRegression, rows: np.ndarray, labels: np.ndarray, radius: float, free: np.ndarray
) -> np.ndarray:
    """The rows, each as far towards the other class as the radius lets it; columns that are not free stay."""
    attack = FastGradientMethod(ScikitlearnLogisticRegression(model), norm=2, eps=radius)
    return attack.generate(rows, np.searchsorted(model.classes_, labels), mask=free)


def train(inputs: np.ndarray, labels: np.ndarray, radius: float, free: np.ndarray) -> Pipeline:
    """A model of the rows and, with a radius, of what an attack made of them in each round."""
    scaler = StandardScaler()
    rows = scaler.fit_transform(inputs).astype(np.float32)
    model = LogisticRegression(max_iter=1000).fit(rows, labels)
    learned = [rows]
    for _ in range(ROUNDS if radius else 0):
        learned.append(moved(model, rows, labels, radius, free))
        model.fit(np.concatenate(learned), np.tile(labels, len(learned)))
    return make_pipeline(scaler, model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="CSV: the model's columns and the label")
    parser.add_argument("model", type=Path, help="where the ONNX file is written")
    parser.add_argument("--label", required=True)
    parser.add_argument("--radius", type=float, default=0.5)
    parser.add_argument("--fixed", nargs="*", default=[], help="columns that nobody can move")
    asked = parser.parse_args()
    table = pd.read_csv(asked.data)
    columns = table.drop(columns=asked.label)
    inputs = columns.to_numpy(np.float32)
    free = np.array([name not in asked.fixed for name in columns], np.float32)
    model = train(inputs, table[asked.label].to_numpy(), asked.radius, free)
    onnx.save(to_onnx(model, inputs[:1], options={"zipmap": False}), asked.model)


if __name__ == "__main__":
    main()
