"""Which images there are, and what each is made of."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.tools import ALERTMANAGER, ARGOCD, ENVOY_GATEWAY, HELM, PROMETHEUS, GoProgram

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Image:
    """One image: its name on the node, how it is built, and every file that can change it."""

    short: str
    """What the command line calls it, such as `server`."""
    name: str
    """The reference that manifests use, tag included."""
    dockerfile: Path
    """Relative to the repository's root."""
    target: str
    inputs: tuple[str, ...] = ()
    """Files and folders of the repository that the build copies; the Dockerfile is always one more."""
    program: GoProgram | None = None
    """Where set, a folder with this program alone is the build's context, not the repository."""
    beside: tuple[GoProgram, ...] = ()
    """More programs in that folder."""
    on_demand: bool = False
    """Whether it is built only where a test asks for it, or a person by its name."""
    root: Path = ROOT
    """Where the repository is."""


_PACKAGE_LISTS = ("pyproject.toml", "uv.lock", "bootstrap.txt")
_CODE = ("README.md", "LICENSE", "operator", "server")

IMAGES = (
    Image("operator", "slipway.dev/operator:dev", Path("Dockerfile"), "operator", _PACKAGE_LISTS + _CODE),
    Image("server", "slipway.dev/server:dev", Path("Dockerfile"), "server", _PACKAGE_LISTS + _CODE),
    Image("audit", "slipway.dev/audit:dev", Path("Dockerfile"), "audit", _PACKAGE_LISTS + _CODE),
    Image("router", "slipway.dev/router:dev", Path("Dockerfile"), "router", _PACKAGE_LISTS),
    Image(
        "mlflow", "slipway.dev/mlflow:test", Path("e2e/images/mlflow/Dockerfile"), "mlflow", _PACKAGE_LISTS
    ),
    Image(
        "own-servers",
        "slipway.dev/own-servers:test",
        Path("e2e/images/own-servers/Dockerfile"),
        "own-servers",
        ("bootstrap.txt", "e2e/images/own-servers/requirements.txt", "examples/fastapi_server.py"),
    ),
    Image(
        "prometheus",
        "slipway.dev/prometheus:test",
        Path("e2e/images/prometheus/Dockerfile"),
        "prometheus",
        program=PROMETHEUS,
    ),
    Image(
        "envoy-gateway",
        "slipway.dev/envoy-gateway:test",
        Path("e2e/images/envoy-gateway/Dockerfile"),
        "envoy-gateway",
        program=ENVOY_GATEWAY,
    ),
    Image(
        "alertmanager",
        "slipway.dev/alertmanager:test",
        Path("e2e/images/alertmanager/Dockerfile"),
        "alertmanager",
        program=ALERTMANAGER,
    ),
    Image(
        "argocd",
        "slipway.dev/argocd:test",
        Path("e2e/images/argocd/Dockerfile"),
        "argocd",
        program=ARGOCD,
        beside=(HELM,),
        on_demand=True,
    ),
)
NAMES = tuple(image.short for image in IMAGES)
#: What is built where nothing is named.
USUAL = tuple(image.short for image in IMAGES if not image.on_demand)


def find_image(short: str) -> Image:
    """The image of that short name; KeyError where there is none."""
    return next(image for image in IMAGES if image.short == short)


def content_key(image: Image, base: str) -> str:
    """32 hex digits that differ whenever the image could: by name, base, and each input's bytes and mode."""
    digest = hashlib.sha256()
    beside = (repr(program) for program in image.beside)
    for word in (image.name, image.target, base, repr(image.program), *beside):
        digest.update(word.encode() + b"\0")
    for path in _files(image):
        mode = path.stat().st_mode & 0o777
        digest.update(f"{path.relative_to(image.root)}\0{mode:o}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _files(image: Image) -> Iterator[Path]:
    for given in (str(image.dockerfile), ".dockerignore", *image.inputs):
        path = image.root / given
        if path.is_dir():
            found = (
                inner for inner in path.rglob("*") if inner.is_file() and "__pycache__" not in inner.parts
            )
            yield from sorted(inner for inner in found if inner.suffix != ".pyc")
        else:
            yield path
