"""How many pods a drained node may take at once."""

from __future__ import annotations

from typing import Any

from slipway.core import naming
from slipway.core.objects.metadata import Owner, metadata


def disruption_budget(owner: Owner, revision: str) -> dict[str, Any]:
    """PodDisruptionBudget of a revision: one pod at a time, and a sick pod never blocks a drain.

    ``maxUnavailable`` rather than ``minAvailable``: the latter would block every drain where one pod is
    all there is.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(
            owner,
            naming.revision_object(owner.name, revision),
            naming.labels(owner.name, "model-server", revision),
        ),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": naming.pod_selector(owner.name, revision)},
        },
    }
