"""One life of the counters that a pod's main container keeps.

They begin at 0 with the container, and with nothing else: not with a sidecar that an injector added, native
or not, nor with an init container. Whoever takes differences names a life by :func:`life_of`, so that counts
of two lives are never taken for those of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from slipway.core.observed import Manifest, timestamp


def life_of(pod: Manifest, container: str) -> str:
    """Names the life: by the pod's uid, and how often the container was started.

    Args:
        pod: as the API server has it.
        container: name of the one that counts.
    """
    status = _status(pod, container)
    # A restart count may begin again where the node forgot the containers before; their ids never do.
    return f"{pod['metadata']['uid']}/{status.get('restartCount', 0)}/{status.get('containerID', '')}"


def began(pod: Manifest, container: str) -> datetime | None:
    """When the life began; None where the container does not run, or that is not known."""
    if status := _status(pod, container):
        return timestamp(((status.get("state") or {}).get("running") or {}).get("startedAt"))
    return timestamp((pod.get("status") or {}).get("startTime"))


def has_begun_since(pod: Manifest, container: str, moment: datetime) -> bool:
    """Whether the life began after a moment, and all its counts with it; False where that is not known."""
    start = began(pod, container)
    return start is not None and start >= moment


def _status(pod: Manifest, container: str) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((found for found in statuses if found.get("name") == container), {})
