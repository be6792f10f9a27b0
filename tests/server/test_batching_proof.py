"""Requests share a call only where the model's graph proves that no row depends on another."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from slipway_server.batching.analysis import Verdict, judge
from slipway_server.protocol.tensors import Array
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile, measure
from tests.server import onnx_models
from tests.server.running import Server

Servers = Callable[[str], Server]
ML = '"ai.onnx.ml" : 3, "com.microsoft" : 1'


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, {ML}]> {text}')


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    return onnx_models.save(model, folder) / "model.onnx"


def judged(model: onnx.ModelProto, folder: Path) -> Verdict:
    shapes = {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim
        ]
        for value in model.graph.input
    }
    return judge(saved(model, folder), shapes)


def profiled(model: onnx.ModelProto, folder: Path) -> Profile:
    path = saved(model, folder)
    return measure(Model(path, 1), path)


#: Rows meet, though for most values nobody could tell: each is F1's kind.
MIXING = {
    "a limit for all": """g (float[N,4] x) => (float[N,4] y) {
        lim = Constant<value: tensor = float {1e6}>() neg = Constant<value: tensor = float {-1.0}>()
        m = ReduceMax<keepdims = 1>(x) c = Greater(m, lim) y = Where(c, neg, x) }""",
    "a limit by the least": """g (float[N,4] x) => (float[N,4] y) {
        lim = Constant<value: tensor = float {-1e30}>() m = ReduceMin<axes = [0]>(x)
        c = Less(m, lim) f = Cast<to = 1>(c) y = Add(x, f) }""",
    "NaN anywhere": """g (float[N,4] x) => (float[N,4] y) {
        n = IsNaN(x) f = Cast<to = 1>(n) s = ReduceSum<keepdims = 0>(f) y = Add(x, s) }""",
    "the greatest place": """g (float[N,4] x) => (int64[N,4] y) {
        a = ArgMax<axis = 0, keepdims = 1>(x) z = Cast<to = 7>(x) y = Add(z, a) }""",
    "how many rows": """g (float[N,4] x) => (float[N,4] y) {
        s = Shape(x) hundred = Constant<value: tensor = int64 {100}>() b = Greater(s, hundred)
        c = Cast<to = 1>(b) r = ReduceSum<keepdims = 0>(c) y = Add(x, r) }""",
    "the number of a row": """g (float[N,4] x) => (float[N,4] y) {
        one = Constant<value: tensor = float[4,1] {1.0, 1.0, 1.0, 1.0}>() o = MatMul(x, one) z = Sub(o, o)
        zero = Constant<value: tensor = int64 {0}>() c = CumSum(z, zero) y = Add(x, c) }""",
    "quantized together": """g (float[N,4] x) => (float[N,4] y) {
        q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z) }""",
    "transposed and back": """g (float[N,4] x) => (float[N,4] y) {
        t = Transpose<perm = [1, 0]>(x) s = Softmax<axis = 1>(t) y = Transpose<perm = [1, 0]>(s) }""",
    "all in one row": """g (float[N,4] x) => (float[N,4] y) {
        t = Constant<value: tensor = int64[2] {1, -1}>() f = Reshape(x, t) s = Softmax<axis = 1>(f)
        b = Constant<value: tensor = int64[2] {-1, 4}>() y = Reshape(s, b) }""",
    "reshaped across rows": """g (float[N,4] x) => (float[N,4] y) {
        t = Constant<value: tensor = int64[2] {4, -1}>() f = Reshape(x, t) s = Softmax<axis = 1>(f)
        b = Constant<value: tensor = int64[2] {-1, 4}>() y = Reshape(s, b) }""",
    "an old softmax over all": "g (float[N,4] x) => (float[N,4] y) { y = Softmax<axis = 0>(x) }",
    "the first row": """g (float[N,4] x) => (float[N,4] y) {
        i = Constant<value: tensor = int64[1] {0}>() f = Gather<axis = 0>(x, i)
        z = Sub(x, x) y = Add(z, f) }""",
    "rows with each other": """g (float[N,4] x) => (float[N,4] y) {
        t = Transpose<perm = [1, 0]>(x) p = MatMul(x, t) y = MatMul(p, x) }""",
    "places in the whole": """g (float[N,1,4] x) => (int64[N,1,2] y) {
        m, y = MaxPool<kernel_shape = [2], strides = [2]>(x) }""",
    "in a branch": """g (float[N,4] x) => (float[N,4] y) {
        yes = Constant<value: tensor = bool {1}>()
        y = If(yes) <then_branch = a () => (float[N,4] p) { m = ReduceMax<keepdims = 1>(x) p = Sub(x, m) },
                     else_branch = b () => (float[N,4] q) { q = Identity(x) }> }""",
    "a branch by the rows": """g (float[N,4] x) => (float[N,4] y) {
        zero = Constant<value: tensor = float {1e9}>() m = ReduceMax<keepdims = 0>(x) c = Greater(m, zero)
        y = If(c) <then_branch = a () => (float[N,4] p) { p = Neg(x) },
                   else_branch = b () => (float[N,4] q) { q = Identity(x) }> }""",
    "in a loop": """g (float[N,4] x) => (float[N,4] y) {
        n = Constant<value: tensor = int64 {3}>() yes = Constant<value: tensor = bool {1}>()
        y = Loop(n, yes, x) <body = b (int64 i, bool go, float[N,4] v) => (bool more, float[N,4] out) {
            more = Identity(go) m = ReduceMax<keepdims = 1>(v) out = Sub(v, m) }> }""",
    "a scan over the rows": """g (float[N,4] x) => (float[N,4] y) {
        zero = Constant<value: tensor = float[4] {0.0, 0.0, 0.0, 0.0}>()
        s, y = Scan<num_scan_inputs = 1, body = b (float[4] sum, float[4] v) =>
                (float[4] more, float[4] out) { more = Add(sum, v) out = Identity(more) }>(zero, x) }""",
    "a scan over the rows from behind": """g (float[N,4] x) => (float[4,N] y) {
        zero = Constant<value: tensor = float[4] {0.0, 0.0, 0.0, 0.0}>() t = Transpose(x)
        s, y = Scan<num_scan_inputs = 1, scan_input_axes = [-1], scan_output_axes = [-1],
            body = b (float[4] sum, float[4] v) => (float[4] more, float[4] out) {
                more = Add(sum, v) out = Identity(more) }>(zero, t) }""",
    "rows that meet in a scan": """g (float[N,4] x) => (float[N,4] y) {
        points = Constant<value: tensor = float[2,4] {0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0}>()
        y = Scan<num_scan_inputs = 1, body = b (float[N,4] v, float[4] p) => (float[N,4] out) {
            m = ReduceMax<axes = [0]>(v) d = Sub(v, p) out = Add(d, m) }>(x, points) }""",
    "a scan that collects what mixes": """g (float[N,4] x) => (float[N,2] y) {
        points = Constant<value: tensor = float[2,4] {0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0}>()
        v, c = Scan<num_scan_inputs = 1, body = b (float[N,4] v, float[4] p) =>
                (float[N,4] out, float[N] far) {
            out = Identity(v) d = Sub(v, p) s = ReduceSum<keepdims = 0>(d)
            t = ReduceMax<axes = [1], keepdims = 0>(v) far = Add(s, t) }>(x, points)
        y = Transpose<perm = [1, 0]>(c) }""",
    "a scan whose slices stay first": """g (float[N,4] x) => (float[2,N] y) {
        points = Constant<value: tensor = float[2,4] {0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0}>()
        v, y = Scan<num_scan_inputs = 1, body = b (float[N,4] v, float[4] p) =>
                (float[N,4] out, float[N] far) {
            out = Identity(v) d = Sub(v, p) far = ReduceSumSquare<axes = [1], keepdims = 0>(d)
        }>(x, points) }""",
    "a scan of how many rows there are": """g (float[N,4] x) => (float[N,4] y) {
        s = Shape(x) zero = Constant<value: tensor = int64 {0}>()
        n = Scan<num_scan_inputs = 1, body = b (int64 sum, int64 v) => (int64 more) {
            more = Add(sum, v) }>(zero, s)
        f = Cast<to = 1>(n) y = Add(x, f) }""",
    "one token for all": "g (float[N,4] x) => (float[N,4] y) { r = RandomUniformLike(x) y = Add(x, r) }",
    "words of many lengths": """g (string[N] x) => (string[N,M] y) {
        y = com.microsoft.Tokenizer<mark = 0, mincharnum = 1, pad_value = "#", separators = [" "]>(x) }""",
    "left over at the end": "g (float[N,3] x) => (float[N,3] y) { y = Log(x) }",
    "left over of one number": """g (float[N,4] x) => (float[N,1] y) {
        s = ReduceMax<axes = [1]>(x) y = Sin(s) }""",
    "left over of doubles": """g (double[N,3] x) => (double[N,3] y) { y = Exp(x) }""",
    "either of two zeros": """g (float[N,3] x) => (float[N,3] y) {
        z = Neg(x) y = Max(x, z) }""",
    "a zero for each column": """g (float[N,1] x) => (float[N,1] y) {
        zero = Constant<value: tensor = float[1,1] {0.0}>() y = Min(zero, x) }""",
    "all but the last rows": """g (float[N,4] x) => (float[N,4] y) {
        zero = Constant<value: tensor = int64[1] {0}>() many = Constant<value: tensor = int64[1] {100}>()
        y = Slice(x, zero, many, zero) }""",
    "out of the range of a type": "g (float[N,3] x) => (uint32[N,3] y) { y = Cast<to = 12>(x) }",
    "the least integer by what is sent": "g (int32[N,3] a, int32[N,3] b) => (int32[N,3] y) { y = Div(a, b) }",
    "the least integer by -1": """g (int32[N] a) => (int32[N] y) {
        minus = Constant<value: tensor = int32 {-1}>() y = Div(a, minus) }""",
    "the least integer, computed": """g (float[N,1] x) => (float[N,1] y) {
        i = Cast<to = 6>(x) j = Neg(i) q = Div(i, j) y = Cast<to = 1>(q) }""",
    "the least integer in a loop": """g (int32[N] a, int32[N] b) => (int32[N] y) {
        n = Constant<value: tensor = int64 {3}>() yes = Constant<value: tensor = bool {1}>()
        y = Loop(n, yes, a) <body = l (int64 i, bool go, int32[N] v) => (bool more, int32[N] out) {
            more = Identity(go) out = Div(v, b) }> }""",
    "the least integer in a branch": """g (int32[N] a, int32[N] b) => (int32[N] y) {
        yes = Constant<value: tensor = bool {1}>()
        y = If(yes) <then_branch = t () => (int32[N] p) { p = Div(a, b) },
                     else_branch = e () => (int32[N] q) { q = Identity(a) }> }""",
    "a list as one row": """g (float[N] x) => (float[1,N] y) {
        y = ai.onnx.ml.Normalizer<norm = "L2">(x) }""",
}
APART = {
    "nothing left over": "g (float[N,2,6] x) => (float[N,2,6] y) { y = Log(x) }",
    "exponents of 32 bits": "g (float[N,3] x) => (float[N,3] y) { y = Exp(x) }",
    "a zero for all": """g (float[N,3] x) => (float[N,3] y) {
        zero = Constant<value: tensor = float {0.0}>() y = Max(x, zero) }""",
    "all rows, said by a large number": """g (float[N,4] x) => (float[N,2] y) {
        zero = Constant<value: tensor = int64[2] {0, 0}>()
        two = Constant<value: tensor = int64[2] {1000000000, 2}>()
        axes = Constant<value: tensor = int64[2] {0, 1}>() y = Slice(x, zero, two, axes) }""",
    "all rows, counted": """g (float[N,4] x) => (float[N,4] y) {
        s = Shape(x) zero = Constant<value: tensor = int64[1] {0}>() n = Gather(s, zero)
        y = Slice(x, zero, n, zero) }""",
    "no zero to choose": """g (float[N,3] x) => (float[N,3] y) {
        least = Constant<value: tensor = float {0.001}>() y = Max(x, least) }""",
    "whole numbers to choose": "g (int64[N,3] a, int64[N,3] b) => (int64[N,3] y) { y = Max(a, b) }",
    "halves of whole numbers": """g (int32[N,3] a) => (int32[N,3] y) {
        two = Constant<value: tensor = int32 {2}>() y = Div(a, two) }""",
    "parts of a number": """g (int32[N,3] b) => (int32[N,3] y) {
        many = Constant<value: tensor = int32 {1000}>() y = Div(many, b) }""",
    "quotients of four": "g (int32[N,4] a, int32[N,4] b) => (int32[N,4] y) { y = Div(a, b) }",
    "quotients of 64 bits": "g (int64[N,3] a, int64[N,3] b) => (int64[N,3] y) { y = Div(a, b) }",
    "quotients of floats": """g (float[N,3] x) => (float[N,3] y) {
        f = Exp(x) g = Add(f, x) y = Div(g, f) }""",
    "sizes computed on the way": """g (float[N,2,3] x) => (float[N,6] y) {
        s = Shape(x) zero = Constant<value: tensor = int64 {0}>() n = Gather(s, zero)
        ax = Constant<value: tensor = int64[1] {0}>() u = Unsqueeze(n, ax)
        rest = Constant<value: tensor = int64[1] {-1}>() t = Concat<axis = 0>(u, rest) y = Reshape(x, t) }""",
    "tokens side by side": """g (float[N,5,4] x) => (float[N,5,4] y) {
        flat = Constant<value: tensor = int64[2] {-1, 4}>() a = Reshape(x, flat) s = Softmax<axis = 1>(a)
        back = Constant<value: tensor = int64[3] {-1, 5, 4}>() y = Reshape(s, back) }""",
    "turned and back": """g (float[N,4] x) => (float[N,4] y) {
        t = Transpose<perm = [1, 0]>(x) s = Softmax<axis = 0>(t) y = Transpose<perm = [1, 0]>(s) }""",
    "attention": """g (float[N,5,4] x) => (float[N,5,4] y) {
        t = Transpose<perm = [0, 2, 1]>(x) p = MatMul(x, t) s = Softmax<axis = -1>(p) y = MatMul(s, x) }""",
    "a row for all": """g (float[N,4] x) => (float[N,4] y) {
        s = Shape(x) z = ConstantOfShape(s) e = Exp(z) y = Add(x, e) }""",
    "a branch that is known": """g (float[N,4] x) => (float[N,4] y) {
        yes = Constant<value: tensor = bool {1}>()
        y = If(yes) <then_branch = a () => (float[N,4] p) { p = Neg(x) },
                     else_branch = b () => (float[N,4] q) { q = Identity(x) }> }""",
    "a loop of three": """g (float[N,4] x) => (float[N,4] y) {
        n = Constant<value: tensor = int64 {3}>() yes = Constant<value: tensor = bool {1}>()
        y = Loop(n, yes, x) <body = b (int64 i, bool go, float[N,4] v) => (bool more, float[N,4] out) {
            more = Identity(go) out = Sqrt(v) }> }""",
    "distances to points": """g (float[N,4] x) => (float[N,2] y) {
        points = Constant<value: tensor = float[2,4] {0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0}>()
        v, c = Scan<num_scan_inputs = 1, body = b (float[N,4] v, float[4] p) =>
                (float[N,4] out, float[N] far) {
            out = Identity(v) d = Sub(v, p) far = ReduceSumSquare<axes = [1], keepdims = 0>(d)
        }>(x, points)
        y = Transpose<perm = [1, 0]>(c) }""",
    "a state over steps of time": """g (float[N,3,4] x, float[N,4] h) => (float[N,4] last, float[N,4,3] y) {
        last, y = Scan<num_scan_inputs = 1, scan_input_axes = [-2], scan_input_directions = [1],
            scan_output_axes = [-1], body = b (float[N,4] sum, float[N,4] v) =>
            (float[N,4] more, float[N,4] out) { s = Add(sum, v) more = Tanh(s) out = Neg(more) }>(h, x) }""",
    "counted words": """g (string[N] x) => (float[N,2] y) {
        t = com.microsoft.Tokenizer<mark = 0, mincharnum = 1, pad_value = "#", separators = [" "]>(x)
        y = TfIdfVectorizer<max_gram_length = 1, max_skip_count = 0, min_gram_length = 1, mode = "TF",
            ngram_counts = [0], ngram_indexes = [0, 1], pool_strings = ["good", "bad"]>(t) }""",
}


@pytest.mark.parametrize("name", MIXING)
def test_a_graph_in_which_rows_meet_is_not_proved(tmp_path: Path, name: str) -> None:
    verdict = judged(parsed(MIXING[name]), tmp_path)
    assert not verdict.apart
    assert "output '" in verdict.why


@pytest.mark.parametrize("name", APART)
def test_a_graph_that_keeps_rows_apart_is_proved(tmp_path: Path, name: str) -> None:
    assert judged(parsed(APART[name]), tmp_path) == Verdict(True)


def test_requests_whose_values_would_change_each_others_answers_share_no_call(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.eye(256, dtype=np.float32), "W")
    limits = [numpy_helper.from_array(np.float32(value), name) for name, value in (("lim", 1e6), ("neg", -1))]
    node, value = helper.make_node, helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            node("Gemm", ["x", "W"], ["g"]),
            node("ReduceMax", ["x"], ["m"], keepdims=1),
            node("Greater", ["m", "lim"], ["c"]),
            node("Where", ["c", "neg", "g"], ["y"]),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 256])],
        [value("y", TensorProto.FLOAT, ["n", 256])],
        [weights, *limits],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    profile = profiled(model, tmp_path)
    assert not profile.batches
    assert profile.why == (
        "off: rows are not proved independent: "
        "output 'y': node 'm' (ReduceMax) works along the axis of the rows"
    )


def function_model(body: str) -> onnx.ModelProto:
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[N,4] x) => (float[N,4] y) {{ y = own.f<way = 1>(x) }}
        <domain: "own", opset_import: ["" : 17]> f <way> (a) => (b) {{ {body} }}"""
    )


@pytest.mark.parametrize(
    ("body", "apart"),
    [
        ("b = Softmax<axis: int = @way>(a)", True),
        ("m = ReduceMax<keepdims = 1>(a) b = Sub(a, m)", False),
        ("t = Transpose(a) s = Softmax<axis: int = @way>(t) b = Transpose(s)", False),
    ],
)
def test_the_models_own_functions_are_looked_into(tmp_path: Path, body: str, apart: bool) -> None:
    assert judged(function_model(body), tmp_path).apart == apart


def test_an_operator_that_is_not_known_is_taken_to_mix_rows(tmp_path: Path) -> None:
    model = parsed("g (float[N,4] x) => (float[N,4] y) { y = surprise.Relu(x) }")
    assert judged(model, tmp_path) == Verdict(
        False, "output 'y': node 'y' (Relu) is not known to keep rows apart"
    )


def test_of_a_large_model_the_outline_alone_is_read(tmp_path: Path) -> None:
    """Its weights stand before the names that matter, and are larger than anything that is kept."""
    big = np.ones((4, 1_000_000), np.float32)
    node, value = helper.make_node, helper.make_tensor_value_info
    for number, weights in enumerate(
        (
            numpy_helper.from_array(big, "w"),
            helper.make_tensor("w", TensorProto.FLOAT, big.shape, big.reshape(-1)),
        )
    ):
        graph = helper.make_graph(
            [node("MatMul", ["x", "w"], ["m"]), node("ReduceMax", ["m"], ["y"], axes=[1], keepdims=1)],
            "g",
            [value("x", TensorProto.FLOAT, ["N", 4])],
            [value("y", TensorProto.FLOAT, ["N", 1])],
            [weights],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = saved(model, tmp_path / str(number))
        began = time.process_time()
        assert judge(path, {"x": [-1, 4]}) == Verdict(True)
        assert time.process_time() - began < 0.1


def test_a_list_that_is_too_long_to_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    """Without axes ``Unsqueeze`` would be an identity; 20,000 of them are left out of the outline."""
    axes = [0] * 20_000
    node, value = helper.make_node, helper.make_tensor_value_info
    for kind in ("Transpose", "ReduceSum"):
        graph = helper.make_graph(
            [node(kind, ["x"], ["y"], **{"perm" if kind == "Transpose" else "axes": axes})],
            "g",
            [value("x", TensorProto.FLOAT, ["N", 4])],
            [value("y", TensorProto.FLOAT, ["N", 4])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
        verdict = judged(model, tmp_path / kind)
        assert "long attribute" in verdict.why


@pytest.mark.parametrize("content", [b"", b"\x08", b"not a model", b"\x3a\xff\xff\xff\xff\x0f"])
def test_a_file_that_cannot_be_read_proves_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert not judge(path, {"x": [-1, 4]}).apart


def test_a_kernel_that_dies_in_the_trial_does_so_in_a_child(tmp_path: Path) -> None:
    """The least integer over -1: the processor's own error, which nothing in the process can catch."""
    text = """g (int64[N,3] a) => (int64[N,3] y) {
        minus = Constant<value: tensor = int64[1] {-1}>() y = Div(a, minus) }"""
    profile = profiled(parsed(text), tmp_path)
    assert profile.why == "off: a trial of batches ended its process (SIGFPE)"
    assert profile.curve is not None


def test_what_is_left_over_is_anywhere_where_threads_share_a_kernel(tmp_path: Path) -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { y = Log(x) }"
    path = saved(parsed(text), tmp_path)
    assert judge(path, {"x": [-1, 4]}).apart
    verdict = judge(path, {"x": [-1, 4]}, threads=2)
    assert not verdict.apart
    assert "node 'y' (Log)" in verdict.why


def test_metadata_and_log_say_what_was_decided_about_batches_and_why(servers: Servers) -> None:
    server = servers("regressor")
    said = server.client.get("/v2/models/fraud").json()["parameters"]["batching"]
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if '"ready"' in line]
    assert [line["batching"] for line in lines if "batching" in line] == [said]
    assert said.startswith("on: rows are proved independent")


# Every operator's own tests, each input in turn with rows of which the test's are examples.


def run_of(model: onnx.ModelProto) -> Callable[[Mapping[str, Array]], list[Any]]:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    return lambda inputs: session.run(None, dict(inputs))


def with_rows(case: onnx.ModelProto, arrays: Sequence[Array], free: Sequence[int]) -> onnx.ModelProto:
    """The model with these inputs free in their first dimension, and the others as constants."""
    model = onnx.ModelProto()
    model.CopyFrom(case)
    del model.graph.input[:]
    for index, (value, array) in enumerate(zip(case.graph.input, arrays, strict=True)):
        if index in free:
            kind = value.type.tensor_type.elem_type
            model.graph.input.append(helper.make_tensor_value_info(value.name, kind, ["N", *array.shape[1:]]))
        else:
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
    for output in model.graph.output:
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, None))
    return model


def rows_like(array: Array, count: int, random: np.random.Generator, wild: bool = False) -> Array:
    rows = array[random.integers(0, len(array), count)].copy()
    if rows.dtype.kind == "f" and wild:
        ends = [np.nan, np.inf, -np.inf, np.finfo(rows.dtype).max, 0.0, -0.0, -3.5]
        return random.choice(np.array(ends, rows.dtype), rows.shape)
    if rows.dtype.kind == "f":
        return (rows * random.normal(1, 0.3, rows.shape) + random.normal(0, 0.1, rows.shape)).astype(
            rows.dtype
        )
    if rows.dtype.kind == "b":
        return random.random(rows.shape) < 0.5
    return rows


def bits(array: Any, row: int) -> Any:
    one = np.asarray(array)[row : row + 1]
    return one.tolist() if one.dtype.kind in "OUS" else one.tobytes()


def assert_rows_stay_apart(
    run: Callable[[Mapping[str, Array]], list[Any]], inputs: Mapping[str, Array], seed: int, name: str
) -> bool:
    """In a batch of one size the bits of a row are the same whatever is in the others; and nearly as alone.

    Whether they are so to the bit alone is for the trial to find; gives whether anything was compared.
    """
    random, count = np.random.default_rng(seed), 4
    base = {key: rows_like(array, count, random) for key, array in inputs.items()}
    try:
        alone = [run({key: array[row : row + 1] for key, array in base.items()}) for row in range(count)]
        whole = run(base)
    except Exception:
        return False
    for position, answer in enumerate(whole):
        assert len(answer) == count, name
        for row in range(count):
            single = alone[row][position]
            assert single.shape == (1, *answer.shape[1:]), name
            if answer.dtype.kind == "f":
                np.testing.assert_allclose(answer[row : row + 1], single, rtol=1e-3, atol=1e-4, err_msg=name)
            else:
                assert np.array_equal(answer[row : row + 1], single), name
    for row in range(count):
        others = {key: rows_like(array, count, random, wild=True) for key, array in inputs.items()}
        for key in others:
            others[key][row] = base[key][row]
        try:
            again = run(others)
        except Exception:
            continue
        assert [bits(a, row) for a in again] == [bits(a, row) for a in whole], (name, row)
    return True


def operator_cases() -> Iterator[tuple[str, onnx.ModelProto, list[Array]]]:
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind="node"):
        if case.model is None or not case.data_sets or "image_decoder" in case.name:
            continue
        plain = all(
            value.type.HasField("tensor_type")
            for value in (*case.model.graph.input, *case.model.graph.output)
        )
        if not plain:
            continue
        given = [
            numpy_helper.to_array(each) if isinstance(each, onnx.TensorProto) else np.asarray(each)
            for each in case.data_sets[0][0]
        ]
        if len(given) == len(case.model.graph.input) and all(
            array.dtype.kind in "fiubOUS" for array in given
        ):
            yield case.name, case.model, given


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_where_the_analysis_says_yes_no_operator_lets_one_row_change_another(tmp_path: Path) -> None:
    compared: Counter[str] = Counter()
    for name, model, arrays in operator_cases():
        able = [index for index, array in enumerate(arrays) if array.ndim and array.shape[0]]
        choices = [free for size in range(1, len(able) + 1) for free in combinations(able, size)][:20]
        for free in choices:
            made = with_rows(model, arrays, free)
            if not judged(made, tmp_path).apart:
                continue
            try:
                run = run_of(made)
            except Exception:
                continue
            inputs = {model.graph.input[index].name: arrays[index] for index in free}
            if assert_rows_stay_apart(run, inputs, len(compared), f"{name} {free}"):
                compared[model.graph.node[-1].op_type] += 1
    assert sum(compared.values()) > 800
    assert len(compared) > 120
