"""Train a classifier so that groups count alike, as a Job or a pipeline may do after an audit failed.

Past decisions that favored a group teach a model to do the same, by whatever stands in for the group. Each
row is weighted by how often its group and its label would meet if they had nothing to do with each other
(Kamiran and Calders, "Data preprocessing techniques for classification without discrimination", 2012). The
group is no input of the model, and nothing has to know it when the model serves.

    python examples/reweighted_training.py train.csv model.onnx --label repaid --sensitive sex

Register what it writes as a new version (docs/converting.md): its own audit decides whether it is let in.
``--weights none`` trains without weights, to compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def weights(groups: pd.Series, labels: pd.Series) -> pd.Series:
    """For each row, how often its group and label would meet by chance, by how often they do."""
    shares = pd.crosstab(groups, labels, normalize=True)
    expected = pd.DataFrame(
        np.outer(shares.sum(axis=1), shares.sum(axis=0)), index=shares.index, columns=shares.columns
    )
    ratio = (expected / shares).stack()
    return pd.Series(ratio.reindex(pd.MultiIndex.from_arrays([groups, labels])).to_numpy(), groups.index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="CSV: the model's columns, the label and the group")
    parser.add_argument("model", type=Path, help="where the ONNX file is written")
    parser.add_argument("--label", required=True)
    parser.add_argument("--sensitive", required=True, help="column with the group")
    parser.add_argument("--weights", choices=["groups", "none"], default="groups")
    asked = parser.parse_args()
    table = pd.read_csv(asked.data)
    inputs = table.drop(columns=[asked.label, asked.sensitive]).to_numpy(np.float32)
    found = weights(table[asked.sensitive], table[asked.label]) if asked.weights == "groups" else None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(inputs, table[asked.label], logisticregression__sample_weight=found)
    onnx.save(to_onnx(model, inputs[:1], options={"zipmap": False}), asked.model)


if __name__ == "__main__":
    main()
