"""Models of XGBoost and LightGBM become ONNX that answers as they do, at their own thresholds too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import mlflow
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
import xgboost
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from xgboost import XGBClassifier, XGBRegressor

from slipway.cli.main import main
from slipway.conversion import Rows, read_proof
from slipway.convert.boosters import thresholds
from slipway.convert.errors import ConvertError, DifferentError
from slipway.convert.loading import load
from slipway.convert.make import convert
from slipway.convert.originals import original_of
from slipway.convert.trees import rounded_down
from slipway.digest import digest_of
from tests.convert.test_convert import claims
from tests.server.running import Server, tensor

IRIS, SUGAR = load_iris(as_frame=True), load_diabetes(as_frame=True)
FLOWERS = IRIS.data.mask(np.arange(600).reshape(150, 4) % 11 == 0)
SPECIES = np.array(["setosa", "versicolor", "virginica"])[IRIS.target]
DISEASE = SUGAR.data.iloc[:, :3]
FEW: dict[str, Any] = {"n_estimators": 4, "n_jobs": 1}
QUIET: dict[str, Any] = {**FEW, "verbose": -1}


def first_columns(model: Any, rows: pd.DataFrame) -> Any:
    """What a model answers, as numbers."""
    return model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)[:, None]


@pytest.mark.parametrize(
    ("model", "rows", "answers"),
    [
        pytest.param(XGBClassifier(**FEW), FLOWERS, IRIS.target, id="xgboost, three classes"),
        # The base score of one in ten is no half, and not what it was in versions before.
        pytest.param(XGBClassifier(**FEW), FLOWERS, np.arange(150) % 10 == 0, id="xgboost, rare class"),
        pytest.param(
            XGBClassifier(**FEW, base_score=0.2), FLOWERS, IRIS.target > 1, id="xgboost, a base score"
        ),
        pytest.param(XGBRegressor(**FEW), DISEASE, SUGAR.target, id="xgboost, values"),
        pytest.param(
            XGBRegressor(**FEW, objective="count:poisson"), DISEASE, SUGAR.target, id="xgboost, counts"
        ),
        pytest.param(
            XGBRegressor(**FEW, early_stopping_rounds=1), DISEASE, SUGAR.target, id="xgboost, stopped early"
        ),
        pytest.param(LGBMClassifier(**QUIET), FLOWERS, SPECIES, id="lightgbm, three classes of text"),
        pytest.param(LGBMClassifier(**QUIET), FLOWERS, IRIS.target > 1, id="lightgbm, two classes"),
        pytest.param(LGBMRegressor(**QUIET), DISEASE, SUGAR.target, id="lightgbm, values"),
        pytest.param(
            LGBMRegressor(**QUIET, objective="tweedie"), DISEASE, SUGAR.target, id="lightgbm, exponents"
        ),
    ],
)
def test_a_model_answers_as_before_at_every_threshold_that_its_library_lists(
    model: Any, rows: pd.DataFrame, answers: Any
) -> None:
    stops = {"eval_set": [(rows, answers)], "verbose": False} if "early" in str(model.get_params()) else {}
    if stops and model.early_stopping_rounds is None:
        stops = {}
    model.fit(rows, answers, **stops)
    made = convert(original_of(model, "model"), rows)
    assert not made.proof.float64
    assert all(not found.beyond and not found.refused for found in made.proof.compared.values())
    listed = {*thresholds(model)}
    assert len(listed) > 3
    assert made.proof.compared[Rows.THRESHOLDS].rows >= 3 * min(len(listed), 300)
    session = ort.InferenceSession(made.model.SerializeToString())
    found = session.run(None, {"X": rows.to_numpy(np.float32)})
    assert found[-1] == pytest.approx(first_columns(model, rows), rel=1e-5, abs=1e-6)
    if len(found) == 2:
        assert list(found[0]) == list(model.predict(rows))


@pytest.mark.parametrize(
    "model", [XGBClassifier(**FEW), LGBMClassifier(**QUIET)], ids=lambda model: type(model).__name__
)
def test_a_pipeline_from_fit_to_the_model_servers_own_answers(
    model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, fraud = claims()
    frame = frame.drop(columns="note")
    columns = ColumnTransformer(
        [
            ("country", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["country"]),
            ("numbers", "passthrough", ["amount", "age"]),
        ]
    )
    fitted = make_pipeline(columns, model).fit(frame, fraud)
    joblib.dump(fitted, tmp_path / "fraud.joblib")
    frame.to_parquet(tmp_path / "rows.parquet")
    command = ["convert", str(tmp_path / "fraud.joblib"), "--data", str(tmp_path / "rows.parquet")]
    served = tmp_path / "served"
    served.mkdir()
    assert main([*command, "--allow-pickle", "-o", str(served / "model.onnx")]) == 0
    assert "with an unknown category: 0.000% of the labels differ" in capsys.readouterr().out
    proof = read_proof((served / "conversion.json").read_bytes())
    assert {*proof.compared} == set(Rows)
    asked = frame.assign(country=np.where(np.arange(120) % 5 == 0, "IT", frame["country"])).dropna()
    types = {"amount": "FP32", "age": "INT64", "country": "BYTES"}
    inputs = [tensor(name, kind, [len(asked), 1], asked[name].tolist()) for name, kind in types.items()]
    (served / "conversion.json").rename(tmp_path / "conversion.json")
    with Server(served, digest=digest_of(served)) as server:
        answer = server.wait_until_ready().infer(*inputs)
    assert answer.status_code == 200, answer.text
    labels, probabilities = (output["data"] for output in answer.json()["outputs"])
    assert labels == fitted.predict(asked).tolist()
    assert probabilities == pytest.approx(fitted.predict_proba(asked).reshape(-1), abs=1e-6)


def test_xgboosts_own_formats_are_read_without_a_pickle(tmp_path: Path) -> None:
    fitted = XGBClassifier(**FEW).fit(FLOWERS, IRIS.target)
    trained = xgboost.train(
        {"objective": "count:poisson"}, xgboost.DMatrix(DISEASE, SUGAR.target), num_boost_round=3
    )
    fitted.save_model(tmp_path / "flowers.ubj")
    trained.save_model(tmp_path / "disease.json")
    flowers = load(str(tmp_path / "flowers.ubj"), allow_pickle=False)
    assert convert(flowers, FLOWERS).proof.original.kind == "xgboost.sklearn.XGBClassifier"
    disease = load(str(tmp_path / "disease.json"), allow_pickle=False)
    made = convert(disease, DISEASE)
    (found,) = ort.InferenceSession(made.model.SerializeToString()).run(
        None, {"X": DISEASE.to_numpy(np.float32)}
    )
    assert found[:, 0] == pytest.approx(trained.predict(xgboost.DMatrix(DISEASE)), rel=1e-5)
    (tmp_path / "broken.ubj").write_bytes(b"{")
    with pytest.raises(ConvertError, match=r"broken\.ubj is no model of xgboost"):
        load(str(tmp_path / "broken.ubj"), allow_pickle=False)


def test_versions_in_mlflow_of_each_flavor_are_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    needs = {"name": "model", "pip_requirements": ["numpy"]}
    try:
        mlflow.xgboost.log_model(
            XGBClassifier(**FEW).fit(FLOWERS, IRIS.target), registered_model_name="flowers", **needs
        )
        mlflow.lightgbm.log_model(
            LGBMClassifier(**QUIET).fit(FLOWERS, SPECIES), registered_model_name="species", **needs
        )
        FLOWERS.to_parquet("rows.parquet")
        # XGBoost's is a format of its own, LightGBM's a pickle.
        assert main(["convert", "mlflow://flowers/1", "--data", "rows.parquet"]) == 0
        species = ["convert", "mlflow://species/1", "--data", "rows.parquet"]
        assert main(species) == 1
        assert "loading it runs code that is in it" in capsys.readouterr().err
        assert main([*species, "--allow-pickle"]) == 0
        assert read_proof(Path("conversion.json").read_bytes()).original.called == "mlflow://species/1"
    finally:
        mlflow.set_tracking_uri(before)


def test_what_trees_of_onnx_cannot_say_is_refused_by_name() -> None:
    kinds = FLOWERS.assign(garden=pd.Categorical(np.where(IRIS.target == 1, "north", "south")))
    cases = {
        "the XGBClassifier cannot be converted to ONNX: it takes categories in 'garden'": XGBClassifier(
            **FEW, enable_categorical=True
        ).fit(kinds, IRIS.target),
        "the LGBMClassifier cannot be converted to ONNX: it takes categories in 'garden'": LGBMClassifier(
            **QUIET, min_data_per_group=1, cat_smooth=1
        ).fit(kinds, IRIS.target == 1),
        "its booster is 'gblinear'": XGBRegressor(**FEW, booster="gblinear").fit(DISEASE, SUGAR.target),
        "its objective is 'reg:logistic'": XGBRegressor(**FEW, objective="reg:logistic").fit(
            DISEASE, SUGAR.target / 400
        ),
        "its objective is 'cross_entropy'": LGBMRegressor(**QUIET, objective="cross_entropy").fit(
            DISEASE, SUGAR.target / 400
        ),
        "its objective is None": LGBMRegressor(
            **QUIET, objective=lambda found, wanted: (wanted - found, np.ones_like(wanted))
        ).fit(DISEASE, SUGAR.target),
    }
    for message, model in cases.items():
        rows = kinds if "garden" in message else DISEASE
        with pytest.raises(ConvertError, match=re.escape(message)):
            convert(original_of(model, "model"), rows)
    piped = make_pipeline("passthrough", XGBRegressor(**FEW, booster="gblinear")).fit(DISEASE, SUGAR.target)
    with pytest.raises(
        ConvertError, match=re.escape("the step 'xgbregressor' (XGBRegressor) of the pipeline")
    ):
        convert(original_of(piped, "model"), DISEASE)
    trained = lightgbm.train({"verbose": -1}, lightgbm.Dataset(DISEASE, SUGAR.target), num_boost_round=2)
    with pytest.raises(ConvertError, match=r"is a Booster: .* with scikit-learn's interface"):
        original_of(trained, "trained")


def test_a_transformation_that_onnx_lacks_is_found_by_its_answers() -> None:
    """The square root that LightGBM takes of its targets is in no tree."""
    model = LGBMRegressor(**QUIET, reg_sqrt=True).fit(DISEASE, SUGAR.target)
    with pytest.raises(DifferentError, match="442 rows of the data"):
        convert(original_of(model, "roots"), DISEASE)


def test_zeros_that_a_sparse_encoder_leaves_out_are_missing_values_as_before() -> None:
    """XGBoost takes what a sparse matrix leaves out for missing, and learns a side for it."""
    kinds = pd.DataFrame({"kind": np.array([*"abcdefgh"])[np.arange(160) % 8]})
    counts = np.arange(160) % 8 % 3
    piped = make_pipeline(
        ColumnTransformer([("kind", OneHotEncoder(handle_unknown="ignore"), ["kind"])], sparse_threshold=1),
        XGBRegressor(**FEW),
    ).fit(kinds, counts)
    made = convert(original_of(piped, "sparse"), kinds)
    assert all(not found.beyond for found in made.proof.compared.values())
    session = ort.InferenceSession(made.model.SerializeToString())
    (found,) = session.run(None, {"kind": kinds.to_numpy(object)})
    assert found[:, 0] == pytest.approx(piped.predict(kinds), abs=1e-5)


def test_a_threshold_of_64_bits_tells_numbers_of_32_apart_as_before() -> None:
    """sklearn-onnx#1192: rounded to the nearest number, it lets the one above it pass."""
    exact = np.random.default_rng(0).normal(size=1000)
    down = rounded_down(exact)
    near = exact.astype(np.float32)
    for step in (np.float32(-np.inf), np.float32(np.inf)):
        for numbers in (near, np.nextafter(near, step)):
            assert ((numbers.astype(np.float64) <= exact) == (numbers <= down)).all()
    assert (near > exact).any()
    assert (down <= exact).all()
