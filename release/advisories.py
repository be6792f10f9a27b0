"""Known holes of packages, from a copy of OSV's database in a folder; nothing is asked of a network.

The folder has what OSV exports, by the same paths: `PyPI/all.zip`, an archive with one advisory a file, in
the schema of https://ossf.github.io/osv-schema.
"""

import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from release.errors import ReleaseError

EXPORT = "https://osv-vulnerabilities.storage.googleapis.com"
#: At one version, in this order: what is introduced where a fix is counts.
_ORDER = ("fixed", "introduced", "last_affected")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Package(_Part):
    ecosystem: str
    name: str


class _Range(_Part):
    type: str
    events: list[dict[str, str]]


class _Affected(_Part):
    package: _Package | None = None
    ranges: list[_Range] | None = None
    versions: list[str] | None = None


class Advisory(_Part):
    """What is used of one."""

    id: str
    modified: AwareDatetime
    withdrawn: AwareDatetime | None = None
    aliases: list[str] | None = None
    summary: str = ""
    details: str = ""
    affected: list[_Affected] | None = None


@dataclass(frozen=True)
class Package:
    """A package at a version."""

    ecosystem: str
    name: str
    version: str


@dataclass(frozen=True)
class Database:
    """The advisories of an ecosystem about the packages that were asked for."""

    ecosystem: str
    day: date
    """Of its newest advisory, whatever that is about."""
    count: int
    """Of advisories, whatever they are about."""
    advisories: Mapping[str, tuple[Advisory, ...]]
    """By the name of the package."""


@dataclass(frozen=True)
class Hole:
    """One hole of a package, by all names that advisories have for it."""

    package: Package
    ids: tuple[str, ...]
    fixed: str | None
    """The first version without it; None where none is known."""
    summary: str


def archive_of(folder: Path, ecosystem: str) -> Path:
    """Where the folder has an ecosystem's archive."""
    return folder / ecosystem / "all.zip"


def read(folder: Path, ecosystem: str, names: Collection[str]) -> Database | None:
    """What a folder has of an ecosystem about packages of these names; None where it has no archive of it.

    Raises:
        ReleaseError: where the archive is none of OSV's.
    """
    path = archive_of(folder, ecosystem)
    if not path.exists():
        return None
    wanted = {canonicalize_name(name): name for name in names}
    found: dict[str, list[Advisory]] = {name: [] for name in names}
    days = []
    try:
        for content in _files(path):
            advisory = Advisory.model_validate_json(content)
            named = [one.package for one in advisory.affected or () if one.package]
            about = {canonicalize_name(one.name) for one in named if one.ecosystem == ecosystem}
            if about:
                days.append(advisory.modified.date())
            for name in about & wanted.keys():
                found[wanted[name]].append(advisory)
    except (zipfile.BadZipFile, zlib.error, ValidationError) as error:
        raise ReleaseError(f"{path} is no export of OSV ({error}): {how_to_get(path, ecosystem)}") from error
    if not days:
        raise ReleaseError(f"{path} has no advisory of {ecosystem}: {how_to_get(path, ecosystem)}")
    return Database(ecosystem, max(days), len(days), {name: tuple(some) for name, some in found.items()})


def how_to_get(path: Path, ecosystem: str) -> str:
    """The command that gets the newest archive, where there is a network."""
    return f"curl --fail --location --create-dirs --output {path} {EXPORT}/{ecosystem}/all.zip"


def holes(package: Package, database: Database) -> list[Hole]:
    """The known holes of a package at its version, each once; what was withdrawn is none."""
    found: list[Hole] = []
    for advisory in database.advisories.get(package.name, ()):
        hit = [
            one for one in advisory.affected or () if _is_about(one, package) and _has(one, package.version)
        ]
        if not hit or advisory.withdrawn:
            continue
        fixes = [fix for one in hit for fix in _fixes(one, package.version)]
        summary = advisory.summary or advisory.details.partition("\n")[0]
        ids = {advisory.id, *(advisory.aliases or ())}
        found = _joined(
            found, Hole(package, tuple(sorted(ids)), min(fixes, key=Version, default=None), summary)
        )
    return found


def _files(path: Path) -> Iterator[bytes]:
    with zipfile.ZipFile(path) as packed:
        for name in packed.namelist():
            if name.endswith(".json"):
                yield packed.read(name)


def _joined(found: list[Hole], more: Hole) -> list[Hole]:
    """Two databases have advisories of their own about one hole, which name each other."""
    same = [one for one in found if set(one.ids) & set(more.ids)]
    ids = {name for one in (*same, more) for name in one.ids}
    fixes = [one.fixed for one in (*same, more) if one.fixed]
    # What satisfies all of them.
    fixed = max(fixes, key=Version, default=None)
    summary = next((one.summary for one in (*same, more) if one.summary), "")
    rest = [one for one in found if one not in same]
    return [*rest, Hole(more.package, tuple(sorted(ids)), fixed, summary)]


def _is_about(affected: _Affected, package: Package) -> bool:
    named = affected.package
    return (
        named is not None
        and named.ecosystem == package.ecosystem
        and canonicalize_name(named.name) == canonicalize_name(package.name)
    )


def _has(affected: _Affected, version: str) -> bool:
    """Whether a version is among those affected, as the schema's own algorithm has it."""
    at = Version(version)
    if any(one == version or _parse(one) == at for one in affected.versions or ()):
        return True
    return any(_within(one, at, listed=bool(affected.versions)) for one in _ranges(affected))


def _within(events: list[dict[str, str]], at: Version, *, listed: bool) -> bool:
    marks: list[tuple[Version, str]] = []
    for event in events:
        for kind, text in event.items():
            if kind in _ORDER:
                mark = _parse("0.dev0" if text == "0" else text)
                if mark is None:
                    # Not a version by today's rules: what is affected is listed, or else this one may be.
                    return not listed
                marks.append((mark, kind))
    affected = False
    for mark, kind in sorted(marks, key=lambda one: (one[0], _ORDER.index(one[1]))):
        match kind:
            case "introduced" if at >= mark:
                affected = True
            case "fixed" if at >= mark:
                affected = False
            case "last_affected" if at > mark:
                affected = False
    return affected


def _fixes(affected: _Affected, version: str) -> Iterator[str]:
    """The versions above this one that are fixed."""
    for events in _ranges(affected):
        for event in events:
            fixed = _parse(event.get("fixed", ""))
            if fixed is not None and fixed > Version(version):
                yield event["fixed"]


def _ranges(affected: _Affected) -> Iterator[list[dict[str, str]]]:
    """Those in versions; what is in commits says nothing about packages."""
    return (one.events for one in affected.ranges or () if one.type in ("ECOSYSTEM", "SEMVER"))


def _parse(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None
