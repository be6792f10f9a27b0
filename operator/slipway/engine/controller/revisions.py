"""What revisions in use are, also after somebody deleted what remembers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slipway.core.observed import Manifest, ObjectKind, revision_of_object
from slipway.core.resource import Resource
from slipway.engine.shelf import Item, Shelf
from slipway.engine.store import Key


class Memory:
    """ControllerRevisions of the stable revision and the canary, as last seen; soft state."""

    def __init__(self) -> None:
        self._shelf: Shelf[None] = Shelf()
        self._known: dict[Key, dict[str, Item[None]]] = {}

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
        missing = (
            self._shelf.open(item)
            for revision, item in known.items()
            if revision in in_use and revision not in there
        )
        lost = [
            child
            for child in missing
            if any(found["uid"] == owner for found in child["metadata"].get("ownerReferences") or ())
        ]
        self._remember(key, known, {name: child for name, child in there.items() if name in in_use})
        for name in known.keys() - in_use:
            self._shelf.drop(known.pop(name))
        return [*found, *lost]

    def _remember(self, key: Key, known: dict[str, Item[None]], there: Mapping[str, Manifest]) -> None:
        for name, child in there.items():
            if name not in known:
                known[name] = self._shelf.put(child, None)
            elif not known[name].is_state(child):
                self._shelf.replace(known[name], child)
        self._known[key] = known

    def forget(self, key: Key) -> None:
        """The ModelDeployment is gone."""
        for item in self._known.pop(key, {}).values():
            self._shelf.drop(item)
