"""A loaded ONNX model: what it takes, what it gives, and one call that runs it.

A ZipMap output (``sequence<map<K, float>>``: for each row, the probability of each label) has no form in the
protocol. It becomes an FP32 tensor of shape [rows, labels], whose parameter ``labels`` is a JSON array of the
labels in the order of the columns.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson

from slipway_server.protocol.tensors import Array, Datatype, Tensor, TensorSpec
from slipway_server.runtime import devices, extensions, pictures
from slipway_server.runtime.empties import Empties
from slipway_server.runtime.guard import Guard, StopRunError
from slipway_server.runtime.run import Run
from slipway_server.runtime.strings import decoded

log = logging.getLogger(__name__)

_DATATYPES = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}
#: A list of bytes: ONNX has no other form for pictures of several sizes.
_BYTE_LISTS = "seq(tensor(uint8))"
_ZIP_MAPS = ("seq(map(string,tensor(float)))", "seq(map(int64,tensor(float)))")
_FILL = {"object": "", "bool": False}


class UnsupportedTensorError(Exception):
    """The model takes or gives something that the protocol has no datatype for."""


class ModelInputError(Exception):
    """The model refused inputs of the right datatype and shape; the message is onnxruntime's."""


class ModelOutputError(Exception):
    """The model answered what has no form in the protocol."""


class StoppedError(Exception):
    """The run was told to stop before it was done."""


class Model:
    """A model held by onnxruntime; ``run`` may be called from several threads at once."""

    def __init__(self, path: Path, threads: int, device: str = devices.CPU) -> None:
        """Load a file.

        Raises :class:`UnsupportedTensorError`, :class:`~slipway_server.runtime.devices.DeviceError`, or
        whatever onnxruntime raises.
        """
        self.threads = threads
        #: What runs it: ``CPU`` or ``CUDA``.
        self.device = device
        self.is_on_cpu = device == devices.CPU
        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # A spinning thread burns the CPU that the pod's limit gives to the next request.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        #: Inputs whose bytes are pictures, and whether grey ones; each is measured before it is decoded.
        self.pictures: Mapping[str, bool] = {}
        self._session = self._load(path, options)
        self._run = _direct_run(self._session)
        inputs = self._session.get_inputs()
        self.inputs = {node.name: _spec(node, "input") for node in inputs}
        self._byte_lists = [node.name for node in inputs if node.type == _BYTE_LISTS]
        #: All that a request may name: the inputs, and what has a value of its own unless one is sent.
        self.taken = {**self.inputs, **_optional(self._session.get_overridable_initializers())}
        #: The dimensions of each input as the model has them: a size, a name, or neither.
        self.symbols: dict[str, list[int | str | None]] = {node.name: node.shape for node in inputs}
        #: Operators that might end the process which runs them, and what then runs the model elsewhere.
        self.doubts: Sequence[str] = ()
        self.guard: Guard | None = None
        #: What may be empty: nothing until it was tried.
        self.empties = Empties(self.taken)
        outputs, self.unsupported = _supported(self._session.get_outputs())
        self._zip_maps = frozenset(node.name for node in outputs if node.type in _ZIP_MAPS)
        #: Of each ZipMap, once it was seen.
        self._labels: dict[str, list[Any]] = {}
        self.outputs = {node.name: _spec(node, "output") for node in outputs}
        self.output_names = tuple(self.outputs)

    def _load(self, path: Path, options: Any) -> Any:
        providers = devices.providers(self.device)
        try:
            # Else onnxruntime would go on without the GPU, and say so in its own log alone.
            session = ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
        except Exception as error:
            refused = devices.refusal(self.device, plain(str(error)))
            if refused is not None:
                raise refused from error
            if not extensions.are_missing(str(error)):
                raise
            if not self.is_on_cpu:
                raise extensions.UnsupportedOperatorError(
                    "it has operators of onnxruntime-extensions, which run on the CPU alone: leave "
                    "spec.runtime.device out, or do these steps before the request"
                ) from None
            self.pictures = extensions.register(options, path)
            return ort.InferenceSession(str(path), options, providers=providers)
        devices.check_started(self.device, session.get_providers())
        return session

    def zeros(self) -> dict[str, Array]:
        """Inputs of one row, all zero or empty."""
        return {
            name: np.full(
                [1 if size == -1 else size for size in spec.shape or ()],
                self.blank(name) if spec.raw else _FILL.get(spec.datatype.dtype.name, 0),
                dtype=spec.datatype.dtype,
            )
            for name, spec in self.inputs.items()
        }

    def blank(self, name: str) -> bytes:
        """Bytes that an input takes."""
        return pictures.SMALLEST if name in self.pictures else b""

    def warm_up(self) -> bool:
        """Run once on zeros, so that the first client does not wait for memory and kernels to be set up.

        A model may rightly refuse zeros (an unknown category, say); that is logged and no fault, and the
        answer is ``False``. Raises :class:`~slipway_server.runtime.devices.DeviceError` where CUDA does.
        """
        began = time.perf_counter()
        try:
            tensors = self.run_all(self.zeros())
        except ModelInputError as error:
            refused = devices.refusal(self.device, plain(str(error)))
            if refused is not None:
                raise refused from error
            log.info(
                "the model does not take zeros, so it was not warmed up", extra={"error": str(error)[:300]}
            )
            return False
        for tensor in tensors:
            if tensor.name in self._zip_maps:
                spec = self.outputs[tensor.name]
                self.outputs[tensor.name] = TensorSpec(spec.name, spec.datatype, (-1, tensor.array.shape[1]))
        log.info("the model is warm", extra={"seconds": round(time.perf_counter() - began, 4)})
        return True

    def run(self, inputs: Mapping[str, Array], names: Sequence[str], run: Run) -> list[Tensor]:
        """The named outputs for these inputs, in that order.

        Raises :class:`ModelInputError` where the model refuses the inputs, :class:`StoppedError` after
        ``run.stop()``, ``MemoryError`` where memory ran out.
        """
        answers = self.run_raw(inputs, names, run)
        return [self.tensor(name, answer) for name, answer in zip(names, answers, strict=True)]

    def run_raw(self, inputs: Mapping[str, Array], names: Sequence[str], run: Run) -> list[Any]:
        """As :meth:`run`, but what onnxruntime answered, as it is: an array, or a list for a ZipMap.

        Raises also :class:`~slipway_server.runtime.guard.CrashError` where a guarded run ended its process.
        """
        if run.stopped:
            raise StoppedError
        self._measure_pictures(inputs)
        if self.guard is not None:
            try:
                return self.guard.run(names, inputs, run)
            except StopRunError:
                raise StoppedError from None
        if self._byte_lists:
            inputs = {**inputs, **{name: _byte_list(inputs[name]) for name in self._byte_lists}}
        try:
            return self._run(names, inputs, run.options)
        except MemoryError:
            raise
        except UnicodeDecodeError:
            return self._run_undecoded(inputs, names, run)
        except Exception as error:
            if run.stopped:
                raise StoppedError from None
            if "bad_alloc" in str(error) or "Failed to allocate memory" in str(error):
                raise MemoryError(str(error)) from error
            raise ModelInputError(str(error)) from error

    def _measure_pictures(self, inputs: Mapping[str, Array]) -> None:
        for name, grey in self.pictures.items():
            if (array := inputs.get(name)) is None:
                continue
            found = array.reshape(-1).tolist() if array.dtype.hasobject else [array.tobytes()]
            try:
                pictures.check(found, name, grey)
            except pictures.PictureError as error:
                raise ModelInputError(str(error)) from None

    def _run_undecoded(self, inputs: Mapping[str, Array], names: Sequence[str], run: Run) -> list[Any]:
        """Run again for strings that are not UTF-8, which come as ``bytes``.

        Raises :class:`ModelOutputError`.
        """
        if any(array.dtype.hasobject for array in inputs.values()):
            # onnxruntime's Python side makes no string tensors by themselves.
            raise ModelOutputError("it answers with strings that are not UTF-8")
        given = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        values = self._session.run_with_ort_values(list(names), given, run.options)
        return [_undecoded(name, value) for name, value in zip(names, values, strict=True)]

    def run_all(self, inputs: Mapping[str, Array]) -> list[Tensor]:
        """As :meth:`run`, for all outputs."""
        return self.run(inputs, self.output_names, Run())

    def is_plain(self, name: str) -> bool:
        """Whether an output's answer is an array of numbers, with nothing to say about it in parameters."""
        return name not in self._zip_maps and self.outputs[name].datatype is not Datatype.BYTES

    def tensor(self, name: str, answer: Any) -> Tensor:
        """One answer of :meth:`run_raw` as the protocol's tensor."""
        spec = self.outputs[name]
        if name in self._zip_maps:
            if answer:
                self._labels[name] = list(answer[0])
            labels = self._labels.get(name, [])
            table = np.array([[row[label] for label in labels] for row in answer], dtype=np.float32)
            parameters = {"labels": orjson.dumps(labels).decode()}
            return Tensor(name, spec.datatype, table.reshape(len(answer), len(labels)), parameters)
        return Tensor(name, spec.datatype, np.asarray(answer))


def _byte_list(array: Array) -> Any:
    # With a byte more: of no bytes numpy makes no array.
    return [np.frombuffer(data + b"\0", np.uint8)[:-1] for data in array.reshape(-1).tolist()]


def _direct_run(session: Any) -> Callable[[Sequence[str], Mapping[str, Array], Any], list[Any]]:
    """onnxruntime's own inner ``run`` where it is as we know it, else its public one.

    The public method checks names that the protocol has checked already, which costs more than a small model.
    """
    inner = getattr(getattr(session, "_sess", None), "run", None)
    if inner is None or not ort.__version__.startswith("1."):
        return lambda names, inputs, options: session.run(list(names), dict(inputs), options)
    return inner  # type: ignore[no-any-return]


def _undecoded(name: str, value: Any) -> Any:
    if not value.is_tensor() or value.data_type() != "tensor(string)":
        return value.numpy()
    answer = decoded(value)
    if answer is None:
        raise ModelOutputError(f"its output {name!r} holds strings that are not UTF-8")
    return answer


def _supported(nodes: Sequence[Any]) -> tuple[list[Any], dict[str, str]]:
    """The outputs that the protocol has a datatype for, and the types of the others by their names.

    Raises :class:`UnsupportedTensorError` where no output is left.
    """
    good = [node for node in nodes if node.type in _DATATYPES or node.type in _ZIP_MAPS]
    others = {node.name: node.type for node in nodes if node not in good}
    if others and not good:
        _spec(nodes[0], "output")
    if others:
        log.warning("outputs that the protocol has no datatype for are not served", extra={"outputs": others})
    return good, others


def _optional(nodes: Sequence[Any]) -> dict[str, TensorSpec]:
    return {
        node.name: replace(_spec(node, "input"), optional=True) for node in nodes if node.type in _DATATYPES
    }


def _spec(node: Any, kind: str) -> TensorSpec:
    if kind == "output" and node.type in _ZIP_MAPS:
        return TensorSpec(node.name, Datatype.FP32, (-1, -1))
    if kind == "input" and node.type == _BYTE_LISTS:
        return TensorSpec(node.name, Datatype.BYTES, (-1,), raw=True)
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise UnsupportedTensorError(
            f"{kind} {node.name!r} is a {node.type}, which the Open Inference Protocol has no datatype for: "
            "export the model with plain tensors"
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    return TensorSpec(node.name, datatype, shape or None)


def plain(error: str) -> str:
    """onnxruntime's words without its own source paths and prefixes, on one line."""
    error = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", error)
    error = re.sub(r"Load model from \S+ failed:", "", error)
    while place := re.search(r"\S*onnxruntime_src/\S*?:\d+ ?", error):
        rest = error[place.end() :]
        error = error[: place.start()] + rest[_signature_end(rest) :]
    return " ".join(error.split())[:600]


def _signature_end(text: str) -> int:
    """Where a C++ function's signature at the start of ``text`` ends, before the words that follow it."""
    line = text.find("\n") if "\n" in text else len(text)
    depth = 0
    for position, letter in enumerate(text[:line]):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return 0
        last = position + 1 == line or text[position + 1] == " "
        if letter == ")" and not depth and last:
            tail = re.match(r"( const)?( noexcept)?( \[with [^\]]*\])? ?", text[position + 1 :])
            return position + 1 + (tail.end() if tail else 0)
    return 0
