"""Models that take pictures and texts as they are: from `fit` to a served answer like the framework's own."""

from __future__ import annotations

import base64
import io
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sentencepiece import SentencePieceTrainer
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tokenizers import BertWordPieceTokenizer

from e2e.snippets import commands
from slipway.cli.main import main
from slipway.conversion import read_proof
from slipway.convert.compose import inputs_of
from slipway.convert.errors import ConvertError
from slipway.convert.onnx_models import session
from slipway.convert.pictures import picture_of
from slipway.convert.pipeline import with_picture_steps, with_text_steps
from slipway.convert.texts import Tokenizer, tokenizer_of
from slipway.models import onnx_graph_pb2 as pb
from slipway.models.hazard_tables import Around
from slipway.models.hazards import look
from tests.server.running import Server, tensor

ROOT = Path(__file__).parents[2]
DIGITS = load_digits()
GOOD, BAD = (
    ["a good film", "great acting, truly great", "I loved it", "wonderful"],
    ["a bad film", "dull", "awful plot"],
)
TEXTS = [f"{text}{end}" for text in (*GOOD, *BAD) for end in ("", "!", " indeed", " I say")]
MOODS = ["good" if text.startswith(tuple(GOOD)) else "bad" for text in TEXTS]


def drawn(digit: Any, kind: str = "JPEG") -> bytes:
    """One of scikit-learn's digits, eight pixels wide, as a picture of 64."""
    picture = Image.fromarray((digit.reshape(8, 8) * 15.9).astype(np.uint8))
    held = io.BytesIO()
    picture.resize((64, 64), Image.Resampling.BICUBIC).convert("RGB").save(held, kind, quality=90)
    return held.getvalue()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with `digits.onnx` and `pictures/`, and the fitted model, of 64 values from 0 to 1."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "pictures").mkdir()
    for number, digit in enumerate(DIGITS.data[:60]):
        ending = ("jpg", "png")[number % 2]
        path = folder / "pictures" / f"{number:03}.{ending}"
        path.write_bytes(drawn(digit, ("JPEG", "PNG")[number % 2]))
    like = onnx.load_from_string(_pixels(64).SerializeToString())
    picture = picture_of(like, (8, 8), "grey")
    rows = np.stack([picture.row(drawn(digit)) for digit in DIGITS.data[:600]])
    fitted = LogisticRegression(max_iter=200).fit(rows, DIGITS.target[:600])
    model = to_onnx(fitted, rows[:1], options={"zipmap": False}, target_opset=21)
    onnx.save(model, folder / "digits.onnx")
    return folder, fitted


def _pixels(count: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["n", count])],
        [value("y", TensorProto.FLOAT, ["n", count])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def example(name: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((ROOT / "examples" / name).read_text())
    return made


def printed(word: str) -> list[str]:
    """The page's command with this word in it."""
    [found] = [each.text for each in commands("docs/converting.md") if word in each.text]
    return shlex.split(found)[1:]


def served(folder: Path, manifest: dict[str, Any]) -> Server:
    name = manifest["metadata"]["name"]
    milliseconds = manifest["spec"]["runtime"]["requestTimeoutMilliseconds"]
    return Server(folder, modelName=name, requestTimeoutMilliseconds=milliseconds)


def assert_is_no_hazard(model: onnx.ModelProto) -> None:
    """A resolver lets it through."""
    look(pb.Model.FromString(model.SerializeToString()), Around())


def test_the_picture_classifier_of_the_examples_answers_as_scikit_learn(
    digits: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, fitted = digits
    monkeypatch.chdir(folder)
    assert main(printed("--pipeline image")) == 0
    proof = read_proof((folder / "conversion.json").read_bytes())
    (compared,) = proof.compared.values()
    assert (compared.rows, compared.labelsDiffer) == (60, 0)
    assert proof.versions["pillow"] == Image.__version__
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    picture = picture_of(onnx.load(folder / "digits.onnx"), (8, 8), "grey")
    with served(tmp_path / "model", example("pictures.yaml")) as server:
        server.wait_until_ready()
        pictures = [drawn(digit) for digit in DIGITS.data[600:640]]
        texts = [base64.b64encode(each).decode() for each in pictures]
        answer = server.infer(tensor("pictures", "BYTES", [40], texts)).json()["outputs"]
        expected = fitted.predict_proba([picture.row(each) for each in pictures])
        assert answer[0]["data"] == fitted.classes_[expected.argmax(1)].tolist()
        assert np.abs(np.reshape(answer[1]["data"], expected.shape) - expected).max() < 0.02


def test_options_that_do_not_fit_the_model_are_refused_and_nothing_is_written(
    digits: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = digits
    given = [str(folder / "digits.onnx"), "--pipeline", "image", "--data", str(folder / "pictures")]
    assert main(["convert", *given, "-o", str(tmp_path / "model.onnx")]) == 1
    assert "--size" in capsys.readouterr().err
    assert main(["convert", *given, "--size", "7x9", "-o", str(tmp_path / "model.onnx")]) == 1
    assert "1 or 3 channels" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_difference_beyond_the_tolerance_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No two decoders of JPEG agree about colours to the last level."""
    (tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "pictures/noise.jpg")
    onnx.save(_pixels(192), tmp_path / "pixels.onnx")
    given = [str(tmp_path / "pixels.onnx"), "--pipeline", "image", "--data", str(tmp_path / "pictures")]
    more = ["--size", "8x8", "--tolerance", "0", "-o", str(tmp_path / "model.onnx")]
    assert main(["convert", *given, *more]) == 1
    assert "answers otherwise" in capsys.readouterr().err
    assert {each.name for each in tmp_path.iterdir()} == {"pictures", "pixels.onnx"}


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize(
    ("shape", "channels"),
    [(["n", 3, 6, 7], "rgb"), (["n", 6, 7, 3], "bgr"), (["n", 1, 6, 7], "grey"), (["n", 6, 7], None)],
)
def test_pixels_are_those_of_pillow_whatever_the_layout(
    tmp_path: Path, shape: list[Any], channels: str | None, crop: bool
) -> None:
    model = _pixels(1)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    onnx.save(model, tmp_path / "pixels.onnx")
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    sizes = {
        "wide": (50, 9),
        "high": (9, 50),
        "one": (1, 1),
        "same": (7, 6),
        "long": (900, 1),
        "large": (640, 480),
    }
    for name, (width, height) in sizes.items():
        table = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for mode in ("RGB", "L", "RGBA", "P"):
            Image.fromarray(table).convert(mode).save(folder / f"{name}-{mode}.png")
    depth = 1 if channels in ("grey", None) else 3
    made = with_picture_steps(
        tmp_path / "pixels.onnx",
        folder,
        tolerance=0.03,
        channels=channels,
        crop=crop,
        mean=(0.5,) * depth,
        std=(0.25,) * depth,
    )
    (compared,) = made.proof.compared.values()
    assert compared.rows == 24
    assert_is_no_hazard(made.model)
    # One level of 255, by 0.25.
    assert compared.largestDifference is not None
    assert compared.largestDifference <= 1.01 / 255 / 0.25


def moods(vocabulary: int, pad: int) -> onnx.ModelProto:
    """Scores of two moods: those of all tokens, added up. The weights are set by :func:`learned`."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["each"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["there", "last"], ["mask"]),
        helper.make_node("Mul", ["each", "mask"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "first"], ["scores"], keepdims=0),
    ]
    held = [
        numpy_helper.from_array(np.zeros((vocabulary, 2), np.float32), "weights"),
        numpy_helper.from_array(np.array([-1]), "last"),
        numpy_helper.from_array(np.array([1]), "first"),
    ]
    whole = TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "g",
        [value("input_ids", whole, ["n", "tokens"]), value("attention_mask", whole, ["n", "tokens"])],
        [value("scores", TensorProto.FLOAT, ["n", 2])],
        held,
    )
    del pad
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def learned(tokenizer: Tokenizer, vocabulary: int) -> onnx.ModelProto:
    rows = tokenizer.rows(TEXTS)
    counts = np.zeros((len(TEXTS), vocabulary), np.float32)
    for row, (ids, mask) in enumerate(zip(rows["input_ids"], rows["attention_mask"], strict=True)):
        np.add.at(counts[row], ids[mask == 1], 1)
    fitted = LogisticRegression(C=10, fit_intercept=False).fit(counts, MOODS)
    assert fitted.classes_.tolist() == ["bad", "good"]
    weights = np.stack([np.zeros(vocabulary), fitted.coef_[0]], axis=1).astype(np.float32)
    model = moods(vocabulary, tokenizer.pad)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    return model


@pytest.fixture(scope="module")
def mood_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`moods.onnx`, `vocab.txt` of a tokenizer trained here, `classes.txt` and `texts.csv`."""
    folder = tmp_path_factory.mktemp("moods")
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(TEXTS, vocab_size=120, min_frequency=1, show_progress=False)
    words = sorted(trained.get_vocab().items(), key=lambda each: each[1])
    (folder / "vocab.txt").write_text("\n".join(word for word, _ in words))
    onnx.save(learned(tokenizer_of(folder / "vocab.txt", 32), len(words)), folder / "moods.onnx")
    (folder / "classes.txt").write_text("bad\ngood\n")
    pd.DataFrame(
        {"text": [*TEXTS, "", "GREAT Ácting", "x" * 300, " ".join(["dull"] * 90), "中文 film"]}
    ).to_csv(folder / "texts.csv", index=False)
    return folder


def test_the_text_classifier_of_the_examples_answers_as_scikit_learn(
    mood_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mood_folder)
    assert main(printed("--pipeline text")) == 0
    (compared,) = read_proof((mood_folder / "conversion.json").read_bytes()).compared.values()
    assert compared.rows >= len(TEXTS) + 4
    assert compared.labelsDiffer == 0
    assert_is_no_hazard(onnx.load("model.onnx"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.onnx").write_bytes((mood_folder / "model.onnx").read_bytes())
    with served(tmp_path / "model", example("texts.yaml")) as server:
        server.wait_until_ready()
        outputs = server.infer(tensor("text", "BYTES", [len(TEXTS)], TEXTS)).json()["outputs"]
        assert [each["name"] for each in outputs] == ["label", "probabilities"]
        assert outputs[0]["data"] == MOODS
        instances = server.client.post(
            f"/v1/models/{server.name}:predict", json={"instances": ["A wonderful film"]}
        )
        assert instances.json()["predictions"][0]["label"] == "good"


def test_sentencepiece_cuts_texts_as_its_own_library(tmp_path: Path) -> None:
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 4), model_prefix=str(tmp_path / "pieces"), vocab_size=40, minloglevel=2
    )
    tokenizer = tokenizer_of(tmp_path / "pieces.model", 16)
    onnx.save(learned(tokenizer, 40), tmp_path / "moods.onnx")
    rows = [*TEXTS, "", "ünknown 中", "dull " * 50]
    made = with_text_steps(
        tmp_path / "moods.onnx", rows, tokenizer, f"sha256:{'0' * 64}", labels=("bad", "good"), tolerance=1e-6
    )
    (compared,) = made.proof.compared.values()
    assert (compared.rows, compared.labelsDiffer) == (len(rows), 0)
    assert_is_no_hazard(made.model)
    assert {each.name for each in inputs_of(made.model)} == {"text"}
    assert session(made.model).run(["label"], {"text": np.array(["dull"], object)})[0].tolist() == ["bad"]


def test_what_cannot_get_steps_is_said_by_name(tmp_path: Path, mood_folder: Path) -> None:
    with pytest.raises(ConvertError, match=re.escape("[UNK] is not there")):
        tokenizer_of(mood_folder / "texts.csv", 32)
    onnx.save(_pixels(64), tmp_path / "pixels.onnx")
    with pytest.raises(ConvertError, match="input_ids"):
        with_text_steps(
            tmp_path / "pixels.onnx",
            TEXTS,
            tokenizer_of(mood_folder / "vocab.txt", 32),
            f"sha256:{'0' * 64}",
            tolerance=0,
        )
    with pytest.raises(ConvertError, match="2 tensors"):
        with_picture_steps(mood_folder / "moods.onnx", tmp_path)
    with pytest.raises(ConvertError, match="no pictures"):
        with_picture_steps(tmp_path / "pixels.onnx", tmp_path, size=(8, 8))
