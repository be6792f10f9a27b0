"""Networks of PyTorch, in an environment of their own: with its libraries it has gigabytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from slipway.conversion import Rows, read_proof
from slipway.digest import digest_of
from tests.convert.environments import converted, environment, run
from tests.convert.shares import assert_the_page_has
from tests.server.running import Server, tensor

PYTORCH = """
import copy, json, mlflow, numpy as np, pandas as pd, slipway, torch
from sklearn.datasets import load_diabetes, load_digits, load_iris
from torch import nn

torch.manual_seed(0)
said = {}
ROWS = ({0: torch.export.Dim.AUTO},)


def fit(model, loss, *given, wanted, steps=60):
    best = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(steps):
        best.zero_grad()
        loss(model(*given), wanted).backward()
        best.step()
    return model.eval()


def save(name, model, *given, shapes=ROWS):
    torch.export.save(torch.export.export(model, given, dynamic_shapes=shapes), f"{name}.pt2")
    with torch.no_grad():
        answer = model(*given)
    answers = answer if isinstance(answer, tuple) else (answer,)
    said[name] = [each.double().flatten().tolist() for each in answers]


flowers = load_iris(as_frame=True)
flowers.data.to_parquet("flowers.parquet")
rows = torch.tensor(flowers.data.to_numpy(np.float32))
layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
fit(layers, nn.functional.cross_entropy, rows, wanted=torch.tensor(flowers.target.to_numpy()))
species = nn.Sequential(layers, nn.Softmax(1)).eval()
save("flowers", species, rows)

digits = load_digits()
pictures = torch.tensor(digits.images[:200, None] / 16, dtype=torch.float32)
np.save("digits.npy", pictures.numpy())


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        seen = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)]
        self.seen = nn.Sequential(*seen)

    def forward(self, pictures):
        scores = self.seen(pictures)
        return (scores, scores.argmax(1)) if not self.training else scores


wanted = torch.tensor(digits.target[:200])
save("digits", fit(Digits(), nn.functional.cross_entropy, pictures, wanted=wanted), pictures)

disease = load_diabetes(as_frame=True)
disease.data.to_parquet("disease.parquet")
numbers = torch.tensor(disease.data.to_numpy())
save("disease", nn.Sequential(nn.Linear(10, 4), nn.Tanh(), nn.Linear(4, 1)).double().eval(), numbers)


class Claims(nn.Module):
    def __init__(self):
        super().__init__()
        self.kinds, self.scored = nn.Embedding(5, 2), nn.Linear(5, 1)

    def forward(self, amounts, *, kind):
        return torch.sigmoid(self.scored(torch.cat([amounts, self.kinds(kind)], 1)))


claims = Claims().eval()
given = (torch.rand(50, 3), torch.arange(50) % 5)
np.savez("claims.npz", amounts=given[0].numpy(), kind=given[1].numpy())
program = torch.export.export(
    claims, given[:1], {"kind": given[1]},
    dynamic_shapes={"amounts": {0: torch.export.Dim.AUTO}, "kind": {0: torch.export.Dim.AUTO}},
)
torch.export.save(program, "claims.pt2")
said["claims"] = [claims(given[0], kind=given[1]).double().flatten().tolist()]

words = nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(24, 2)).eval()
tokens = torch.randint(0, 20, (30, 6))
np.save("tokens.npy", tokens.numpy())
save("tokens", words, tokens)

save("fixed", species, rows, shapes=None)
# A run of it would move what the batch norms of the others have seen.
save("training", copy.deepcopy(layers).train(), rows)


class Listed(nn.Module):
    def forward(self, both):
        return both[0] + both[1]


listed = torch.export.export(Listed(), ([rows, rows],), dynamic_shapes=([*ROWS, *ROWS],))
torch.export.save(listed, "listed.pt2")


class Summed(nn.Module):
    def forward(self, rows):
        return rows.sum()


save("summed", Summed(), rows)


class Sorted(nn.Module):
    def forward(self, rows):
        return torch.linalg.svdvals(rows[:, :, None])


save("sorted", Sorted(), rows)

mlflow.set_tracking_uri("sqlite:///mlflow.db")
example = {"name": "model", "input_example": rows[:5].numpy(), "pip_requirements": ["torch"]}
mlflow.pytorch.log_model(species, registered_model_name="program", **example)
pickle = {"serialization_format": "pickle"}
mlflow.pytorch.log_model(species, registered_model_name="pickled", **example, **pickle)
del example["input_example"]
mlflow.pytorch.log_model(species, registered_model_name="unsigned", **example, **pickle)

released = [slipway.release(species.train(), flowers.data, flowers.target, name="species")]
assert species.training
mlflow.artifacts.download_artifacts("models:/species/1", dst_path="released")
read = pd.DataFrame(tokens.numpy(), columns=[f"word {at}" for at in range(6)])
released += [slipway.release(torch.export.load("tokens.pt2"), read, name="tokens")]
said["release"] = [[each.uri, each.proof.original.kind] for each in released]
said["no release"] = []
pixels = pd.DataFrame(pictures.reshape(200, 64).numpy())
for model, given in ((words, read), (torch.export.load("digits.pt2"), pixels)):
    try:
        slipway.release(model, given, name="none", accept=["missing"])
    except slipway.convert.errors.ConvertError as error:
        said["no release"].append(str(error))
json.dump(said, open("said.json", "w"))
"""


def given(folder: Path, name: str, **arrays: Any) -> list[Any]:
    """What the converted model answers."""
    return ort.InferenceSession(folder / name / "model.onnx").run(None, arrays)


def agree(found: list[Any], wanted: list[list[float]]) -> None:
    assert [each.size for each in found] == [len(each) for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.ravel() == pytest.approx(np.array(other), rel=1e-4, abs=1e-5)


REFUSED = {
    "fixed": ("flowers.parquet", "takes exactly 150 rows at once, and clients send any number"),
    "training": ("flowers.parquet", "call eval() before it is exported"),
    "listed": ("flowers.parquet", "takes lists or maps of tensors"),
    "summed": ("flowers.parquet", "output 0 of the model has the shape [] for 150 rows"),
    "sorted": ("flowers.parquet", "_linalg_svd"),
    "digits": ("flowers.parquet", "has the shape [1, 8, 8], which takes 64 columns, and the data has 4"),
    "claims": (
        "flowers.parquet",
        "takes the input 'amounts', and the data has no column 'amounts' nor amounts.0",
    ),
    "tokens": ("digits.npy", "which takes 6 columns, and the data has 64"),
}


@pytest.mark.long
def test_programs_of_pytorch_answer_as_before_and_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    python = environment(tmp_path, "pytorch", "torch==2.13.0", "mlflow")
    run(python, tmp_path, "-c", PYTORCH)
    said: dict[str, Any] = json.loads((tmp_path / "said.json").read_text())
    data = {
        "flowers": "flowers.parquet",
        "digits": "digits.npy",
        "disease": "disease.parquet",
        "claims": "claims.npz",
        "tokens": "tokens.npy",
    }
    models = {name: f"{name}.pt2" for name in data} | {
        "program": "mlflow://program/1",
        "pickled": "mlflow://pickled/1",
    }
    commands = {}
    for name, model in models.items():
        (tmp_path / name).mkdir()
        rows = data.get(name, "flowers.parquet")
        commands[name] = [model, "--allow-pickle", "--data", rows, "-o", f"{name}/model.onnx"]
    # onnxruntime's MaxPool passes over NaN, where PyTorch's answers NaN.
    commands["no missing"] = [*commands["digits"][:-1], "no.onnx"]
    commands["digits"] += ["--accept", "missing"]
    for name, (rows, _) in REFUSED.items():
        commands[f"no {name}"] = [f"{name}.pt2", "--allow-pickle", "--data", rows, "-o", "no.onnx"]
    commands["no double"] = [*commands["disease"], "--no-float64"]
    commands["no trust"] = ["flowers.pt2", "--data", "flowers.parquet", "-o", "no.onnx"]
    commands["no signature"] = [
        "mlflow://unsigned/1",
        "--allow-pickle",
        "--data",
        "flowers.parquet",
        "-o",
        "no.onnx",
    ]
    outcomes = converted(python, tmp_path, commands)
    assert {name: words for name, (code, words) in outcomes.items() if name in models and code} == {}
    reasons = {f"no {name}": words for name, (_, words) in REFUSED.items()} | {
        "no double": "the network takes numbers of 64 bits, as it was exported",
        "no missing": "rows with a missing value",
        "no trust": "flowers.pt2 is a pickle, and loading it runs code that is in it",
        "no signature": "mlflow://unsigned/1 is a pickled module without a signature of one tensor",
    }
    for name, words in reasons.items():
        assert (outcomes[name][0], words in outcomes[name][1]) == (1, True), outcomes[name]
    assert not (tmp_path / "no.onnx").exists()

    proof = read_proof((tmp_path / "flowers/conversion.json").read_bytes())
    assert {*proof.compared} == {*Rows} - {Rows.UNKNOWN}
    assert proof.original.kind == "torch.export.ExportedProgram"
    assert proof.versions["torch"].startswith("2.13.0")
    assert read_proof((tmp_path / "disease/conversion.json").read_bytes()).float64
    tokens = read_proof((tmp_path / "tokens/conversion.json").read_bytes())
    assert tokens.compared[Rows.UNKNOWN].refused
    assert not onnx.load(tmp_path / "flowers/model.onnx").graph.node[0].metadata_props

    rows = np.array(json.loads(run(python, tmp_path, "-c", READING, "flowers.parquet")), np.float32)
    kinds = ["torch.nn.modules.container.Sequential", "torch.export.ExportedProgram"]
    assert said["release"] == [
        ["mlflow://species/1", kinds[0]],
        ["mlflow://tokens/1", kinds[1]],
    ]
    session = ort.InferenceSession(tmp_path / "released/model.onnx")
    assert [each.name for each in session.get_outputs()] == ["probabilities"]
    assert "It was given 6 columns of numbers; of a model that takes whole" in said["no release"][0]
    assert "a row of the input 'X' has the shape [1, 8, 8], and a profile" in said["no release"][1]
    for name in ("flowers", "program", "pickled", "released"):
        agree(given(tmp_path, name, X=rows), said["flowers"])
    disease = np.array(json.loads(run(python, tmp_path, "-c", READING, "disease.parquet")))
    agree(given(tmp_path, "disease", X=disease), said["disease"])
    agree(given(tmp_path, "tokens", X=np.load(tmp_path / "tokens.npy")), said["tokens"])
    agree(given(tmp_path, "claims", **np.load(tmp_path / "claims.npz")), said["claims"])

    networks = {name: tmp_path / name / "model.onnx" for name in data}
    assert_the_page_has("dense and convolutional networks of PyTorch", networks, monkeypatch)

    pictures = np.load(tmp_path / "digits.npy")
    (tmp_path / "digits/conversion.json").rename(tmp_path / "conversion.json")
    served = tmp_path / "digits"
    with Server(served, digest=digest_of(served)) as server:
        for count in (1, 7):
            asked = pictures[:count]
            answer = server.wait_until_ready().infer(
                tensor("X", "FP32", list(asked.shape), asked.ravel().tolist())
            )
            assert answer.status_code == 200, answer.text
            outputs = answer.json()["outputs"]
            assert [output["name"] for output in outputs] == ["variable", "label"]
            scores, labels = (np.array(output["data"]) for output in outputs)
            agree([scores, labels], [said["digits"][0][: 10 * count], said["digits"][1][:count]])


#: Prints rows as JSON, with null for what is missing.
READING = """
import sys, pandas
print(pandas.read_parquet(sys.argv[1]).to_json(orient="values", double_precision=15))
"""
