"""CatBoost, in an environment of its own: with what it draws plots with it has 300 MB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from slipway.conversion import Rows, read_proof
from slipway.digest import digest_of
from tests.convert.environments import converted, environment, run
from tests.server.running import Server, tensor

#: Fits models, and says what they answer and where they split.
FITTING = """
import json
import joblib, mlflow, numpy as np, pandas as pd
from catboost import CatBoostClassifier, CatBoostRegressor
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

few = {"iterations": 5, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
flowers, disease = load_iris(as_frame=True), load_diabetes(as_frame=True)
rows = flowers.data.mask(np.arange(600).reshape(150, 4) % 11 == 0)
rows.to_parquet("species.parquet")
species = np.array(["setosa", "versicolor", "virginica"])[flowers.target]
model = CatBoostClassifier(**few).fit(rows, species)
model.save_model("species.cbm")
model.save_model("species.json", format="json")
mlflow.set_tracking_uri("sqlite:///mlflow.db")
for kind in ("cbm", "json", "onnx"):
    mlflow.catboost.log_model(model, name="model", registered_model_name=kind, format=kind)
borders = sum(len(each) for each in model.get_borders().values())
said = {"borders": borders, "species": model.predict_proba(rows).tolist()}
disease.data.to_parquet("disease.parquet")
model = CatBoostRegressor(**few, loss_function="Poisson").fit(disease.data, disease.target)
model.save_model("disease.cbm")
said["disease"] = model.predict(disease.data).tolist()

random = np.random.default_rng(0)
claims = pd.DataFrame({"amount": random.exponential(80, 200), "country": random.choice(["DE", "FR"], 200)})
claims.loc[::6, "amount"] = np.nan
claims.to_parquet("claims.parquet")
columns = ColumnTransformer([("country", OneHotEncoder(handle_unknown="ignore"), ["country"])],
                            remainder="passthrough")
fraud = ((claims.amount > 60) & (claims.country == "DE")).astype(int)
piped = make_pipeline(columns, CatBoostClassifier(**few)).fit(claims, fraud)
joblib.dump(piped, "claims.joblib")
asked = claims.dropna()
said["labels"] = piped.predict(asked).tolist()
said["claims"] = piped.predict_proba(asked).ravel().tolist()
said["asked"] = {name: asked[name].tolist() for name in asked}

kinds = claims.assign(amount=0)
CatBoostRegressor(**few, cat_features=["country"]).fit(kinds, fraud).save_model("kinds.cbm")
kinds.to_parquet("kinds.parquet")
json.dump(said, open("said.json", "w"))
"""
REFUSED = "import sys; from slipway.cli.main import main; assert main(sys.argv[1:]) == 1"


@pytest.mark.long
def test_catboosts_models_answer_as_before_and_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    python = environment(tmp_path, "convert", "catboost==1.2.10", "mlflow")
    run(python, tmp_path, "-c", FITTING)
    said: dict[str, Any] = json.loads((tmp_path / "said.json").read_text())
    for name, file in {"species": "species.cbm", "disease": "disease.cbm", "claims": "claims.joblib"}.items():
        (tmp_path / name).mkdir()
        command = ["-m", "slipway.cli.main", "convert", file, "--data", f"{name}.parquet", "--allow-pickle"]
        run(python, tmp_path, *command, "-o", f"{name}/model.onnx")
    proof = read_proof((tmp_path / "species/conversion.json").read_bytes())
    assert proof.compared[Rows.THRESHOLDS].rows >= 3 * min(said["borders"], 300)
    assert all(not found.beyond for found in proof.compared.values())
    assert proof.versions["catboost"] == "1.2.10"
    for name in ("species", "disease"):
        session = ort.InferenceSession(tmp_path / name / "model.onnx")
        rows = np.array(json.loads(run(python, tmp_path, "-c", READING, f"{name}.parquet")), np.float32)
        (*_, found) = session.run(None, {"X": rows})
        wanted = np.array(said[name])
        assert found.reshape(wanted.shape) == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    again = {"file": "species.json", "cbm": "mlflow://cbm/1", "json": "mlflow://json/1"}
    commands = {name: [model, "--data", "species.parquet"] for name, model in again.items()}
    commands["onnx"] = ["mlflow://onnx/1", "--data", "species.parquet"]
    outcomes = converted(
        python, tmp_path, {name: [*each, "-o", f"{name}.onnx"] for name, each in commands.items()}
    )
    assert outcomes["onnx"][0] == 1
    assert "model.cb has no model of CatBoost in its formats cbm and json" in outcomes["onnx"][1]
    rows = np.array(json.loads(run(python, tmp_path, "-c", READING, "species.parquet")), np.float32)
    for name in again:
        assert outcomes[name][0] == 0, outcomes[name]
        (*_, found) = ort.InferenceSession(tmp_path / f"{name}.onnx").run(None, {"X": rows})
        assert found == pytest.approx(np.array(said["species"]), rel=1e-5, abs=1e-6)
    (tmp_path / "claims/conversion.json").rename(tmp_path / "conversion.json")
    asked = said["asked"]
    inputs = [
        tensor("amount", "FP32", [len(asked["amount"]), 1], asked["amount"]),
        tensor("country", "BYTES", [len(asked["country"]), 1], asked["country"]),
    ]
    served = tmp_path / "claims"
    with Server(served, digest=digest_of(served)) as server:
        answer = server.wait_until_ready().infer(*inputs)
    assert answer.status_code == 200, answer.text
    labels, probabilities = (output["data"] for output in answer.json()["outputs"])
    assert labels == said["labels"]
    assert probabilities == pytest.approx(said["claims"], abs=1e-6)
    refused = ["convert", "kinds.cbm", "--data", "kinds.parquet", "-o", "kinds.onnx"]
    words = run(python, tmp_path, "-c", f"import sys; sys.stderr = sys.stdout; {REFUSED}", *refused)
    assert "the CatBoostRegressor cannot be converted to ONNX: it takes categories in 'country'" in words


#: Prints rows as JSON, with null for what is missing.
READING = """
import sys, pandas
print(pandas.read_parquet(sys.argv[1]).to_json(orient="values", double_precision=15))
"""
