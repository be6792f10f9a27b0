"""Tags of a registry in Git, as GTO writes them: ``fraud@v1.2.3``, ``fraud#prod#4``, ``fraud#prod!#5``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?"
_ARTIFACT = re.compile(rf"(?:(?P<folder>[a-zA-Z0-9-_./]+):)?(?P<name>{_NAME})")
_VERSION = (
    r"v(?:0|[1-9]\d{0,17})\.(?:0|[1-9]\d{0,17})\.(?:0|[1-9]\d{0,17})"
    r"(?:-[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?(?:\+[0-9a-zA-Z.-]+)?"
)
_TAG = re.compile(
    rf"(?P<artifact>(?:[a-zA-Z0-9-_./]+=)?{_NAME})"
    rf"(?:#(?P<stage>{_NAME})|@(?P<version>{_VERSION}))(?P<cancel>!?)(?:#(?P<counter>\d{{1,18}}))?"
)


@dataclass(frozen=True)
class Event:
    """What one tag says: a commit became a version or got a stage, or ceased to be that."""

    commit: str
    stage: str | None
    version: str | None
    cancels: bool
    counter: int


@dataclass(frozen=True)
class Registry:
    """All tags of one artifact."""

    events: tuple[Event, ...]

    @classmethod
    def of(cls, artifact: str, tags: Mapping[str, str]) -> Registry:
        """Read tags, by name with their commits; others than the artifact's are left out."""
        wanted, events = artifact.replace(":", "="), []
        for name, commit in tags.items():
            match = _TAG.fullmatch(name)
            if match is not None and match["artifact"] == wanted:
                counter = int(match["counter"] or 0)
                events.append(Event(commit, match["stage"], match["version"], bool(match["cancel"]), counter))
        # A tag without a counter is older than those with one; what cancels comes after what it cancels.
        return cls(tuple(sorted(events, key=lambda event: (event.counter, event.cancels))))

    def stages(self) -> dict[str, str]:
        """The commit of each stage: the one that got it last and has it still."""
        holders: dict[str, dict[str, None]] = {}
        for event in self.events:
            if event.stage is not None:
                commits = holders.setdefault(event.stage, {})
                commits.pop(event.commit, None)
                if not event.cancels:
                    commits[event.commit] = None
        return {stage: next(reversed(commits)) for stage, commits in holders.items() if commits}

    def versions(self) -> dict[str, str]:
        """The commit of each version that was not cancelled, the newest version last."""
        found: dict[str, str] = {}
        for event in self.events:
            if event.version is not None and event.cancels:
                found.pop(event.version, None)
            elif event.version is not None:
                found[event.version] = event.commit
        return {version: found[version] for version in sorted(found, key=_order)}

    def version_of(self, commit: str) -> str | None:
        """The newest version that a commit is, if it is any."""
        return next((each for each, of in reversed(self.versions().items()) if of == commit), None)


def place_of(artifact: str) -> tuple[str, str] | None:
    """The folder with an artifact's ``dvc.yaml`` and its name there; None for what is no name of one."""
    match = _ARTIFACT.fullmatch(artifact)
    return (match["folder"] or "", match["name"]) if match else None


def prefixes(artifact: str) -> Iterable[str]:
    """What the refs of an artifact's tags begin with."""
    tag = artifact.replace(":", "=")
    return (f"refs/tags/{tag}@", f"refs/tags/{tag}#")


def _order(version: str) -> tuple[object, ...]:
    """As versions are compared by semver.org: a pre-release is older than its release."""
    core, _, pre = version[1:].partition("+")[0].partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    parts = tuple(
        (0, int(part), "") if part.isdigit() and len(part) < 18 else (1, 0, part)
        for part in pre.split(".")
        if part
    )
    return (*numbers, not pre, parts)
