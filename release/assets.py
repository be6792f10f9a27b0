"""Builds what a release offers for download, into a folder."""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import HELM, Tools
from release.chart import IMAGES, published
from release.commands import exported, run, uv
from release.notes import UNRELEASED, notes, sections
from release.plugin import archive, manifest
from release.version import version_of

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts/slipway"
SUMS = "SHA256SUMS"
#: Extras of the package that an image, or the command line, is installed from.
BILLS = (*IMAGES, "cli", "serve")


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
    for extra in BILLS:
        (target / f"sbom-{extra}.cdx.json").write_text(bill(extra, version))
    (target / SUMS).write_text(sums(target.iterdir()))
    return version


def bill(extra: str, version: str) -> str:
    """Bill of materials, in CycloneDX, of what the lock installs for an extra on Linux."""
    words = ["-m", "cyclonedx_py", "requirements", "-", "--pyproject", str(ROOT / "pyproject.toml")]
    made = run([sys.executable, *words], exported("--extra", extra))
    document = json.loads(made)
    document["metadata"]["component"]["version"] = version
    # The same lock has the same bill.
    document["metadata"].pop("timestamp", None)
    document.pop("serialNumber", None)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


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
