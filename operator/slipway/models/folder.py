"""Whole folders of files: what a server of one's own gets, whatever its model is made of.

Nothing here looks into a file: a pickle, for one, is bytes that are counted and hashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from slipway.contract import ModelFault
from slipway.models.faults import ModelError, shortened
from slipway.models.signed import Signable

#: Bounds of a folder: files, folders in folders, and bytes of a path (in UTF-8), of a name, and of all files.
MOST_FILES = 1000
DEEPEST = 16
LONGEST_PATH, LONGEST_NAME = 512, 255
MOST_BYTES = 256 * 1024**3

#: Gives the bytes of files, each with its path, one after the other: pieces are read before the next file.
Read = Callable[[Sequence[str]], Iterator[tuple[str, Iterator[bytes]]]]


@dataclass(frozen=True)
class Whole:
    """All files at a URI now; the rest is as a ``Located`` has it.

    Attributes:
        sizes: bytes by path, as the store lists them; None where it does not say.
        is_file: whether the URI names one file, next to which there may be others.
        describe: what messages call a file.
        read: the bytes of files.
    """

    uri: str
    version: str | None
    sizes: Mapping[str, int | None]
    describe: Callable[[str], str]
    read: Read
    is_file: bool = False
    created_at: datetime | None = None
    mark: str | None = None
    manifest: Signable | None = None


class Listing:
    """Files of a folder as a store lists them; whatever is beyond the bounds raises :class:`ModelError`."""

    def __init__(self, called: str) -> None:
        """``called``: what messages call the folder."""
        self._called = called
        self._sizes: dict[str, int | None] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, path: str, size: int | None = None) -> None:
        """Take one file."""
        self.check(path)
        if path in self._sizes:
            raise self.refused(f"has {shortened(path, 200)!r} twice")
        self._sizes[path] = size
        self._bytes += size or 0
        if len(self._sizes) > MOST_FILES:
            raise self.refused(f"has more than {MOST_FILES} files")
        if self._bytes > MOST_BYTES:
            raise self.refused(f"has more than {MOST_BYTES // 1024**3} GiB")

    def check(self, path: str) -> None:
        """Raise for a path that is not below the folder, or that not every file system can hold."""
        parts = path.split("/")
        shown = shortened(path, 200)
        if any(part in ("", ".", "..") for part in parts):
            raise self.refused(f"has {shown!r}, which is not a file below it")
        if not path.isprintable() or "\\" in path:
            raise self.refused(f"has {shown!r}, a name with a backslash or characters that cannot be printed")
        if len(parts) > DEEPEST:
            raise self.refused(f"has {shown!r}, which is below more than {DEEPEST - 1} folders")
        if len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in parts):
            raise self.refused(
                f"has {shown!r}, a path of more than {LONGEST_PATH} bytes or a name of more "
                f"than {LONGEST_NAME}"
            )

    def sizes(self) -> dict[str, int | None]:
        """What was listed, by path in order; raises where a file is also a folder, or there is none."""
        for path in self._sizes:
            above = path
            while "/" in above:
                above = above.rpartition("/")[0]
                if above in self._sizes:
                    raise self.refused(f"has {shortened(above, 200)!r} as a file and as a folder")
        if not self._sizes:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self._called} has no files: put the model there, or fix spec.model.uri",
            )
        return dict(sorted(self._sizes.items()))

    def refused(self, what: str) -> ModelError:
        """The fault of a folder that is out of bounds."""
        return ModelError(
            ModelFault.INVALID_MODEL_URI,
            f"{self._called} {what}: let spec.model.uri name a folder with the files of one model and "
            "nothing else",
        )


def one_by_one(open_: Callable[[str], AbstractContextManager[Iterator[bytes]]]) -> Read:
    """Reads each file by a request of its own."""

    def read(paths: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        for path in paths:
            with open_(path) as pieces:
                yield path, pieces

    return read
