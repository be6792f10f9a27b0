"""Objects as the store keeps them: thousands differ by names and times alone, so one is packed by another."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import orjson

from slipway.core import naming
from slipway.core.observed import Manifest

T = TypeVar("T")

#: Objects that lie open: those that came, or were opened, last.
MOST_OPEN = 1000
#: Bytes from which on an object is not packed: the files of many routes are read often, and would take long.
LARGE = 64 * 1024
#: Objects after which those to come are packed by another one: the one before need not be like the most.
RENEWED = 500
#: Of zlib: the fastest level, and 16 KiB that one object may have in common with another.
_LEVEL, _WINDOW = 1, -14


class Alike:
    """Of what kind an object is, and one such object: the others are written down as what differs from it."""

    __slots__ = ("count", "text")

    def __init__(self) -> None:
        self.text = b""
        self.count = 0


class Item(Generic[T]):
    """An object on a shelf, and whose it is.

    Attributes:
        owner: whose it is.
        uid: its own.
        version: its resource version.
    """

    __slots__ = ("_alike", "_by", "_open", "_packed", "owner", "uid", "version")

    def __init__(self, owner: T, alike: Alike) -> None:
        self.owner = owner
        self.uid = ""
        self.version = 0
        self._alike = alike
        self._open: Manifest | None = None
        self._packed = self._by = b""

    def is_state(self, manifest: Manifest) -> bool:
        """Whether a manifest is of the very state that is kept."""
        meta = manifest["metadata"]
        return bool(self.uid == meta["uid"] and self.version == int(meta["resourceVersion"]))

    def look(self) -> Manifest:
        """The object, which is left as it lies: for those who go through many."""
        if self._open is not None:
            return self._open
        found: Manifest = orjson.loads(zlib.decompressobj(_WINDOW, self._by).decompress(self._packed))
        return found

    def _put(self, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        self.uid, self.version = meta["uid"], int(meta["resourceVersion"])
        self._open, self._packed, self._by = manifest, b"", b""

    def _pack(self) -> None:
        """Take a tenth of the memory; what was packed once stays so while the object lies open."""
        if not self._packed:
            text = orjson.dumps(self._open)
            if len(text) > LARGE:
                return
            alike = self._alike
            if alike.count % RENEWED == 0:
                alike.text = text
            alike.count += 1
            packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, zdict=alike.text)
            self._packed, self._by = packer.compress(text) + packer.flush(), alike.text
        self._open = None


class Shelf(Generic[T]):
    """Keeps objects, all but those that came or were opened last in a tenth of their memory.

    Nobody may change an object that was put here or comes from here.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Item[T], None] = OrderedDict()
        self._alike: dict[tuple[str, Any], Alike] = {}

    def put(self, manifest: Manifest, owner: T) -> Item[T]:
        """Keep an object."""
        labels: Mapping[str, Any] = manifest["metadata"].get("labels") or {}
        kind = str(manifest["kind"]), labels.get(naming.COMPONENT_LABEL)
        item = Item(owner, self._alike.setdefault(kind, Alike()))
        self.replace(item, manifest)
        return item

    def replace(self, item: Item[T], manifest: Manifest) -> None:
        """Keep another state of an object, or another one of its name."""
        item._put(manifest)
        self._note(item)

    def open(self, item: Item[T]) -> Manifest:
        """The object, which lies open from now on, as it will be asked for again."""
        found = item._open
        if found is None:
            found = item._open = item.look()
            self._note(item)
        return found

    def drop(self, item: Item[T]) -> None:
        """Keep it no longer."""
        self._open.pop(item, None)

    def _note(self, item: Item[T]) -> None:
        self._open[item] = None
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[0]._pack()
