"""The chart of a release, which installs the images of the release."""

import re
import shutil
from pathlib import Path

from release.errors import ReleaseError

#: For amd64 and arm64; values.yaml names each of them.
IMAGES = ("operator", "server", "audit", "router")
#: The server for NVIDIA GPUs, whose packages are for amd64 alone; values.yaml names none.
CUDA_IMAGE = "server-cuda"
_NO_CUDA_IMAGE = re.compile(r"^(  cudaImage:\n(?:    #.*\n)*    repository: )\"\"$", re.MULTILINE)


def published(chart: Path, registry: str, target: Path) -> Path:
    """A copy of the chart whose values name the images of a registry; ReleaseError where they name others."""
    copy = Path(shutil.copytree(chart, target / "slipway"))
    values = copy / "values.yaml"
    values.write_text(with_images(values.read_text(), registry))
    return copy


def with_images(values: str, registry: str) -> str:
    """The values with each image of this project from a registry, that for CUDA too; their comments stay."""
    for image in IMAGES:
        values, count = re.subn(
            rf"^( *repository: )slipway\.dev/{image}$",
            rf"\g<1>{registry}/{image}",
            values,
            flags=re.MULTILINE,
        )
        if count != 1:
            raise ReleaseError(f"values.yaml names the image slipway.dev/{image} {count} times, not once")
    values, count = _NO_CUDA_IMAGE.subn(rf"\g<1>{registry}/{CUDA_IMAGE}", values)
    if count != 1:
        raise ReleaseError(f"values.yaml leaves server.cudaImage.repository empty {count} times, not once")
    return values
