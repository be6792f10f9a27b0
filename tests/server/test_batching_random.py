"""Random graphs of all operators that onnxruntime has for the CPU: calls that are shared give equal bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as state
import pytest
from onnx import helper, numpy_helper

from slipway_server.batching.analysis import judge
from slipway_server.protocol.tensors import Array
from slipway_server.runtime.forked import said_by_child
from slipway_server.runtime.model import Model, ModelInputError
from slipway_server.runtime.profile import measure
from slipway_server.runtime.rows import cut, made_up

OPSETS = {"": 21, "ai.onnx.ml": 3, "com.microsoft": 1}
DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}
WORDS = ["SAME_UPPER", "linear", "nearest", "constant", "reflect", "NONE", "SOFTMAX", "LOGISTIC", "MAX", "L2"]
WORDS += ["LOWER", "UPPER", "none", "add", "LEFT", "TF", "DCR", "forward", "ij,jk->ik", "ij->ji", "a", "b"]


def schemas() -> list[Any]:
    """The newest schema of each operator that the CPU has a kernel for, or that is made of others."""
    newest: dict[tuple[str, str], Any] = {}
    for schema in state.get_all_operator_schema():
        key = (schema.domain, schema.name)
        usable = schema.since_version <= OPSETS.get(schema.domain, -1) and not schema.deprecated
        if usable and (key not in newest or newest[key].since_version < schema.since_version):
            newest[key] = schema
    return [newest[key] for key in sorted(newest)]


class Graph:
    """Grows by one node at a time, keeping those with which onnxruntime still runs it."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        shape = [3, *([4] if self.random.random() < 0.7 else [2, 4, 4])]
        kinds = ["tensor(float)"] * 6 + ["tensor(int64)", "tensor(string)", "tensor(double)", "tensor(bool)"]
        self.inputs = {f"x{at}": str(self.random.choice(kinds)) for at in range(self.random.integers(1, 3))}
        self.shape = shape
        self.pool = {name: (kind, tuple(shape)) for name, kind in self.inputs.items()}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.kinds: list[str] = []

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "g",
            [
                value(name, helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[kind])), ["N", *self.shape[1:]])
                for name, kind in self.inputs.items()
            ],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def grow(self, schema: Any) -> bool:
        number = len(self.nodes)
        made: dict[str, Array] = {}
        names: list[str] = []
        for parameter in schema.inputs:
            optional = "Optional" in str(parameter.option)
            if optional and self.random.random() < 0.5:
                names.append("")
                continue
            able = [name for name, (kind, _) in self.pool.items() if kind in parameter.types]
            if able and (not names or self.random.random() < 0.4):
                # The newest ones, so that chains come about.
                names.append(able[-1] if self.random.random() < 0.6 else str(self.random.choice(able)))
                continue
            kinds = [kind for kind in DTYPES if kind in parameter.types]
            if not kinds:
                return False
            name = f"c{number}_{len(names)}"
            made[name] = self.constant(
                kinds[0] if self.random.random() < 0.7 else str(self.random.choice(kinds))
            )
            names.append(name)
        outputs = [f"y{number}_{at}" for at in range(max(1, min(schema.max_output, 2)))]
        attributes = {
            name: value
            for name, each in schema.attributes.items()
            if each.required or self.random.random() < 0.3
            if (value := self.attribute(each)) is not None
        }
        try:
            node = helper.make_node(schema.name, names, outputs, domain=schema.domain, **attributes)
        except Exception:
            return False
        self.nodes.append(node)
        self.constants |= made
        for wanted in (outputs, outputs[:1]):
            node.output[:] = wanted
            try:
                answers = self.run(self.model(wanted))
            except Exception:
                continue
            plain = all(isinstance(answer, np.ndarray) and answer.size < 5000 for answer, _ in answers)
            if plain and all(kind in DTYPES for _, kind in answers):
                self.pool |= {n: (kind, a.shape) for n, (a, kind) in zip(wanted, answers, strict=True)}
                self.kinds.append(f"{schema.domain}:{schema.name}")
                return True
        self.nodes.pop()
        for name in made:
            del self.constants[name]
        return False

    def run(self, model: onnx.ModelProto) -> list[tuple[Any, str]]:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = ort.InferenceSession(model.SerializeToString(), options)
        random = np.random.default_rng(1)
        given = {name: values(kind, tuple(self.shape), random) for name, kind in self.inputs.items()}
        return list(zip(session.run(None, given), [each.type for each in session.get_outputs()], strict=True))

    def constant(self, kind: str) -> Array:
        _, shape = list(self.pool.values())[-1]
        last = shape[-1] if shape else 1
        if kind in ("tensor(int64)", "tensor(int32)"):
            choices: list[Any] = [
                1,
                [1],
                [-1],
                [0],
                [-1, last],
                [0, -1],
                [3, -1],
                [0, 0],
                [1, 1],
                [2],
                [-1, 1],
            ]
            choices += [[0] * len(shape), [1] * len(shape), [0] * 2 * len(shape), [0, 1], -1]
            return np.array(choices[self.random.integers(len(choices))], DTYPES[kind])
        second = shape[1] if len(shape) > 1 else 1
        sizes: list[tuple[int, ...]] = [
            (),
            (1,),
            (last,),
            (second,),
            (last, 3),
            (2, last),
            (1, *shape[1:]),
            (3, 1),
        ]
        sizes += [(2, second, 3, 3), (2, second, 1, 1), tuple(shape), shape[1:], (1, 4 * 3, last), (1, 12, 3)]
        return values(kind, sizes[self.random.integers(len(sizes))], self.random)

    def attribute(self, each: Any) -> Any:
        kind, random = str(each.type).rsplit(".", 1)[-1], self.random
        _, shape = list(self.pool.values())[-1]
        rank, last = len(shape), shape[-1] if shape else 1
        if kind == "INT":
            return int(random.integers(-1, 3)) if each.name != "to" else int(random.choice([1, 6, 7, 9, 11]))
        if kind == "INTS":
            order = [int(place) for place in random.permutation(rank)]
            options = [
                [1],
                [0],
                [-1],
                [1, 1],
                [2, 2],
                [3, 3],
                order,
                [0, 1],
                [1, 2],
                [1, 2, 3],
                list(range(last)),
            ]
            return options[random.integers(len(options))]
        if kind == "FLOAT":
            return float(random.choice([0.0, 0.5, 1.0, 2.0]))
        if kind == "FLOATS":
            return [float(value) for value in random.normal(size=int(random.choice([1, last, 2 * last])))]
        if kind == "STRING":
            return str(random.choice(WORDS))
        if kind == "STRINGS":
            return ["a", "b", "c"][: int(random.integers(1, 4))]
        if kind == "TENSOR":
            return numpy_helper.from_array(np.array([1.5], np.float32))
        return None


def values(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    dtype = DTYPES[kind]
    if dtype is object:
        return random.choice(np.array(["", "a", "b", "a b"], object), shape)
    if dtype is np.bool_:
        return np.asarray(random.random(shape) < 0.5)
    if np.dtype(dtype).kind == "f":
        return np.asarray(random.normal(size=shape), dtype)
    return np.asarray(random.integers(0, 3, shape), dtype)


def found_with(seed: int, folder: Path, all_schemas: list[Any]) -> str:
    """Which operators a proved graph had, or ``mixes``; ``WRONG`` and how where bits differ."""
    graph, random = Graph(seed), np.random.default_rng(seed)
    wanted = 1 + seed % 4
    # Each operator has its turn.
    turn = [all_schemas[(seed // 2) % len(all_schemas)]] * 12
    for schema in (*turn, *random.permutation(np.array(all_schemas, object))[:60]):
        if schema is turn[0] and graph.kinds:
            continue
        graph.grow(schema)
        if len(graph.nodes) >= wanted:
            break
    if not graph.nodes:
        return "nothing"
    model = graph.model(list(graph.nodes[-1].output))
    path = folder / f"{seed}.onnx"
    onnx.save(model, path)
    try:
        loaded = Model(path, 1)
    except Exception:
        return "nothing"
    shapes = {name: spec.shape or () for name, spec in loaded.inputs.items()}
    if not judge(path, shapes).apart:
        return "mixes"
    if wrong := mixed(loaded, random):
        return f"WRONG {graph.kinds} {wrong} {path}"
    profile = measure(loaded, path, 32)
    if profile.batches and (wrong := different(loaded, random)):
        return f"WRONG {graph.kinds} {wrong} {path}"
    return f"{'batches' if profile.batches else 'apart'} {' '.join(graph.kinds)}"


def mixed(model: Model, random: np.random.Generator) -> str:
    """How a row's bits changed with the values of the other rows of a batch of one size."""
    rows = shuffled(model, random)
    for size in (2, 5):
        base = cut(rows, 0, size)
        try:
            before = model.run_all(base)
        except ModelInputError:
            continue
        for row in range(size):
            other = {name: array[64 : 64 + size].copy() for name, array in rows.items()}
            for name in other:
                other[name][row] = base[name][row]
            try:
                after = model.run_all(other)
            except ModelInputError:
                continue
            for one, two in zip(before, after, strict=True):
                if (
                    len(one.array) != size
                    or len(two.array) != size
                    or bits(one.array, row) != bits(two.array, row)
                ):
                    return f"row {row} of {size} changed with the others"
    return ""


def different(model: Model, random: np.random.Generator) -> str:
    """How a row's bits were others in a batch than alone, with rows that no trial has seen."""
    rows = shuffled(model, random)
    for size in (2, 3, 7, 19, 32):
        start = int(random.integers(0, 128 - size))
        try:
            whole = model.run_all(cut(rows, start, start + size))
            alone = [model.run_all(cut(rows, row, row + 1)) for row in range(start, start + size)]
        except ModelInputError:
            continue
        for position, answer in enumerate(whole):
            for row in range(size):
                if bits(answer.array, row) != bits(alone[row][position].array, 0):
                    return f"row {row} of {size} differs from the row alone"
    return ""


def shuffled(model: Model, random: np.random.Generator) -> dict[str, Array]:
    rows = made_up(model.inputs.values(), wild=True)
    order = random.permutation(128)
    mixed_rows = {name: array[order] for name, array in rows.items()}
    for array in mixed_rows.values():
        if array.dtype.kind == "f":
            array[::3] = random.normal(size=array[::3].shape)
    return mixed_rows


def bits(array: Array, row: int) -> Any:
    one = array.reshape(1)[:0] if array.ndim == 0 else array[row : row + 1]
    return one.shape, (one.tolist() if one.dtype.hasobject else one.tobytes())


def look_at(seeds: range, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """What was found, and of which operators; each graph in a process of its own, since some kernels die."""
    every = schemas()
    found: Counter[str] = Counter()
    operators: Counter[str] = Counter()

    def say(seed: int) -> str:
        try:
            return found_with(seed, folder, every)
        except Exception as error:
            return f"ERROR {error!r}"

    for seed in seeds:
        kind, *names = (said_by_child(lambda seed=seed: say(seed), 30) or "unborn").split(" ")  # type: ignore[misc]
        assert kind not in ("WRONG", "ERROR", "unborn"), (seed, *names)
        found[kind] += 1
        if kind in ("apart", "batches"):
            operators.update(set(names))
    return found, operators


@pytest.mark.parametrize("part", range(3))
def test_no_random_graph_that_shares_calls_gives_other_bits_than_alone(tmp_path: Path, part: int) -> None:
    found, _ = look_at(range(part * 1000, part * 1000 + 40), tmp_path)
    assert found["mixes"] + found["batches"] + found["apart"] > 10


@pytest.mark.long
def test_no_random_graph_of_any_operator_gives_other_bits_than_alone(tmp_path: Path) -> None:
    found, operators = look_at(range(10_000, 10_000 + 6 * len(schemas())), tmp_path)
    assert found["batches"] > 100
    assert len(operators) > 60, operators
