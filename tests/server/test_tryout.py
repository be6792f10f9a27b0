"""A model that takes no row that one could make up is measured with the rows of its clients."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import numpy as np
import onnxruntime as ort

from slipway_server.protocol.tensors import Array
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import MAX_ROWS, Profile, measure
from slipway_server.runtime.tryout import Tryout
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.server.test_batches import parsed

Start = Callable[..., Server]


def ask(server: Server, client: httpx.Client, colour: str, size: float) -> httpx.Response:
    inputs = [tensor("colour", "BYTES", [1, 1], [colour]), tensor("size", "FP32", [1, 1], [size])]
    return client.post(server.infer_path, json={"inputs": inputs})


def test_answers_stay_the_same_bits_when_a_model_is_measured_by_its_clients(start: Start) -> None:
    server = start("strict_pipeline").wait_until_ready()
    sizes = np.linspace(1, 7, 40, dtype=np.float32)
    colours = np.array(["blau", "weiß"] * 20, dtype=object)
    session = ort.InferenceSession(onnx_models.strict_pipeline().SerializeToString())

    def check(row: int) -> None:
        inputs = {"colour": colours[row : row + 1, None], "size": sizes[row : row + 1, None]}
        _, (expected,) = session.run(None, inputs)
        answer = ask(server, server.client, colours[row], float(sizes[row]))
        data = answer.json()["outputs"][1]["data"]
        assert np.array(data, np.float32).tobytes() == np.array(list(expected.values()), np.float32).tobytes()

    deadline = time.monotonic() + 20
    while "measured by requests" not in server.log.read_text() and time.monotonic() < deadline:
        for row in range(16):
            check(row)
    (line,) = [line for line in server.log.read_text().splitlines() if "measured by requests" in line]
    assert json.loads(line)["inline"]
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(check, list(range(40)) * 5))) == 200
        mixed = pool.map(
            lambda turn: ask(server, server.client, "rot" if turn % 4 == 0 else "blau", 3).status_code,
            range(80),
        )
        assert list(mixed) == [400, 200, 200, 200] * 20


def test_one_row_again_and_again_does_not_do_for_a_model_without_floats(tmp_path: Path) -> None:
    text = """g (int64[N,1] index) => (float[N,1] y) {
        zero = Constant<value: tensor = float {0.0}>()
        one = Constant<value: tensor = float {1.0}>()
        forty = Constant<value: tensor = float {40.0}>()
        numbers = Range(zero, forty, one)
        hundred = Constant<value: tensor = int64 {100}>()
        place = Sub(index, hundred)
        y = Gather(numbers, place)
    }"""
    path = onnx_models.save(parsed(text), tmp_path / "model") / "model.onnx"
    model = Model(path, 1)
    assert measure(model, path) == Profile(untried=True)
    found: list[Profile] = []
    told = Event()

    def hear(profile: Profile) -> None:
        found.append(profile)
        told.set()

    tryout = Tryout(model, MAX_ROWS, hear)
    for _ in range(100):
        tryout.add({"index": one(100)})
    assert not told.wait(0.2)
    for number in range(101, 116):
        tryout.add({"index": one(number)})
    assert told.wait(10)
    assert [profile.inline for profile in found] == [True]


def one(number: int) -> Array:
    return np.array([[number]], np.int64)
