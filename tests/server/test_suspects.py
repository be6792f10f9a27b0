"""Rows that look like a search for another answer are counted, and nothing else happens to them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from slipway.names import Metric
from slipway_server.metrics.ledger import PAGE_BYTES, Page
from slipway_server.monitoring import suspects
from slipway_server.monitoring.nearness import CELLS, SENDERS, STEP, Nearness
from slipway_server.monitoring.reference import Scale
from slipway_server.monitoring.suspects import (
    MOST_OF_A_REQUEST,
    NEARBY,
    ROWS_AT_ONCE,
    TOLD_FROM,
    TURNED,
    SuspectCounter,
)
from slipway_server.protocol.tensors import Datatype, TensorSpec
from slipway_server.settings import SettingsError, parse_serving
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.server.test_grpc import given, infer
from tests.server.test_monitoring import counted, rows_of, with_profile

FRAME = load_breast_cancer(as_frame=True).frame
ROWS = FRAME.drop(columns="target").to_numpy(np.float32)
DEVIATIONS = ROWS.std(axis=0)
BOTH = [NEARBY, TURNED]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("suspects")
    directory, _ = with_profile(folder, onnx_models.classifier(), FRAME, labels="target")
    with Server(directory, suspectInputs=BOTH, monitoredFeatures=3) as running:
        yield running.wait_until_ready()


def suspect(server: Server) -> dict[str, float]:
    """What is counted, once all is: the server looks four times a second."""
    time.sleep(0.6)
    return counted(server, Metric.SUSPECT_INPUTS)


def since(server: Server, before: dict[str, float]) -> tuple[float, float]:
    found = suspect(server)
    return found["nearby"] - before["nearby"], found["turned"] - before["turned"]


def classes(server: Server, rows: Any, sender: str) -> list[int]:
    headers = {"x-forwarded-for": sender}
    answer = server.client.post(server.infer_path, json={"inputs": [rows_of(rows)]}, headers=headers)
    assert answer.status_code == 200, answer.text
    return [int(each) for each in answer.json()["outputs"][0]["data"]]


def boundary(server: Server, sender: str) -> Any:
    """A point between two rows where the model's class changes, found as anybody can who may ask."""
    labels = np.array(classes(server, ROWS, "10.0.0.250"))
    low, high = ROWS[labels == 0][0], ROWS[labels == 1][0]
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if classes(server, middle[None], sender) == [0] else (low, middle)
    return middle


def test_a_search_is_counted_and_answered_and_plain_traffic_is_not_counted(server: Server) -> None:
    before = suspect(server)
    assert set(before) == {"nearby", "turned"}
    for start in range(0, 569, 7):
        classes(server, ROWS[start : start + 7], "10.0.0.1")
    classes(server, ROWS, "10.0.0.2")
    for _ in range(2):
        # Again, such as a client whose first answer was lost.
        classes(server, ROWS[:40], "10.0.0.1")
    nearby, turned = since(server, before)
    # By chance: some of them are alike.
    assert nearby <= 6
    assert turned == 0

    at = boundary(server, "10.0.0.3")
    before, chance = suspect(server), np.random.default_rng(0)
    steps = chance.normal(0, 0.002, (200, 30)).astype(np.float32) * DEVIATIONS
    for step in steps[:40]:
        classes(server, (at + step)[None], "10.0.0.3")
    nearby, turned = since(server, before)
    assert 35 <= nearby <= 40
    assert 8 <= turned <= 35
    # Of many rows in one request some are compared.
    before, compared = suspect(server), counted(server, Metric.COMPARED_ROWS)[""]
    assert len(set(classes(server, at + steps, "10.0.0.3"))) == 2
    nearby, turned = since(server, before)
    assert counted(server, Metric.COMPARED_ROWS)[""] == compared + 50
    assert 45 <= nearby <= 50
    assert 8 <= turned <= 45


def test_steps_are_from_rows_of_the_same_sender(server: Server) -> None:
    before = suspect(server)
    for number, row in enumerate(ROWS[:60]):
        classes(server, row[None], "10.0.1.1")
        classes(server, (row + 0.002 * DEVIATIONS)[None], f"10.0.1.{2 + number % 3}")
    others, _ = since(server, before)
    assert others <= 2
    for row in ROWS[:60]:
        classes(server, (row - 0.002 * DEVIATIONS)[None], "10.0.1.1")
    nearby, _ = since(server, before)
    assert 50 <= nearby - others <= 60


def test_grpc_and_binary_tensors_are_looked_at_alike(server: Server) -> None:
    before, rows = suspect(server), ROWS[300:310] + np.float32(0.01) * DEVIATIONS
    infer(server, given("X", "FP32", [10, 30], rows.reshape(-1).tolist()))
    blob = (rows + np.float32(0.001) * DEVIATIONS).tobytes()
    document = {"inputs": [tensor("X", "FP32", [10, 30], binary_data_size=len(blob))]}
    assert server.infer_binary(document, blob).status_code == 200
    nearby, _ = since(server, before)
    assert 8 <= nearby <= 10


def test_nothing_is_counted_unless_it_is_asked_for(tmp_path: Path) -> None:
    directory, _ = with_profile(tmp_path, onnx_models.classifier(), FRAME, labels="target")
    with Server(directory) as running:
        assert counted(running.wait_until_ready(), Metric.SUSPECT_INPUTS) == {}


def test_a_model_of_which_something_cannot_be_counted_is_served_and_the_log_says_why(tmp_path: Path) -> None:
    frame = load_diabetes(as_frame=True).frame
    directory, _ = with_profile(tmp_path, onnx_models.regressor(), frame, labels="target")
    with Server(directory, suspectInputs=BOTH) as running:
        assert counted(running.wait_until_ready(), Metric.SUSPECT_INPUTS) == {"nearby": 0}
    assert '"detectors":["Turned"]' in running.log.read_text().replace(" ", "")
    (directory / "profile.json").unlink()
    with Server(directory, suspectInputs=BOTH) as running:
        assert counted(running.wait_until_ready(), Metric.SUSPECT_INPUTS) == {}
    assert "Nearby and Turned need a profile with columns of numbers" in running.log.read_text()


def test_the_configuration_says_what_is_wrong() -> None:
    base = {"modelName": "a", "modelVersion": "1", "digest": "sha256:" + "0" * 64}
    for wrong, says in (
        ("Nearby", "suspectInputs must be a list"),
        (["nearby"], "must be Nearby or Turned, not 'nearby'"),
        ([["Nearby"]], "must be Nearby or Turned"),
    ):
        with pytest.raises(SettingsError, match=says):
            parse_serving(json.dumps({**base, "suspectInputs": wrong}))


def near(found: Nearness, rows: Any, sender: int = 1, answer: int = 1) -> list[bool]:
    count = len(rows)
    whole = np.ascontiguousarray(rows, np.float32)
    return list(found.look(whole, np.full(count, sender, np.uint64), np.full(count, answer, np.uint64))[0])


def test_a_step_is_small_in_every_column_together_however_many_there_are() -> None:
    chance = np.random.default_rng(0)
    for columns in (1, 2, 10, 100):
        found = {}
        for share in (0.1, 1, 4):
            seen, hits = Nearness(columns, chance), 0
            for _ in range(200):
                row, step = chance.normal(size=columns), chance.normal(size=columns)
                step *= share * STEP * columns**0.5 / np.linalg.norm(step)
                sender = int(chance.integers(2**63))
                near(seen, row[None], sender)
                hits += sum(near(seen, (row + step)[None], sender))
            found[share] = hits / 200
        assert found[0.1] >= 0.95, columns
        assert 0.4 <= found[1] <= 0.7, columns
        assert found[4] <= 0.05, columns


def test_what_is_remembered_is_bounded_and_nobody_pushes_others_out() -> None:
    chance = np.random.default_rng(0)
    seen = Nearness(5, chance)
    before = sum(each.nbytes for each in vars(seen).values() if isinstance(each, np.ndarray))
    assert before < 2 * 3 * 8 * CELLS * SENDERS + 4096
    mine = chance.normal(size=(20, 5))
    near(seen, mine, sender=1)
    flood = chance.normal(size=(50_000, 5)) * 100
    near(seen, flood, sender=2)
    assert sum(near(seen, mine + 1e-4, sender=1)) == 20
    # Whoever floods loses its own.
    assert sum(near(seen, flood[:20] + 1e-4, sender=2)) <= 2
    assert sum(each.nbytes for each in vars(seen).values() if isinstance(each, np.ndarray)) == before


def test_any_value_can_be_compared() -> None:
    seen = Nearness(2, np.random.default_rng(0))
    odd = np.array([[np.nan, np.inf], [-np.inf, 1e38], [-1e38, 0.0], [0.0, 0.0]])
    assert near(seen, odd) == [False] * 4
    assert near(seen, odd) == [False] * 4, "the same again is no step"


def counter(page: Page, **more: Any) -> SuspectCounter:
    inputs = {"X": TensorSpec("X", Datatype.FP64, (-1, 2))}
    outputs = {"label": TensorSpec("label", Datatype.BYTES, (-1,))}
    scales = [Scale("X", 0, 0.0, 1.0), Scale("X", 1, 5.0, 10.0)]
    return SuspectCounter(scales, inputs, outputs, **{"detectors": BOTH, "page": page, "of": {}, **more})


def figures(page: Page) -> dict[str, float]:
    """By detector; without one, the rows that were compared."""
    return {
        json.loads(name)[1].get("detector", ""): page.values[slot] for slot, name in enumerate(page.names())
    }


def call(rows: int, caller: str) -> Any:
    return SimpleNamespace(rows=rows, caller=lambda: caller, peer=lambda: "", header=lambda _: None)


def test_whoever_had_many_answers_turned_is_named_in_the_log_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, chance = Page(memoryview(bytearray(PAGE_BYTES))), np.random.default_rng(0)
    made = counter(page)
    for number in range(2 * TOLD_FROM):
        row, label = chance.normal(0, 0.001, (1, 2)), "yes" if number % 2 else "no"
        made.add([call(1, "key:eve")], {"X": row}, ["label"], [np.array([label], object)])
        few = number < TOLD_FROM // 2
        made.add([call(1, "key:bob")], {"X": row}, ["label"], [np.array([label if few else "no"], object)])
        made.flush()
    assert not caplog.records
    later = time.monotonic() + 61
    monkeypatch.setattr(suspects.time, "monotonic", lambda: later)
    made.flush()
    made.flush()
    (told,) = caplog.records
    assert told.__dict__["sender"] == "caller key:eve"
    assert TOLD_FROM <= told.__dict__["rows"] <= 2 * TOLD_FROM


def test_no_more_rows_are_compared_at_a_time_however_many_are_asked_for() -> None:
    page, chance = Page(memoryview(bytearray(PAGE_BYTES))), np.random.default_rng(0)
    made, answer = counter(page), [np.array(["no"] * 10_000, object)]
    for _ in range(2):
        for _ in range(1000):
            made.add([call(1, "key:eve")], {"X": chance.normal(size=(1, 2))}, ["label"], [answer[0][:1]])
        assert len(made._pending) == ROWS_AT_ONCE
        made.flush()
    assert figures(page)[""] == 2 * ROWS_AT_ONCE
    made.add([call(10_000, "key:eve")], {"X": chance.normal(size=(10_000, 2))}, ["label"], answer)
    made.flush()
    assert 2 * ROWS_AT_ONCE + 60 <= figures(page)[""] <= 2 * ROWS_AT_ONCE + MOST_OF_A_REQUEST


def test_rows_are_told_apart_where_some_requests_do_not_ask_for_the_class() -> None:
    page = Page(memoryview(bytearray(PAGE_BYTES)))
    made = counter(page)
    row = np.array([[1.0, 5.0]])
    for number, names in enumerate((["label"], ["other"], ["label"], ["label"])):
        # Two that come together, of which the second has no rows.
        calls = [call(1, "key:eve"), call(0, "key:bob")]
        answer = np.array(["no" if number < 3 else "yes"], object)
        made.add(calls, {"X": row + 1e-4 * number}, names, [answer])
    # A model may take another number of rows than there are answers.
    made.add([call(2, "key:eve")], {"X": row}, ["label"], [np.array(["yes"], object)])
    made.flush()
    assert figures(page) == {"nearby": 3, "turned": 1, "": 4}


def test_what_fails_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    made = counter(Page(memoryview(bytearray(PAGE_BYTES))))
    made.add([call(1, "key:eve")], {"X": np.array([["a", "b"]], object)}, ["label"], [np.array(["no"])])
    made.flush()
    assert "rows could not be compared with earlier ones" in caplog.text
