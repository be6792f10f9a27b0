"""ModelDeployments in files, folders, lists and on standard input, as kubectl reads them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.cli.errors import CommandError
from slipway.names import API_VERSION, KIND

#: Names of files that are read in a folder.
SUFFIXES = (".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Given:
    """A ModelDeployment, and where it was found."""

    source: str
    manifest: dict[str, Any]


def read_all(paths: Iterable[str], *, recursive: bool) -> list[Given]:
    """Every ModelDeployment in these places; objects of other kinds are left aside.

    Args:
        paths: files, folders, or ``-`` for standard input.
        recursive: whether folders within folders are read too.

    Raises:
        CommandError: where something cannot be read, or there is no ModelDeployment.
    """
    paths = list(paths)
    found = [given for path in paths for given in _read(path, recursive=recursive)]
    if not found:
        raise CommandError(f"{', '.join(map(called, paths))} holds no {KIND} of {API_VERSION}")
    return found


def files_of(path: str, *, recursive: bool) -> list[str]:
    """The files that a path means: itself, or what is in the folder."""
    place = Path(path)
    if path == "-" or not place.is_dir():
        return [path]
    found = place.glob("**/*" if recursive else "*")
    return [str(file) for file in sorted(found) if file.suffix in SUFFIXES and file.is_file()]


def _read(path: str, *, recursive: bool) -> Iterator[Given]:
    for file in files_of(path, recursive=recursive):
        yield from documents(called(file), text_of(file))


def text_of(path: str) -> str:
    """What a file holds, or standard input.

    Raises:
        CommandError: where it cannot be read.
    """
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{called(path)} cannot be read: {error}") from error


def documents(source: str, text: str) -> Iterator[Given]:
    """The ModelDeployments of a text.

    Raises:
        CommandError: where it is no YAML, or one of them has no name.
    """
    try:
        found = list(yaml.safe_load_all(text))
    # A date that is none is a plain ValueError, and lists that hold one another have no end.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CommandError(f"{source} cannot be read: {error}") from error
    for document in found:
        yield from _ours(source, document)


def _ours(source: str, document: Any) -> Iterator[Given]:
    if not isinstance(document, dict):
        return
    kind, version = document.get("kind"), document.get("apiVersion")
    if kind in ("List", f"{KIND}List"):
        for item in document.get("items") or ():
            yield from _ours(source, item)
    elif kind == KIND and version != API_VERSION:
        raise CommandError(f"{source}: a {KIND} of apiVersion {version!r}; this version knows {API_VERSION}")
    elif kind == KIND:
        yield Given(source, _named(source, document))


def _named(source: str, document: dict[str, Any]) -> dict[str, Any]:
    metadata = document.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise CommandError(f"{source}: metadata of a {KIND} must be an object with a name, not {metadata!r}")
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise CommandError(f"{source}: a {KIND} without metadata.name")
    namespace = metadata.get("namespace")
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise CommandError(f"{source}: metadata.namespace of {metadata['name']} must be a name")
    return document


def check_namespace(source: str, manifest: dict[str, Any], asked: str | None) -> None:
    """Refuse one that is of another namespace than the one that was asked for, if one was.

    Raises:
        CommandError: with both.
    """
    meta = manifest["metadata"]
    own = meta.get("namespace")
    if own is not None and asked not in (None, own):
        raise CommandError(f"{source}: {meta['name']} is of namespace {own}, and --namespace is {asked}")


def called(path: str) -> str:
    """A path in words."""
    return "standard input" if path == "-" else path
