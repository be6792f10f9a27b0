"""How many pods a drained node may take at once."""

from __future__ import annotations

from typing import Any

from slipway.core import names
from slipway.core.build.metadata import Owner, metadata


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
            names.revision_object(owner.name, revision),
            names.labels(owner.name, "model-server", revision),
        ),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.pod_selector(owner.name, revision)},
        },
    }
