"""What revisions in use are, also after somebody deleted what remembers them."""

from __future__ import annotations

from collections.abc import Iterable

from slipway.core.observed import Manifest, ObjectKind, revision_of_object
from slipway.core.resource import Resource
from slipway.engine.store import Key


class Memory:
    """ControllerRevisions of the stable revision and the canary, as last seen; soft state."""

    def __init__(self) -> None:
        self._known: dict[Key, dict[str, Manifest]] = {}

    def complete(self, resource: Resource, children: Iterable[Manifest]) -> list[Manifest]:
        """The children, with those ControllerRevisions that are known and not there."""
        found, status = list(children), resource.status
        key = Key(resource.owner.namespace, resource.owner.name)
        there = {
            str(revision_of_object(child)): child
            for child in found
            if child["kind"] == ObjectKind.CONTROLLER_REVISION
            and "deletionTimestamp" not in child["metadata"]
        }
        in_use = {role.revision for role in (status.stable, status.canary) if role is not None}
        known = self._known.get(key, {})
        owner = resource.owner.uid
        lost = [
            child
            for revision, child in known.items()
            if revision in in_use
            and revision not in there
            and any(found["uid"] == owner for found in child["metadata"].get("ownerReferences") or ())
        ]
        self._known[key] = {name: child for name, child in {**known, **there}.items() if name in in_use}
        return [*found, *lost]

    def forget(self, key: Key) -> None:
        """The ModelDeployment is gone."""
        self._known.pop(key, None)
