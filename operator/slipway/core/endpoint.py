"""Where a pod is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slipway.core.observed import Manifest, ObjectKind, is_ready


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


def has_address(pod: Manifest) -> bool:
    """Whether a pod can be reached at all."""
    return bool((pod.get("status") or {}).get("podIP"))


def ready_pods(children: Iterable[Manifest]) -> list[Manifest]:
    """Pods that get requests and can be read, leaving ones too: those still answer."""
    pods = (child for child in children if child["kind"] == ObjectKind.POD)
    return [pod for pod in pods if is_ready(pod) and has_address(pod)]
