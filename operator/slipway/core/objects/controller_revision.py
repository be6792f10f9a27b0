"""The memory of what a revision is."""

from __future__ import annotations

from typing import Any

from slipway.core import naming
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.revision import Revision


def controller_revision(owner: Owner, revision: Revision, number: int) -> dict[str, Any]:
    """ControllerRevision holding the revision's content; ``number`` grows with each roll-out."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(
            owner,
            naming.revision_object(owner.name, revision.name),
            naming.labels(owner.name, "model-server", revision.name),
        ),
        "data": revision.content(),
        "revision": number,
    }
