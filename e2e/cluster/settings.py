"""What the environment asks for: name, provider, number of nodes, folders."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError

DEFAULT_NAME = "slipway"
MAX_NODES = 8


@dataclass(frozen=True)
class Settings:
    """One cluster as the user named it."""

    name: str
    provider: str | None
    """`kind`, `node`, or None to choose by what this machine offers."""
    nodes: int | None
    """How many nodes; None keeps what runs, or makes one."""
    kind_image: str | None
    """The image of kind's nodes; None for the one that kind is released with."""
    cache: Path
    """Built programs and images; safe to delete, costs a rebuild."""
    state: Path
    """Everything the running cluster writes; `down` deletes it."""
    kubeconfig: Path

    @property
    def volumes(self) -> Path:
        """Folder on this machine that every node sees as `/mnt`: where host-path volumes live."""
        return self.state / "volumes"


def read_settings() -> Settings:
    """Read the `SLIPWAY_*` variables; raises ClusterError for a value that cannot be meant."""
    root = Path(__file__).resolve().parents[2]
    name = os.environ.get("SLIPWAY_CLUSTER_NAME") or DEFAULT_NAME
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,18}[a-z0-9]", name):
        raise ClusterError(f"SLIPWAY_CLUSTER_NAME={name!r}: use 2 to 20 of a-z, 0-9 and -, a letter first")
    provider = os.environ.get("SLIPWAY_CLUSTER") or None
    if provider not in (None, "kind", "node"):
        raise ClusterError(f"SLIPWAY_CLUSTER={provider!r}: use kind or node, or unset it to have one chosen")
    config = root / ".cluster"
    return Settings(
        name=name,
        provider=provider,
        nodes=_read_nodes(os.environ.get("SLIPWAY_NODES")),
        kind_image=_read_image(os.environ.get("SLIPWAY_KIND_IMAGE")),
        cache=_cache_folder(),
        state=Path(os.environ.get("SLIPWAY_CLUSTER_DIR") or "/var/lib/slipway").absolute() / name,
        kubeconfig=config / ("kubeconfig" if name == DEFAULT_NAME else f"{name}.kubeconfig"),
    )


def _read_nodes(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MAX_NODES:
        raise ClusterError(f"SLIPWAY_NODES={text!r}: use a whole number from 1 to {MAX_NODES}")
    return int(text)


def _read_image(text: str | None) -> str | None:
    if text and not re.fullmatch(r"[a-zA-Z0-9][\w.:/@-]{0,254}", text):
        raise ClusterError(f"SLIPWAY_KIND_IMAGE={text!r}: use an image's name, such as kindest/node:v1.34.0")
    return text or None


def _cache_folder() -> Path:
    if given := os.environ.get("SLIPWAY_CACHE"):
        return Path(given).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home).absolute() / "slipway"
