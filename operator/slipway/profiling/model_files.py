"""A model on the local disk, as the sources of models see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.profile import ProfileError

_PIECE = 1024 * 1024


class ModelFiles:
    """The ONNX file and what it keeps beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def main(self) -> str:
        return self._path.name

    def describe(self, path: str) -> str:
        return str(self._path.parent / path)

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        try:
            with (self._path.parent / path).open("rb") as file:
                yield iter(lambda: file.read(_PIECE), b"")
        except OSError as error:
            raise ProfileError(f"{self.describe(path)} cannot be read: {error.strerror}") from None
