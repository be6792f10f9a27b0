"""Traffic split by how many pods of each revision stand behind one Service.

A Service chooses among its ready pods with equal odds, once for each connection. So shares come in steps of
one pod, and connections that are kept stay where they are.
"""

from __future__ import annotations

from slipway.core import naming
from slipway.core.objects.metadata import Owner
from slipway.core.observed import ObjectKind, Observed, ObservedTraffic, is_ready, revision_of_object
from slipway.core.traffic.split import Split


def canary_pods(weight: int, stable: int, most: int) -> int:
    """Pods of the canary whose share comes nearest to a weight.

    Args:
        weight: percent of connections for the canary, 0 to 100.
        stable: ready pods of the stable revision; none of them is taken away for it.
        most: pods that the canary may have.

    Returns:
        At least 1; for all traffic as many pods as the stable revision has.
    """
    if weight == 0:
        return 1
    if weight == 100:
        return max(1, min(stable, most))
    fewer = stable * weight // (100 - weight)
    near = min((max(1, fewer), fewer + 1), key=lambda pods: abs(pods / (pods + stable) - weight / 100))
    return min(near, most)


def share(canary: int, stable: int) -> int:
    """Percent of connections that reach the canary, to the nearest whole one."""
    return round(100 * canary / (canary + stable)) if canary else 0


def reachable_share(weight: int, stable: int, most: int) -> int:
    """The share that stands for a weight here: the weight itself at both ends, the nearest one between."""
    return weight if weight in (0, 100) else share(canary_pods(weight, stable, most), stable)


def selector(owner: Owner, split: Split) -> dict[str, str]:
    """What the Service of the ModelDeployment has to select for a split."""
    if split.canary is None or split.weight == 0:
        return naming.pod_selector(owner.name, split.stable)
    return naming.pod_selector(owner.name, split.canary if split.weight == 100 else None)


def pods_behind(owner: Owner, observed: Observed) -> dict[str, int]:
    """Ready endpoints of the Service by revision."""
    behind = observed.ready_pods_behind(owner.name)
    found: dict[str, int] = {}
    for pod in observed.of(ObjectKind.POD):
        revision = revision_of_object(pod)
        if revision is not None and pod["metadata"]["name"] in behind:
            found[revision] = found.get(revision, 0) + 1
    return found


def strangers(observed: Observed, *known: str | None) -> frozenset[str]:
    """Revisions that still have pods, beside those that are known."""
    found = (revision_of_object(pod) for pod in observed.of(ObjectKind.POD))
    return frozenset(revision for revision in found if revision not in (None, *known) and revision)


def traffic(owner: Owner, split: Split, observed: Observed) -> ObservedTraffic:
    """What the Service of a ModelDeployment does, beside the split that status remembers."""
    canary = split.canary
    service = observed.find(ObjectKind.SERVICE, owner.name)
    told = service is not None and service["spec"].get("selector") == selector(owner, split)
    behind = pods_behind(owner, observed)
    there = {pod["metadata"]["name"] for pod in observed.of(ObjectKind.POD)}
    # Endpoints whose pod is not known yet may be anybody's.
    known = observed.ready_pods_behind(owner.name) <= there
    carried = behind.get(canary or "", 0)
    others = strangers(observed, split.stable, canary) if canary is not None else frozenset[str]()
    ready = observed.pods(canary) if canary is not None else ()
    return ObservedTraffic(
        routers=1,
        synced_routers=int(told and known),
        weights=frozenset({share(carried, sum(behind.values()) - carried)}),
        receiving=frozenset(behind),
        canary_pods=sum(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in ready),
        approximate=True,
        obstacle=f"waits until the pods of revision {min(others)} are gone" if others else None,
    )
