"""The digest of a model: what ``fetch`` promises, and the server verifies before it loads anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from slipway.names import PROFILE_FILE


class DigestError(ValueError):
    """The files cannot be given a digest; the message says which one and why."""


def digest_of(directory: Path) -> str:
    """The digest ``sha256:<64 hex>`` of all files below a directory, as the contract defines it.

    Files are read one after another in pieces, so memory stays flat. Empty directories do not count, nor does
    a profile at the top, which names the digest itself. Raises
    :class:`DigestError` for no file at all, for anything but regular files and directories (a symbolic link
    could point outside of what was verified), and for names that ``sha256sum`` would have to escape;
    ``OSError`` where a file cannot be read.
    """
    return digest_of_sums(
        {name: sha256_of(directory / name) for name in sorted(_names(directory)) if name != PROFILE_FILE}
    )


def digest_of_sums(sums: Mapping[str, str]) -> str:
    """The digest of files whose SHA-256 (64 hex) is known already, by path below the model's folder.

    Raises :class:`DigestError` for no file at all and for names that ``sha256sum`` would have to escape.
    """
    _check(sums)
    if len(sums) == 1:
        return f"sha256:{next(iter(sums.values()))}"
    lines = sorted((name.encode("utf-8", "surrogateescape"), value.encode()) for name, value in sums.items())
    listing = b"".join(value + b"  " + name + b"\n" for name, value in lines)
    return f"sha256:{hashlib.sha256(listing).hexdigest()}"


def digest_of_folder(directory: Path) -> str:
    """The digest of a folder for a server of one's own, as :func:`digest_of_listing` defines it.

    A profile counts as any file does. Raises as :func:`digest_of` does.
    """
    names = sorted(_names(directory))
    sizes = {name: (directory / name).stat().st_size for name in names}
    return digest_of_listing({name: sha256_of(directory / name) for name in names}, sizes)


def digest_of_listing(sums: Mapping[str, str], sizes: Mapping[str, int]) -> str:
    """SHA-256 of the lines ``<sha256> <bytes> <path>\\n``, sorted by the bytes of the path.

    Unlike a model's, it depends on the name of a file that is alone: a server looks for that name.
    Raises as :func:`digest_of_sums` does.
    """
    _check(sums)
    lines = sorted(
        (name.encode("utf-8", "surrogateescape"), f"{value} {sizes[name]} ".encode())
        for name, value in sums.items()
    )
    listing = b"".join(start + name + b"\n" for name, start in lines)
    return f"sha256:{hashlib.sha256(listing).hexdigest()}"


def sha256_of(path: Path) -> str:
    """The SHA-256 of one file as 64 hexadecimal digits; raises ``OSError`` where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(sums: Mapping[str, str]) -> None:
    if not sums:
        raise DigestError("the model has no files")
    for name in sums:
        if any(character in name for character in "\\\n\r\0"):
            raise DigestError(f"the file name {name!r} has a backslash or a line break: rename the file")


def _names(directory: Path, prefix: str = "") -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _names(Path(entry.path), name + "/")
            elif entry.is_file(follow_symlinks=False):
                yield name
            else:
                raise DigestError(f"{name} is not a regular file: a model is made of plain files and folders")
