"""What the server counts of its inputs and answers, by the profile beside the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from slipway.bins import interval_names
from slipway.contract import ModelFault
from slipway.names import Metric
from slipway.profile import CategoryBins, IntervalBins, Profile
from slipway.profiling import make_profile
from slipway.profiling.binning import count_in
from tests.server import onnx_models
from tests.server.running import Server, tensor

BASE = {"model": "fraud", "model_version": "3"}


def with_profile(folder: Path, model: Any, frame: pd.DataFrame, **options: Any) -> tuple[Path, Profile]:
    """A model's directory with a profile in it."""
    directory = onnx_models.save(model, folder / "model")
    profile = make_profile(frame, directory / "model.onnx", **options)
    (directory / "profile.json").write_bytes(profile.text())
    return directory, profile


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Profile]:
    frame = load_breast_cancer(as_frame=True).frame
    model = onnx_models.classifier()
    return with_profile(tmp_path_factory.mktemp("cancer"), model, frame, labels="target", holdout=frame[:100])


@pytest.fixture(scope="module")
def server(cancer: tuple[Path, Profile]) -> Iterator[Server]:
    with Server(cancer[0], processes=2, monitoredFeatures=12) as running:
        yield running.wait_until_ready()


def counted(server: Server, metric: Metric, **labels: str) -> dict[str, float]:
    """Values of a metric by the one label that is not given."""
    given = {**BASE, **labels}
    found = {}
    for (name, pairs), value in server.metrics().items():
        rest = dict(pairs)
        if name == metric and all(rest.pop(label, None) == text for label, text in given.items()):
            (found[next(iter(rest.values())) if rest else ""],) = (value,)
    return found


def rows_of(table: np.ndarray[Any, Any]) -> dict[str, Any]:
    return tensor("X", "FP32", list(table.shape), table.reshape(-1).tolist())


def settled(server: Server, metric: Metric, total: float, **labels: str) -> dict[str, float]:
    """The same, once all rows are counted: the other process does so four times a second."""
    for _ in range(100):
        found = counted(server, metric, **labels)
        if sum(found.values()) == total:
            return found
    raise AssertionError(f"{found} never adds up to {total}")


def test_counts_over_processes_are_exact_and_every_series_begins_at_0(
    cancer: tuple[Path, Profile], server: Server
) -> None:
    _, profile = cancer
    ranked = sorted(profile.features, key=lambda each: (-each.importance, each.name))
    watched, left_out = ranked[:12], ranked[12:]
    for feature in watched:
        assert isinstance(feature.bins, IntervalBins)
        names = {*interval_names(feature.bins.edges), "missing"}
        assert counted(server, Metric.FEATURE_VALUES, feature=feature.name) == dict.fromkeys(names, 0)
    assert counted(server, Metric.FEATURE_VALUES, feature=left_out[0].name) == {}
    assert counted(server, Metric.MONITORED_FEATURES) == {"watched": 12, "over_budget": 18}

    table = load_breast_cancer().data.astype(np.float32)
    for start in range(0, 300, 3):
        with_other_connection = start % 2
        if with_other_connection:
            server.client.close()
            server.client = type(server.client)(base_url=server.url, timeout=30)
        assert server.infer(rows_of(table[start : start + 3])).status_code == 200
    blob = table[300:].tobytes()
    document = {"inputs": [tensor("X", "FP32", [269, 30], binary_data_size=len(blob))]}
    assert server.infer_binary(document, blob).status_code == 200
    assert server.infer(rows_of(table[:0])).status_code == 200, "without rows nothing is to be counted"

    for feature in watched:
        assert isinstance(feature.bins, IntervalBins)
        found = settled(server, Metric.FEATURE_VALUES, 569, feature=feature.name)
        expected = dict(zip(interval_names(feature.bins.edges), feature.bins.counts, strict=True))
        assert found == {**expected, "missing": 0}
    (prediction,) = profile.predictions
    assert isinstance(prediction.bins, CategoryBins)
    pairs = zip(map(str, prediction.bins.categories), prediction.bins.counts, strict=True)
    found = counted(server, Metric.PREDICTION_VALUES, output="output_label")
    assert found == {**dict(pairs), "other": 0, "missing": 0}
    assert profile.confidence is not None
    sure = dict(
        zip(interval_names(profile.confidence.bins.edges), profile.confidence.bins.counts, strict=True)
    )
    assert counted(server, Metric.CONFIDENCE) == sure
    assert set(counted(server, Metric.MONITORING_DROPPED).values()) == {0}


def test_the_reference_is_exported_beside_the_counts(cancer: tuple[Path, Profile], server: Server) -> None:
    _, profile = cancer
    feature = max(profile.features, key=lambda each: each.importance)
    assert isinstance(feature.bins, IntervalBins)
    shares = counted(server, Metric.FEATURE_REFERENCE_RATIO, feature=feature.name)
    assert shares.pop("missing") == 0
    smoothed = [(count + 0.5) / (569 + 0.5 * len(feature.bins.counts)) for count in feature.bins.counts]
    assert list(shares.values()) == pytest.approx(smoothed, abs=1e-15)
    assert sum(shares.values()) == pytest.approx(1)
    assert counted(server, Metric.FEATURE_REFERENCE_ROWS)[feature.name] == 569
    accuracy = counted(server, Metric.REFERENCE_ACCURACY)
    assert profile.confidence is not None
    held_out = zip(
        interval_names(profile.confidence.bins.edges),
        profile.confidence.rows,
        profile.confidence.correct,
        strict=True,
    )
    assert accuracy == {name: right / rows for name, rows, right in held_out if rows}


def test_missing_unknown_and_unrequested_values_are_counted_as_such(tmp_path: Path) -> None:
    frame = pd.DataFrame({"size": [1.5, 4.5, None, 6.0] * 25, "colour": ["blau", "weiß", "weiß", None] * 25})
    directory, profile = with_profile(tmp_path, onnx_models.pipeline(), frame)
    with Server(directory) as server:
        server.wait_until_ready()
        colours = ["blau", "weiß", "grün", "", "missing"]
        sizes = np.array([1.0, 3.0, np.nan, np.inf, -np.inf], np.float32)
        inputs = [
            tensor("colour", "BYTES", [5, 1], colours),
            tensor("size", "FP32", [5, 1], binary_data_size=20),
        ]
        asked = {"inputs": inputs, "outputs": [{"name": "output_label"}]}
        assert server.infer_binary(asked, sizes.tobytes()).status_code == 200
        found = counted(server, Metric.FEATURE_VALUES, feature="colour")
        assert found == {"blau": 1, "weiß": 1, "other": 2, "missing": 1}
        size = next(each for each in profile.features if each.name == "size").bins
        assert isinstance(size, IntervalBins)
        found = counted(server, Metric.FEATURE_VALUES, feature="size")
        assert list(found.values()) == [*count_in(size, sizes[~np.isnan(sizes)]), 1]
        assert list(found.values()) == [3, 0, 1, 1]
        dropped = counted(server, Metric.MONITORING_DROPPED)
        assert dropped == {"output_not_requested": 5, "not_a_number": 0, "failed": 0}
        assert server.infer(tensor("colour", "BYTES", [1, 1], ["rot"])).status_code == 400
        assert sum(counted(server, Metric.FEATURE_VALUES, feature="colour").values()) == 5


def test_a_model_that_answers_the_recorded_row_otherwise_is_not_served(
    cancer: tuple[Path, Profile], tmp_path: Path
) -> None:
    directory, profile = cancer
    other = tmp_path / "model"
    other.mkdir()
    (other / "model.onnx").write_bytes((directory / "model.onnx").read_bytes())
    document = json.loads(profile.text())
    label, probabilities = document["example"]["outputs"]
    cases = [
        (label, 7, "output 'output_label': value 0 was recorded as 7"),
        (probabilities, 0.5, "'output_prob"),
    ]
    for changed, value, message in cases:
        before, changed["data"][0] = changed["data"][0], value
        (other / "profile.json").write_text(json.dumps(document))
        changed["data"][0] = before
        with Server(other) as server:
            assert server.wait() == 1
            failure: Any = server.last_words().outcome
            assert failure.failure.reason == ModelFault.MODEL_LOAD_FAILED
            assert "does not answer the profile's recorded row as it did" in failure.failure.message
            assert message in failure.failure.message


def test_a_profile_of_another_model_is_left_aside_and_the_model_served(
    cancer: tuple[Path, Profile], tmp_path: Path
) -> None:
    directory, _ = cancer
    other = onnx_models.save(onnx_models.regressor(), tmp_path / "model")
    (other / "profile.json").write_bytes((directory / "profile.json").read_bytes())
    with Server(other) as server:
        server.wait_until_ready()
        assert "the profile is not used" in server.log.read_text()
        assert "it was made for the model sha256:" in server.log.read_text()
        assert not [name for name, _ in server.metrics() if name == Metric.FEATURE_VALUES]


def test_a_model_without_a_class_is_watched_by_its_scores(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(scale=0.05, size=(500, 10))).rename(columns=str)
    directory, profile = with_profile(tmp_path, onnx_models.regressor(), frame)
    table = random.normal(scale=0.05, size=(1000, 10)).astype(np.float32)
    (scores,) = ort.InferenceSession(directory / "model.onnx").run(None, {"X": table})
    with Server(directory) as server:
        server.wait_until_ready()
        assert server.infer(rows_of(table)).status_code == 200
        (prediction,) = profile.predictions
        assert isinstance(prediction.bins, IntervalBins)
        found = settled(server, Metric.PREDICTION_VALUES, 1000, output="variable")
        assert tuple(found.values()) == (*count_in(prediction.bins, scores[:, 0]), 0)
