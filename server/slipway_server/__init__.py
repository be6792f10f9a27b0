"""The model server: one ONNX model behind the Open Inference Protocol."""

import os

# onnxruntime reads this once, when it is first imported. Its official builds for Linux otherwise keep an
# identifier on disk and report processes and models to their maker, which a model server must not.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
