"""A model on this machine, as a source like any other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.contract import ModelFault, Resolution
from slipway.models.faults import ModelError, listed
from slipway.models.folder import Listing, Whole, one_by_one
from slipway.models.source import Located
from slipway.models.trust import PROVENANCE_FILE, SIGNATURE_FILE
from slipway.names import PROFILE_FILE

_PIECE = 1024 * 1024
#: Of a file: when it was changed, its size and its number.
Mark = tuple[tuple[str, int, int, int], ...]


class FileSource:
    """A file, or a folder with one ``.onnx`` file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def locate(self, uri: str) -> Located:
        """The model's file and what lies next to it; raises :class:`ModelError`."""
        return Located(uri=uri, version=None, files=_Files(model_file(self._path)))

    def whole(self, uri: str) -> Whole | None:
        """All files of a folder, as a server of one's own would have them; links are refused, as there."""
        if not self._path.is_dir():
            return None
        listing = Listing(str(self._path))
        for file in self._path.rglob("*"):
            name = file.relative_to(self._path).as_posix()
            if file.is_symlink():
                raise listing.refused(f"has {name!r}, a symbolic link, and no link is followed")
            if file.is_file():
                listing.add(name, file.stat().st_size)
            elif not file.is_dir():
                raise listing.refused(f"has {name!r}, which is neither a file nor a folder")
        files = _Files(self._path / "*")
        return Whole(uri, None, listing.sizes(), files.describe, one_by_one(files.open))

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        """Files are followed by their marks."""
        del uri, known
        return None


class _Files:
    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def main(self) -> str:
        return self._file.name

    def describe(self, path: str) -> str:
        return str(self._file.parent / path)

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        file = self._file.parent / path
        try:
            with file.open("rb") as stream:
                yield iter(lambda: stream.read(_PIECE), b"")
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND, f"{file} does not exist: put it next to the model"
            ) from None
        except (PermissionError, IsADirectoryError) as error:
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED, f"{file} cannot be read: {error.strerror}"
            ) from None


def model_file(path: Path) -> Path:
    """The ``.onnx`` file that a path means; raises :class:`ModelError` where that is not one."""
    if not path.is_dir():
        return path
    found = sorted(file.name for file in path.iterdir() if file.suffix == ".onnx")
    if len(found) != 1:
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"{path} has {len(found) or 'no'} .onnx files ({listed(found)}): name the one to serve",
        )
    return path / found[0]


def mark(paths: list[Path]) -> Mark:
    """Another value once one of the files has changed, came or went."""
    found = []
    for path in paths:
        try:
            seen = path.stat()
        except OSError:
            continue
        found.append((str(path), seen.st_mtime_ns, seen.st_size, seen.st_ino))
    return tuple(found)


def watched(path: Path, brought: Path | None) -> list[Path]:
    """Files whose change makes another model of it.

    Args:
        path: of the model.
        brought: where its files were copied to, by which those next to it are known; or None.
    """
    try:
        file = model_file(path)
    except (ModelError, OSError):
        return [path]
    names = {file.name, PROFILE_FILE, PROVENANCE_FILE, SIGNATURE_FILE}
    if brought is not None:
        names |= {str(one.relative_to(brought)) for one in brought.rglob("*") if one.is_file()}
    return [file.parent / name for name in sorted(names)]
