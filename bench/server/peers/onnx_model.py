"""The model as every peer runs it: one session, one thread, no spinning, nothing between."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

PORT = int(os.environ.get("BENCH_PORT", "0"))
GRPC_PORT = int(os.environ.get("BENCH_GRPC_PORT", "0"))
NAME = "model"

DTYPES: dict[str, Any] = {"FP32": np.float32, "BYTES": object}
DATATYPES = {"tensor(float)": "FP32", "tensor(string)": "BYTES"}


class OnnxModel:
    def __init__(self, path: str | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(
            path or os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.outputs = [node.name for node in self.session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays by the names of inputs to arrays by the names of outputs."""
        return dict(zip(self.outputs, self.session.run(self.outputs, dict(inputs)), strict=True))

    def answer(self, tensors: list[dict[str, Any]]) -> dict[str, Any]:
        """The protocol's ``inputs`` as plain JSON, to its answer as plain JSON."""
        inputs = {
            tensor["name"]: np.array(tensor["data"], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
            for tensor in tensors
        }
        outputs = [
            {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in self(inputs).items()
        ]
        return {"model_name": NAME, "outputs": outputs}
