"""What every provider of a cluster does, and which one is used."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from e2e.cluster.kind.provider import KindProvider, kind_is_usable
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
    """The provider asked for, the one that already runs, or the one this machine can offer."""
    asked = settings.provider
    if asked is None and settings.state.joinpath("node-0").exists():
        asked = "node"
    if asked is None:
        asked = "kind" if shutil.which("docker") and kind_is_usable() else "node"
    return KindProvider(settings) if asked == "kind" else NodeProvider(settings)
