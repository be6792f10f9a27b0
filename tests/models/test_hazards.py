"""Models that could take a server down are refused by the name of a node; what exporters make is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from slipway.contract import ModelFault
from slipway.models import hazard_child
from slipway.models import onnx_graph_pb2 as pb
from slipway.models.faults import ModelError
from slipway.models.hazard_scan import scan
from slipway.models.hazard_tables import Around
from slipway.models.hazards import HazardError, look
from slipway.models.onnx_file import MOST_OUTLINE, Outline, Tape, external_data
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier, save_wide, wide_model
from tests.models.test_onnx_file import varint

node = helper.make_node


def numbers(name: str, *values: int, kind: int = TensorProto.INT64) -> TensorProto:
    """A vector, or a scalar of one value."""
    return helper.make_tensor(name, kind, [len(values)], values)


def model(
    nodes: Sequence[NodeProto],
    initializers: Sequence[TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    output: str = "y",
) -> onnx.ModelProto:
    """One with the inputs ``x``, a matrix of floats, and ``n``, a vector of integers."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4]),
            helper.make_tensor_value_info("n", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        list(initializers),
    )
    return helper.make_model(graph, functions=list(functions), ir_version=9)


def looked_at(content: bytes | onnx.ModelProto, around: Around | None = None, size: int = 1 << 20) -> None:
    """As a resolver looks at it, in a process of its own."""
    content = content if isinstance(content, bytes) else content.SerializeToString()
    outline = Outline()
    pieces: Iterator[bytes] = (content[at : at + size] for at in range(0, len(content), size))
    external_data(Tape(pieces, len), "model.onnx", outline)
    scan(outline, around or Around(), "model.onnx")


def found(content: onnx.ModelProto, around: Around) -> str:
    """The hazard, looked for in this process; nothing where there is none."""
    outline = Outline()
    external_data(Tape(iter((content.SerializeToString(),)), len), "model.onnx", outline)
    assert not outline.is_too_large
    try:
        look(pb.Model.FromString(outline.content), around)
    except HazardError as error:
        return str(error)
    return ""


def many_tensors(count: int) -> bytes:
    """A model with one tensor as often as that, of 500 bytes."""
    tensor = numbers("w" * 384, *range(100)).SerializeToString()
    graph = (b"\x2a" + varint(len(tensor)) + tensor) * count
    return b"\x08\x09\x3a" + varint(len(graph)) + graph


def body(*nodes: NodeProto, carried: str = "c", made: str = "c2") -> GraphProto:
    """Of a loop, with one carried value."""
    return helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), *nodes],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info(carried, TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info(made, TensorProto.FLOAT, None),
        ],
    )


def loop(trips: str, *nodes: NodeProto, name: str = "round") -> NodeProto:
    inside = body(*(nodes or (node("Identity", ["c"], ["c2"]),)))
    return node("Loop", [trips, "", "x"], ["y"], name=name, body=inside)


def function(name: str, *nodes: NodeProto, domain: str = "own") -> onnx.FunctionProto:
    return helper.make_function(
        domain, name, ["a"], ["b"], list(nodes), [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    )


def call(name: str, given: str = "a", made: str = "b") -> NodeProto:
    return node(name, [given], [made], domain="own", name=f"call-{name}")


def laughs(width: int, height: int) -> list[onnx.FunctionProto]:
    """Functions each of which calls the next several times."""
    found = [function("f0", node("Relu", ["a"], ["b"]))]
    for level in range(1, height):
        steps = [call(f"f{level - 1}", "a" if at == 0 else f"t{at}", f"t{at + 1}") for at in range(width - 1)]
        found.append(
            function(f"f{level}", *steps, call(f"f{level - 1}", f"t{width - 1}" if width > 1 else "a", "b"))
        )
    return found


def nested(depth: int) -> NodeProto:
    """An If within an If."""
    inner = node("Identity", ["x"], ["y"])
    for _ in range(depth):
        output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
        branch = helper.make_graph([inner], "b", [], output)
        other = helper.make_graph([node("Identity", ["x"], ["y"])], "e", [], output)
        inner = node("If", ["flag"], ["y"], name="fork", then_branch=branch, else_branch=other)
    return inner


def shaped(name: str, dims: Sequence[int], raw: bytes = b"", **values: Sequence[Any]) -> TensorProto:
    """A tensor that need not be true."""
    tensor = TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT)
    if raw:
        tensor.raw_data = raw
    for field, found in values.items():
        getattr(tensor, field).extend(found)
    return tensor


def outside(name: str, dims: Sequence[int], offset: int, length: int) -> TensorProto:
    tensor = shaped(name, dims, b"\0")
    set_external_data(tensor, "weights", offset=offset, length=length)
    tensor.ClearField("raw_data")
    return tensor


def sparse(dims: Sequence[int]) -> onnx.ModelProto:
    made = model([node("Identity", ["x"], ["y"])])
    found = made.graph.sparse_initializer.add(dims=dims)
    found.values.CopyFrom(shaped("s", [1], b"\0\0\0\0"))
    found.indices.CopyFrom(numbers("", 0))
    return made


def hidden(kind: str) -> onnx.ModelProto:
    """A loop without end in a large message, where whoever skims it may not look."""
    made = loop("n")
    made.doc_string = "d" * 5000
    if kind == "after":
        attribute = AttributeProto(name="before", type=AttributeProto.STRING, s=b"s" * 9000)
        made.attribute.insert(0, attribute)
    return model([made])


HUGE = 10**13
BAD: dict[str, tuple[onnx.ModelProto, str]] = {
    "a foreign domain": (model([node("Run", ["x"], ["y"], domain="evil", name="shell")]), "'shell' (Run)"),
    "a foreign domain in a branch": (
        model(
            [
                node(
                    "If",
                    ["flag"],
                    ["y"],
                    then_branch=helper.make_graph(
                        [node("Run", ["x"], ["y"], domain="evil", name="deep")], "t", [], []
                    ),
                    else_branch=helper.make_graph([], "e", [], []),
                )
            ]
        ),
        "'deep'",
    ),
    "a foreign domain in a function": (
        model(
            [call("f", "x", "y")],
            functions=[function("f", node("Run", ["a"], ["b"], domain="evil", name="in"))],
        ),
        "'in'",
    ),
    "native code": (
        model(
            [node("EPContext", ["x"], ["y"], domain="com.microsoft", name="blob", ep_cache_context="/x.so")]
        ),
        "'blob' (EPContext) runs native code",
    ),
    "a function that calls itself": (
        model([call("f", "x", "y")], functions=[function("f", call("f"))]),
        "'own.f' calls itself",
    ),
    "functions that call each other": (
        model([call("f", "x", "y")], functions=[function("f", call("g")), function("g", call("f"))]),
        "calls itself",
    ),
    "a function that nobody calls and that calls itself": (
        model([node("Identity", ["x"], ["y"])], functions=[function("f", call("f"))]),
        "calls itself",
    ),
    "functions too deep": (model([call("f19", "x", "y")], functions=laughs(1, 20)), "deep"),
    "a billion laughs": (model([call("f9", "x", "y")], functions=laughs(10, 10)), "200000 operators"),
    "graphs too deep": (model([nested(17)]), "'fork' (If) has graphs 16 deep"),
    "a loop that an input decides": (model([loop("n")]), "'round' (Loop) runs as often as a request decides"),
    "a loop that an input decides by a sum": (
        model([node("Add", ["n", "one"], ["m"]), loop("m")], [numbers("one", 1)]),
        "'round' (Loop) runs as often",
    ),
    "a loop that data decides": (
        model([node("ReduceSum", ["x"], ["s"]), node("Cast", ["s"], ["m"], to=7), loop("m")]),
        "runs as often",
    ),
    "a loop that a function decides": (
        model([call("f", "n", "m"), loop("m")], functions=[function("f", node("Mul", ["a", "a"], ["b"]))]),
        "runs as often",
    ),
    "a loop that a branch decides": (
        model(
            [
                node(
                    "If",
                    ["flag"],
                    ["m"],
                    then_branch=helper.make_graph(
                        [node("Identity", ["n"], ["r"])],
                        "t",
                        [],
                        [helper.make_tensor_value_info("r", TensorProto.INT64, None)],
                    ),
                    else_branch=helper.make_graph(
                        [node("Constant", [], ["q"], value_int=3)],
                        "e",
                        [],
                        [helper.make_tensor_value_info("q", TensorProto.INT64, None)],
                    ),
                ),
                loop("m"),
            ]
        ),
        "runs as often",
    ),
    "a loop within a loop that the outer one's state decides": (
        model(
            [
                node("Constant", [], ["three"], value_int=3),
                loop(
                    "three",
                    node("ReduceSum", ["c"], ["s"]),
                    node("Cast", ["s"], ["m"], to=7),
                    node(
                        "Loop",
                        ["m", "", "c"],
                        ["c2"],
                        name="inner",
                        body=body(node("Identity", ["c"], ["c2"])),
                    ),
                ),
            ]
        ),
        "'inner' (Loop)",
    ),
    "a loop without end": (model([loop("")]), "no greatest number of trips"),
    "a loop of too many trips": (model([loop("m")], [numbers("m", 2_000_000)]), "2000000 times"),
    "a loop of too many trips by a constant": (
        model([node("Constant", [], ["m"], value_int=2**62), loop("m")]),
        "may run",
    ),
    "loops of too many trips together": (
        model(
            [
                node("Constant", [], ["m"], value_int=2000),
                loop(
                    "m",
                    node(
                        "Loop", ["m", "", "c"], ["c2"], name="inner", body=body(node("Relu", ["c"], ["c2"]))
                    ),
                ),
            ]
        ),
        "'inner' (Loop) may run 4000000 times",
    ),
    "a bound that is too large": (
        model([node("Min", ["n", "most"], ["m"]), loop("m")], [numbers("most", 10**9)]),
        "may run 1000000000 times",
    ),
    "a bound that a cast undoes": (
        model(
            [node("Min", ["n", "most"], ["k"]), node("Cast", ["k"], ["m"], to=6), loop("m")],
            [numbers("most", 9)],
        ),
        "runs as often",
    ),
    "a size that an input decides": (model([node("ConstantOfShape", ["n"], ["y"], name="fill")]), "'fill'"),
    "a size of which a part is an input's": (
        model(
            [node("Concat", ["one", "n"], ["s"], axis=0), node("Expand", ["x", "s"], ["y"], name="wide")],
            [numbers("one", 1)],
        ),
        "'wide' (Expand) makes as much as a request decides",
    ),
    "a tile that an input decides": (model([node("Tile", ["x", "n"], ["y"], name="t")]), "'t' (Tile)"),
    "a pad that an input decides": (model([node("Pad", ["x", "n"], ["y"], name="p")]), "'p' (Pad)"),
    "a resize that an input decides": (
        model([node("Resize", ["x", "", "", "n"], ["y"], name="r")]),
        "'r' (Resize)",
    ),
    "a range that an input decides": (
        model(
            [node("Range", ["zero", "n", "one"], ["y"], name="r")], [numbers("zero", 0), numbers("one", 1)]
        ),
        "'r' (Range)",
    ),
    "a range whose step an input decides": (
        model(
            [node("Range", ["zero", "one", "n"], ["y"], name="r")], [numbers("zero", 0), numbers("one", 1)]
        ),
        "'r' (Range)",
    ),
    "a depth that an input decides": (
        model([node("OneHot", ["x", "n", "v"], ["y"], name="o")], [numbers("v", 0, 1)]),
        "'o' (OneHot)",
    ),
    "text as long as an input says": (
        model([node("GreedySearch", ["x", "n"], ["y"], domain="com.microsoft", name="gen")]),
        "'gen' (GreedySearch)",
    ),
    "a constant size": (
        model([node("ConstantOfShape", ["s"], ["y"], name="fill")], [numbers("s", HUGE)]),
        "'fill' (ConstantOfShape) makes 1e+13 values",
    ),
    "a constant size as a product": (
        model([node("Expand", ["x", "s"], ["y"], name="e")], [numbers("s", 10**6, 10**6)]),
        "'e' (Expand) makes 1e+12 values",
    ),
    "a constant size through other operators": (
        model(
            [
                node("Constant", [], ["a"], value_ints=[10**7]),
                node("Identity", ["a"], ["b"]),
                node("Concat", ["a", "b"], ["s"], axis=0),
                node("Tile", ["x", "s"], ["y"], name="t"),
            ]
        ),
        "'t' (Tile) makes 1e+14 values",
    ),
    "a random tensor's size": (
        model([node("RandomNormal", [], ["y"], name="dice", shape=[10**6, 10**7])]),
        "'dice' (RandomNormal)",
    ),
    "a range of constants": (
        model(
            [node("Range", ["a", "b", "c"], ["y"], name="r")],
            [numbers("a", 0), numbers("b", 10**14), numbers("c", 1)],
        ),
        "'r' (Range) makes 1e+14",
    ),
    "an initializer that claims more than it has": (
        model([node("Add", ["x", "w"], ["y"])], [shaped("w", [10**6, 10**6], b"\0" * 12)]),
        "'w' declares 4000000000000 bytes and has 12",
    ),
    "a large initializer that claims more than it has": (
        model([node("Add", ["x", "w"], ["y"])], [shaped("w", [10**9], b"\0" * 9000)]),
        "'w' declares 4000000000 bytes and has 9000",
    ),
    "a list of numbers that claims more than it has": (
        model([node("Add", ["x", "w"], ["y"])], [shaped("w", [10**6], float_data=[1.0] * 5000)]),
        "'w' declares 4000000 bytes and has 20000",
    ),
    "an initializer with nothing": (
        model([node("Add", ["x", "w"], ["y"])], [shaped("w", [10**6])]),
        "'w' declares 4000000 bytes and has 0",
    ),
    "a shape below zero": (model([node("Add", ["x", "w"], ["y"])], [shaped("w", [-1, 4])]), "below zero"),
    "a constant that claims more than it has": (
        model([node("Constant", [], ["y"], name="c", value=shaped("v", [10**8], b"\0\0\0\0"))]),
        "node 'c' (Constant), attribute 'value', declares",
    ),
    "a sparse tensor that stands for too much": (sparse([10**7, 10**7]), "'s' stands for 100000000000000"),
    "an end of a file that is not there": (
        model([node("Add", ["x", "w"], ["y"])], [outside("w", [4], 96, 16)]),
        "'w' is at the bytes 96 to 112 of a file of 100",
    ),
    "a place before a file": (
        model([node("Add", ["x", "w"], ["y"])], [outside("w", [4], -16, 16)]),
        "'w' is at the bytes -16",
    ),
    "a place in a file that is too small": (
        model([node("Add", ["x", "w"], ["y"])], [outside("w", [1000], 0, 16)]),
        "'w' declares 4000 bytes and has 16",
    ),
    "a loop in a large node": (hidden("in"), "'round' (Loop)"),
    "a loop after a large attribute": (hidden("after"), "'round' (Loop)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_could_take_a_server_down_is_refused_by_name(case: str) -> None:
    bad, words = BAD[case]
    assert words in found(bad, Around(files={"weights": 100}))


def bounded(*nodes: NodeProto, most: int = 512) -> onnx.ModelProto:
    return model([node("Min", ["n", "most"], ["m"]), *nodes], [numbers("most", most)])


GOOD: dict[str, onnx.ModelProto] = {
    "a classifier": onnx_classifier(),
    "a matrix": wide_model(),
    "a large matrix": wide_model(300),
    "a loop over rows": model([node("Shape", ["x"], ["s"]), loop("s")]),
    "a loop of constant trips": model([loop("m")], [numbers("m", 1000)]),
    "a bounded loop": bounded(loop("m")),
    "a bounded size": bounded(node("ConstantOfShape", ["m"], ["y"])),
    "a bounded size, wider": bounded(node("Cast", ["m"], ["k"], to=7), node("ConstantOfShape", ["k"], ["y"])),
    "a clipped size": model(
        [
            node("Clip", ["n", "low", "most"], ["k"]),
            node("Cast", ["k"], ["m"], to=6),
            node("Tile", ["x", "m"], ["y"]),
        ],
        [numbers("low", 0), numbers("most", 100)],
    ),
    "a size no larger than the input": model(
        [node("Shape", ["x"], ["s"]), node("Min", ["n", "s"], ["m"]), node("Expand", ["x", "m"], ["y"])]
    ),
    "the shape of another": model([node("Shape", ["x"], ["s"]), node("Expand", ["n", "s"], ["y"])]),
    "places of what is not zero": model([node("NonZero", ["x"], ["p"]), node("Expand", ["n", "p"], ["y"])]),
    "an operator of onnxruntime": model([node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")]),
    "the default domain by its name": model([node("Relu", ["x"], ["y"], domain="ai.onnx")]),
    "functions": model([call("f4", "x", "y")], functions=laughs(3, 5)),
    "branches": model([nested(5)]),
    "weights beside it": model([node("Add", ["x", "w"], ["y"])], [outside("w", [4], 84, 16)]),
    "strings": model([node("Identity", ["w"], ["y"])], [helper.make_tensor("w", 8, [3000], [b"ab"] * 3000)]),
    "half floats": model(
        [node("Identity", ["w"], ["y"])], [numpy_helper.from_array(np.ones(3000, np.float16), "w")]
    ),
    "four bits": model(
        [node("Identity", ["w"], ["y"])], [helper.make_tensor("w", TensorProto.INT4, [5], [1] * 5)]
    ),
    "an initializer that is listed as an input": onnx.shape_inference.infer_shapes(
        model([node("Expand", ["x", "s"], ["y"])], [numbers("s", 4, 4)])
    ),
    "a number of a turn": model(
        [loop("m", node("Range", ["zero", "i", "one"], ["r"]), node("Identity", ["c"], ["c2"]))],
        [numbers("m", 10), numbers("zero", 0), numbers("one", 1)],
    ),
}
GOOD["an initializer that is listed as an input"].graph.input.append(
    helper.make_tensor_value_info("s", TensorProto.INT64, [2])
)


@pytest.mark.parametrize("case", GOOD)
def test_what_exporters_make_is_no_hazard(case: str) -> None:
    assert found(GOOD[case], Around(files={"weights": 100})) == ""


def test_a_domain_that_is_allowed_is_no_hazard() -> None:
    odd, _ = BAD["a foreign domain"]
    assert found(odd, Around(domains=("evil",))) == ""


def test_the_memory_of_the_pods_bounds_what_a_constant_makes() -> None:
    made = model([node("ConstantOfShape", ["s"], ["y"], name="fill")], [numbers("s", 2_000_000)])
    assert found(made, Around(memory=4_000_000)) == ""
    assert "1000000 bytes of memory" in found(made, Around(memory=1_000_000))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_size_of_the_pieces_does_not_matter(size: int) -> None:
    bad, words = BAD["a loop after a large attribute"]
    with pytest.raises(ModelError) as caught:
        looked_at(bad, size=size)
    assert words in str(caught.value)


def test_a_graph_that_is_too_large_to_look_at_is_refused() -> None:
    with pytest.raises(ModelError, match="too large to be looked at") as caught:
        looked_at(many_tensors(MOST_OUTLINE // 450))
    assert caught.value.reason == ModelFault.MODEL_HAZARD


def test_a_graph_almost_too_large_is_looked_at_within_the_limits() -> None:
    looked_at(many_tensors(MOST_OUTLINE // 560))


def test_what_is_damaged_is_called_so() -> None:
    damaged = b"\x08\x09\x3a\x04\x5a\x02\xff\xff"
    with pytest.raises(ModelError) as caught:
        looked_at(damaged)
    assert caught.value.reason == ModelFault.NOT_AN_ONNX_MODEL


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "__import__('socket').socket()",
        "bytearray(10**9)",
        "__import__('resource').setrlimit(7, (9, 9))",
    ],
)
def test_the_process_that_looks_can_do_nothing_else(attempt: str) -> None:
    program = (
        "import socket, resource, os\n"
        "from slipway.models.hazard_child import alone\n"
        f"alone()\ntry:\n    {attempt}\nexcept (OSError, MemoryError, ValueError):\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9


def test_the_process_that_looks_is_given_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.models import hazard_scan

    monkeypatch.setenv("SLIPWAY_CREDENTIAL_TOKEN", "s3cret")
    assert "s3cret" not in str(hazard_scan._environment(os.environ))


def test_what_takes_too_long_is_a_hazard(monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.models import hazard_scan

    monkeypatch.setattr(hazard_scan, "_SECONDS", 0.01)
    with pytest.raises(ModelError, match=r"takes more than 0\.01 s") as caught:
        looked_at(onnx_classifier())
    assert caught.value.reason == ModelFault.MODEL_HAZARD
    assert hazard_child.CPU_SECONDS > 1


def test_a_resolver_says_the_hazard_and_one_that_is_told_to_goes_on(slipway_model: SlipwayModel) -> None:
    bad, words = BAD["a loop that an input decides"]
    (slipway_model.claim / "model.onnx").write_bytes(bad.SerializeToString())
    failure = slipway_model.not_resolved("pvc://models/model.onnx")
    assert failure.reason == ModelFault.MODEL_HAZARD
    assert words in failure.message
    told = {"uri": "pvc://models/model.onnx", "hazards": {"onFinding": "Report"}}
    assert slipway_model("resolve", told).outcome.kind == "Resolved"


def test_what_serves_already_is_not_refused_at_a_later_look(slipway_model: SlipwayModel) -> None:
    bad, _ = BAD["a loop that an input decides"]
    (slipway_model.claim / "model.onnx").write_bytes(bad.SerializeToString())
    task: dict[str, object] = {"uri": "pvc://models/model.onnx", "hazards": {"onFinding": "Report"}}
    known = slipway_model("resolve", task).outcome
    assert known.kind == "Resolved"
    again = {"uri": "pvc://models/model.onnx", "known": known.resolution.model_dump(mode="json")}
    assert slipway_model("resolve", again).outcome.kind == "Resolved"


def test_files_beside_a_model_are_measured(slipway_model: SlipwayModel) -> None:
    save_wide(slipway_model.claim)
    slipway_model.resolved("pvc://models/model.onnx")
    weights = slipway_model.claim / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-4])
    failure = slipway_model.not_resolved("pvc://models/model.onnx")
    assert failure.reason == ModelFault.MODEL_HAZARD
    assert "of a file of 16380" in failure.message
