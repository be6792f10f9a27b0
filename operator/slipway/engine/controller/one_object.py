"""One object: created, or applied to the very state of it that is known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from slipway.api.types import KIND
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.errors import ApiError, NameTakenError
from slipway.engine.kube import Kube
from slipway.engine.projection import CREATED_ENTRY, WORKLOAD_MANAGER, project
from slipway.engine.store import Store

#: Of an object that changes while it is written.
_TRIES = 3

log = logging.getLogger(__name__)


class OneObject:
    """Writes one child at a time, and owns nothing that somebody else has."""

    def __init__(self, kube: Kube, store: Store) -> None:
        self._kube = kube
        self._store = store

    async def write(
        self, wanted: dict[str, Any], live: Manifest | None, is_own: Callable[[Manifest], bool]
    ) -> Manifest:
        """Create an object that no watch has shown, or apply to the very state that is known.

        Raises:
            ApiError: 409 where an owner is on its way out, or where it changes faster than it can be read.
            NameTakenError: if the name belongs to an object that may not be taken over.
        """
        if live is None:
            # A creation of a ControllerRevision keeps its very bytes, which any patch would write in another
            # order, and its data may not change: nobody could orphan it any more. So it is looked for, and
            # applied.
            is_applied = wanted["kind"] == ObjectKind.CONTROLLER_REVISION
            if not is_applied:
                # A forced apply would take over a namesake; a creation is refused by the API server itself.
                try:
                    return await self._kube.create(wanted, WORKLOAD_MANAGER)
                except ApiError as error:
                    if error.reason != "AlreadyExists":
                        raise
            live = await self._find(wanted, is_own)
            if live is None and is_applied:
                return await self._kube.apply(wanted, WORKLOAD_MANAGER)
        left = _TRIES
        while live is not None:
            left -= 1
            try:
                return await self._apply_to(live, wanted)
            except ApiError as error:
                if error.reason != "Conflict" or not left:
                    raise
            live = await self._find(wanted, is_own)
        raise ApiError(409, "Conflict", f"{place_of(wanted)} came and went")

    async def _find(self, wanted: Manifest, is_own: Callable[[Manifest], bool]) -> Manifest | None:
        """The object as it is now, if there is one."""
        meta = wanted["metadata"]
        found = await self._kube.get(wanted["kind"], meta["namespace"], meta["name"])
        if found is None:
            return None
        if not is_own(found):
            raise NameTakenError(
                f"{wanted['kind']} {meta['name']} exists and is not Slipway's; delete or rename it, "
                "or give this ModelDeployment another name"
            )
        return project(found)

    async def _apply_to(self, live: Manifest, wanted: dict[str, Any]) -> Manifest:
        """Apply to an object as it was last seen, and to no other state of it.

        The collector takes the references from what a deletion leaves behind. Put back, they would lead to
        nobody, and the collector would delete what was to stay.
        """
        await self._ask_for_owners(live, wanted)
        live = await self._own_creation(live)
        log.info("applying", extra={"object": place_of(wanted)})
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        seen = {**wanted, "metadata": {**wanted["metadata"], **version}}
        return await self._kube.apply(seen, WORKLOAD_MANAGER)

    async def _ask_for_owners(self, live: Manifest, wanted: Manifest) -> None:
        """Owners that an object lacks may be on their way out, whatever the watch has told so far."""
        there = {owner["uid"] for owner in live["metadata"].get("ownerReferences") or ()}
        for owner in wanted["metadata"].get("ownerReferences") or ():
            if owner["uid"] in there:
                continue
            meta = {**owner, "namespace": wanted["metadata"]["namespace"]}
            found = await self.read_again({"kind": KIND, "metadata": meta})
            if found is None or "deletionTimestamp" in found["metadata"]:
                raise ApiError(409, "OwnerGone", f"{KIND} {owner['name']} is on its way out")

    async def _own_creation(self, live: Manifest) -> Manifest:
        """Make what a creation wrote count as applied: an apply takes back only what an apply wrote.

        Once for each object, as client-go's ``csaupgrade`` does it, and before the first apply to it.
        """
        if CREATED_ENTRY not in live["metadata"]:
            return live
        path = f"/metadata/managedFields/{live['metadata'][CREATED_ENTRY]}/operation"
        operations = [{"op": "replace", "path": path, "value": "Apply"}]
        changed = await self._kube.patch(live, operations, WORKLOAD_MANAGER)
        self._store.put(changed)
        return changed

    async def read_again(self, manifest: Manifest) -> Manifest | None:
        """Know a ModelDeployment's newest state now, whether a watch has told of it or not.

        None where it is gone.
        """
        meta = manifest["metadata"]
        found = await self._kube.get(KIND, meta["namespace"], meta["name"])
        is_there = found is not None and found["metadata"]["uid"] == meta["uid"]
        if not is_there:
            self._store.bury(manifest)
        if found is not None:
            self._store.put(found)
        return found if is_there else None


def place_of(manifest: Manifest) -> str:
    """What an object is called in the log."""
    meta = manifest["metadata"]
    return f"{manifest['kind']} {meta['namespace']}/{meta['name']}"
