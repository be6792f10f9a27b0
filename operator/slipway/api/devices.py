"""What a model computes on: ``spec.runtime.device``."""

from __future__ import annotations

from typing import Any, Literal

from slipway.api.base import rule

Device = Literal["CPU", "CUDA"]

#: Of the runtime.
RULES: list[Any] = [
    rule(
        "self.device != 'CUDA' || (has(self.resources.extended) && self.resources.extended.size() > 0)",
        "device: CUDA needs a GPU: ask for one in resources.extended, such as nvidia.com/gpu: 1",
    ),
    rule(
        "self.device != 'CUDA' || self.server != 'External'",
        "device is of Slipway's own server; with server: External leave it out, take an image that uses the "
        "GPU, and ask for one in resources.extended",
    ),
]
