"""What files say otherwise than at a commit that work began from, by git."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.cli.errors import CommandError
from slipway.cli.manifests import SUFFIXES, Given, documents, text_of
from slipway.names import KIND

Key = tuple[str, str | None, str]


@dataclass(frozen=True)
class Pair:
    """A ModelDeployment that is not what it was.

    Attributes:
        source: the file that it is in, or was.
        before: at the base; None for a new one.
        after: as it is now; None where it was removed.
    """

    source: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def differing(base: str, paths: Sequence[str], *, recursive: bool) -> list[Pair]:
    """The ModelDeployments of these places that differ between where a branch left ``base`` and the files.

    Args:
        base: a branch, tag or commit.
        paths: files or folders.
        recursive: whether folders within folders are read too.

    Raises:
        CommandError: where git does not know the base, or something cannot be read.
    """
    if "-" in paths:
        raise CommandError("standard input has no base to be compared with: name files or folders")
    root = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel").rstrip("\n"))
    commit = _left(root, base)
    names = [name for path in paths for name in _changed(root, commit, path, recursive=recursive)]
    before, after = dict[Key, dict[str, Any]](), dict[Key, dict[str, Any]]()
    for name in dict.fromkeys(names):
        shown = os.path.relpath(root / name)
        _take(before, shown, _committed(root, commit, name), is_base=True)
        _take(after, shown, text_of(shown) if (root / name).is_file() else "", is_base=False)
    _follow_moves(before, after)
    keys = [*after, *(key for key in before if key not in after)]
    pairs = [Pair(key[0], before.get(key), after.get(key)) for key in keys]
    return [pair for pair in pairs if pair.before != pair.after]


def _left(root: Path, base: str) -> str:
    """The newest commit that both the base and the files come from."""
    try:
        return _git(root, "merge-base", "--end-of-options", base, "HEAD").strip()
    except CommandError as error:
        raise CommandError(
            f"git finds no commit that {base!r} and HEAD share: name a branch that is there, and in a "
            f"workflow let actions/checkout have the history, by fetch-depth: 0 ({error})"
        ) from error


def _changed(root: Path, commit: str, path: str, *, recursive: bool) -> Iterator[str]:
    """Files that differ from the commit or are new, by their paths below the root."""
    place = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    if place.split(os.sep)[0] == os.pardir:
        raise CommandError(f"{path} is not in the repository {root}, so that it has no base")
    of = ("--literal-pathspecs",)
    found = _git(root, *of, "diff", "--no-ext-diff", "--no-renames", "--name-only", "-z", commit, "--", place)
    found += _git(root, *of, "ls-files", "--others", "--exclude-standard", "-z", "--", place)
    names = [name for name in found.split("\0") if name]
    if not names and not Path(path).exists() and not _git(root, *of, "ls-tree", commit, "--", place):
        raise CommandError(f"{path} cannot be read: there is none, nor was there one at the base")
    for name in names:
        is_within = place == "." or name != place
        is_direct = os.path.normpath(os.path.dirname(name) or ".") == os.path.normpath(place)
        if not is_within or (Path(name).suffix in SUFFIXES and (recursive or is_direct)):
            yield name


def _committed(root: Path, commit: str, name: str) -> str:
    listed = _git(root, "--literal-pathspecs", "ls-tree", "-z", commit, "--", name)
    return _git(root, "cat-file", "blob", f"{commit}:{name}") if " blob " in listed else ""


def _take(found: dict[Key, dict[str, Any]], source: str, text: str, *, is_base: bool) -> None:
    """Read a file's ModelDeployments; a folder holds much that is none of ours, and need not be YAML."""
    if KIND not in text:
        return
    try:
        given: list[Given] = list(documents(source, text))
    except CommandError as error:
        if not is_base and "{{" not in text:
            raise
        when = "at the base" if is_base else "as a template is no manifest yet"
        print(f"{source}: left aside {when}: {error}", file=sys.stderr)
        return
    for one in given:
        meta = one.manifest["metadata"]
        key = (source, meta.get("namespace"), meta["name"])
        if key in found and not is_base:
            raise CommandError(f"{source}: {meta['name']} is there twice")
        found[key] = one.manifest


def _follow_moves(before: dict[Key, dict[str, Any]], after: dict[Key, dict[str, Any]]) -> None:
    """Put what one file lost and one other got, by the same name, under the new file."""
    gone, new = (
        [key for key in one if key not in other] for one, other in ((before, after), (after, before))
    )
    for key in gone:
        homes = [one for one in new if one[1:] == key[1:]]
        twins = [one for one in gone if one[1:] == key[1:]]
        if len(homes) == len(twins) == 1:
            before[homes[0]] = before.pop(key)


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)
    except OSError as error:
        raise CommandError(f"--base needs git: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CommandError(said[-1] if said else f"git {words[0]} failed")
    return done.stdout.decode("utf-8", "surrogateescape")
