"""Profiles made of real data, by the real command, of models that onnxruntime runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from sklearn.datasets import load_breast_cancer

from slipway.bins import category_names, interval_names
from slipway.cli.main import main
from slipway.digest import sha256_of
from slipway.profile import CategoryBins, IntervalBins, Profile, ProfileError, read_profile
from slipway.profiling import make_profile
from slipway.profiling.binning import category_bins, count_in, interval_bins
from tests.server import onnx_models


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, its training data and held-out data."""
    folder = tmp_path_factory.mktemp("cancer")
    onnx.save(onnx_models.classifier(), folder / "model.onnx")
    frame = load_breast_cancer(as_frame=True).frame.rename(columns={"target": "benign"})
    frame["sex"] = np.where(np.arange(len(frame)) % 3 == 0, "f", "m")
    frame.loc[:4, "sex"] = "x"
    frame.to_parquet(folder / "train.parquet")
    frame.to_csv(folder / "train.csv", index=False)
    frame.iloc[:200].to_parquet(folder / "holdout.parquet")
    return folder


def run(folder: Path, *arguments: str) -> Profile:
    output = folder / "profile.json"
    command = ["profile", "--model", str(folder / "model.onnx"), "-o", str(output), *arguments]
    assert main(command) == 0
    return read_profile(output.read_bytes(), f"sha256:{sha256_of(folder / 'model.onnx')}")


def test_the_command_makes_a_profile_that_is_bound_to_the_model_and_its_data(cancer: Path) -> None:
    arguments = ("--labels", "benign", "--sensitive", "sex", "--holdout", str(cancer / "holdout.parquet"))
    profile = run(cancer, "--data", str(cancer / "train.parquet"), *arguments)
    frame = pd.read_parquet(cancer / "train.parquet")
    assert profile.data.rows == len(frame)
    assert profile.data.digest == f"sha256:{sha256_of(cancer / 'train.parquet')}"
    assert [each.name for each in profile.features] == list(frame.columns[:30])
    for feature in profile.features:
        served = frame[feature.name].to_numpy(np.float32)
        assert isinstance(feature.bins, IntervalBins)
        assert feature.range is not None
        assert (feature.range.minimum, feature.range.maximum) == (served.min(), served.max())
        assert sum(feature.bins.counts) == len(frame)
        assert feature.bins.counts == count_in(feature.bins, served)
        assert len(feature.bins.counts) <= 20
    assert max(each.importance for each in profile.features) > 0.01
    session = ort.InferenceSession(cancer / "model.onnx")
    labels, maps = session.run(None, {"X": frame.iloc[:, :30].to_numpy(np.float32)})
    (prediction,) = profile.predictions
    assert isinstance(prediction.bins, CategoryBins)
    counted = dict(zip(prediction.bins.categories, prediction.bins.counts, strict=True))
    assert counted == {value: int((labels == value).sum()) for value in (0, 1)}
    assert profile.confidence is not None
    sure = np.array([max(each.values()) for each in maps], np.float32)
    right = (labels == frame["benign"].to_numpy())[:200]
    assert profile.confidence.rows == count_in(profile.confidence.bins, sure[:200])
    assert profile.confidence.correct == count_in(profile.confidence.bins, sure[:200], right)
    assert sum(profile.confidence.correct) == right.sum() > 150


def test_groups_and_categories_of_fewer_than_ten_rows_are_not_shown(cancer: Path) -> None:
    arguments = ("--labels", "benign", "--sensitive", "sex")
    profile = run(cancer, "--data", str(cancer / "train.csv"), *arguments)
    (attribute,) = profile.attributes
    assert [group.name for group in attribute.groups] == ["f", "m"]
    assert attribute.suppressed == 5
    assert sum(group.rows for group in attribute.groups) == profile.data.rows - 5
    bins = category_bins({"often": 50, "rare": 9, "ten": 10})
    assert (bins.categories, bins.counts, bins.other) == (("often", "ten"), (50, 10), 9)


def test_all_kinds_of_data_give_the_same_profile(cancer: Path) -> None:
    frame = pd.read_parquet(cancer / "train.parquet").drop(columns="sex")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    frame.to_csv(cancer / "same.csv", index=False)
    sources: list[Any] = [frame, table, pl.from_pandas(frame), cancer / "same.csv"]
    made = [make_profile(source, cancer / "model.onnx", labels="benign") for source in sources]
    assert len({profile.model_copy(update={"data": None}).model_dump_json() for profile in made}) == 1


def test_numbers_that_32_bits_round_stay_in_their_bins() -> None:
    """Golden: edges from 64 bits, values of one decimal and 32 bits give a PSI of 0.55 without any drift."""
    values = np.round(np.random.default_rng(0).normal(20, 3, 10_000), 1)
    served = values.astype(np.float32)
    bins = interval_bins(served, 20)
    naive = np.unique(np.quantile(values, np.arange(1, 20) / 20))
    moved = (
        np.histogram(served, [-np.inf, *naive, np.inf])[0]
        - np.histogram(values, [-np.inf, *naive, np.inf])[0]
    )
    assert np.abs(moved).sum() > 500
    for other in (served, served.astype(np.float64), values, values.astype(np.float32)):
        assert count_in(bins, other) == bins.counts
    assert bins.edges[:3] == (15.149999618530273, 16.25, 16.950000762939453)
    assert min(bins.counts) > 350
    assert max(bins.counts) < 650


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=60),
    st.integers(1, 12),
    st.sampled_from([np.float32, np.float64]),
)
def test_equal_values_share_a_bin_and_every_value_has_one(values: list[float], most: int, dtype: Any) -> None:
    served = np.array(values, dtype)
    bins = interval_bins(served, most)
    assert len(bins.counts) <= most
    assert sum(bins.counts) == len(values)
    assert bins.counts == count_in(bins, served)
    assert [float(dtype(edge)) for edge in bins.edges] == list(bins.edges)
    assert all(bins.counts)
    assert len(set(interval_names(bins.edges))) == len(bins.counts)


def test_text_missing_values_and_whole_numbers_are_profiled(tmp_path: Path) -> None:
    onnx.save(onnx_models.pipeline(), tmp_path / "model.onnx")
    sizes = [1.5, 4.5, None, 6.0] * 25
    frame = pa.table({"size": sizes, "colour": ["blau", "weiß", "weiß", None] * 25})
    profile = make_profile(frame, tmp_path / "model.onnx")
    colour, size = profile.features
    assert (colour.name, colour.tensor, colour.missing, size.missing) == ("colour", "colour", 25, 25)
    assert isinstance(colour.bins, CategoryBins)
    assert dict(zip(colour.bins.categories, colour.bins.counts, strict=True)) == {"weiß": 50, "blau": 25}
    assert isinstance(size.bins, IntervalBins)
    assert (size.bins.edges, size.bins.counts) == ((3.0, 5.25), (25, 25, 25))
    assert profile.example is not None
    assert [tensor.data for tensor in profile.example.inputs] == [("weiß",), (4.5,)]
    session = ort.InferenceSession(tmp_path / "model.onnx")
    inputs = {"colour": np.array([["weiß"]], object), "size": np.array([[4.5]], np.float32)}
    label, maps = session.run(None, inputs)
    assert profile.example.outputs[0].data == tuple(label)
    assert profile.example.outputs[1].data == tuple(maps[0].values())


def test_names_of_bins_never_clash() -> None:
    assert interval_names([0.5, 2]) == ("(-inf,0.5]", "(0.5,2]", "(2,+inf)")
    assert interval_names([1.00001, 1.00002])[1] == "(1.00001,1.00002]"
    assert interval_names([]) == ("(-inf,+inf)",)
    assert category_names(["a", "missing", "other", 3]) == ("a", "'missing'", "'other'", "3")


WRONG = [
    (("--data", "{}/nowhere.parquet"), "nowhere.parquet cannot be read as parquet"),
    (("--data", "{}/model.onnx"), "cannot be read as parquet"),
    (("--data", "{}/train.csv", "--labels", "no"), "has no column 'no'; it has mean radius"),
    (
        ("--data", "{}/train.csv"),
        "takes 30 values a row, but .* has 32 columns for it: name those in --labels",
    ),
    (
        ("--data", "{}/train.csv", "--ignore", "benign", "mean area"),
        "column 'sex' holds string, but the model",
    ),
    (
        ("--data", "{}/train.csv", "--ignore", "benign", "--sensitive", "mean area", "sex"),
        "name those in --lab",
    ),
    (
        ("--data", "{}/train.csv", "--ignore", "benign", "sex", "--holdout", "{}/holdout.parquet"),
        "name their column with --labels",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_what_does_not_fit_is_said_with_the_way_to_mend_it(
    cancer: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    given = [each.format(cancer) for each in arguments]
    assert main(["profile", "--model", str(cancer / "model.onnx"), "-o", str(cancer / "never"), *given]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (cancer / "never").exists()


def test_a_document_of_another_version_or_model_is_refused(cancer: Path) -> None:
    text = make_profile(
        cancer / "train.parquet", cancer / "model.onnx", labels="benign", ignore=["sex"]
    ).text()
    digest = json.loads(text)["modelDigest"]
    assert read_profile(text, digest).modelDigest == digest
    with pytest.raises(ProfileError, match=r"was made for the model sha256:.*make it again"):
        read_profile(text, "sha256:" + "0" * 64)
    for wrong in (
        b"{}",
        b"[",
        text.replace(b'"schemaVersion": 1', b'"schemaVersion": 2'),
        text + b" " * 2**22,
    ):
        with pytest.raises(ProfileError, match=r"make it again|profile fewer"):
            read_profile(wrong, digest)


@pytest.mark.parametrize(
    ("domain", "operator"), [("ai.onnx.contrib", "StringLower"), ("com.microsoft.extensions", "DecodeImage")]
)
def test_a_model_of_pictures_or_texts_as_they_are_is_refused_with_what_is_watched(
    tmp_path: Path, domain: str, operator: str
) -> None:
    text, pixels = onnx.TensorProto.STRING, onnx.TensorProto.UINT8
    taken = helper.make_tensor_value_info("text", text if operator == "StringLower" else pixels, [None])
    found = helper.make_tensor_value_info("found", text if operator == "StringLower" else pixels, [None])
    node = helper.make_node(operator, ["text"], ["found"], domain=domain)
    graph = helper.make_graph([node], "texts", [taken], [found])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "model.onnx")
    rows = pd.DataFrame({"text": ["so good", "so bad"]})
    with pytest.raises(ProfileError, match=r"without a profile.*spec\.monitoring\.performance"):
        make_profile(rows, tmp_path / "model.onnx")
