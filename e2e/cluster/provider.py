"""What every provider of a cluster does, and which one is used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from e2e.cluster.errors import ClusterError
from e2e.cluster.kind.docker import kind_is_usable
from e2e.cluster.kind.provider import KindProvider
from e2e.cluster.node.provider import NodeProvider
from e2e.cluster.settings import Settings


class Provider(Protocol):
    """A way to get a cluster. Every verb may be repeated; each raises ClusterError with the way out."""

    kind: str

    def up(self) -> None:
        """Make the cluster, repair it, or find that nothing is to be done; writes the kubeconfig."""

    def down(self) -> None:
        """Remove the cluster and everything it left; fine where there is none."""

    def status(self) -> bool:
        """Print the parts and their state; true when all are well."""

    def load(self, archives: Sequence[Path]) -> list[str]:
        """Put image archives on every node; returns `name@sha256:…` for each image, usable without a pull."""

    def run(self, argv: Sequence[str]) -> int:
        """Run a command of this machine inside the network of the first node; returns its exit code."""


def choose_provider(settings: Settings) -> Provider:
    """The provider of the cluster that is there, else the one asked for, else what this machine can offer."""
    kind = _present(settings) or settings.provider or ("kind" if kind_is_usable(settings) else "node")
    if settings.provider not in (None, kind):
        raise ClusterError(
            f"cluster {settings.name} was made by {kind}: run `python -m e2e.cluster down` before "
            f"SLIPWAY_CLUSTER={settings.provider}"
        )
    return _provider(kind, settings)


def find_provider(settings: Settings) -> Provider:
    """The provider of the cluster that is there; where there is none, one that can say so."""
    return _provider(_present(settings) or settings.provider or "node", settings)


def _present(settings: Settings) -> str | None:
    if KindProvider(settings).config.exists():
        return "kind"
    return "node" if settings.state.exists() else None


def _provider(kind: str, settings: Settings) -> Provider:
    return KindProvider(settings) if kind == "kind" else NodeProvider(settings)
