"""A change of a ModelDeployment that was read first, and what has to be said of one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from slipway.cli.cluster import Cluster, Manifest
from slipway.cli.errors import ChangedError
from slipway.core.rollout.commands import PROPOSED_BY, proposed

#: Status changes at any time, and may at each of these tries.
TRIES = 10
#: Annotations and labels of those who write a resource again and again from Git.
_WRITERS = {
    "argocd.argoproj.io/": "Argo CD",
    "kustomize.toolkit.fluxcd.io/": "Flux",
    "helm.toolkit.fluxcd.io/": "Flux",
}


def unless_changed(
    there: Cluster,
    first: Manifest,
    send: Callable[[Manifest], Manifest],
    still: Callable[[Manifest], bool] = lambda _: True,
) -> Manifest:
    """Send a change of a resource as it was read; once more where only its status has changed meanwhile.

    Args:
        there: the cluster.
        first: the resource as the user's question was answered by it.
        send: sends the change for a state of the resource, and names its resourceVersion.
        still: whether the change still means the same for a newer state.

    Raises:
        ChangedError: where the spec has changed, or the change means something else now.
        CommandError: where the API server refuses.
    """
    last = first
    for left in reversed(range(TRIES)):
        try:
            return send(last)
        except ChangedError:
            last = there.get(first["metadata"]["name"])
            same = last["metadata"].get("generation") == first["metadata"].get("generation")
            if not left or not same or not still(last):
                raise
    raise AssertionError("the last try either returns or raises")


def proposing(there: Cluster, live: Manifest) -> dict[str, Any]:
    """What a change of the spec says in ``metadata`` of who proposes it, where the resource records that."""
    annotations = live["metadata"].get("annotations") or {}
    if PROPOSED_BY not in annotations:
        return {}
    return {"annotations": {PROPOSED_BY: proposed(annotations, there.user())}}


def replacing(live: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """A merge patch that makes ``wanted`` of ``live``: what is not wanted is null."""
    before = live if isinstance(live, dict) else {}
    return dict.fromkeys(before.keys() - wanted.keys()) | {
        name: replacing(before.get(name), value) if isinstance(value, dict) else value
        for name, value in wanted.items()
    }


def warn_of_writers(resource: Manifest) -> None:
    """Say on standard error who will write the spec again from Git."""
    for writer in _writers(resource):
        print(
            f"warning: {writer} writes this ModelDeployment; make the same change in Git, or it is undone",
            file=sys.stderr,
        )


def _writers(resource: Manifest) -> Iterator[str]:
    meta = resource["metadata"]
    marks = [*(meta.get("annotations") or {}), *(meta.get("labels") or {})]
    for prefix, writer in _WRITERS.items():
        if any(mark.startswith(prefix) for mark in marks):
            yield writer
