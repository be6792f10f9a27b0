"""How many models, as `slipway convert` makes them, share calls: as docs/model-server.md tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor

from slipway.conversion import Rows
from slipway.convert.make import convert
from slipway.convert.originals import original_of
from tests.convert.shares import assert_the_page_has

FLOWERS = load_iris(as_frame=True, return_X_y=True)
CANCER = load_breast_cancer(as_frame=True, return_X_y=True)
DIABETES = load_diabetes(as_frame=True, return_X_y=True)


def shop() -> tuple[pd.DataFrame, Any]:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.integers(18, 90, 300), "city": random.choice(["Wien", "Graz"], 300)})
    return frame, (frame["age"] > 40) ^ (frame["city"] == "Wien")


def columns(model: Any) -> Any:
    ways = (StandardScaler(), ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])
    return make_pipeline(make_column_transformer(*ways), model)


#: By the words of the page's table: models and what they are fitted on.
KINDS: dict[str, list[tuple[Any, Any]]] = {
    "trees and forests of scikit-learn": [
        (DecisionTreeClassifier(max_depth=4), FLOWERS),
        (DecisionTreeRegressor(max_depth=4), DIABETES),
        (RandomForestClassifier(20), CANCER),
        (RandomForestRegressor(20), DIABETES),
        (ExtraTreesRegressor(20), DIABETES),
        (GradientBoostingClassifier(n_estimators=20), CANCER),
        (HistGradientBoostingClassifier(max_iter=20), CANCER),
        (columns(RandomForestClassifier(20)), shop()),
    ],
    "XGBoost and LightGBM": [
        (XGBClassifier(n_estimators=20), CANCER),
        (XGBRegressor(n_estimators=20), DIABETES),
        (LGBMClassifier(n_estimators=20, verbose=-1), CANCER),
        (LGBMRegressor(n_estimators=20, verbose=-1), DIABETES),
    ],
    "other models of scikit-learn": [
        (make_pipeline(StandardScaler(), LogisticRegression()), CANCER),
        (columns(LogisticRegression()), shop()),
        (LinearRegression(), DIABETES),
        (make_pipeline(MinMaxScaler(), Ridge()), DIABETES),
        (GaussianNB(), FLOWERS),
        (KNeighborsClassifier(), FLOWERS),
        (make_pipeline(StandardScaler(), SVC(probability=True)), FLOWERS),
        (make_pipeline(StandardScaler(), SVR()), DIABETES),
        (make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=50)), FLOWERS),
        (make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(16,), max_iter=50)), DIABETES),
        (AdaBoostClassifier(n_estimators=5), FLOWERS),
    ],
}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_tells_what_share_of_models_still_batches(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {}
    for number, (model, (frame, target)) in enumerate(KINDS[kind]):
        made = convert(
            original_of(model.fit(frame, target), "model"), frame, tolerance=1e-2, accept=list(Rows)
        )
        name = f"{number} {type(model).__name__}"
        models[name] = tmp_path / f"{number}.onnx"
        onnx.save(made.model, models[name])
    assert_the_page_has(kind, models, monkeypatch)
