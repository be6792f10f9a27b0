"""A model that is to run on a GPU where there is none: the server ends, and says what is missing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from e2e.cluster.settings import read_settings
from slipway.contract import Failed, ModelFault
from slipway.convert.compose import CONTRIB
from slipway.digest import digest_of
from slipway_server.runtime import devices
from slipway_server.runtime.load import LoadError, load
from slipway_server.runtime.model import Model, ModelInputError
from slipway_server.settings import Serving
from tests.environments import python_with, uv
from tests.server import onnx_models
from tests.server.running import Server
from tests.server.test_extensions import extension

ROOT = Path(__file__).parents[2]
_LOAD = """
import sys
from pathlib import Path
from slipway.digest import digest_of
from slipway_server.runtime.load import LoadError, load
from slipway_server.settings import Serving
folder, device = Path(sys.argv[1]), sys.argv[2]
try:
    model = load(folder, Serving("fraud", "1", digest_of(folder), device=device))
except LoadError as error:
    print(error.fault, error.message)
else:
    print(model.device, len(model.run_all(model.zeros())))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "model"
    found.mkdir()
    onnx.save(onnx_models.classifier(), found / "model.onnx")
    return found


def refused(folder: Path) -> str:
    """Why it is not run on a GPU."""
    with pytest.raises(LoadError) as found:
        load(folder, Serving("fraud", "1", digest_of(folder), device="CUDA"))
    assert found.value.fault is ModelFault.DEVICE_UNAVAILABLE
    return found.value.message


def take_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if CUDA's libraries were loaded: only what onnxruntime makes of it then is tried."""
    monkeypatch.setattr(devices, "providers", lambda _: ["CPUExecutionProvider"])


@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_without_cuda_ends_with_words_on_it_and_never_serves(folder: Path, processes: int) -> None:
    with Server(folder, device="CUDA", processes=processes) as server:
        assert server.wait() == 1
        outcome = server.last_words().outcome
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason is ModelFault.DEVICE_UNAVAILABLE
    assert f"onnxruntime {ort.__version__} of this image has no CUDA" in outcome.failure.message
    assert "leave spec.runtime.image out" in outcome.failure.message


def test_metadata_says_what_the_model_runs_on(folder: Path) -> None:
    with Server(folder) as server:
        server.wait_until_ready()
        assert server.client.get("/v2/models/fraud").json()["parameters"]["device"] == "CPU"


def test_a_machine_without_the_driver_is_told_from_an_image_without_cuda(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: available)
    monkeypatch.setattr(devices, "DRIVER", "libof-no-machine.so.1")
    assert "there is no NVIDIA driver (libof-no-machine.so.1)" in refused(folder)
    # In the same image the CPU is what it is elsewhere.
    model = load(folder, Serving("fraud", "1", digest_of(folder)))
    assert (model.device, model.is_on_cpu) == ("CPU", True)


def test_a_session_that_does_without_the_gpu_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    take_providers(monkeypatch)
    assert "CUDA does not start (onnxruntime leaves it out)" in refused(folder)


def test_what_cuda_answers_is_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    take_providers(monkeypatch)
    said = "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=fraud"

    def refuse(*_: Any, **given: Any) -> None:
        # Else it would try again on the CPU.
        assert given["enable_fallback"] == 0
        raise RuntimeError(f"[ONNXRuntimeError] : 1 : FAIL : {said}")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    assert f"CUDA does not start ({said})" in refused(folder)


def test_a_gpu_that_cannot_run_the_model_is_found_before_the_server_is_ready(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    take_providers(monkeypatch)
    monkeypatch.setattr(devices, "check_started", lambda *_: None)
    said = "CUDA failure 209: no kernel image is available for execution on the device"

    def run(*_: object) -> None:
        raise ModelInputError(f"Non-zero status code returned while running Gemm node. {said}")

    monkeypatch.setattr(Model, "run_raw", run)
    assert said in refused(folder)


def test_operators_that_run_on_the_cpu_alone_are_refused_by_name_of_the_field(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    take_providers(monkeypatch)
    onnx.save(
        extension("StringUpper", CONTRIB, TensorProto.STRING, TensorProto.STRING), folder / "model.onnx"
    )
    with pytest.raises(LoadError, match=r"which run on the CPU alone: leave spec\.runtime\.device out"):
        load(folder, Serving("fraud", "1", digest_of(folder), device="CUDA"))


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
    gpu_python: Path, folder: Path, tmp_path: Path, driver: bool
) -> None:
    environment = {**os.environ, "PYTHONPATH": "operator:server", "LD_LIBRARY_PATH": str(tmp_path)}
    if driver:
        # No driver can be had without a device: an empty one leads on to what is looked for next.
        command = ["cc", "-shared", "-o", str(tmp_path / devices.DRIVER), "-x", "c", "/dev/null"]
        subprocess.run(command, check=True)

    def loaded(device: str) -> str:
        command = [gpu_python, "-c", _LOAD, folder, device]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    # The image for GPUs runs on the CPU what is to run there.
    assert loaded("CPU") == "CPU 2"
    said = loaded("CUDA")
    assert said.startswith("DeviceUnavailable spec.runtime.device is CUDA, but ")
    if not driver:
        assert "there is no NVIDIA driver (libcuda.so.1)" in said
        return
    assert "the image lacks libcublas" in said
    # Found where its package puts it.
    assert "libcudart" not in said
