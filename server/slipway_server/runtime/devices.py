"""GPUs: what an image that is built for them lacks where it runs, if anything."""

from __future__ import annotations

import ctypes
import io
import re
from contextlib import redirect_stdout

import onnxruntime as ort

GPU = "CUDAExecutionProvider"
#: Of the node; its container runtime puts it into pods that were given a device.
DRIVER = "libcuda.so.1"
_LOST = re.compile(r"^Failed to load (?:.*/)?([^/\s]+): ", re.MULTILINE)


def lacking() -> str | None:
    """What keeps onnxruntime from a GPU, in words; None once all of CUDA's libraries are loaded.

    They come as packages of Python, where nothing would look for them by itself.
    """
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return (
            f"there is no NVIDIA driver ({DRIVER}): ask for a device in spec.runtime.resources.extended, "
            "such as nvidia.com/gpu: 1, and see that the node's container runtime puts its driver into such "
            "pods (spec.runtime.pod.runtimeClassName names another one)"
        )
    said = io.StringIO()
    with redirect_stdout(said):
        ort.preload_dlls()
    lost = sorted(set(_LOST.findall(said.getvalue())))
    if lost:
        return f"the image lacks {', '.join(lost)}: build it by the target server-cuda of the Dockerfile"
    return None


def not_started() -> str:
    """What to say where the libraries are all there and CUDA does not start."""
    return (
        "there is a driver, but CUDA does not start: see by nvidia-smi in the pod that it has a device, and "
        f"that the driver is new enough for CUDA {ort.cuda_version}"
    )
