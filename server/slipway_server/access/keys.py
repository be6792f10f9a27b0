"""Hashes of API keys, from the files of a mounted Secret: a file a caller, a line a hash."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from slipway.names import CALLER_NAME, KEY_HASH, MOST_KEY_HASHES
from slipway_server.access.mounted import current

#: A Secret holds 1 MiB, which is some ten thousand of them.
MOST_CALLERS = 4096
_NAME, _HASH = re.compile(CALLER_NAME), re.compile(KEY_HASH)
_MOST_BYTES = MOST_KEY_HASHES * 80
#: Of a name that is none, in the log.
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What was read: the caller of each hash, and what is wrong with the rest, without a word of it."""

    callers: dict[bytes, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def read_keys(directory: Path) -> KeyFile:
    """The hashes in a directory. A file that is not as it should be admits nobody; the others stay good."""
    try:
        paths = sorted(path for path in current(directory).iterdir() if not path.name.startswith(".."))
    except OSError as error:
        return KeyFile(faults=(f"the API keys cannot be read: {error.strerror}",))
    if len(paths) > MOST_CALLERS:
        return KeyFile(faults=(f"the Secret has more than {MOST_CALLERS} callers, so that none is admitted",))
    callers: dict[bytes, str] = {}
    twice: set[bytes] = set()
    faults = []
    for path in paths:
        try:
            hashes = _hashes(path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            faults.append(f"key {path.name[:_SHOWN]!r} of the Secret admits nobody: {why}")
            continue
        for each in hashes:
            if callers.setdefault(each, path.name) != path.name:
                twice.add(each)
    # Which of them asks, nobody could say.
    faults.extend(f"key {callers.pop(each)!r} of the Secret shares a hash with another one" for each in twice)
    return KeyFile(callers, tuple(faults))


def _hashes(path: Path) -> list[bytes]:
    if not _NAME.fullmatch(path.name):
        raise ValueError("a caller's name has letters, digits, '-', '_' and '.', up to 64")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    lines = content[:_MOST_BYTES].decode("ascii", "replace").split()
    found = [_HASH.fullmatch(line) for line in lines]
    if len(content) > _MOST_BYTES or not found or len(found) > MOST_KEY_HASHES or None in found:
        raise ValueError(
            f"it must hold 1 to {MOST_KEY_HASHES} lines of 'sha256:' and 64 hexadecimal digits in lower case"
        )
    return [bytes.fromhex(match[0].removeprefix("sha256:")) for match in found if match is not None]
