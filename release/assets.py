"""Builds what a release offers for download, into a folder."""

import hashlib
import json
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import HELM, Tools
from release.chart import CUDA_IMAGE, IMAGES, published
from release.commands import exported, run, uv
from release.notes import UNRELEASED, notes, sections
from release.plugin import archive, manifest
from release.version import version_of

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts/slipway"
SUMS = "SHA256SUMS"
#: What an image, or the command line, is installed from: words for `uv export`.
BILLS = {
    **{extra: ("--extra", extra) for extra in (*IMAGES, "cli", "serve")},
    # onnxruntime-gpu stands in its place.
    CUDA_IMAGE: ("--extra", "server", "--group", "cuda", "--no-emit-package", "onnxruntime"),
}


def build(target: Path, repository: str, registry: str, base: str | None = None) -> str:
    """Build everything but the images into a folder, which is emptied first; gives the version.

    Args:
        target: the folder.
        repository: address of the project, such as ``https://github.com/OWNER/NAME``.
        registry: of the images, such as ``ghcr.io/OWNER/NAME``.
        base: what the notes say of the images' base; None for a draft, whose notes may be what is unreleased.

    Raises:
        ReleaseError: where the tree is in no state to be released, or a part cannot be built.
    """
    version = version_of(ROOT)
    changelog = (ROOT / "CHANGELOG.md").read_text()
    is_cut = version in sections(changelog)
    told = notes(changelog, UNRELEASED if base is None and not is_cut else version)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "NOTES.md").write_text(f"{told}\n{base}" if base else told)

    with tempfile.TemporaryDirectory() as scratch:
        by_hash = Path(scratch, "build.txt")
        by_hash.write_text(exported("--only-group", "build"))
        held = ["--require-hashes", "--build-constraints", str(by_hash)]
        run([uv(), "build", "--quiet", *held, "--out-dir", str(target), str(ROOT)])
    (target / ".gitignore").unlink(missing_ok=True)
    (wheel,) = target.glob("*.whl")
    with tempfile.TemporaryDirectory() as scratch:
        chart = published(CHART, registry, Path(scratch))
        run([_helm(), "package", str(chart), "--destination", str(target)])
    crds = "\n---\n".join(path.read_text().strip() for path in sorted((ROOT / "crds").glob("*.yaml")))
    (target / f"slipway-crds-{version}.yaml").write_text(f"{crds}\n")
    packed = archive(wheel, version, ROOT / "LICENSE", target / f"kubectl-slipway-{version}.tar.gz")
    uri = f"{repository}/releases/download/v{version}/{packed.name}"
    (target / "slipway.krew.yaml").write_text(manifest(version, uri, sha256_of(packed), repository))
    for name in BILLS:
        (target / f"sbom-{name}.cdx.json").write_text(bill(name, version))
    (target / SUMS).write_text(sums(target.iterdir()))
    return version


def bill(name: str, version: str) -> str:
    """Bill of materials, in CycloneDX, of what the lock installs on Linux for one of :data:`BILLS`."""
    words = ["-m", "cyclonedx_py", "requirements", "-", "--pyproject", str(ROOT / "pyproject.toml")]
    made = run([sys.executable, *words], exported(*BILLS[name]))
    document = json.loads(made)
    document["metadata"]["component"]["version"] = version
    # The same lock has the same bill.
    document["metadata"].pop("timestamp", None)
    document.pop("serialNumber", None)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def left_out() -> str:
    """What a dry run says of the images, which it does not build."""
    return (
        f"not built here: the images {', '.join(IMAGES)}, for amd64 and arm64, nor {CUDA_IMAGE}, for amd64 "
        f"alone, of which CUDA's packages are {cuda_gigabytes():.1f} GB to download; "
        f".github/workflows/release.yml builds them all, and `docker build --target NAME .` one of them"
    )


def cuda_gigabytes() -> float:
    """What the wheels of CUDA and of onnxruntime for it are together, by the lock."""
    with (ROOT / "uv.lock").open("rb") as file:
        packages = tomllib.load(file)["package"]
    sizes = (
        max(wheel["size"] for wheel in package["wheels"])
        for package in packages
        if package["name"] == "onnxruntime-gpu" or package["name"].startswith("nvidia-")
    )
    return float(sum(sizes)) / 1e9


def sums(files: Iterable[Path]) -> str:
    """As `sha256sum` prints and checks them, by name."""
    return "".join(f"{sha256_of(file)}  {file.name}\n" for file in sorted(files) if file.name != SUMS)


def sha256_of(file: Path) -> str:
    """64 hex digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def try_out(target: Path, scratch: Path) -> str:
    """Install the wheel into a fresh environment and ask it for its version."""
    (wheel,) = target.glob("*.whl")
    run([sys.executable, "-m", "venv", str(scratch)])
    run([str(scratch / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", f"{wheel}[cli]"])
    return run([str(scratch / "bin/slipway"), "version", "--client"]).strip()


def _helm() -> str:
    return shutil.which("helm") or str(Tools(read_settings().cache).install(HELM))
