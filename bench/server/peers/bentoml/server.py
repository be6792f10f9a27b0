"""BentoML, its access log off: `bentoml serve server:Served`."""

from __future__ import annotations

from typing import Any

import bentoml
from onnx_model import NAME, OnnxModel


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": True})
class Served:
    def __init__(self) -> None:
        self.onnx = OnnxModel()

    @bentoml.api(route=f"/v2/models/{NAME}/infer")
    def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return self.onnx.answer(inputs)
