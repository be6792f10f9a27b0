"""Models of scikit-learn become ONNX that answers as they do, or are refused with the reason."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from e2e.snippets import commands
from slipway.cli.main import main
from slipway.conversion import Rows, read_proof
from slipway.convert.answers import Answers, differences
from slipway.convert.edges import edges
from slipway.convert.errors import ConvertError, DifferentError
from slipway.convert.layout import layout_of
from slipway.convert.make import convert, summary
from slipway.convert.numbers import OF_32_BITS, OF_64_BITS, Numbers
from slipway.convert.originals import original_of
from slipway.digest import sha256_of
from slipway.profiling import make_profile

IRIS = load_iris(as_frame=True)
FLOWERS, SPECIES = IRIS.data, np.array(["setosa", "versicolor", "virginica"])[IRIS.target]


def claims() -> tuple[pd.DataFrame, Any]:
    """Rows with numbers, missing ones, categories and text; and whether each is a fraud."""
    random = np.random.default_rng(1)
    count = 120
    frame = pd.DataFrame(
        {
            "amount": np.round(random.exponential(80, count), 2),
            "age": random.integers(18, 90, count),
            "country": random.choice(["DE", "FR", "PL"], count),
            "note": random.choice(["lost my card", "all is fine", "card stolen abroad"], count),
        }
    )
    frame.loc[::7, "amount"] = np.nan
    fraud = (frame["note"] != "all is fine") & (frame["amount"].fillna(0) > 40)
    return frame, fraud.to_numpy().astype(int)


def claims_model() -> Any:
    frame, fraud = claims()
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["amount", "age"]),
            ("country", OneHotEncoder(handle_unknown="ignore"), ["country"]),
            ("words", TfidfVectorizer(), "note"),
        ]
    )
    return make_pipeline(columns, LogisticRegression()).fit(frame, fraud)


def test_a_pipeline_of_columns_and_text_answers_as_before_and_is_proved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame, fraud = claims()
    joblib.dump(claims_model(), tmp_path / "fraud.joblib")
    frame.assign(fraud=fraud).to_parquet(tmp_path / "rows.parquet")
    command = ["convert", str(tmp_path / "fraud.joblib"), "--data", str(tmp_path / "rows.parquet")]
    command += ["--ignore", "fraud", "-o", str(tmp_path / "model.onnx"), "--allow-pickle"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "120 rows of the data: 0.000% of the labels differ, the largest difference is " in printed
    proof = read_proof((tmp_path / "conversion.json").read_bytes())
    assert proof.modelDigest == f"sha256:{sha256_of(tmp_path / 'model.onnx')}"
    assert proof.original.digest == f"sha256:{sha256_of(tmp_path / 'fraud.joblib')}"
    assert proof.dataDigest == f"sha256:{sha256_of(tmp_path / 'rows.parquet')}"
    assert {*proof.compared} == set(Rows)
    assert {"python", "scikit-learn", "skl2onnx", "onnxruntime"} <= {*proof.versions}
    session = ort.InferenceSession(tmp_path / "model.onnx")
    row = {"amount": [[55.5]], "age": [[33]], "country": [["IT"]], "note": [["card stolen"]]}
    types = {"amount": np.float32, "age": np.int64, "country": object, "note": object}
    label, probabilities = session.run(None, {name: np.array(row[name], types[name]) for name in row})
    one = pd.DataFrame({name: value[0] for name, value in row.items()})
    assert label[0] == claims_model().predict(one)[0]
    assert probabilities == pytest.approx(claims_model().predict_proba(one), abs=1e-5)
    # What slipway profile reads next takes the model as it is.
    profile = make_profile(tmp_path / "rows.parquet", tmp_path / "model.onnx", labels="fraud")
    assert [feature.name for feature in profile.features] == list(frame.columns)


def test_the_pages_command_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame, fraud = claims()
    joblib.dump(claims_model(), "fraud.joblib")
    frame.assign(fraud=fraud).to_csv("rows.csv", index=False)
    command, *_ = commands("docs/converting.md")
    assert main(shlex.split(command.text)[1:]) == 0
    assert read_proof(Path("conversion.json").read_bytes()).compared[Rows.DATA].rows == len(frame)


@pytest.mark.parametrize(
    "model",
    [DecisionTreeClassifier(random_state=0), LinearSVC()],
    ids=lambda model: type(model).__name__,
)
def test_labels_of_text_and_missing_values_are_the_originals(model: Any) -> None:
    made = convert(original_of(model.fit(FLOWERS, SPECIES), "iris"), FLOWERS)
    session = ort.InferenceSession(made.model.SerializeToString())
    rows = FLOWERS.to_numpy(np.float32, copy=True)
    assert list(session.run(None, {"X": rows})[0]) == list(model.predict(FLOWERS))
    assert made.proof.compared[Rows.THRESHOLDS].rows > 50
    if isinstance(model, DecisionTreeClassifier):
        rows[:, 2] = np.nan
        lacking = pd.DataFrame(rows.astype(float), columns=FLOWERS.columns)
        assert list(session.run(None, {"X": rows})[0]) == list(model.predict(lacking))
        assert made.proof.compared[Rows.MISSING].refused == 0
    else:
        # The original refuses what is missing, and its scores are no part of what is served.
        assert made.proof.compared[Rows.MISSING].refused > 0
        assert len(session.get_outputs()) == 1


def trap_of_scaled_trees() -> tuple[Any, pd.DataFrame]:
    """onnxruntime#4130: ONNX's scaler rounds otherwise, and trees behind it take the other way."""
    target = np.arange(len(FLOWERS)) % 7
    trees = RandomForestRegressor(n_estimators=5, random_state=0)
    return make_pipeline(StandardScaler(), trees).fit(FLOWERS, target), FLOWERS


def trap_of_histograms() -> tuple[Any, pd.DataFrame]:
    """sklearn-onnx#1192: thresholds of 64 bits are rounded to 32."""
    target = np.arange(len(FLOWERS)) % 7
    model = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=5)
    return model.fit(FLOWERS, target), FLOWERS


def test_what_32_bits_round_at_thresholds_is_found_and_the_model_takes_64() -> None:
    model, rows = trap_of_scaled_trees()
    with pytest.raises(DifferentError, match="rows at thresholds"):
        convert(original_of(model, "trap"), rows, double=False)
    made = convert(original_of(model, "trap"), rows)
    assert made.proof.compared[Rows.THRESHOLDS].largestDifference == pytest.approx(0, abs=1e-6)
    assert made.proof.float64
    assert made.proof.compared32 is not None
    assert made.proof.compared32[Rows.THRESHOLDS].beyond > 0
    assert "takes numbers of 64 bits (FP64), because with 32, " in summary(made.proof)[-1]
    assert read_proof(made.proof.text()) == made.proof
    session = ort.InferenceSession(made.model.SerializeToString())
    assert session.get_inputs()[0].type == "tensor(double)"


@pytest.mark.parametrize("double", [False, True], ids=["FP32", "FP64"])
def test_thresholds_of_64_bits_tell_numbers_apart_as_before(double: bool) -> None:
    model, rows = trap_of_histograms()
    made = convert(original_of(model, "trap"), rows, double=double)
    assert made.proof.compared[Rows.THRESHOLDS].rows > 100
    assert made.proof.compared[Rows.THRESHOLDS].largestDifference == pytest.approx(0, abs=1e-6)
    assert made.proof.float64 is double


def test_whole_numbers_that_32_bits_cannot_hold_are_found_in_the_data() -> None:
    """ONNX models of tables compute with 32 bits, which have every whole number up to 2^24 only."""
    numbers = pd.DataFrame({"account": np.arange(2**24, 2**24 + 60, dtype=np.int64)})
    model = DecisionTreeClassifier().fit(numbers - 2**24, np.arange(60) % 2)
    shifted = make_pipeline(FunctionTransformer(), LinearRegression()).fit(numbers, np.arange(60.0))
    with pytest.raises(DifferentError, match="60 rows of the data"):
        convert(original_of(shifted, "accounts"), numbers, double=False)
    assert convert(original_of(shifted, "accounts"), numbers).proof.float64
    assert not convert(original_of(model, "accounts"), numbers - 2**24).proof.float64


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(max_iter=500),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GaussianNB(),
        SVC(),
    ],
    ids=["logistic", "scaled", "bayes", "votes"],
)
def test_a_models_overflow_at_the_largest_numbers_is_told_and_refused_by_the_strict_alone(model: Any) -> None:
    """The first try of many: 32 bits overflow at 3.4e38, where no row is."""
    original = original_of(model.fit(FLOWERS, SPECIES), "iris")
    made = convert(original, FLOWERS)
    assert not made.proof.float64
    assert made.proof.accepted == (Rows.EXTREMES,)
    assert all(not found.beyond for kind, found in made.proof.compared.items() if kind is not Rows.EXTREMES)
    assert made.proof.compared[Rows.OUTSIDE].rows == 4 * 9 * 8
    if made.proof.compared[Rows.EXTREMES].beyond:
        assert summary(made.proof)[-1].endswith(" (no refusal)")
        with pytest.raises(DifferentError, match="rows with an extreme value"):
            convert(original, FLOWERS, double=False, strict=True)
        assert convert(original, FLOWERS, strict=True).proof.float64
    else:
        assert isinstance(model, SVC)


def test_a_difference_outside_the_datas_range_is_refused_unless_it_is_accepted() -> None:
    """The square of a number that is a thousand times as large as all others overflows 32 bits."""
    numbers = pd.DataFrame({"distance": np.linspace(1e17, 2e17, 50), "height": np.linspace(2, 1, 50)})
    model = make_pipeline(PolynomialFeatures(2), StandardScaler(), LinearRegression())
    original = original_of(model.fit(numbers, np.arange(50.0)), "squares")
    with pytest.raises(DifferentError, match="rows outside the data's range") as refused:
        convert(original, numbers)
    assert "It cannot take 64 bits" in str(refused.value)
    assert refused.value.compared[Rows.OUTSIDE].beyond
    assert not refused.value.compared[Rows.DATA].beyond
    accepted = convert(original, numbers, accept=[Rows.OUTSIDE]).proof
    assert accepted.accepted == (Rows.OUTSIDE, Rows.EXTREMES)
    assert accepted.compared[Rows.OUTSIDE].beyond
    assert not accepted.float64


def test_a_step_without_onnx_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame, fraud = claims()
    columns = ColumnTransformer(
        [
            ("country", OneHotEncoder(handle_unknown="ignore"), ["country"]),
            ("numbers", make_pipeline(SimpleImputer(), SplineTransformer()), ["amount", "age"]),
        ]
    )
    joblib.dump(make_pipeline(columns, LogisticRegression()).fit(frame, fraud), tmp_path / "fraud.pkl")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    command = ["convert", str(tmp_path / "fraud.pkl"), "--data", str(tmp_path / "rows.csv"), "--allow-pickle"]
    assert main([*command, "-o", str(tmp_path / "model.onnx")]) == 1
    said = capsys.readouterr().err
    assert (
        "the step 'columntransformer.numbers.splinetransformer' (SplineTransformer) of the pipeline" in said
    )
    assert not (tmp_path / "model.onnx").exists()


def test_a_pickle_is_not_loaded_unless_somebody_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    joblib.dump(Trap(), tmp_path / "model.joblib")
    FLOWERS.to_csv(tmp_path / "rows.csv", index=False)
    command = ["convert", str(tmp_path / "model.joblib"), "--data", str(tmp_path / "rows.csv")]
    assert main(command) == 1
    assert "loading it runs code that is in it" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert main([*command, "--allow-pickle"]) == 1
    assert (tmp_path / "ran").exists()


def test_a_version_in_mlflow_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        mlflow.sklearn.log_model(
            LogisticRegression(max_iter=500).fit(FLOWERS, SPECIES == "setosa"),
            name="model",
            registered_model_name="iris",
            pip_requirements=["scikit-learn"],
        )
        FLOWERS.to_csv("rows.csv", index=False)
        command = ["convert", "mlflow://iris/1", "--data", "rows.csv"]
        assert main(command) == 1
        assert "loading it runs code that is in it" in capsys.readouterr().err
        assert main([*command, "--allow-pickle"]) == 0
        assert read_proof(Path("conversion.json").read_bytes()).original.called == "mlflow://iris/1"
        assert main(["convert", "mlflow://iris/2", "--data", "rows.csv", "--allow-pickle"]) == 1
        assert "mlflow://iris/2 cannot be had from MLflow" in capsys.readouterr().err
    finally:
        mlflow.set_tracking_uri(before)


def test_what_cannot_be_used_is_said() -> None:
    model = DecisionTreeClassifier().fit(FLOWERS, SPECIES)
    cases = {
        "takes the column 'petal width (cm)', which the data has not": (model, FLOWERS.iloc[:, :3]),
        "the data has no rows": (model, FLOWERS.iloc[:0]),
        "takes 4 columns, and the data has 5": (
            DecisionTreeClassifier().fit(FLOWERS.to_numpy(), SPECIES),
            FLOWERS.assign(extra=1),
        ),
        "the original refuses the data": (LinearSVC().fit(FLOWERS, SPECIES), FLOWERS * np.nan),
    }
    for message, (fitted, rows) in cases.items():
        with pytest.raises(ConvertError, match=re.escape(message)):
            convert(original_of(fitted, "iris"), rows)
    with pytest.raises(ConvertError, match="predicts no classes and no values"):
        original_of(StandardScaler().fit(FLOWERS), "scaler")
    with pytest.raises(ConvertError, match="convert takes models of scikit-learn"):
        original_of(object(), "nothing")


def test_a_model_that_takes_64_bits_is_compared_between_numbers_of_32_too() -> None:
    model, rows = trap_of_histograms()
    original, names = original_of(model, "trap"), list(rows.columns)
    layout = layout_of(rows, names, by_name=False, double=True)
    _, wide, _ = (found for kind, found in edges(original, rows, layout) if kind is Rows.THRESHOLDS)
    quarter = len(wide) // 4
    below, above = (wide.iloc[at * quarter : (at + 1) * quarter] for at in (1, 2))
    assert (model.predict(below) != model.predict(above)).mean() > 0.9
    assert np.abs(below.to_numpy() - above.to_numpy()).max() < 1e-14
    # 32 bits tell few of them apart.
    assert (below.to_numpy(np.float32) == above.to_numpy(np.float32)).all(axis=1).mean() > 0.9


@pytest.mark.parametrize(
    ("numbers", "least"), [(OF_32_BITS, 1e-45), (OF_64_BITS, 5e-324)], ids=["32 bits", "64 bits"]
)
def test_numbers_are_in_their_order(numbers: Numbers, least: float) -> None:
    largest = np.finfo(numbers.floats).max
    values = np.array([-largest, -1.5, -least, 0.0, least, 1.0, largest], numbers.floats)
    order = numbers.places(values)
    assert (np.diff(order.astype(object)) > 0).all()
    assert (numbers.at(order) == values).all()
    up = np.nextafter(values[:-1], numbers.floats(np.inf))
    assert (numbers.at(order[:-1] + 1) == up).all()
    assert list(numbers.beside(order[[0, -1]], 1)) == [order[0] + 1, order[-1]]


def test_a_label_may_differ_where_the_original_has_a_tie() -> None:
    numbers = np.array([[0.5, 0.5], [0.9, 0.1], [0.9, 0.1], [np.nan, np.nan]])
    original = Answers(np.array([0, 0, 0, 0]), numbers, are_probabilities=True)
    found = numbers.astype(np.float32)
    found[2, 0] = 0.8
    compared = differences(original, Answers(np.array([1, 1, 0, 0]), found), 1e-3)
    assert list(compared.labels) == [True, True, False, False]
    assert list(compared.beyond) == [False, True, True, False]
    assert json.loads(compared.summed_up(3).model_dump_json())["refused"] == 3
