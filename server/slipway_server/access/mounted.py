"""Files of a Secret or a ConfigMap, as a kubelet mounts them and changes them."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path

#: The kubelet puts a whole new set of files in place by moving this link to their directory.
_LINK = "..data"
_MOST_FILES = 4096


def current(directory: Path) -> Path:
    """Where the files are to be read.

    Not by the links beside ``..data``: the kubelet makes those of new files after it has moved that one.
    """
    data = directory / _LINK
    return data if data.is_symlink() else directory


def stamp(directory: Path) -> Hashable:
    """Changes when the files do."""
    try:
        return os.readlink(directory / _LINK)
    except OSError:
        pass
    try:
        with os.scandir(directory) as found:
            stats = [(each.name, each.stat()) for each, _ in zip(found, range(_MOST_FILES), strict=False)]
    except OSError as error:
        return error.errno
    return tuple(sorted((name, each.st_mtime_ns, each.st_size, each.st_ino) for name, each in stats))
