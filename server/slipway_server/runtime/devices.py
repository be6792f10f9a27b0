"""What a model runs on: the CPU, or a GPU by CUDA, which then has to start."""

from __future__ import annotations

import ctypes
import io
import re
from contextlib import redirect_stdout

import onnxruntime as ort

CPU, CUDA = "CPU", "CUDA"
_ON_CPU, ON_GPU = "CPUExecutionProvider", "CUDAExecutionProvider"
#: Of the node; its container runtime puts it into pods that were given a device.
DRIVER = "libcuda.so.1"
_LOST = re.compile(r"^Failed to load (?:.*/)?([^/\s]+): ", re.MULTILINE)
#: As onnxruntime says what CUDA and its libraries answer.
_FAILED = re.compile(r"\b(CUDA|CUDNN|CUBLAS)\w* (failure|error)", re.IGNORECASE)


class DeviceError(Exception):
    """The model is to run on a GPU and cannot; the message says what is missing, and what to do."""


def providers(device: str) -> list[str]:
    """What onnxruntime is to run a model by, the first that can; raises :class:`DeviceError`.

    On a GPU the CPU has what the GPU cannot do.
    """
    if device == CPU:
        return [_ON_CPU]
    lack = _lacking()
    if lack is not None:
        raise DeviceError(f"spec.runtime.device is CUDA, but {lack}")
    return [ON_GPU, _ON_CPU]


def check_started(device: str, used: list[str]) -> None:
    """Raises :class:`DeviceError` where a session does without the GPU that it was to have."""
    if device == CUDA and ON_GPU not in used:
        raise DeviceError(_not_started("onnxruntime leaves it out"))


def refusal(device: str, error: str) -> DeviceError | None:
    """What an error of onnxruntime means, where it is CUDA's; None where it is the model's."""
    if device == CUDA and _FAILED.search(error):
        return DeviceError(_not_started(error))
    return None


def _lacking() -> str | None:
    """What keeps onnxruntime from a GPU, in words; None once all of CUDA's libraries are loaded.

    They come as packages of Python, where nothing would look for them by itself.
    """
    if ON_GPU not in ort.get_available_providers():
        return (
            f"onnxruntime {ort.__version__} of this image has no CUDA: leave spec.runtime.image out, or "
            "build it by the target server-cuda of the Dockerfile"
        )
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return (
            f"there is no NVIDIA driver ({DRIVER}): see that spec.runtime.resources.extended asks for a "
            "device of NVIDIA, such as nvidia.com/gpu: 1, and that the node's container runtime puts its "
            "driver into such pods (spec.runtime.pod.runtimeClassName names another one)"
        )
    said = io.StringIO()
    with redirect_stdout(said):
        ort.preload_dlls()
    lost = sorted(set(_LOST.findall(said.getvalue())))
    if lost:
        return f"the image lacks {', '.join(lost)}: build it by the target server-cuda of the Dockerfile"
    return None


def _not_started(why: str) -> str:
    return (
        f"spec.runtime.device is CUDA, and there is a driver, but CUDA does not start ({why}): see by "
        f"nvidia-smi in the pod that it has a device, and that the driver is new enough for CUDA "
        f"{ort.cuda_version}"
    )
