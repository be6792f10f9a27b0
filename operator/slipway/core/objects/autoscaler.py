"""How many pods a revision has."""

from __future__ import annotations

from typing import Any

from slipway.api.types import Scaling
from slipway.core import naming
from slipway.core.objects.metadata import Owner, metadata


def autoscaler(
    owner: Owner, revision: str, scaling: Scaling, floor: int, fixed: int | None = None
) -> dict[str, Any]:
    """HorizontalPodAutoscaler of a revision.

    ``floor`` is the least number of pods while the revision takes over another's traffic; it never goes
    below ``minReplicas`` nor above ``maxReplicas``. ``fixed`` is the one number of pods that it may have,
    where that number is what splits traffic.
    """
    name = naming.revision_object(owner.name, revision)
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(owner, name, naming.labels(owner.name, "model-server", revision)),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": fixed or min(max(scaling.minReplicas, floor), scaling.maxReplicas),
            "maxReplicas": fixed or scaling.maxReplicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": metric.targetPercent},
                    },
                }
                for metric in scaling.metrics
            ],
        },
    }
