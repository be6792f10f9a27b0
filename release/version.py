"""The one version of a tree, which the package, the chart and the images have."""

import re
import tomllib
from pathlib import Path

import yaml

from release.errors import ReleaseError

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(alpha|beta|rc)\.\d+)?")


def version_of(root: Path) -> str:
    """The version that every file of the tree names; ReleaseError where they differ, or it is none."""
    chart = yaml.safe_load((root / "charts/slipway/Chart.yaml").read_text())
    named = {
        "pyproject.toml": str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]),
        "version of charts/slipway/Chart.yaml": str(chart["version"]),
        "appVersion of charts/slipway/Chart.yaml": str(chart["appVersion"]),
    }
    if len(set(named.values())) != 1:
        told = ", ".join(f"{where} says {version}" for where, version in named.items())
        raise ReleaseError(f"{told}: write the same version into all of them")
    (version,) = set(named.values())
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} is no version: write one such as 0.2.0 or 0.2.0-rc.1")
    return version


def check_tag(tag: str, version: str) -> None:
    """ReleaseError unless the tag is of this version."""
    if tag != f"v{version}":
        raise ReleaseError(
            f"the tag {tag} is not of version {version}: tag v{version}, or change the version"
        )
