"""Where the bytes of a model go: counted and hashed, and for ``fetch`` also stored."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.contract import ModelFault
from slipway.models.faults import ModelError

_log = logging.getLogger(__name__)

#: Seconds between two lines of progress.
_PROGRESS_SECONDS = 10.0
_MEGABYTE = 1_000_000


class Target:
    """Takes files, and knows the SHA-256 (64 hex) of each by its path and the bytes of all together."""

    def __init__(self, limit: int | None = None) -> None:
        """``limit`` is the most that all files together may have, in bytes."""
        self.sums: dict[str, str] = {}
        #: Bytes of each file by its path.
        self.sizes: dict[str, int] = {}
        self.size = 0
        self._limit = limit
        self._said = time.monotonic()

    @contextmanager
    def file(self, path: str) -> Iterator[Callable[[bytes], object]]:
        """Take one file, by calls with its pieces in order. Raises :class:`ModelError` with ``NO_SPACE``."""
        hashed = hashlib.sha256()
        before = self.size
        with self._stored(path) as store:

            def write(piece: bytes) -> None:
                self._count(len(piece))
                hashed.update(piece)
                store(piece)

            yield write
        self.sums[path] = hashed.hexdigest()
        self.sizes[path] = self.size - before

    def _count(self, more: int) -> None:
        self.size += more
        if self._limit is not None and self.size > self._limit:
            raise ModelError(
                ModelFault.NO_SPACE,
                f"the model has more than the {self._limit} bytes that its pods have room for: "
                "serve a smaller model, or give it more room",
            )
        if time.monotonic() - self._said > _PROGRESS_SECONDS:
            self._said = time.monotonic()
            _log.info("%d MB so far", self.size // _MEGABYTE)

    @contextmanager
    def _stored(self, path: str) -> Iterator[Callable[[bytes], object]]:
        del path
        yield len


class Folder(Target):
    """A directory that shows either all files of a model or none.

    Files are written out of sight and moved into place at the end, the main file last: who is killed in
    between leaves a directory that does not have the digest, which the next run clears.
    """

    def __init__(self, directory: Path, limit: int | None = None) -> None:
        super().__init__(limit)
        self.directory = directory
        self._hidden: Path | None = None

    def clear(self) -> None:
        """Remove everything in the directory, which may be a mount and therefore stays."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for entry in self.directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self._hidden = None

    def publish(self) -> None:
        """Move all files into place."""
        if self._hidden is None:
            return
        entries = sorted(self._hidden.iterdir(), key=lambda entry: entry.suffix == ".onnx")
        for entry in entries:
            entry.rename(self.directory / entry.name)
        self._hidden.rmdir()

    @contextmanager
    def _stored(self, path: str) -> Iterator[Callable[[bytes], object]]:
        with _naming_full_disks(self.directory):
            if self._hidden is None:
                self._hidden = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self.directory))
            destination = self._hidden / path
            destination.parent.mkdir(parents=True, exist_ok=True)
            with destination.open("xb") as file:
                yield file.write
            # Other users of the pod read it: the server need not run as the user that fetched.
            destination.chmod(0o444)


@contextmanager
def _naming_full_disks(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        size = shutil.disk_usage(directory).total
        raise ModelError(
            ModelFault.NO_SPACE,
            f"the model does not fit into {os.fspath(directory)} ({size // _MEGABYTE} MB): "
            "give its pods more room, or serve a smaller model",
        ) from error
