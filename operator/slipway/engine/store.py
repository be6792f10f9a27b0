"""What the cluster was last seen to hold: ModelDeployments and everything that is labelled as theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from slipway.api.types import KIND
from slipway.core import names
from slipway.core.observed import Kind, Manifest
from slipway.core.router.build import is_router


@dataclass(frozen=True, order=True)
class Key:
    """Names a ModelDeployment, or the routers that it has for itself or, by no name, those of a namespace."""

    namespace: str
    name: str
    routers: bool = False

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}{' routers' if self.routers else ''}"


class Store:
    """Newest known state, kept by watches, by the answers to own writes, and by the sweep.

    Only one task at a time touches it (it lives on the event loop), so that it needs no lock.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], Manifest]] = defaultdict(dict)
        self._children: dict[Key, dict[tuple[str, str], Manifest]] = defaultdict(dict)
        #: Kinds that the cluster does not know, as of the last list.
        self.unknown: frozenset[str] = frozenset()

    def put(self, manifest: Manifest) -> Key | None:
        """Take in an object unless a newer state of it is known; the ModelDeployment that it concerns."""
        key = owner_key(manifest)
        if key is None:
            return None
        kind = str(manifest["kind"])
        place = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        known = self._objects[kind].get(place)
        if known is not None and _is_newer(known, manifest):
            return None
        slim = project(manifest)
        self._objects[kind][place] = slim
        if kind != KIND:
            self._children[key][kind, place[1]] = slim
        return key

    def remove(self, manifest: Manifest) -> Key | None:
        """Forget an object, unless one of the same name has taken its place; whom that concerns."""
        key = owner_key(manifest)
        if key is None:
            return None
        kind = str(manifest["kind"])
        place = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
        known = self._objects[kind].get(place)
        if known is None or known["metadata"]["uid"] != manifest["metadata"]["uid"]:
            return None
        del self._objects[kind][place]
        if kind != KIND:
            self._children[key].pop((kind, place[1]), None)
            if not self._children[key]:
                del self._children[key]
        return key

    def replace(self, kind: str, listed: Iterable[Manifest], version: int) -> set[Key]:
        """Take in a complete list of a kind, as of a resource version; whom the differences concern."""
        changed: set[Key] = set()
        seen: set[str] = set()
        for manifest in listed:
            seen.add(manifest["metadata"]["uid"])
            place = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            known = self._objects[kind].get(place)
            if known is None or _version(known) != _version(manifest):
                key = self.put(manifest)
                if key is not None:
                    changed.add(key)
        for known in list(self._objects[kind].values()):
            # What is newer than the list may well be missing from it.
            if known["metadata"]["uid"] not in seen and _version(known) <= version:
                key = self.remove(known)
                if key is not None:
                    changed.add(key)
        return changed

    def resource(self, key: Key) -> Manifest | None:
        """The ModelDeployment, if it exists."""
        return self._objects[KIND].get((key.namespace, key.name))

    def children(self, key: Key) -> list[Manifest]:
        """Everything labelled as the ModelDeployment's; of Slipway's own kinds, what this very one owns.

        For routers: all that belongs to them.
        """
        if key.routers:
            return [child for child in self._children.get(key, {}).values() if is_router(child, key.name)]
        resource = self.resource(key)
        uid = resource["metadata"]["uid"] if resource else None
        return [child for child in self._children.get(key, {}).values() if is_child(child, uid)]

    def resources(self) -> Iterator[Key]:
        """The key of every ModelDeployment."""
        return (Key(*place) for place in list(self._objects[KIND]))

    def everything(self) -> set[Key]:
        """Everything that can be worked on."""
        found = set(self.resources())
        routers = {Key(key.namespace, "", routers=True) for key in found}
        return found | routers | {key for key in self._children if key.routers}

    def count(self, kind: str) -> int:
        """How many objects of a kind are known."""
        return len(self._objects[kind])


def _is_made_by_others(child: Manifest) -> bool:
    """Whether other controllers make such objects from ours: all pods but the resolver's, EndpointSlices."""
    labels = child["metadata"].get("labels") or {}
    if child["kind"] == Kind.POD:
        return bool(labels.get(names.COMPONENT_LABEL) != "resolver")
    return bool(child["kind"] == Kind.ENDPOINT_SLICE)


def is_child(child: Manifest, uid: str | None) -> bool:
    """Whether an object labelled as a ModelDeployment's counts as one of this very one, by its uid."""
    return _is_made_by_others(child) or is_owned(child, uid)


def owner_key(manifest: Manifest) -> Key | None:
    """The ModelDeployment or the routers that an object is or belongs to, or None."""
    meta = manifest["metadata"]
    if manifest["kind"] == KIND:
        return Key(meta["namespace"], meta["name"])
    labels = meta.get("labels") or {}
    name = labels.get(names.MODEL_LABEL)
    if name is None:
        return None
    return Key(meta["namespace"], name, routers=labels.get(names.COMPONENT_LABEL) == "router")


def is_owned(child: Manifest, uid: str | None) -> bool:
    """Whether the child's controller is the ModelDeployment with this uid."""
    return any(
        reference.get("controller") and reference["uid"] == uid
        for reference in child["metadata"].get("ownerReferences") or ()
    )


def project(manifest: Manifest) -> Manifest:
    """What is worth keeping of an object: thousands of pods are mostly text that nobody reads."""
    meta = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    kept: dict[str, Any] = {**manifest, "metadata": meta}
    if manifest["kind"] == Kind.POD:
        kept.pop("spec", None)
        meta.pop("annotations", None)
    return kept


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])


def _is_newer(known: Manifest, other: Manifest) -> bool:
    """Whether what is known is a later state than the other, so far as versions tell."""
    return _version(known) > _version(other)
