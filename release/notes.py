"""The notes of a release: its section of the changelog."""

import re
from datetime import date

from release.errors import ReleaseError

_HEADING = re.compile(r"^## (\S+)(?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
UNRELEASED = "Unreleased"


def sections(changelog: str) -> dict[str, str]:
    """What stands below each heading of a version, newest first."""
    found = list(_HEADING.finditer(changelog))
    ends = [one.start() for one in found[1:]] + [len(changelog)]
    return {one[1]: changelog[one.end() : end].strip() for one, end in zip(found, ends, strict=True)}


def notes(changelog: str, version: str) -> str:
    """The section of a version; ReleaseError where there is none, or nothing in it."""
    found = sections(changelog).get(version)
    if not found:
        raise ReleaseError(
            f"CHANGELOG.md has nothing about {version}: run `python -m release cut`, which makes the "
            f"section of what stands under {UNRELEASED}"
        )
    return f"{found}\n"


def cut(changelog: str, version: str, day: date) -> str:
    """The changelog with what is unreleased under a version, and nothing unreleased.

    ReleaseError where nothing is unreleased, or there is such a version.
    """
    known = sections(changelog)
    if version in known:
        raise ReleaseError(f"CHANGELOG.md has a section {version}: choose the next version")
    if not known.get(UNRELEASED):
        raise ReleaseError(f"nothing stands under {UNRELEASED} in CHANGELOG.md: there is nothing to release")
    heading = f"## {UNRELEASED}\n"
    return changelog.replace(heading, f"{heading}\n## {version} - {day.isoformat()}\n", 1)
