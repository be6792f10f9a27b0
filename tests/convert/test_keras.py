"""Models of Keras, in an environment of their own: TensorFlow has a gigabyte."""

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

#: Fits models, and says what Keras answers; a model with code is released from where the code is.
FITTING = """
import json
import keras, mlflow, numpy as np, slipway, tensorflow as tf
from keras import layers, ops
from sklearn.datasets import load_digits, load_iris

keras.utils.set_random_seed(0)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
said = {}


def fit(name, model, rows, wanted=None, loss="sparse_categorical_crossentropy", steps=30):
    if wanted is not None:
        model.compile(keras.optimizers.Adam(0.02), loss)
        model.fit(rows, wanted, epochs=steps, batch_size=150, verbose=0)
    model.save(f"{name}.keras")
    answer = model.predict(rows, verbose=0)
    said[name] = [each.astype(float).ravel().tolist() for each in keras.tree.flatten(answer)]
    return model


flowers = load_iris(as_frame=True)
flowers.data.to_parquet("flowers.parquet")
rows = flowers.data.to_numpy(np.float32)
said["rows"] = rows.tolist()
dense = [layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dropout(0.5)]
dense += [layers.Dense(3, "softmax")]
species = fit("flowers", keras.Sequential([keras.Input((4,)), *dense]), rows, flowers.target)

digits = load_digits()
pictures = (digits.images[:200, :, :, None] / 16).astype(np.float32)
np.save("digits.npy", pictures)
seen = keras.Input((8, 8, 1), name="pictures")
parts = layers.MaxPooling2D()(layers.Conv2D(4, 3, activation="relu")(seen))
scores = layers.Dense(10, name="scores")(layers.Flatten()(parts))
fit("digits", keras.Model(seen, {"scores": scores, "best": ops.max(scores, axis=1)}), pictures)

amounts, kind = keras.Input((3,), name="amounts"), keras.Input((1,), name="kind", dtype="int32")
both = layers.Concatenate()([amounts, layers.Flatten()(layers.Embedding(5, 2)(kind))])
risk = layers.Dense(1, "sigmoid", name="risk")(both)
kinds = (np.arange(50)[:, None] % 5).astype("int32")
claims = {"amounts": np.random.rand(50, 3).astype("float32"), "kind": kinds}
np.savez("claims.npz", **claims)
fit("claims", keras.Model({"kind": kind, "amounts": amounts}, risk), claims)

tokens = np.random.randint(0, 20, (30, 6)).astype("int32")
np.save("tokens.npy", tokens)
read = [layers.Embedding(20, 4), layers.LSTM(5), layers.Dense(2)]
fit("tokens", keras.Sequential([keras.Input((6,), dtype="int32"), *read]), tokens)

fixed = keras.Input(batch_shape=(150, 4))
fit("fixed", keras.Model(fixed, layers.Dense(1)(fixed)), rows)
fit("lambda", keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)]), rows)
given = keras.Input((4,))
turned = ops.svd(layers.Dense(4, name="even")(given)[:, :, None], compute_uv=False)
fit("svd", keras.Model(given, layers.Dense(1)(turned)), rows)
fit("argmax", keras.Model(given, ops.argmax(layers.Dense(3)(given), axis=1)), rows)
species.save("old.h5")
words = layers.TextVectorization(output_mode="multi_hot", vocabulary=["a", "b"])
text = keras.Input((1,), dtype="string")
keras.Model(text, words(text)).save("words.keras")


class Doubled(layers.Layer):
    def call(self, rows):
        return 2 * rows


custom = keras.Sequential([keras.Input((4,)), Doubled(name="twice"), layers.Dense(3, "softmax")])
fit("custom", custom, rows, flowers.target)
released = slipway.release(custom, flowers.data, name="doubled")
said["released"] = [released.uri, released.proof.original.kind]

mlflow.keras.log_model(species, registered_model_name="keras", name="model")
mlflow.tensorflow.log_model(species, registered_model_name="tensorflow", name="model")
with_code = {"custom_objects": {"Doubled": Doubled}, "registered_model_name": "code", "name": "model"}
mlflow.tensorflow.log_model(custom, **with_code)


class Plain(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
    def __call__(self, rows):
        return rows


signature = mlflow.models.infer_signature(rows, rows)
mlflow.tensorflow.log_model(Plain(), registered_model_name="plain", name="model", signature=signature)
json.dump(said, open("said.json", "w"))
"""

#: The model, the rows, and what is said of it.
REFUSED = {
    "fixed.keras": ("flowers.parquet", "takes exactly 150 rows at once, and clients send any number"),
    "lambda.keras": ("flowers.parquet", "has a Lambda layer, which holds code"),
    "custom.keras": (
        "flowers.parquet",
        "has the custom object 'Doubled', whose code is not in a .keras file",
    ),
    "svd.keras": ("flowers.parquet", "svd.keras cannot be converted to ONNX: its layer 'svd'"),
    "argmax.keras": ("flowers.parquet", "its layer 'argmax' (Argmax) cannot"),
    "old.h5": ("flowers.parquet", "old.h5 is in Keras's old format, in which code can hide"),
    "words.keras": ("flowers.parquet", "is of string: convert a model that takes dense tensors of float32"),
    "digits.keras": (
        "flowers.parquet",
        "has the shape [8, 8, 1], which takes 64 columns, and the data has 4",
    ),
    "text.keras": ("flowers.parquet", "text.keras cannot be loaded"),
    "mlflow://code/1": ("flowers.parquet", "mlflow://code/1 has custom objects, as a pickle of code"),
    "mlflow://plain/1": ("flowers.parquet", "mlflow://plain/1 is a SavedModel of TensorFlow"),
}


@pytest.mark.long
def test_models_of_keras_answer_as_before_and_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    python = environment(tmp_path, "keras", "keras==3.15.1", "tensorflow-cpu==2.21.0", "mlflow")
    run(python, tmp_path, "-c", FITTING)
    said: dict[str, Any] = json.loads((tmp_path / "said.json").read_text())
    (tmp_path / "text.keras").write_text("no model")
    data = {
        "flowers": "flowers.parquet",
        "digits": "digits.npy",
        "claims": "claims.npz",
        "tokens": "tokens.npy",
    }
    models = {name: f"{name}.keras" for name in data} | {
        "keras": "mlflow://keras/1",
        "tensorflow": "mlflow://tensorflow/1",
    }
    commands = {}
    for name, model in models.items():
        (tmp_path / name).mkdir()
        commands[name] = [model, "--data", data.get(name, "flowers.parquet"), "-o", f"{name}/model.onnx"]
    # onnxruntime's MaxPool passes over a NaN, TensorFlow's answers by the kernel that the machine has.
    commands["digits"] += ["--accept", "missing"]
    # onnxruntime's MaxPool answers a NaN otherwise than TensorFlow's.
    commands["digits"] += ["--accept", "missing"]
    for model, (rows, _) in REFUSED.items():
        commands[f"no {model}"] = [model, "--data", rows, "-o", "no.onnx"]
    outcomes = converted(python, tmp_path, commands)
    assert {name: words for name, (code, words) in outcomes.items() if name in models and code} == {}
    for model, (_, words) in REFUSED.items():
        code, found = outcomes[f"no {model}"]
        assert (code, words in found) == (1, True), found
    assert not (tmp_path / "no.onnx").exists()

    proof = read_proof((tmp_path / "flowers/conversion.json").read_bytes())
    assert {*proof.compared} == {*Rows} - {Rows.UNKNOWN}
    assert proof.original.kind == "keras.Sequential"
    assert (proof.versions["keras"], proof.versions["tensorflow-cpu"]) == ("3.15.1", "2.21.0")
    assert said["released"] == ["mlflow://doubled/1", "keras.Sequential"]

    rows = np.array(said["rows"], np.float32)
    asked = {
        "flowers": {"X": rows},
        "keras": {"X": rows},
        "tensorflow": {"X": rows},
        "tokens": {"X": np.load(tmp_path / "tokens.npy")},
        "claims": dict(np.load(tmp_path / "claims.npz")),
    }
    for name, given in asked.items():
        found = ort.InferenceSession(tmp_path / name / "model.onnx").run(None, given)
        agree(found, said["flowers" if name in ("keras", "tensorflow") else name])

    pictures = np.load(tmp_path / "digits.npy")
    served = tmp_path / "digits"
    (served / "conversion.json").unlink()
    with Server(served, digest=digest_of(served)) as server:
        for count in (1, 7):
            few = pictures[:count]
            answer = server.wait_until_ready().infer(
                tensor("X", "FP32", list(few.shape), few.ravel().tolist())
            )
            assert answer.status_code == 200, answer.text
            outputs = {output["name"]: np.array(output["data"]) for output in answer.json()["outputs"]}
            best, scores = said["digits"]
            agree([outputs["best"], outputs["scores"]], [best[:count], scores[: 10 * count]])


def agree(found: list[Any], wanted: list[list[float]]) -> None:
    assert [each.size for each in found] == [len(each) for each in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one.ravel() == pytest.approx(np.array(other), rel=1e-4, abs=1e-5)
