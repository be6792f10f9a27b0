"""PyTriton: NVIDIA Triton with its Python backend and dynamic batching (64 rows at most, 1 ms at most)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from onnx_model import DATATYPES, GRPC_PORT, NAME, PORT, OnnxModel
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    onnx = OnnxModel()

    @batch
    def infer(**inputs: Any) -> dict[str, Any]:
        return onnx(inputs)

    config = TritonConfig(
        http_address="127.0.0.1",
        grpc_address="127.0.0.1",
        http_port=PORT,
        grpc_port=GRPC_PORT,
        metrics_port=int(os.environ["BENCH_METRICS_PORT"]),
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=NAME,
            infer_func=infer,
            inputs=[_tensor(node) for node in onnx.session.get_inputs()],
            outputs=[_tensor(node) for node in onnx.session.get_outputs()],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=1000)),
        )
        triton.serve()


def _tensor(node: Any) -> Tensor:
    shape = [size if isinstance(size, int) else -1 for size in node.shape[1:]]
    dtype = {"FP32": np.float32, "BYTES": np.object_}[DATATYPES[node.type]]
    return Tensor(name=node.name, dtype=dtype, shape=shape)


if __name__ == "__main__":
    main()
