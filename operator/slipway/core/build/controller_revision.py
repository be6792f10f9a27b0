"""The memory of what a revision is."""

from __future__ import annotations

from typing import Any

from slipway.core import names
from slipway.core.build.metadata import Owner, metadata
from slipway.core.revision import Revision


def controller_revision(owner: Owner, revision: Revision, number: int) -> dict[str, Any]:
    """ControllerRevision holding the revision's content; ``number`` grows with each roll-out."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(
            owner,
            names.revision_object(owner.name, revision.name),
            names.labels(owner.name, "model-server", revision.name),
        ),
        "data": revision.content(),
        "revision": number,
    }
