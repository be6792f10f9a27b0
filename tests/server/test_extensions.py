"""Pictures and texts as they are, decoded inside the model: what is taken, and what is refused at once."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from sentencepiece import SentencePieceTrainer

from slipway.convert.compose import CONTRIB, MICROSOFT
from slipway.convert.pictures import picture_of, with_pictures
from slipway.models import onnx_graph_pb2 as pb
from slipway.models.hazard_tables import Around
from slipway.models.hazards import HazardError, look
from slipway.names import EXTENSION_OPERATORS, ModelFault
from slipway_server.batching.analysis import judge
from slipway_server.rpc.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from slipway_server.runtime.extensions import ALLOWED, DECODER
from slipway_server.runtime.pictures import MOST_PIXELS
from tests.server.conftest import Start
from tests.server.running import Server, tensor
from tests.server.test_crashes import crashes
from tests.server.test_grpc import SERVICE, channel

RED, BLUE = (255, 0, 0), (0, 0, 255)


def means() -> onnx.ModelProto:
    """The mean of each channel, of pictures of any size."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0)],
        "g",
        [value("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [value("mean", TensorProto.FLOAT, ["N", 3])],
    )
    base = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    base = onnx.version_converter.convert_version(base, 18)
    return with_pictures(base, picture_of(base))


def extension(
    kind: str, domain: str, given: int, made: int, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A model of one such operator."""
    value = helper.make_tensor_value_info
    names = [f"out_{number}" for number in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(kind, ["given"], names, domain=domain, **attributes)],
        "g",
        [value("given", given, ["n"])],
        [value(name, made, None) for name in names],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def picture(colour: tuple[int, int, int], kind: str = "JPEG", mode: str = "RGB", size: int = 20) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (size, size), colour).convert(mode).save(held, kind)
    return held.getvalue()


def png(width: int, height: int, rows: int) -> bytes:
    """All black; it says ``height`` and holds so many rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    held = zlib.compress(b"\0" * ((1 + 3 * width) * rows), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", held) + chunk(b"IEND", b"")


def save(model: onnx.ModelProto, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder


def in_json(server: Server, *pictures: bytes) -> Any:
    texts = [base64.b64encode(each).decode() for each in pictures]
    return server.infer(tensor("pictures", "BYTES", [len(texts)], texts))


@pytest.fixture(scope="session")
def stack() -> str:
    """By our own HTTP side alone: what is tried here lies behind it."""
    return "own"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(means(), tmp_path_factory.mktemp("pictures") / "model")


def test_pictures_are_taken_by_every_protocol_and_mean_the_same(start: Start, folder: Path) -> None:
    server = start(folder).wait_until_ready()
    described = server.client.get("/v2/models/fraud").json()["inputs"]
    assert described == [
        {"name": "pictures", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "base64"}}
    ]
    both = [picture(RED), picture(BLUE, "PNG", size=33)]
    expected = pytest.approx([1, 0, 0, 0, 0, 1], abs=0.01)
    answer = in_json(server, *both)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == expected

    blob = b"".join(struct.pack("<I", len(each)) + each for each in both)
    given = tensor("pictures", "BYTES", [2], binary_data_size=len(blob))
    assert server.infer_binary({"inputs": [given]}, blob).json()["outputs"][0]["data"] == expected

    # One picture as it is, as curl --data-binary sends it.
    alone = server.client.post(
        server.infer_path, content=both[0], headers={"Inference-Header-Content-Length": "0"}
    )
    assert np.frombuffer(alone.content[-12:], "<f4") == pytest.approx([1, 0, 0], abs=0.01)

    instances = [{"b64": base64.b64encode(each).decode()} for each in both]
    found = server.client.post("/v1/models/fraud:predict", json={"instances": instances}).json()
    assert np.ravel(found["predictions"]) == expected

    contents = ModelInferRequest(model_name="fraud")
    contents.inputs.add(name="pictures", datatype="BYTES", shape=[2]).contents.bytes_contents.extend(both)
    raw = ModelInferRequest(model_name="fraud", raw_input_contents=[blob])
    raw.inputs.add(name="pictures", datatype="BYTES", shape=[2])
    with channel(server) as made:
        call = made.unary_unary(
            f"{SERVICE}/ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        assert list(call(contents, timeout=20).outputs[0].contents.fp32_contents) == expected
        assert np.frombuffer(call(raw, timeout=20).raw_output_contents[0], "<f4") == expected


def test_what_is_no_base64_is_a_400_that_says_so(start: Start, folder: Path) -> None:
    server = start(folder).wait_until_ready()
    answer = server.infer(tensor("pictures", "BYTES", [1], ["no picture!"]))
    assert answer.status_code == 400
    assert "base64" in answer.text


def test_a_picture_that_would_unpack_into_gigabytes_is_refused_by_its_head(
    start: Start, folder: Path
) -> None:
    server = start(folder).wait_until_ready()
    processes = server.processes()
    for bomb in (
        png(30_000, 30_000, rows=10),
        png(2**31 - 1, 2**31 - 1, rows=0),
        png(MOST_PIXELS + 1, 1, rows=0),
        png(1, MOST_PIXELS + 1, rows=0),
        _jpeg_of(65_000, 65_000),
    ):
        assert len(bomb) < 100_000
        answer = in_json(server, picture(RED), bomb)
        assert answer.status_code == 422, answer.text
        assert "picture 1" in answer.text
        assert "pixels" in answer.text
    assert server.processes() == processes, "a decoder was asked"
    many = in_json(server, *[png(4000, 4000, rows=0)] * 3)
    assert many.status_code == 422
    assert "fewer at once" in many.text


def _jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(picture(RED))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


#: A frame and a scan without the tables that they are coded by.
NO_TABLES = bytes.fromhex("ffd8 ffc0000b0800100010010111 00ffda000801010000 3f00 ffd9")


def damaged() -> dict[str, bytes]:
    whole, drawn = picture(RED), picture(RED, "PNG")
    random = np.random.default_rng(0)
    noise = bytearray(whole)
    for place in random.integers(2, len(noise) - 2, 60):
        noise[place] = random.integers(0, 256)
    return {
        "nothing": b"",
        "garbage": b"garbage",
        "gif": picture(RED, "GIF"),
        "webp": picture(RED, "WEBP"),
        "bmp": picture(RED, "BMP"),
        "cmyk": picture(RED, mode="CMYK"),
        "cut jpeg": whole[: len(whole) * 2 // 3],
        "head alone": whole[:2],
        "cut png": drawn[:-20],
        "png without a head": drawn[:8] + drawn[33:],
        # Those pass the walk over their parts: the decoder alone finds out.
        "noise": bytes(noise),
        "tables of nothing": NO_TABLES,
        "png of wrong sums": drawn[:40] + bytes(each ^ 0x55 for each in drawn[40:60]) + drawn[60:],
        "png with too few rows": png(100, 100, rows=3),
    }


def test_damaged_pictures_are_the_requests_fault_and_shut_nobody_out(start: Start, folder: Path) -> None:
    server = start(folder).wait_until_ready()
    worker = server.processes()[1]
    for name, data in damaged().items():
        began = time.monotonic()
        answer = in_json(server, data)
        if name == "noise" and answer.status_code == 200:
            continue  # it may still be a picture
        assert answer.status_code == 422, (name, answer.text)
        assert "picture" in answer.text or "DecodeImage" in answer.text, (name, answer.text)
        assert time.monotonic() - began < 1.9, f"{name} was ended by the deadline"
    for _ in range(6):
        assert in_json(server, damaged()["tables of nothing"]).status_code == 422
    assert in_json(server, picture(BLUE)).status_code == 200
    assert server.processes()[1] == worker
    assert crashes(server) == 0


def test_no_flipped_bytes_of_a_picture_are_anything_but_an_answer_or_a_422(
    start: Start, folder: Path
) -> None:
    server = start(folder, requestTimeoutMilliseconds=20_000).wait_until_ready()
    random = np.random.default_rng(1)
    for number in range(60):
        data = bytearray(picture(BLUE, ("JPEG", "PNG")[number % 2]))
        for place in random.integers(2, len(data), random.integers(1, 12)):
            data[place] = random.integers(0, 256)
        answer = in_json(server, bytes(data))
        assert answer.status_code in (200, 422), answer.text
    good = in_json(server, picture(RED)).json()["outputs"][0]["data"]
    assert good == pytest.approx([1, 0, 0], abs=0.01)


def test_grey_pictures_and_transparent_ones_are_taken_as_pillow_takes_them(
    start: Start, folder: Path
) -> None:
    server = start(folder).wait_until_ready()
    for kind, mode in (("JPEG", "L"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "RGBA"), ("PNG", "P")):
        answer = in_json(server, picture((40, 90, 200), kind, mode))
        held = Image.open(io.BytesIO(picture((40, 90, 200), kind, mode))).convert("RGB")
        expected = np.asarray(held).mean((0, 1)) / 255
        assert answer.json()["outputs"][0]["data"] == pytest.approx(expected.tolist(), abs=0.01), (kind, mode)


def test_rows_of_these_operators_are_never_run_together(tmp_path: Path) -> None:
    for model, name in (
        (means(), "pictures"),
        (extension("StringUpper", CONTRIB, TensorProto.STRING, TensorProto.STRING), "given"),
    ):
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        assert not judge(path, {name: (-1,)}).apart


@pytest.mark.parametrize(
    ("kind", "domain", "says"),
    [
        ("EncodeImage", MICROSOFT, "EncodeImage"),
        ("AudioDecoder", CONTRIB, "AudioDecoder"),
        ("CLIPTokenizer", CONTRIB, "CLIPTokenizer"),
        ("ReadsFiles", CONTRIB, "ReadsFiles"),
    ],
)
def test_an_operator_that_is_not_named_is_not_loaded(
    start: Start, tmp_path: Path, kind: str, domain: str, says: str
) -> None:
    model = extension(kind, domain, TensorProto.UINT8, TensorProto.UINT8)
    server = start(save(model, tmp_path / "model"))
    assert server.wait() == 1
    failure = server.last_words().outcome.failure  # type: ignore[union-attr]
    assert failure.reason is ModelFault.MODEL_LOAD_FAILED
    assert says in failure.message
    assert "is not run here" in failure.message


def test_a_decoder_whose_picture_could_not_be_measured_is_not_loaded(start: Start, tmp_path: Path) -> None:
    model = extension("DecodeImage", MICROSOFT, TensorProto.UINT8, TensorProto.UINT8)
    graph = model.graph
    graph.node[0].input[0] = "turned"
    graph.node.insert(0, helper.make_node("BitwiseNot", ["given"], ["turned"]))
    server = start(save(model, tmp_path / "model"))
    assert server.wait() == 1
    assert "could not be checked" in server.last_words().outcome.failure.message  # type: ignore[union-attr]


def test_a_decoder_of_one_tensor_of_bytes_is_measured_too(start: Start, tmp_path: Path) -> None:
    model = extension("DecodeImage", MICROSOFT, TensorProto.UINT8, TensorProto.UINT8)
    server = start(save(model, tmp_path / "model")).wait_until_ready()

    def ask(data: bytes) -> Any:
        return server.infer(tensor("given", "UINT8", [len(data)], list(data)))

    assert ask(picture(RED)).json()["outputs"][0]["shape"] == [20, 20, 3]
    assert "pixels" in ask(png(30_000, 30_000, rows=1)).text
    # Read as bgr, which is the default, a grey JPEG would be read beyond its end.
    assert "in colours" in ask(picture(RED, mode="L")).text
    assert ask(picture(RED)).status_code == 200


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "##ly", "a", "!"]
#: Of byte pairs; it knows ASCII.
PAIRS = json.dumps({**{chr(33 + code): code for code in range(94)}, "Ġ": 94, "<|endoftext|>": 95, "go": 96})
HOSTILE = [
    *("", "\0", "\u202e\ufffd", "[SEP] [PAD] <|endoftext|> <s> </s>", " \t\r\n ", "\\ % ( [ *"),
    *("a" * 200_000, "a " * 50_000, "中" * 5_000, "\u0301" * 5_000, "\U0001f469\u200d" * 2_000),
]


def every_operator_on_text() -> onnx.ModelProto:
    """All that a model may have, on one string."""
    value, text, whole = helper.make_tensor_value_info, TensorProto.STRING, TensorProto.INT64
    pieces = io.BytesIO()
    sentences = iter(["a good film", "a bad film", "good and bad"] * 20)
    SentencePieceTrainer.train(sentence_iterator=sentences, model_writer=pieces, vocab_size=16, minloglevel=2)
    constants: dict[str, Any] = {
        "space": np.array([" "], object),
        "pattern": np.array(["(a+)+b"], object),
        "buckets": np.array([100], np.int64),
        "nbest": np.array([0], np.int64),
        "alpha": np.array([0], np.float32),
        "no": np.array([False]),
    }
    pairs = {"vocab": PAIRS, "merges": "#version: 0.2\ng o"}
    operators: list[tuple[str, list[str], list[int], dict[str, Any]]] = [
        ("BertTokenizer", [], [whole] * 3, {"vocab_file": "\n".join(WORDS)}),
        ("GPT2Tokenizer", [], [whole] * 2, pairs),
        ("RobertaTokenizer", [], [whole] * 3, pairs),
        (
            "SentencepieceTokenizer",
            ["nbest", "alpha", "no", "no", "no"],
            [TensorProto.INT32, whole],
            {"model": pieces.getvalue()},
        ),
        ("StringConcat", ["space"], [text], {}),
        ("StringEqual", ["space"], [TensorProto.BOOL], {}),
        ("StringLength", [], [whole], {}),
        ("StringLower", [], [text], {}),
        ("StringRegexReplace", ["pattern", "space"], [text], {}),
        ("StringSplit", ["space", "no"], [whole, text, whole], {}),
        ("StringStrip", [], [text], {}),
        ("StringToHashBucketFast", ["buckets"], [whole], {}),
        ("StringUpper", [], [text], {}),
    ]
    assert {kind for kind, *_ in operators} | {DECODER} == ALLOWED
    nodes, outputs = [], []
    for kind, more, made, attributes in operators:
        names = [f"{kind}_{number}" for number in range(len(made))]
        nodes.append(helper.make_node(kind, ["given", *more], names, domain=CONTRIB, **attributes))
        outputs += [value(name, each, None) for name, each in zip(names, made, strict=True)]
    held = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("given", text, ["n"])], outputs, held)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_operators_on_text_survive_hostile_strings(start: Start, tmp_path: Path) -> None:
    model = save(every_operator_on_text(), tmp_path / "model")
    server = start(model, requestTimeoutMilliseconds=30_000).wait_until_ready()
    for text in HOSTILE:
        answer = server.infer(tensor("given", "BYTES", [1], [text]))
        assert answer.status_code == 200, (text[:20], answer.text)
    good = server.infer(tensor("given", "BYTES", [1], ["A goodly !"])).json()["outputs"]
    found = {each["name"]: each["data"] for each in good}
    assert found["BertTokenizer_0"] == [2, 8, 5, 7, 9, 3]
    assert found["GPT2Tokenizer_0"] == [32, 94, 96, 78, 67, 75, 88, 94, 0]
    assert found["StringUpper_0"] == ["A GOODLY !"]
    assert crashes(server) == 0


def test_a_resolver_lets_the_same_operators_through_and_the_loops_around_them() -> None:
    assert frozenset[str]().union(*EXTENSION_OPERATORS.values()) == ALLOWED
    for model in (means(), every_operator_on_text()):
        look(pb.Model.FromString(model.SerializeToString()), Around())
    other = extension("EncodeImage", MICROSOFT, TensorProto.UINT8, TensorProto.UINT8)
    with pytest.raises(HazardError, match="EncodeImage"):
        look(pb.Model.FromString(other.SerializeToString()), Around())


def test_models_without_them_load_nothing_of_the_library(start: Start, folder: Path) -> None:
    plain, pictures = start("regressor").wait_until_ready(), start(folder).wait_until_ready()

    def maps(server: Server) -> str:
        return Path(f"/proc/{server.processes()[1]}/maps").read_text()

    assert "_extensions_pydll" in maps(pictures)
    assert "_extensions_pydll" not in maps(plain)


def test_grpc_says_that_a_bomb_is_an_invalid_argument(start: Start, folder: Path) -> None:
    server = start(folder).wait_until_ready()
    message = ModelInferRequest(model_name="fraud")
    given = message.inputs.add(name="pictures", datatype="BYTES", shape=[1])
    given.contents.bytes_contents.append(png(30_000, 30_000, rows=1))
    with channel(server) as made, pytest.raises(grpc.RpcError) as caught:
        made.unary_unary(f"{SERVICE}/ModelInfer")(message.SerializeToString(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "pixels" in caught.value.details()
