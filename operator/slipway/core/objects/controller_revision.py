"""The memory of what a revision is."""

from __future__ import annotations

from typing import Any

from slipway.core import naming
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.revision import Revision


def controller_revision(
    owner: Owner, revision: Revision, number: int, verified: str | None = None
) -> dict[str, Any]:
    """ControllerRevision holding the revision's content.

    Args:
        owner: the ModelDeployment.
        revision: what it holds.
        number: grows with each roll-out.
        verified: hash of what its model was last verified for; it is no part of the revision.
    """
    found = metadata(
        owner,
        naming.revision_object(owner.name, revision.name),
        naming.labels(owner.name, "model-server", revision.name),
    )
    if verified is not None:
        found["annotations"] = {naming.VERIFIED_ANNOTATION: verified}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": found,
        "data": revision.content(),
        "revision": number,
    }
