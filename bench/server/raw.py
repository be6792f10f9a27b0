"""onnxruntime alone: `raw.py MODEL ROWS SECONDS` prints calls a second of the public `run`, one thread."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main(models: Path, model: str, rows: int, seconds: float) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        str(models / model / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_outputs()]
    with np.load(models / f"{model}.npz") as file:
        inputs = {name: file[name][:rows] for name in file}
    inputs = {name: a.astype(object) if a.dtype.kind == "U" else a for name, a in inputs.items()}
    _rate(session, names, inputs, 0.3)
    print(_rate(session, names, inputs, seconds))


def _rate(
    session: ort.InferenceSession, names: list[str], inputs: dict[str, object], seconds: float
) -> float:
    calls, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for _ in range(4):
            session.run(names, inputs)
        calls += 4
    return calls / spent


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
