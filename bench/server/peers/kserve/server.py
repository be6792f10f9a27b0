"""KServe's Python SDK, REST and gRPC in one process, its logs off."""

from __future__ import annotations

import logging

import kserve
from kserve import InferOutput, InferRequest, InferResponse
from onnx_model import GRPC_PORT, NAME, PORT, OnnxModel


class Served(kserve.Model):
    def __init__(self) -> None:
        super().__init__(NAME)
        self.onnx = OnnxModel()
        self.ready = True

    def load(self) -> bool:
        return self.ready

    async def predict(self, payload: InferRequest, headers: object = None) -> InferResponse:  # noqa: ARG002
        binary = bool(payload.use_binary_outputs)
        outputs = []
        for name, array in self.onnx({each.name: each.as_numpy() for each in payload.inputs}).items():
            output = InferOutput(name=name, shape=list(array.shape), datatype="FP32")
            output.set_data_from_numpy(array, binary_data=binary)
            outputs.append(output)
        # It refuses its own answer where the id is null.
        return InferResponse(
            response_id=payload.id or "1",
            model_name=NAME,
            infer_outputs=outputs,
            use_binary_outputs=binary,
        )


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    kserve.ModelServer(
        http_port=PORT, grpc_port=GRPC_PORT, workers=1, enable_latency_logging=False, enable_docs_url=False
    ).start([Served()])
