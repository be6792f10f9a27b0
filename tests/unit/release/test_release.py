"""What a release is made of, where that is pure."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

from e2e.images.builders import REGISTRY_BASE
from release.assets import BILLS, ROOT, SUMS, bill, cuda_gigabytes, left_out, sums
from release.base import default_base, said_of
from release.chart import CUDA_IMAGE, IMAGES, with_images
from release.errors import ReleaseError
from release.notes import cut, notes, sections
from release.plugin import archive, manifest
from release.version import check_tag, version_of
from tests.unit.release.test_holes import with_uv

CHANGELOG = """\
# Changelog

## Unreleased

### Added

- Something new.

## 0.1.0 - 2026-11-01

- The first one.
"""


def tree(root: Path, package: str, chart: str, app: str) -> Path:
    (root / "charts/slipway").mkdir(parents=True)
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{package}"\n')
    (root / "charts/slipway/Chart.yaml").write_text(f'version: {chart}\nappVersion: "{app}"\n')
    return root


def test_this_tree_has_one_version_and_its_changelog_has_something_to_say_of_it() -> None:
    version = version_of(ROOT)
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert notes(changelog, version if version in sections(changelog) else "Unreleased").startswith("### ")


def test_files_that_name_different_versions_are_told_apart(tmp_path: Path) -> None:
    assert version_of(tree(tmp_path / "same", "0.2.0-rc.1", "0.2.0-rc.1", "0.2.0-rc.1")) == "0.2.0-rc.1"
    with pytest.raises(
        ReleaseError, match=r"appVersion of charts/slipway/Chart\.yaml says 0\.1\.0: write the same"
    ):
        version_of(tree(tmp_path / "other", "0.2.0", "0.2.0", "0.1.0"))
    with pytest.raises(ReleaseError, match="'dev' is no version"):
        version_of(tree(tmp_path / "none", "dev", "dev", "dev"))


def test_a_tag_is_of_its_version() -> None:
    check_tag("v0.2.0", "0.2.0")
    with pytest.raises(ReleaseError, match=r"tag v0\.2\.0, or change the version"):
        check_tag("v0.3.0", "0.2.0")


def test_notes_are_the_section_of_the_version() -> None:
    assert notes(CHANGELOG, "0.1.0") == "- The first one.\n"
    with pytest.raises(ReleaseError, match=r"nothing about 0\.2\.0: run `python -m release cut`"):
        notes(CHANGELOG, "0.2.0")


def test_the_notes_name_the_base_by_its_digest_and_no_other_base() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    name = default_base(dockerfile)
    assert name == REGISTRY_BASE
    digest = "sha256:" + "0123456789abcdef" * 4
    assert said_of(f"{name}@{digest}", dockerfile) == f"The images stand on `{name}@{digest}`.\n"
    for base in (name, f"{name}@", f"{name}@sha256:0", f"evil/{name}@{digest}", f"{name}@{digest}\n"):
        with pytest.raises(ReleaseError, match=r"is not docker\.io/library/python"):
            said_of(base, dockerfile)
    with pytest.raises(ReleaseError, match="gives ARG BASE 0 values"):
        default_base("FROM scratch\n")


def test_what_is_unreleased_is_cut_into_a_section() -> None:
    after = cut(CHANGELOG, "0.2.0", date(2026, 12, 1))
    assert "\n## Unreleased\n\n## 0.2.0 - 2026-12-01\n\n### Added\n" in after
    assert notes(after, "0.2.0") == "### Added\n\n- Something new.\n"
    assert notes(after, "0.1.0") == notes(CHANGELOG, "0.1.0")
    with pytest.raises(ReleaseError, match="there is nothing to release"):
        cut(after, "0.3.0", date(2026, 12, 1))
    with pytest.raises(ReleaseError, match=r"has a section 0\.1\.0"):
        cut(CHANGELOG, "0.1.0", date(2026, 12, 1))


def test_a_published_chart_names_the_images_of_its_registry_and_nothing_else_changes() -> None:
    before = (ROOT / "charts/slipway/values.yaml").read_text()
    after = with_images(before, "ghcr.io/shop/slipway")
    values = yaml.safe_load(after)
    assert values["image"]["repository"] == "ghcr.io/shop/slipway/operator"
    assert values["server"]["image"]["repository"] == "ghcr.io/shop/slipway/server"
    assert values["audit"]["image"]["repository"] == "ghcr.io/shop/slipway/audit"
    assert values["router"]["image"]["repository"] == "ghcr.io/shop/slipway/router"
    # What a clone installs has no image for CUDA: somebody has to build it first.
    assert values["server"]["cudaImage"]["repository"] == "ghcr.io/shop/slipway/server-cuda"
    assert yaml.safe_load(before)["server"]["cudaImage"]["repository"] == ""
    own = after.replace("ghcr.io/shop/slipway/server-cuda", '""')
    assert own.replace("ghcr.io/shop/slipway/", "slipway.dev/") == before
    with pytest.raises(ReleaseError, match=r"leaves server\.cudaImage\.repository empty 0 times"):
        with_images(before.replace('repository: ""', "repository: elsewhere"), "ghcr.io/shop/slipway")
    with pytest.raises(ReleaseError, match=r"the image slipway\.dev/server 0 times"):
        with_images(before.replace("slipway.dev/server", "elsewhere/server"), "ghcr.io/shop/slipway")


def test_the_plugin_is_the_same_bytes_each_time_and_its_manifest_names_them(tmp_path: Path) -> None:
    wheel = tmp_path / "slipway_serving-0.2.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    made = [
        archive(wheel, "0.2.0", ROOT / "LICENSE", tmp_path / f"{number}.tar.gz").read_bytes()
        for number in (1, 2)
    ]
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as packed:
        modes = {one.name: one.mode for one in packed}
    assert modes == {"LICENSE": 0o644, "kubectl-slipway": 0o755, wheel.name: 0o644}
    digest = hashlib.sha256(made[0]).hexdigest()
    found = yaml.safe_load(manifest("0.2.0", "https://example.com/a.tar.gz", digest, "https://example.com"))
    assert (found["kind"], found["spec"]["version"]) == ("Plugin", "v0.2.0")
    [platform] = found["spec"]["platforms"]
    assert (platform["sha256"], platform["bin"]) == (digest, "kubectl-slipway")
    assert len(found["spec"]["shortDescription"]) <= 50, "krew's limit"


def test_the_plugins_launcher_makes_its_environment_once_and_passes_words_on(tmp_path: Path) -> None:
    """With a pip that needs no registry: it writes the program that a wheel would bring."""
    archive(_wheel(tmp_path), "0.2.0", ROOT / "LICENSE", tmp_path / "plugin.tar.gz")
    krew = tmp_path / "krew"
    with tarfile.open(tmp_path / "plugin.tar.gz") as packed:
        packed.extractall(krew, filter="data")
    linked = tmp_path / "bin/kubectl-slipway"
    linked.parent.mkdir()
    linked.symlink_to(krew / "kubectl-slipway")
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
    }
    for said in ("making ", ""):
        done = subprocess.run([linked, "get", "-A"], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (7, "get -A\n"), done
        assert done.stderr.startswith(said)
        assert bool(said) == bool(done.stderr)


def test_the_plugin_says_which_python_it_needs(tmp_path: Path) -> None:
    archive(_wheel(tmp_path), "0.2.0", ROOT / "LICENSE", tmp_path / "plugin.tar.gz")
    with tarfile.open(tmp_path / "plugin.tar.gz") as packed:
        packed.extractall(tmp_path / "krew", filter="data")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "readlink", "rm", "sh"):
        (tools / name).symlink_to(Path("/bin") / name)
    old = {"PATH": str(tools), "HOME": str(tmp_path)}
    done = subprocess.run([tmp_path / "krew/kubectl-slipway"], env=old, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: kubectl slipway needs Python 3.11 or newer on the PATH\n"


def test_each_image_has_a_bill_of_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with_uv(monkeypatch)
    assert {*IMAGES, CUDA_IMAGE} < set(BILLS)
    document = json.loads(bill(CUDA_IMAGE, "0.2.0"))
    found = {one["name"] for one in document["components"]}
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13", "numpy"} <= found
    assert "onnxruntime" not in found
    assert document["metadata"]["component"]["version"] == "0.2.0"


def test_a_dry_run_says_which_images_it_leaves_out_and_why() -> None:
    words = left_out()
    assert words.startswith("not built here: the images ")
    assert all(name in words for name in (*IMAGES, CUDA_IMAGE, "release.yml"))
    assert f"{cuda_gigabytes():.1f} GB" in words
    assert 1 < cuda_gigabytes() < 4


def test_the_packages_of_cuda_are_for_amd64_alone() -> None:
    """Once they are for arm64 too, so can the image be."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    wheels = [
        wheel["url"].rpartition("/")[2]
        for package in packages
        if package["name"] == "onnxruntime-gpu" or package["name"].startswith("nvidia-")
        for wheel in package["wheels"]
    ]
    assert len(wheels) > 5
    assert [name for name in wheels if "x86_64" not in name] == []


def test_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    (tmp_path / SUMS).write_text(sums(tmp_path.iterdir()))
    (tmp_path / SUMS).write_text(sums(tmp_path.iterdir()))
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "a: OK\nb: OK\n")


def _wheel(folder: Path) -> Path:
    """One with the program `kubectl-slipway`, which prints its words and ends with 7."""
    import zipfile

    wheel = folder / "slipway_serving-0.2.0-py3-none-any.whl"
    info = "slipway_serving-0.2.0.dist-info"
    files = {
        "told.py": "import sys\n\n\ndef main():\n    print(*sys.argv[1:])\n    return 7\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: slipway-serving\nVersion: 0.2.0\n"
        "Provides-Extra: cli\nProvides-Extra: report\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nkubectl-slipway = told:main\n",
    }
    with zipfile.ZipFile(wheel, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
        packed.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return wheel
