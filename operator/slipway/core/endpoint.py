"""Where a pod is read."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.core.observed import Manifest


@dataclass(frozen=True)
class Endpoint:
    """A port of a pod, and the namespace whose share of reading it takes.

    Attributes:
        namespace: of the pod.
        host: its address, of either family.
        port: of its own.
    """

    namespace: str
    host: str
    port: int

    def __str__(self) -> str:
        """As in a URL: ``10.0.0.7:8081``, or ``[fd00::7]:8081``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint_of(pod: Manifest, port: int) -> Endpoint:
    """Where a pod that has an address is read."""
    return Endpoint(pod["metadata"]["namespace"], str(pod["status"]["podIP"]), port)
