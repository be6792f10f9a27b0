"""From `pip install` to the first answer: the wheel of this tree in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.ledger import hold
from tests.ports import free_ports
from tests.server import onnx_models

ROOT = Path(__file__).parents[2]
#: From the start of `pip install` to the answer, with packages from a registry near by.
MOST_SECONDS = 60.0


def uv() -> str:
    """uv as the Makefile has it: from PATH, or out of the cache."""
    found = shutil.which("uv")
    if found is None:
        cache = Path(os.environ.get("SLIPWAY_CACHE") or Path.home() / ".cache/slipway")
        found = str(max(cache.glob("uv-*/bin/uv")))
    return found


@pytest.mark.long
def test_a_fresh_environment_serves_a_model_within_a_minute(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    subprocess.run([uv(), "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT], check=True)
    [wheel] = wheels.glob("slipway_serving-*.whl")
    onnx_models.save(onnx_models.classifier(), tmp_path, "fraud.onnx")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_ = tmp_path / "venv/bin"
    http, grpc, metrics = free_ports(3)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    began = time.monotonic()
    subprocess.run([bin_ / "pip", "install", "--quiet", f"{wheel}[serve]"], check=True, env=clean)
    ports = [f"--port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    with subprocess.Popen(
        [bin_ / "slipway", "serve", "fraud.onnx", *ports],
        cwd=tmp_path,
        env=clean,
        stdout=subprocess.PIPE,
        text=True,
    ) as serve:
        try:
            assert serve.stdout is not None
            typed = next(line for line in serve.stdout if line.startswith("curl "))
            answer = subprocess.run(
                ["bash", "-c", f"{typed.strip()} --silent"], capture_output=True, check=True
            )
            hold("from pip install to the first answer", time.monotonic() - began, MOST_SECONDS)
            assert json.loads(answer.stdout)["model_name"] == "fraud"
        finally:
            serve.send_signal(signal.SIGTERM)
    assert serve.returncode == 0
    split = [bin_ / "slipway", "serve", "fraud.onnx", "fraud.onnx", "--split", "90/10", *ports]
    refused = subprocess.run(
        split, cwd=tmp_path, env={**clean, "PATH": str(bin_)}, capture_output=True, text=True
    )
    assert re.search(
        r"^error: --split needs Envoy.*pip install 'slipway-serving\[serve,router\]'$", refused.stderr
    )
