"""Operators of onnxruntime in the image that serves: each loads there, and answers as it does here."""

from __future__ import annotations

import base64
import gzip
import json
import time
from pathlib import Path

from e2e.ledger import PATIENCE
from e2e.tests.installation import Installation
from e2e.tests.operator_cases import cases
from e2e.tests.pods import placed, script_pod

ENDED = ("Succeeded", "Failed")


def test_each_operator_answers_in_the_image_as_it_does_elsewhere(
    installed: Installation, namespace: str, tmp_path: Path
) -> None:
    kube, made = installed.kube, cases(tmp_path)
    assert {":StringNormalizer", "com.microsoft:Tokenizer", ":Div", "ai.onnx.ml:Imputer"} <= made.keys()
    assert len(made) > 120
    config, template = script_pod("operators", "image_operators.py", installed.server_image, {})
    packed = base64.b64encode(gzip.compress(json.dumps(made).encode())).decode()
    config["binaryData"] = {"cases.json.gz": packed}
    spec = template["spec"] | {"restartPolicy": "Never"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operators"}, "spec": spec}
    kube.apply(placed(config, namespace), placed(pod, namespace))

    deadline = time.monotonic() + 120 * PATIENCE
    while ((kube.get("pod", "operators", namespace) or {})["status"].get("phase")) not in ENDED:
        assert time.monotonic() < deadline
        time.sleep(1)
    lines = kube.kubectl("logs", "operators", f"--namespace={namespace}").splitlines()
    assert lines[-1].startswith("{"), f"{lines[-1]} ended the process"
    assert json.loads(lines[-1]) == {"run": len(made), "faults": {}}
