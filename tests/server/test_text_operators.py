"""Operators on text, with the locales that the image has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer

ROOT = Path(__file__).parents[2]
_RUN = """
import sys, numpy as np, onnxruntime as ort
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given = np.array(sys.argv[2:], dtype=object)
shape = session.get_inputs()[0].shape
given = given.reshape(-1, 1) if len(shape) == 2 else given
print(session.run(None, {session.get_inputs()[0].name: given})[0].tolist())
"""


@pytest.fixture(scope="module", params=["server", "server-cuda"])
def locales(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the image's stage adds to its locales, and nothing else."""
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    (stage,) = (text for text in stages if text.startswith("${BASE} AS " + request.param + "\n"))
    (command,) = re.findall(r"^RUN (test -d /usr/lib/locale/.*)$", stage, re.MULTILINE)
    folder: Path = tmp_path_factory.mktemp("locales")
    command = command.replace("/usr/lib/locale/en_US.utf8", str(folder / "en_US.utf8"))
    subprocess.run(["sh", "-c", command], check=True)
    return folder


def run(model: onnx.ModelProto, folder: Path, locales: Path, *words: str) -> list[object]:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    environment = {**os.environ, "LOCPATH": str(locales)}
    command = [sys.executable, "-c", _RUN, str(path), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[object] = eval(done.stdout)
    return found


def operator(kind: str, domain: str, rank: int = 1, **attributes: object) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    node = helper.make_node(kind, ["s"], ["t"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node], "g", [value("s", TensorProto.STRING, ["N"])], [value("t", TensorProto.STRING, ["N"] * rank)]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_a_normalizer_knows_the_letters_of_other_languages(locales: Path, tmp_path: Path) -> None:
    lower = operator("StringNormalizer", "", case_change_action="LOWER", is_case_sensitive=1)
    assert run(lower, tmp_path, locales, "ÄRGER", "Été", "ΣΟΦΙΑ") == ["ärger", "été", "σοφια"]
    upper = operator(
        "StringNormalizer", "", case_change_action="UPPER", stopwords=["ÄH"], is_case_sensitive=0
    )
    assert run(upper, tmp_path, locales, "äh", "straße") == ["STRAßE"]


def test_a_tokenizer_cuts_text(locales: Path, tmp_path: Path) -> None:
    tokenizer = operator(
        "Tokenizer", "com.microsoft", 2, mark=0, mincharnum=1, pad_value="#", tokenexp="[\\w]+"
    )
    assert run(tokenizer, tmp_path, locales, "one two", "three") == [["one", "two"], ["three", "#"]]


def test_a_vectorizer_of_scikit_learn_loads_and_answers(locales: Path, tmp_path: Path) -> None:
    texts = ["a quick brown fox", "a slow red fox", "quick quick"]
    vectorizer = TfidfVectorizer().fit(texts)
    model = to_onnx(vectorizer, initial_types=[("text", StringTensorType([None, 1]))])
    found = run(model, tmp_path, locales, *texts)
    expected = vectorizer.transform(texts).toarray()
    assert [pytest.approx(row.tolist(), abs=1e-6) for row in expected] == found
