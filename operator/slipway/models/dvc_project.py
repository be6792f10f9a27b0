"""What a DVC project in Git says in ``.dvc`` files, ``dvc.lock``, ``dvc.yaml``, ``.dvc/config``."""

from __future__ import annotations

import configparser
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.contract import ModelFault
from slipway.models.faults import ModelError, listed
from slipway.models.git import Snapshot

#: Files that say where others are, in one project.
_MOST_FILES = 2_000
#: Bytes of one of them. A pipeline of a thousand stages has half of that.
_LARGEST = 1024 * 1024
#: Values within values of one of them.
_DEEPEST = 64
#: Files in a folder that DVC keeps.
_MOST_ENTRIES = 100_000
_SUM = re.compile(r"[0-9a-f]{32}(?P<folder>\.dir)?")
_REMOTE = re.compile(r"""['"]?remote\s+"(?P<name>[^"]+)"['"]?""")
_CONFIG = ".dvc/config"


@dataclass(frozen=True)
class Tracked:
    """A file, or a folder, whose bytes DVC keeps elsewhere.

    Attributes:
        path: in the repository.
        md5: of its bytes; those of a folder are a list, and end in ``.dir``.
        old: whether it lies where DVC 2 put it.
        remote: the name of the remote that has it, if not the project's own.
        said_in: the file that says so.
        imported: whether another repository's remote has it.
    """

    path: str
    md5: str
    old: bool
    remote: str | None
    said_in: str
    imported: bool = False

    @property
    def is_folder(self) -> bool:
        return self.md5.endswith(".dir")

    @property
    def key(self) -> str:
        """Where it lies in a remote."""
        place = f"{self.md5[:2]}/{self.md5[2:]}"
        return place if self.old else f"files/md5/{place}"


@dataclass(frozen=True)
class Remote:
    """Where a project's bytes are: its name, and its options with ``url`` among them."""

    name: str
    options: Mapping[str, str]


class Project:
    """One DVC project: the folder with ``.dvc`` in it, and what is below."""

    def __init__(self, snapshot: Snapshot, near: str, called: str) -> None:
        """``near``: a path whose project it is to be. Raises :class:`ModelError`."""
        self._called = called
        folders = {path.removesuffix(_CONFIG) for path in snapshot if f"/{path}".endswith(f"/{_CONFIG}")}
        self._root = max((each for each in folders if f"{near}/".startswith(each)), key=len, default=None)
        self.tracked: dict[str, Tracked] = {}
        #: What is said to be tracked but has no sum, and by which file.
        self.unfinished: dict[str, str] = {}
        self._artifacts: dict[str, str] = {}
        self._remotes: dict[str, dict[str, str]] = {}
        self._default: str | None = None
        if self._root is None:
            return
        root = self._root
        inner = tuple(each for each in folders if each != root and each.startswith(root))
        said = [
            path
            for path in snapshot
            if path in snapshot
            and path.startswith(root)
            and not path.startswith(inner)
            and (path.endswith(".dvc") or posixpath.basename(path) in ("dvc.lock", "dvc.yaml"))
        ]
        if len(said) > _MOST_FILES:
            raise self._unreadable(
                f"has {len(said):,} .dvc and dvc.yaml files, of which {_MOST_FILES:,} at most are read: keep "
                "models in a project of their own"
            )
        texts = snapshot.read([f"{root}{_CONFIG}", *said])
        self._read_config(texts[f"{root}{_CONFIG}"])
        documents = {path: self._document(path, texts[path]) for path in said}
        for path in sorted(said):
            self._read(path, documents)

    @property
    def is_there(self) -> bool:
        """Whether the repository has one at all."""
        return self._root is not None

    def artifact(self, folder: str, name: str) -> str:
        """The path of an artifact; raises :class:`ModelError`."""
        full = f"{folder}:{name}" if folder else name
        path = self._artifacts.get(full)
        if path is None:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"the commit has no artifact {full!r} in {posixpath.join(folder, 'dvc.yaml')}; it has: "
                f"{listed(sorted(self._artifacts))}. Add it under artifacts with its path, or fix "
                "spec.model.uri",
            )
        return path

    def remote_of(self, tracked: Tracked) -> Remote:
        """Where a file's bytes are; raises :class:`ModelError`."""
        name = tracked.remote or self._default
        if name is None:
            raise ModelError(
                ModelFault.UNSUPPORTED_ARTIFACT_STORE,
                f"{self._called} names no default remote in {self._root}{_CONFIG}"
                + (f" (it has: {listed(sorted(self._remotes))})" if self._remotes else "")
                + ": set it with 'dvc remote add -d NAME URL' or 'dvc remote default NAME', without --local "
                "and --global, and commit; or give its address under DVC_REMOTE_URL in the Secret",
            )
        if name not in self._remotes or "url" not in self._remotes[name]:
            raise ModelError(
                ModelFault.UNSUPPORTED_ARTIFACT_STORE,
                f"{tracked.path} is in the remote {name!r}, which {self._root}{_CONFIG} does not have with a "
                f"url; it has: {listed(sorted(self._remotes))}. Add it with 'dvc remote add', without "
                "--local, and commit",
            )
        options = dict(self._remotes[name])
        for _ in range(4):
            scheme, _, rest = options["url"].partition("://")
            base, slash, below = rest.partition("/")
            if scheme != "remote" or "url" not in self._remotes.get(base, {}):
                break
            above = self._remotes[base]
            options = {**above, **options, "url": above["url"].rstrip("/") + slash + below}
        return Remote(name, options)

    def _read_config(self, text: bytes) -> None:
        parser = configparser.RawConfigParser(
            strict=False, allow_no_value=True, inline_comment_prefixes=("#",), default_section="\0"
        )
        try:
            # DVC indents sections, which would continue the line before.
            parser.read_string("\n".join(line.strip() for line in _decoded(text).splitlines()))
        except (configparser.Error, ValueError) as error:
            raise self._unreadable(f"has a {_CONFIG} that cannot be read ({error})") from None
        for section in parser.sections():
            match = _REMOTE.fullmatch(section)
            values = {
                name: (value or "").strip().strip("'\"") for name, value in parser.items(section) if value
            }
            if match is not None:
                self._remotes[match["name"].lower()] = values
            elif section == "core" and values.get("remote"):
                self._default = values["remote"].lower()

    def _document(self, path: str, text: bytes) -> dict[str, Any]:
        if len(text) > _LARGEST:
            raise self._unreadable(
                f"has a {path} of {len(text):,} bytes, and {_LARGEST:,} at most are read: keep models in a "
                "project of their own"
            )
        try:
            found = _load(text)
        except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError) as error:
            raise self._unreadable(
                f"has a {path} that is no YAML ({str(error) or type(error).__name__}): fix it and commit"
            ) from None
        return found if isinstance(found, dict) else {}

    def _read(self, path: str, documents: Mapping[str, dict[str, Any]]) -> None:
        folder, name = posixpath.split(path)
        document = documents[path]
        if name == "dvc.yaml":
            for artifact, said in _items(document.get("artifacts")):
                where = _joined(folder, said.get("path"))
                if where is not None:
                    self._artifacts[f"{folder}:{artifact}" if folder else artifact] = where
        elif name == "dvc.lock":
            pipeline = documents.get(posixpath.join(folder, "dvc.yaml"), {})
            works = {stage: said.get("wdir") for stage, said in _items(pipeline.get("stages"))}
            # Before version 2.0 the stages were the document.
            for stage, said in _items(document.get("stages", document)):
                work = works.get(stage.partition("@")[0]) or "."
                self._outs(path, _joined(folder, work), said, imported=False)
        else:
            imported = any("repo" in dep for dep in _maps(document.get("deps")))
            self._outs(path, _joined(folder, document.get("wdir") or "."), document, imported)

    def _outs(self, said_in: str, folder: str | None, document: Mapping[str, Any], imported: bool) -> None:
        for out in _maps(document.get("outs")):
            path = _joined(folder, out.get("path"))
            if path is None:
                continue
            md5 = out.get("md5")
            if not isinstance(md5, str) or not _SUM.fullmatch(md5):
                if out.get("cache", True) is not False:
                    self.unfinished[path] = said_in
                continue
            remote = out.get("remote")
            self.tracked[path] = Tracked(
                path,
                md5,
                old=out.get("hash", "md5-dos2unix") != "md5",
                remote=remote.lower() if isinstance(remote, str) else None,
                said_in=said_in,
                imported=imported,
            )

    def _unreadable(self, what: str) -> ModelError:
        return ModelError(ModelFault.REPOSITORY_UNREADABLE, f"{self._called} {what}")


def entries(folder: Tracked, text: bytes) -> dict[str, Tracked]:
    """The files of a folder that DVC keeps, by their path in the repository, from the list that a remote has.

    Raises :class:`ModelError`.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    files: dict[str, Tracked] = {}
    for entry in found if isinstance(found, list) else [None]:
        md5, below = (entry.get("md5"), entry.get("relpath")) if isinstance(entry, dict) else (None, None)
        path = _joined(folder.path, below)
        inside = path is not None and path.startswith(f"{folder.path}/") and "\\" not in path
        if path is None or not inside or not isinstance(md5, str) or not _SUM.fullmatch(md5):
            raise ModelError(
                ModelFault.REPOSITORY_UNREADABLE,
                f"the list of {folder.path} ({folder.md5}) holds {str(entry)[:120]!r}, which names no file "
                "in that folder by its MD5: 'dvc add' the folder again, push and commit",
            )
        if len(files) >= _MOST_ENTRIES:
            raise ModelError(
                ModelFault.REPOSITORY_UNREADABLE,
                f"{folder.path} has more than {_MOST_ENTRIES:,} files: keep the model in a folder of its own",
            )
        files[path] = Tracked(path, md5, folder.old, folder.remote, folder.said_in, folder.imported)
    return files


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Without merge keys, which can make a few lines into more than memory holds."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take them for keys as others are."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"


def _load(text: bytes) -> Any:
    """The document; the parser in C is fast, and ends the process where values are nested too deep."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ValueError(f"values within values, more than {_DEEPEST} deep")
    return yaml.load(text, Loader=_Loader)


def _items(value: object) -> list[tuple[str, dict[str, Any]]]:
    """The maps in a map, by name."""
    if not isinstance(value, dict):
        return []
    return [(str(name), each) for name, each in value.items() if isinstance(each, dict)]


def _maps(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _joined(folder: str | None, path: object) -> str | None:
    """A path in the repository; None for one that leads out of it, or is none."""
    if folder is None or not isinstance(path, str) or not path or "\0" in path or path.startswith("/"):
        return None
    joined = posixpath.normpath(posixpath.join(folder, path))
    if joined == ".":
        return ""
    return None if joined == ".." or joined.startswith("../") else joined


def _decoded(text: bytes) -> str:
    return text[:_LARGEST].decode("utf-8", "replace")
