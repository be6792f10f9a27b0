"""``pvc://CLAIM/PATH``: a file or folder on a PersistentVolumeClaim, mounted read-only."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from slipway.contract import ModelFault, Resolution
from slipway.models.faults import ModelError, listed
from slipway.models.folder import MOST_FILES, Listing, Whole, one_by_one
from slipway.models.source import Located

_URI = re.compile(r"pvc://(?P<claim>[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)(?:/(?P<path>.*))?")
_PIECE = 1024 * 1024
#: What file systems of volumes have at their top, for root alone.
_RECOVERED = "lost+found"


class PvcSource:
    """Files below the place where the claim is mounted; which claim that is, the pod says."""

    def __init__(self, mount: Path) -> None:
        self._mount = mount

    def locate(self, uri: str) -> Located:
        claim, path = _read(uri)
        folder = _Folder(self._mount, claim)
        file = folder.find(path)
        where = file.relative_to(self._mount)
        return Located(
            uri=f"pvc://{claim}/{quote(where.as_posix())}",
            version=None,
            files=_ClaimFiles(folder, where.parent, where.name),
        )

    def whole(self, uri: str) -> Whole | None:
        """All files of a folder, or one file. Symbolic links may lead to it, but none is followed in it."""
        claim, path = _read(uri)
        folder = _Folder(self._mount, claim)
        where = Path(path)
        listing = Listing(folder.called(path))
        is_file = not folder.entry(path).is_dir()
        if not is_file:
            folder.walk(path, listing)
            files = _ClaimFiles(folder, where, "")
        elif path.endswith(".onnx"):
            return None
        else:
            listing.add(where.name, folder.entry(path).stat().st_size)
            files = _ClaimFiles(folder, where.parent, where.name)
        pinned = f"pvc://{claim}/{quote(path)}"
        return Whole(pinned, None, listing.sizes(), files.describe, one_by_one(files.open), is_file=is_file)

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        """A file is not followed."""
        del uri, known
        return None


def _read(uri: str) -> tuple[str, str]:
    """The claim, and a path on it."""
    match = _URI.fullmatch(uri)
    path = unquote(match["path"] or "") if match else ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if match is None or ".." in parts or "\0" in path:
        raise ModelError(
            ModelFault.INVALID_MODEL_URI,
            f"{uri!r} must be pvc://CLAIM/PATH, with a path below the top of the claim and without '..'; "
            "for example pvc://models/fraud/7/model.onnx, or pvc://models/fraud/7 for a folder with one "
            ".onnx file",
        )
    return match["claim"], "/".join(parts)


class _ClaimFiles:
    def __init__(self, folder: _Folder, parent: Path, main: str) -> None:
        self._folder = folder
        self._parent = parent
        self._main = main

    @property
    def main(self) -> str:
        return self._main

    def describe(self, path: str) -> str:
        return self._folder.called((self._parent / path).as_posix())

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        where = (self._parent / path).as_posix()
        file = self._folder.entry(where)
        with self._folder.faults(where), file.open("rb") as stream:
            yield iter(lambda: stream.read(_PIECE), b"")


class _Folder:
    """The mounted claim; nothing outside of it is ever read."""

    def __init__(self, mount: Path, claim: str) -> None:
        self._mount = mount
        self._claim = claim

    def called(self, path: str) -> str:
        return f"pvc://{self._claim}/{path.removeprefix('./')}"

    def find(self, path: str) -> Path:
        """The file at a path, or the one ``.onnx`` file of the folder there; not yet resolved."""
        with self.faults(path):
            where = self._mount / path
            if not self.entry(path).is_dir():
                return where
            names = sorted(os.listdir(where))
        models = [name for name in names if name.endswith(".onnx")]
        if not models:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self.called(path)} has no .onnx file; it holds: {listed(names)}. "
                "Put the model there, or fix spec.model.uri",
            )
        if len(models) > 1:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{self.called(path)} has several .onnx files ({listed(models)}): name one, "
                f"such as {self.called(f'{path}/{models[0]}'.lstrip('/'))}",
            )
        return where / models[0]

    def walk(self, path: str, listing: Listing) -> None:
        """List all files below a path, whatever is on the way to it."""
        top = self.entry(path)
        folders, count = [""], 0
        while folders:
            below = folders.pop()
            with self.faults(f"{path}/{below}".strip("/")), os.scandir(top / below) as entries:
                for entry in entries:
                    name = f"{below}{entry.name}"
                    if not path and name == _RECOVERED:
                        continue
                    if entry.is_symlink():
                        raise listing.refused(f"has {name!r}, a symbolic link, and no link is followed")
                    if entry.is_dir(follow_symlinks=False):
                        listing.check(name)
                        folders.append(f"{name}/")
                        count += 1
                    elif entry.is_file(follow_symlinks=False):
                        listing.add(name, entry.stat(follow_symlinks=False).st_size)
                    else:
                        raise listing.refused(f"has {name!r}, which is neither a file nor a folder")
                    if count > MOST_FILES:
                        raise listing.refused(f"has more than {MOST_FILES} folders")

    def entry(self, path: str) -> Path:
        """A regular file or a directory, with symbolic links followed as long as they stay on the claim."""
        with self.faults(path):
            root = self._mount.resolve(strict=True)
            real = (root / path).resolve(strict=True)
            mode = real.stat().st_mode
        if not real.is_relative_to(root):
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED,
                f"{self.called(path)} is a symbolic link that leaves the claim: copy the file itself there",
            )
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self.called(path)} is neither a file nor a folder: put the model there",
            )
        return real

    @contextmanager
    def faults(self, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND, f"{self.called(path)} does not exist; {self._nearest(path)}"
            ) from None
        except PermissionError:
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED,
                f"{self.called(path)} may not be read by user {os.getuid()} of the pod: "
                "give others read permission (chmod -R o+rX)",
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise ModelError(
                ModelFault.REGISTRY_UNREACHABLE,
                f"{self.called(path)} cannot be read ({error.strerror}): check the volume behind the claim",
            ) from None

    def _nearest(self, path: str) -> str:
        """What there is in the lowest folder on the way to the path that does exist."""
        for parent in Path(path).parents:
            try:
                names = sorted(os.listdir(self.entry(parent.as_posix())))
            except (ModelError, OSError):
                continue
            return f"{self.called(parent.as_posix()).removesuffix('.')} holds: {listed(names)}"
        return "the claim cannot be read"
