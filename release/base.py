"""The image that a release's images stand on, by its digest."""

import re

from release.errors import ReleaseError

_PINNED = re.compile(r"[a-z0-9.-]+(?:/[a-z0-9._-]+)+:[\w.-]+@sha256:[0-9a-f]{64}")


def default_base(dockerfile: str) -> str:
    """The name of the base where a build names none; ReleaseError where the Dockerfile has none."""
    found = re.findall(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    if len(found) != 1:
        raise ReleaseError(f"the Dockerfile gives ARG BASE {len(found)} values, not one")
    return str(found[0])


def said_of(base: str, dockerfile: str) -> str:
    """What the notes say of the base.

    Raises:
        ReleaseError: where it is not the Dockerfile's own by a digest.
    """
    name = default_base(dockerfile)
    if not _PINNED.fullmatch(base) or base.partition("@")[0] != name:
        raise ReleaseError(f"the base {base!r} is not {name}@sha256: and 64 hex digits")
    return f"The images stand on `{base}`.\n"
