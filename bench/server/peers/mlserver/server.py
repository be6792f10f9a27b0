"""MLServer with a model of our own, since it has none for ONNX; `BENCH_WORKERS` is its parallel_workers."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_model import GRPC_PORT, NAME, PORT, OnnxModel


class Served(MLModel):
    async def load(self) -> bool:
        self.onnx = OnnxModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        import numpy as np

        inputs = {
            each.name: np.array(StringCodec.decode_input(each), object).reshape(each.shape)
            if each.datatype == "BYTES"
            else NumpyCodec.decode_input(each)
            for each in payload.inputs
        }
        outputs = [NumpyCodec.encode_output(name, array) for name, array in self.onnx(inputs).items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def main() -> None:
    settings = {
        "host": "127.0.0.1",
        "http_port": PORT,
        "grpc_port": GRPC_PORT,
        "metrics_port": int(os.environ["BENCH_METRICS_PORT"]),
        "parallel_workers": int(os.environ["BENCH_WORKERS"]),
        "debug": False,
    }
    model = {"name": NAME, "implementation": "server.Served"}
    os.environ["PYTHONPATH"] = f"{Path(__file__).parent}:{os.environ['PYTHONPATH']}"
    directory = Path(tempfile.mkdtemp(prefix="mlserver-"))
    (directory / "settings.json").write_text(json.dumps(settings))
    (directory / "model-settings.json").write_text(json.dumps(model))
    command = Path(sys.executable).with_name("mlserver")
    os.execv(command, [str(command), "start", str(directory)])


if __name__ == "__main__":
    main()
