"""LitServe with its faster queue."""

from __future__ import annotations

from typing import Any

import litserve
from onnx_model import NAME, PORT, OnnxModel


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.onnx = OnnxModel()

    # With a type that is not its own, LitServe would look for it in the query.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["inputs"]

    def predict(self, tensors: Any) -> Any:
        return self.onnx.answer(tensors)

    def encode_response(self, output: Any) -> Any:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(api_path=f"/v2/models/{NAME}/infer"), accelerator="cpu", fast_queue=True, timeout=False
    )
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="error", access_log=False)
