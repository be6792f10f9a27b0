"""`make release-dry-run`, for real: the wheel, the chart and the plugin of it work."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from release.assets import BILLS, ROOT, SUMS, left_out
from release.version import version_of


@pytest.mark.long
def test_a_dry_run_makes_every_file_and_installs_from_them(tmp_path: Path) -> None:
    version = version_of(ROOT)
    made = subprocess.run(["make", "release-dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert f"installed from build/release: client    {version}" in made.stdout
    assert left_out() in made.stdout
    folder = ROOT / "build/release"
    assert {file.name for file in folder.iterdir()} == {
        "NOTES.md",
        SUMS,
        f"kubectl-slipway-{version}.tar.gz",
        f"slipway-{version}.tgz",
        f"slipway-crds-{version}.yaml",
        "slipway.krew.yaml",
        f"slipway_serving-{version}-py3-none-any.whl",
        f"slipway_serving-{version}.tar.gz",
        *(f"sbom-{extra}.cdx.json" for extra in BILLS),
    }
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=folder, check=True)
    crd = yaml.safe_load((folder / f"slipway-crds-{version}.yaml").read_text())
    assert crd == yaml.safe_load((ROOT / "crds/slipway.dev_modeldeployments.yaml").read_text())
    bill = json.loads((folder / "sbom-server.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert {"onnxruntime", "numpy"} <= {one["name"] for one in bill["components"]}

    with tarfile.open(folder / f"kubectl-slipway-{version}.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run(
        [tmp_path / "kubectl-slipway", "version", "--client"],
        env={**clean, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout) == (0, f"client    {version}\n"), told.stderr
