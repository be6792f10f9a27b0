"""An image for GPUs where there is none: the model is served, and the log reports what is missing."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from pathlib import Path

import onnx
import pytest

from e2e.cluster.settings import read_settings
from slipway_server.runtime import devices
from slipway_server.runtime.model import Model
from tests.environments import python_with, uv
from tests.server import onnx_models

ROOT = Path(__file__).parents[2]
_LOAD = """
import logging, sys
from pathlib import Path
from slipway_server.logs import set_up
from slipway_server.runtime.model import Model
set_up("info")
model = Model(Path(sys.argv[1]), 1)
print(model.is_on_cpu, len(model.run_all(model.zeros())))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    onnx.save(onnx_models.classifier(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_model_is_served_without_the_driver_that_its_image_is_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: Path
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [devices.GPU, "CPUExecutionProvider"])
    monkeypatch.setattr(devices, "DRIVER", "libof-no-machine.so.1")
    with caplog.at_level(logging.WARNING):
        model = Model(path, 1)
    (record,) = caplog.records
    assert "runs on the CPU" in record.getMessage()
    assert "there is no NVIDIA driver (libof-no-machine.so.1)" in vars(record)["error"]
    assert model.run_all(model.zeros())


@pytest.fixture(scope="module")
def gpu_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image for GPUs has, but for some gigabytes: of CUDA's own libraries one alone."""
    lists = tmp_path_factory.mktemp("lists") / "cuda.txt"
    export = ["export", "--quiet", "--frozen", "--no-dev", "--extra", "server", "--group", "cuda"]
    export += ["--no-emit-package", "onnxruntime", "--no-emit-project", "--no-header"]
    program = uv(read_settings().cache)
    done = subprocess.run([program, *export], cwd=ROOT, check=True, capture_output=True, text=True)
    parts = re.split(r"^(?=[a-z0-9-]+==)", done.stdout, flags=re.MULTILINE)
    wanted = [part for part in parts if not re.match("nvidia-(?!cuda-runtime)", part)]
    lists.write_text("".join(wanted))
    return python_with(lists, "cuda")


@pytest.mark.long
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="a machine with a GPU lacks nothing")
@pytest.mark.parametrize("driver", [False, True], ids=["no driver", "a driver"])
def test_onnxruntimes_own_package_for_gpus_says_what_it_lacks(
    gpu_python: Path, path: Path, tmp_path: Path, driver: bool
) -> None:
    environment = {**os.environ, "PYTHONPATH": "operator:server", "LD_LIBRARY_PATH": str(tmp_path)}
    if driver:
        # No driver can be had without a device: an empty one leads on to what is looked for next.
        command = ["cc", "-shared", "-o", str(tmp_path / devices.DRIVER), "-x", "c", "/dev/null"]
        subprocess.run(command, check=True)
    done = subprocess.run(
        [gpu_python, "-c", _LOAD, path], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "True 2"
    assert "the model runs on the CPU in an image for GPUs" in done.stderr
    if not driver:
        assert "there is no NVIDIA driver (libcuda.so.1)" in done.stderr
        return
    assert "the image lacks libcublas" in done.stderr
    # Found where its package puts it.
    assert "libcudart" not in done.stderr
