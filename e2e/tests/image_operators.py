"""Runs in the server's image: loads and runs each of many models, and says which of them answer otherwise.

A case has the model's bytes, its inputs and the answers that onnxruntime gave elsewhere. The last line is
JSON.
"""

from __future__ import annotations

import base64
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def array(given: dict[str, Any]) -> Any:
    """The array that a case describes."""
    return np.array(given["data"], given["dtype"]).reshape(given["shape"])


def differs(found: Any, expected: Any) -> str | None:
    """How an answer is another one than is expected; None where it is not."""
    found = np.asarray(found)
    if found.shape != expected.shape:
        return f"shape {found.shape} and not {expected.shape}"
    if expected.dtype.kind in "fc":
        same = np.allclose(found.astype(float), expected.astype(float), 1e-4, 1e-6, equal_nan=True)
    else:
        same = found.tolist() == expected.tolist()
    return None if same else f"{found.tolist()} and not {expected.tolist()}"


def fault(case: dict[str, Any]) -> str | None:
    """What is wrong with a case's model here; None where nothing is."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        model = base64.b64decode(case["model"])
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        answers = session.run(None, {name: array(given) for name, given in case["inputs"].items()})
    except Exception as error:
        return str(error)
    faults = [differs(found, array(given)) for found, given in zip(answers, case["answers"], strict=True)]
    return next((each for each in faults if each), None)


def main(path: str) -> None:
    """Run all cases of a file, and print what is wrong."""
    cases = json.loads(gzip.decompress(Path(path).read_bytes()))
    faults: dict[str, str] = {}
    for name, case in cases.items():
        print(name, flush=True)  # some kernels die
        if found := fault(case):
            faults[name] = found[:300]
    print(json.dumps({"run": len(cases), "faults": faults}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/script/cases.json.gz")
