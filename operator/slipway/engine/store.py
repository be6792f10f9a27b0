"""What the cluster was last seen to hold: ModelDeployments and everything that is labelled as theirs."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace

from slipway.api.types import KIND
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.core.resource import Resource, read
from slipway.core.traffic.envoy.objects import is_router
from slipway.core.traffic.routed import is_shared
from slipway.engine.ownership import REPLICA_SET, is_child, is_owned, maker_of, needs_proof
from slipway.engine.projection import is_same, project
from slipway.engine.shelf import Item, Shelf

#: Seconds for which a deleted object stays deleted, whatever answer to an earlier request is read late.
TOMBSTONE_SECONDS = 120.0
#: Objects that are compared with a list in one step.
AT_ONCE = 250


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """Names a ModelDeployment, or a group of routers (:func:`slipway.core.traffic.routed.router_group`)."""

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
        self._shelf: Shelf[Key] = Shelf()
        #: By kind and namespace, then by name.
        self._objects: dict[str, dict[str, dict[str, Item[Key]]]] = defaultdict(dict)
        #: ModelDeployments, decoded once for each state of theirs, without the raw status.
        self._resources: dict[Key, Resource] = {}
        self._subscriptions: list[set[Key]] = []
        self._children: dict[Key, list[Item[Key]]] = defaultdict(list)
        #: Groups of shared routers of which there is anything, by namespace.
        self._shared: dict[str, set[str]] = defaultdict(set)
        #: When objects were seen to be gone, by uid, the first first, in seconds of a monotonic clock.
        self._gone: dict[str, float] = {}
        #: The newest resource version that was seen of a kind.
        self._newest: dict[str, int] = defaultdict(int)
        #: Pods, by uid, whose owners led to a Deployment or Job of ours: those may go before the pod does.
        self._proven: set[str] = set()
        #: Kinds that the cluster does not know, as of the last list.
        self.unknown: frozenset[str] = frozenset()
        #: Namespaces that could not be listed: too little is known to do anything there.
        self.unseen: frozenset[str] = frozenset()
        #: Resource versions of the last complete lists, by kind and namespace: watches go on from there.
        self.listed: dict[tuple[str, str | None], int] = {}

    def put(self, manifest: Manifest) -> Key | None:
        """Take in an object; the ModelDeployment that it concerns.

        None if nobody is concerned: a newer state of it is known, it was seen to be gone, or nothing that is
        kept of it has changed.
        """
        known = self._known(manifest)
        if known is not None and known.version > _version(manifest):
            return None
        return self._put(manifest)

    def _known(self, manifest: Manifest) -> Item[Key] | None:
        """What is known under the same kind and name."""
        return self._item(str(manifest["kind"]), *_place(manifest))

    def _put(self, manifest: Manifest) -> Key | None:
        key = owner_key(manifest)
        if key is None or manifest["metadata"]["uid"] in self._gone:
            return None
        kind, known = str(manifest["kind"]), self._known(manifest)
        if kind == KIND and known is not None and known.is_state(manifest):
            return key
        slim = project(manifest)
        self._newest[kind] = max(self._newest[kind], _version(manifest))
        moved = known is not None and known.owner != key
        # What a watch tells of a write whose answer was there before is news to whoever waits for it.
        is_news = (
            known is None or moved or known.is_state(manifest) or not is_same(self._shelf.open(known), slim)
        )
        if known is not None and moved:
            # Somebody changed its label.
            self._remove(kind, known)
            known = None
        is_another = known is None or known.uid != manifest["metadata"]["uid"]
        # After a backup of etcd the same generation may be of another spec.
        is_later = known is not None and known.version < _version(manifest)
        self._keep(kind, key, known, slim)
        if kind == REPLICA_SET:
            # Its owners are all that is known of it; numbers of pods change often, and concern nobody.
            return key if is_another else None
        if kind == KIND:
            before = self._resources.get(key) if is_later else None
            resource = read({**slim, "spec": manifest.get("spec")}, before)
            self._resources[key] = replace(resource, raw_status={})
            self._announce(key)
            return key
        return key if is_news else None

    def _keep(self, kind: str, key: Key, known: Item[Key] | None, slim: Manifest) -> None:
        if known is not None:
            self._shelf.replace(known, slim)
            return
        namespace, name = _place(slim)
        item = self._objects[kind].setdefault(namespace, {})[name] = self._shelf.put(slim, key)
        if kind in (KIND, REPLICA_SET):
            return
        self._children[key].append(item)
        if key.routers and is_shared(key.name):
            self._shared[key.namespace].add(key.name)

    def _announce(self, key: Key) -> None:
        for subscription in self._subscriptions:
            subscription.add(key)

    def subscribe(self) -> set[Key]:
        """A set that gets the key of each ModelDeployment that changes or goes, and has those that are known.

        Whoever subscribes takes keys out of it: its work then grows with what happens, and not with what is
        there.
        """
        subscription = set(self.resources())
        self._subscriptions.append(subscription)
        return subscription

    def bury(self, manifest: Manifest) -> Key | None:
        """Forget an object that was seen to be gone, and do not believe later that it is there.

        An answer to a request may be read after the news of the deletion that followed it.
        """
        now = time.monotonic()
        while self._gone and now - self._gone[first := next(iter(self._gone))] > TOMBSTONE_SECONDS:
            del self._gone[first]
        if owner_key(manifest) is not None:
            self._gone.setdefault(manifest["metadata"]["uid"], now)
        return self.remove(manifest)

    def remove(self, manifest: Manifest) -> Key | None:
        """Forget an object, unless one of the same name has taken its place; whom that concerns."""
        key = owner_key(manifest)
        if key is None:
            return None
        kind, known = str(manifest["kind"]), self._known(manifest)
        if known is None or known.uid != manifest["metadata"]["uid"]:
            return None
        self._remove(kind, known)
        return key

    def _remove(self, kind: str, known: Item[Key]) -> None:
        key, (namespace, name) = known.owner, _place(known.look())
        self._shelf.drop(known)
        del self._objects[kind][namespace][name]
        if not self._objects[kind][namespace]:
            del self._objects[kind][namespace]
        self._proven.discard(known.uid)
        if kind == KIND:
            del self._resources[key]
            self._announce(key)
        elif kind != REPLICA_SET:
            self._children[key].remove(known)
            if not self._children[key]:
                del self._children[key]
                self._forget_shared(key)

    def _forget_shared(self, key: Key) -> None:
        if key.routers and key.namespace in self._shared:
            self._shared[key.namespace].discard(key.name)
            if not self._shared[key.namespace]:
                del self._shared[key.namespace]

    def listing(self, kind: str, namespace: str | None = None) -> Listing:
        """Begin to take in a list of a kind, of one namespace or of all: before its first request is made."""
        return Listing(self, kind, namespace)

    def _of(self, kind: str, namespace: str | None) -> list[Item[Key]]:
        if namespace is not None:
            return list(self._objects[kind].get(namespace, {}).values())
        return [found for here in self._objects[kind].values() for found in here.values()]

    def resource(self, key: Key) -> Manifest | None:
        """The ModelDeployment, if it exists, as the API server holds it but for its spec."""
        return self._find(KIND, key.namespace, key.name)

    def read(self, key: Key) -> Resource | None:
        """The same, decoded, without the raw status."""
        return self._resources.get(key)

    def children(self, key: Key) -> list[Manifest]:
        """Everything labelled as the ModelDeployment's; of Slipway's own kinds, what this very one owns.

        For routers: all that belongs to them.
        """
        if key.routers:
            found = (child for child in self._opened(key) if is_router(child, key.name))
            return [child for child in found if self.is_believed(child)]
        uid = self._uid(key)
        return [
            child
            for child in self._opened(key)
            if is_child(child, uid)
            and (child["metadata"].get("deletionTimestamp") or self.is_believed(child, uid))
        ]

    def _opened(self, key: Key) -> Iterator[Manifest]:
        return map(self._shelf.open, self._children.get(key, ()))

    def _uid(self, key: Key) -> str | None:
        found = self._item(KIND, key.namespace, key.name)
        return found.uid if found is not None else None

    def is_believed(self, child: Manifest, uid: str | None = None) -> bool:
        """Whether what an object says may be believed: see :mod:`slipway.engine.ownership`.

        Args:
            child: labelled as a ModelDeployment's, or as a router.
            uid: of the ModelDeployment; None for routers, whose Deployment may belong to several.
        """
        own = child["metadata"]["uid"]
        if own in self._proven or not needs_proof(child):
            return True
        maker = maker_of(child, self._find)
        if maker is None or (uid is not None and not is_owned(maker, uid)):
            return False
        self._proven.add(own)
        return True

    def _item(self, kind: str, namespace: str, name: str) -> Item[Key] | None:
        return self._objects[kind].get(namespace, {}).get(name)

    def _find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        found = self._item(kind, namespace, name)
        return self._shelf.open(found) if found is not None else None

    def child(self, key: Key, kind: str, name: str) -> Manifest | None:
        """One of the children of a ModelDeployment that need no proof, by its name."""
        item = self._item(kind, key.namespace, name)
        if item is None or item.owner != key:
            return None
        found = self._shelf.open(item)
        return found if is_child(found, self._uid(key)) else None

    def shared_routers(self, namespace: str) -> Set[str]:
        """The groups of shared routers of which anything is there in a namespace."""
        return self._shared.get(namespace, set())

    def services(self, namespace: str) -> list[Manifest]:
        """All Services of Slipway in a namespace, whosever they are."""
        return [found.look() for found in self._of(ObjectKind.SERVICE, namespace)]

    def jobs(self, namespace: str) -> list[Manifest]:
        """All Jobs of Slipway in a namespace, whosever they are."""
        return [found.look() for found in self._of(ObjectKind.JOB, namespace)]

    def resources(self) -> Iterator[Key]:
        """The key of every ModelDeployment: nothing that happens often is to go through all of them."""
        return iter(list(self._resources))

    def all(self) -> Iterator[Resource]:
        """Every ModelDeployment, decoded; as :meth:`resources`, for nothing that happens often."""
        return iter(list(self._resources.values()))

    def manifests_in(self, namespace: str) -> list[Manifest]:
        """The ModelDeployments of a namespace, as :meth:`resource` has them."""
        return [found.look() for found in self._of(KIND, namespace)]

    def resources_in(self, namespace: str) -> list[Resource]:
        """The ModelDeployments of a namespace, decoded."""
        names = self._objects[KIND].get(namespace, {})
        return [self._resources[Key(namespace, name)] for name in names]

    def everything(self) -> set[Key]:
        """Everything that can be worked on."""
        found = set(self.resources())
        routers = {Key(key.namespace, "", routers=True) for key in found}
        return found | routers | {key for key in self._children if key.routers}

    def count(self, kind: str) -> int:
        """How many objects of a kind are known."""
        return sum(map(len, self._objects[kind].values()))


class Listing:
    """A complete list of a kind, taken in page by page; what does not differ is not kept twice.

    A list that was asked for after something was seen cannot hold an older state of it: where it does, the
    cluster went back to a backup of its etcd, and the list is right.
    """

    def __init__(self, store: Store, kind: str, namespace: str | None) -> None:
        self._store = store
        self._kind = kind
        self._namespace = namespace
        #: The newest that was known before the list was asked for.
        self._before = store._newest[kind]
        self._seen: set[str] = set()
        #: Whom the differences concern, so far.
        self.changed: set[Key] = set()

    def take(self, page: Iterable[Manifest]) -> None:
        """Take in a page of the list."""
        for manifest in page:
            self._seen.add(manifest["metadata"]["uid"])
            known = self._store._known(manifest)
            if known is not None and known.is_state(manifest):
                continue
            if known is not None and self._before < known.version > _version(manifest):
                # It was seen while the list was on its way.
                continue
            key = self._store._put(manifest)
            if key is not None:
                self.changed.add(key)

    def again(self) -> None:
        """The list is to begin from its first page again."""
        self._seen.clear()

    def end(self, version: int) -> set[Key]:
        """The list is complete, as of a resource version; whom the differences concern."""
        for _ in self.ending(version):
            pass
        return self.changed

    def ending(self, version: int) -> Iterator[None]:
        """The same by and by: after each step something else may have its turn."""
        self._store.listed[self._kind, self._namespace] = version
        for number, found in enumerate(self._store._of(self._kind, self._namespace), 1):
            # What appeared while the list was on its way may well be missing from it.
            if found.uid not in self._seen and found.version <= max(version, self._before):
                self._bury(found)
            if not number % AT_ONCE:
                yield
        if version < self._before:
            # The cluster went back to a backup: what is seen from now on has lower versions.
            there = self._store._of(self._kind, None)
            self._store._newest[self._kind] = max((found.version for found in there), default=0)

    def _bury(self, missing: Item[Key]) -> None:
        manifest = missing.look()
        if self._store._known(manifest) is not missing:
            # Another has its place since.
            return
        key = self._store.bury(manifest)
        if key is not None:
            self.changed.add(key)


def owner_key(manifest: Manifest) -> Key | None:
    """The ModelDeployment or the routers that an object is or belongs to, or None."""
    meta = manifest["metadata"]
    if manifest["kind"] == KIND:
        return _key(meta["namespace"], meta["name"])
    labels = meta.get("labels") or {}
    name = labels.get(naming.MODEL_LABEL)
    if name is None:
        return None
    return _key(meta["namespace"], name, labels.get(naming.COMPONENT_LABEL) == "router")


def _key(namespace: str, name: str, routers: bool = False) -> Key:
    # Each object comes with texts of its own.
    return Key(sys.intern(namespace), sys.intern(name), routers)


def _place(manifest: Manifest) -> tuple[str, str]:
    meta = manifest["metadata"]
    return sys.intern(meta["namespace"]), sys.intern(meta["name"])


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])
