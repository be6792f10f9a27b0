"""Rows of many requests in one run: never mixed, never another bit than onnxruntime's own answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import httpx
import numpy as np
import onnx
import pytest
from annotated_types import Ge, Le
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from slipway.contract import ServingConfig
from slipway.digest import digest_of
from slipway_server.call.call import Call
from slipway_server.engine.served import Served
from slipway_server.errors import RequestError
from slipway_server.protocol.decode import decode
from slipway_server.protocol.encode import encode
from slipway_server.runtime.load import load_profiled
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile, measure
from slipway_server.runtime.run import Run
from slipway_server.runtime.trial import Trial
from slipway_server.settings import Serving, SettingsError, parse_serving
from tests.server import onnx_models
from tests.server.running import Server, tensor
from tests.server.test_answers import reference
from tests.server.test_refusals import anything

Servers = Callable[[str], Server]


def profiled(model: Any, directory: Path) -> Profile:
    path = onnx_models.save(model, directory) / "model.onnx"
    loaded = Model(path, 1)
    loaded.warm_up()
    return measure(loaded, path)


def parsed(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def test_a_model_whose_rows_are_independent_batches(tmp_path: Path) -> None:
    profile = profiled(onnx_models.regressor(), tmp_path / "regressor")
    assert profile.batches
    assert profile.curve is not None
    assert set(profile.curve) == {1, 8, 32}


@pytest.mark.parametrize("most", [4, 100])
def test_a_model_shares_calls_of_no_more_rows_than_it_may(
    model_dirs: Callable[[str], Path], most: int
) -> None:
    config = Serving("fraud", "3", digest_of(model_dirs("regressor")), maxBatchRows=most)
    _, profile = load_profiled(model_dirs("regressor"), config)
    assert profile.curve is not None
    assert (profile.batches, profile.max_rows, max(profile.curve)) == (True, most, min(most, 32))


def test_with_batching_off_no_call_is_shared(model_dirs: Callable[[str], Path]) -> None:
    config = Serving("fraud", "3", digest_of(model_dirs("regressor")), batching="Off")
    model, profile = load_profiled(model_dirs("regressor"), config)
    assert (profile.batches, profile.inline) == (False, True)
    runs: list[int] = []
    run_raw = model.run_raw
    model.run_raw = lambda *given: (runs.append(1), run_raw(*given))[1]  # type: ignore[method-assign]
    row = {"inputs": [tensor("X", "FP32", [1, 10], [0.0] * 10)]}
    calls = [asked(json.dumps(row).encode()) for _ in range(3)]
    Served(model, "fraud", "3", profile).answer(calls, Run())
    assert ([call.error for call in calls], len(runs)) == ([None] * 3, 3)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,3] x) => (float[N,3] y) { y = Softmax<axis = 0>(x) }",
        "g (float[N,3] x) => (float[1,3] y) { y = ReduceMean<axes = [0]>(x) }",
        "g (float[N,3] x) => (float[N,3] y) { m = ReduceMax<axes = [0]>(x) y = Sub(x, m) }",
        "g (float[N,M] x) => (float[N,M] y) { y = Identity(x) }",
        "g (float[1,3] x) => (float[1,3] y) { y = Identity(x) }",
        "g (float[N,3] x, float[3] w) => (float[N,3] y) { y = Add(x, w) }",
        "g (float[N,3] x) => (float[N,3] y, int64 n) { y = Identity(x) n = Size(x) }",
    ],
)
def test_a_model_that_mixes_rows_or_leaves_open_what_a_row_is_does_not_batch(
    tmp_path: Path, text: str
) -> None:
    assert not profiled(parsed(text), tmp_path / "model").batches


def test_a_model_whose_inputs_say_how_long_it_runs_is_kept_off_the_event_loop(tmp_path: Path) -> None:
    profile = profiled(onnx_models.slow(), tmp_path / "slow")
    assert not profile.inline
    assert not profile.batches


async def test_the_answers_of_64_mixed_clients_are_each_their_own_to_the_bit(servers: Servers) -> None:
    server = servers("regressor")
    random = np.random.default_rng(5)
    pool = random.normal(0, 0.05, (200, 10)).astype(np.float32)
    (expected,) = reference("regressor", X=pool)
    rounds, clients = 12, 64

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        own = np.random.default_rng(number)
        for turn in range(rounds):
            count = int(own.choice([1, 1, 1, 2, 7, 150]))
            rows = own.integers(0, len(pool), count)
            values, name = pool[rows], f"{number}-{turn}"
            kind = own.integers(0, 5)
            if kind == 0:
                given = tensor("X", "FP32", [count, 10], binary_data_size=values.nbytes)
                head = json.dumps({"inputs": [given], "id": name}).encode()
                headers = {"Inference-Header-Content-Length": str(len(head))}
                answer = await client.post(
                    server.infer_path, content=head + values.tobytes(), headers=headers
                )
            elif kind == 1:
                bad = {"inputs": [tensor("X", "FP32", [count, 10], [name])], "id": name}
                answer = await client.post(server.infer_path, json=bad)
                assert answer.status_code == 400
                continue
            else:
                data = values.tolist() if kind == 2 else values.ravel().tolist()
                body: dict[str, Any] = {"inputs": [tensor("X", "FP32", [count, 10], data)], "id": name}
                if kind == 3:
                    body["outputs"] = [{"name": "variable"}]
                answer = await client.post(server.infer_path, json=body)
            document = answer.json()
            assert answer.status_code == 200, document
            assert document["id"] == name
            (output,) = document["outputs"]
            assert output["shape"] == [count, 1]
            got = np.array(output["data"], dtype=np.float32)
            assert got.tobytes() == expected[rows].ravel().tobytes()

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        await asyncio.gather(*(ask(client, number) for number in range(clients)))


class Asked(Call):
    def answered(self) -> None:
        raise AssertionError("nothing settles these")


def asked(body: bytes, header_length: int | None = None) -> Asked:
    now = time.perf_counter()
    return Asked(body, header_length, now, now + 60)


@pytest.fixture(scope="module", params=["classifier", "numbers"])
def served(
    request: pytest.FixtureRequest,
    model_dirs: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Served:
    """A model with a label and a ZipMap, and one whose outputs are numbers, some of them NaN."""
    if request.param == "classifier":
        path = model_dirs("classifier") / "model.onnx"
    else:
        text = """g (float[N,30] X) => (int64[N] output_label, float[N,30] output_probability) {
            output_probability = Sqrt(X)
            big = ReduceMax<axes = [1], keepdims = 0>(X)
            output_label = Cast<to = 7>(big)
        }"""
        path = onnx_models.save(parsed(text), tmp_path_factory.mktemp("numbers")) / "model.onnx"
    model = Model(path, 1)
    model.warm_up()
    model.empties = Trial(model).result()
    return Served(model, "fraud", "3", Profile(batches=True, inline=True, max_rows=16))


numbers = st.floats(-100, 100, width=32) | st.integers(-1000, 1000)


@st.composite
def nearly_usual(draw: st.DrawFn) -> dict[str, Any]:
    """A request for the classifier, mostly as clients write it, sometimes with one thing wrong."""
    rows = draw(st.integers(0, 20))
    flat = draw(st.lists(numbers, min_size=30, max_size=30)) * rows
    data: Any = flat if draw(st.booleans()) else [flat[at : at + 30] for at in range(0, len(flat), 30)]
    document: dict[str, Any] = {"inputs": [tensor("X", "FP32", [rows, 30], data)]}
    if draw(st.booleans()):
        document["id"] = draw(st.text(max_size=4))
    if draw(st.booleans()):
        names = draw(
            st.lists(st.sampled_from(["output_label", "output_probability"]), unique=True, max_size=2)
        )
        document["outputs"] = [{"name": name} for name in names]
        if draw(st.booleans()):
            document["parameters"] = {"binary_data_output": draw(st.booleans())}
    if draw(st.integers(0, 2)) == 0:
        place: Any = draw(st.sampled_from([document, document["inputs"][0], *([flat] if flat else [])]))
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(30))))
        place[key] = draw(anything)
    return document


def alone(served: Served, body: bytes) -> tuple[bytes | None, str | None]:
    """The answer or the message of the plain way: decode, run, encode."""
    model = served.model
    try:
        request = decode(body, None, model.inputs, model.output_names)
    except RequestError as error:
        return None, error.message
    tensors = model.run(request.inputs, [choice.name for choice in request.outputs], Run())
    return encode(request, "fraud", "3", tensors)[0], None


@settings(max_examples=150, deadline=None)
@given(documents=st.lists(nearly_usual(), min_size=1, max_size=8))
def test_the_quick_way_says_the_same_as_the_plain_way_byte_for_byte(
    served: Served, documents: list[dict[str, Any]]
) -> None:
    calls = [asked(json.dumps(document).encode()) for document in documents]
    bodies = [call.body for call in calls]
    served.answer(calls, Run())
    for call, body in zip(calls, bodies, strict=True):
        content, message = alone(served, body)
        assert call.content == content
        assert (None if call.error is None else str(call.error)) == message


#: Written where a number should be; some leave the whole a document of JSON, and a few a right one.
WORDS = [
    *("0.5", "-7", "1e2", "[1]", "true", "false", "null", '"1"', "1e39", "1e999", "{}", "NaN"),
    *("1, 2", "1 2", "1]", "", "é", '1], "shape": [2, 30], "x": ["'),
    f'1], "data": [{", ".join("3" * 30)}], "data": [{", ".join("7" * 30)}], "data": [1',
    f'1], "data": [{", ".join("3" * 30)}], "y": [7',
]


@pytest.mark.parametrize("data_last", [True, False])
@pytest.mark.parametrize("word", WORDS)
def test_a_body_that_differs_from_an_earlier_one_in_its_numbers_only_is_read_as_the_plain_way_reads_it(
    served: Served, word: str, data_last: bool
) -> None:
    rest = '"name": "X", "datatype": "FP32", "shape": [1, 30]'
    tensor_text = rest + ', "data":%s' if data_last else '"data": %s, ' + rest
    template = '{"inputs": [{' + tensor_text + "}]}"
    words = ["2.5"] * 30
    texts = [f"[{', '.join(words)}]"]
    for place in (0, 29):
        wrong = [*words[:place], word, *words[place + 1 :]]
        texts += [f"[{', '.join(wrong)}]", f"[[{', '.join(wrong)}]]"]
    for text in texts:
        _assert_read_as_the_plain_way_does(served, template % text)


def test_what_stands_around_the_numbers_is_read_though_the_numbers_came_before(served: Served) -> None:
    ones, twos = (f"[{', '.join([number] * 30)}]" for number in ("1.5", "2.5"))
    for before, numbers, after in [
        ("", ones, '"shape": [1, 30], "datatype": "FP32"'),
        ("", twos, '"shape": [1, 30], "datatype": "FP64"'),
        ("", twos, '"shape": [1, 31], "datatype": "FP32"'),
        ("", twos, '"shape": [2, 15], "datatype": "FP32"'),
        # Of two members with one name the last one counts.
        ('"shape": [1, 30], ', ones, f'"data": {twos}, "datatype": "FP32"'),
        ('"shape": [1, 30], ', ones, f'"data": {twos}, "datatype": "FP32"'),
        ('"shape": [1, 30], ', ones, f'"data": {ones}, "datatype": "FP32"'),
    ]:
        _assert_read_as_the_plain_way_does(
            served, f'{{"inputs": [{{"name": "X", {before}"data": {numbers}, {after}}}]}}'
        )


def _assert_read_as_the_plain_way_does(served: Served, text: str) -> None:
    body = text.encode()
    call = asked(body)
    served.answer([call], Run())
    content, message = alone(served, body)
    assert call.content == content
    assert (None if call.error is None else str(call.error)) == message


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(numbers, min_size=30, max_size=30),
    wrong=st.none() | st.sampled_from(["[1]", "[]", "true", '"1"', "1e39", "{}", "NaN", "1e999"]),
    place=st.integers(0, 389),
    nested=st.booleans(),
)
def test_large_numbers_of_numbers_are_read_as_the_plain_way_reads_them(
    served: Served, values: list[Any], wrong: str | None, place: int, nested: bool
) -> None:
    values = values * 13
    words = [json.dumps(value) for value in values]
    if wrong is not None:
        words[place] = wrong
    rows = [", ".join(words[at : at + 30]) for at in range(0, 390, 30)]
    data = "], [".join(rows) if nested else ", ".join(rows)
    data = f"[[{data}]]" if nested else f"[{data}]"
    template = '{"inputs": [{"name": "X", "datatype": "FP32", "shape": [13, 30], "data": %s}], "id": "%s"}'
    long = (template % (data, "x" * 2000)).encode()
    call = asked(long)
    served.answer([call], Run())
    if wrong is None:
        assert call.error is None
        array = np.array(values, dtype=np.float32).reshape(13, 30)
        (labels,) = served.model.run({"X": array}, ["output_label"], Run())
        document = json.loads(call.content or b"")
        assert document["outputs"][0]["data"] == labels.array.tolist()
    else:
        assert isinstance(call.error, RequestError)
        assert call.error.status == 400


def test_one_request_that_the_model_refuses_does_not_spoil_its_neighbours(
    tmp_path: Path,
) -> None:
    text = """g (int64[N,1] index) => (float[N,1] y) {
        numbers = Constant<value: tensor = float[5] {0.0, 1.0, 2.0, 3.0, 4.0}>()
        y = Gather(numbers, index)
    }"""
    model = Model(onnx_models.save(parsed(text), tmp_path / "model") / "model.onnx", 1)
    served = Served(model, "fraud", "3", Profile(batches=True, inline=True, max_rows=128))
    calls = [
        asked(json.dumps({"inputs": [tensor("index", "INT64", [1, 1], [number])]}).encode())
        for number in (1, 7, 4)
    ]
    served.answer(calls, Run())
    assert [call.error is None for call in calls] == [True, False, True]
    assert "the model refuses these values" in str(calls[1].error)
    assert [json.loads(calls[at].content or b"")["outputs"][0]["data"] for at in (0, 2)] == [[1.0], [4.0]]


def test_the_server_reads_the_configuration_as_the_contract_writes_it() -> None:
    contract = ServingConfig.model_fields
    own = {each.name: each for each in fields(Serving)}
    assert list(own) == list(contract)
    required = {"modelName": "a", "modelVersion": "b", "digest": "sha256:" + "0" * 64}
    assert parse_serving(json.dumps(required)) == Serving(
        **{name: getattr(ServingConfig(**required), name) for name in own}
    )
    for name, given_field in contract.items():
        if get_origin(given_field.annotation) is Literal:
            words = get_args(given_field.annotation)
            assert own[name].metadata["words"] == words
            with pytest.raises(SettingsError, match=f"{name} must be {' or '.join(words)}, not 'auto'"):
                parse_serving(json.dumps(required | {name: "auto"}))
        if given_field.annotation is not int:
            continue
        bounds = {type(bound): bound for bound in given_field.metadata}
        low, high = bounds[Ge].ge, bounds[Le].le if Le in bounds else None
        assert (own[name].metadata["low"], own[name].metadata["high"]) == (low, high)
        for value in [low - 1, *([high + 1] if high is not None else []), 1.5, "1", True, None]:
            with pytest.raises(SettingsError, match=name):
                parse_serving(json.dumps(required | {name: value}))
    for wrong in ({"digest": "sha256:0"}, {"surprise": 1}, {"modelName": 7}):
        with pytest.raises(SettingsError):
            parse_serving(json.dumps(required | wrong))
