"""``dvc://HOST/ORG/REPO/PATH@REV``, ``dvc://HOST/ORG/REPO?artifact=NAME[&stage=S|&version=V]``: by DVC."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote

from slipway.contract import ModelFault, Resolution
from slipway.models import gto
from slipway.models.credentials import Credentials
from slipway.models.dvc_project import Project, Remote, Tracked, entries
from slipway.models.dvc_remote import Objects, objects_of
from slipway.models.faults import ModelError, listed
from slipway.models.folder import Listing, Whole
from slipway.models.git import Repository, Snapshot
from slipway.models.source import Located

_HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?)"
#: Where a repository has more than two names, its last ends in ``.git``.
_REPOSITORY = r"(?P<repository>(?:[^/@?#]+/)+?[^/@?#]+\.git|[^/@?#]+/[^/@?#]+)"
_URI = re.compile(rf"dvc://{_HOST}/{_REPOSITORY}(?:/(?P<path>[^@?#]+)@(?P<rev>[^?#]+)|\?(?P<query>[^#]+))")
_LARGEST_LIST = 16 * 1024 * 1024
#: Of bytes that are no model: so many are read to tell whether they are those that were pushed.
_MOST_CHECKED = 256 * 1024 * 1024
#: How a file begins that only says where Git LFS has it.
_POINTER = b"version https://git-lfs"
#: What may be said of bytes that are not what was pushed.
_BROKEN = (ModelFault.NOT_AN_ONNX_MODEL, ModelFault.MODEL_TRUNCATED)
_EXAMPLES = (
    "dvc://github.com/ORG/REPO/models/fraud.onnx@v1.4 (a branch, a tag or a commit after the @), or "
    "dvc://github.com/ORG/REPO?artifact=fraud&stage=prod"
)


@dataclass(frozen=True)
class _Name:
    """What a URI names: ``path`` with ``rev``, or an artifact by its stage, version or newest version."""

    host: str
    repository: str
    path: str = ""
    rev: str = ""
    artifact: str = ""
    stage: str = ""
    version: str = ""

    @classmethod
    def read(cls, uri: str) -> _Name:
        match = _URI.fullmatch(uri)
        if match is None or not uri.isprintable():
            raise _invalid(uri, "")
        host, repository = match["host"], match["repository"]
        if any(part in (".", "..") for part in unquote(repository).split("/")):
            raise _invalid(uri, "names a folder in place of a repository")
        if match["query"] is None:
            path, rev = unquote(match["path"]).rstrip("/"), unquote(match["rev"])
            if any(part in ("", ".", "..") for part in path.split("/")):
                raise _invalid(uri, "has a path with empty parts, '.' or '..'")
            if not re.fullmatch(r"[^\s~^:?*\[\\\x00-\x20]+", rev) or ".." in rev:
                raise _invalid(uri, "has a revision that Git cannot call so")
            return cls(host, repository, path=path, rev=rev)
        query = dict(parse_qsl(match["query"], keep_blank_values=True))
        if (
            not set(query) <= {"artifact", "stage", "version"}
            or gto.place_of(query.get("artifact", "")) is None
        ):
            raise _invalid(uri, "must name an artifact, and at most a stage or a version")
        if "stage" in query and "version" in query:
            raise _invalid(uri, "has both a stage and a version")
        stage, version = query.get("stage"), query.get("version")
        if stage == "" or version == "":
            raise _invalid(uri, "has an empty stage or version")
        version = f"v{version}" if version and not version.startswith("v") else version
        return cls(host, repository, artifact=query["artifact"], stage=stage or "", version=version or "")


class DvcSource:
    """Repositories of DVC, read from Git over HTTPS and from the remotes that they name."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def locate(self, uri: str) -> Located:
        found = self._find(uri)
        main = found.tree.model(found.path)
        return Located(
            uri=found.pinned(main),
            version=found.version,
            files=DvcFiles(found.tree, main),
            created_at=found.created_at,
            mark=found.tree.mark(main, found.version),
            whole=True,
        )

    def whole(self, uri: str) -> Whole | None:
        """All files of a folder, whether Git or DVC has them, or one file."""
        found = self._find(uri)
        path, tree = found.path, found.tree
        if path.endswith(".onnx") and tree.find(path) is not None:
            return None
        folder, files = tree.files(path)

        def read(names: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
            at = {posixpath.join(folder, name): name for name in names}
            for where, pieces in tree.read(list(at)):
                yield at[where], pieces

        return Whole(
            uri=found.pinned(path),
            version=found.version,
            sizes=files,
            describe=lambda name: f"{posixpath.join(folder, name)} of {tree.called}",
            read=read,
            is_file=folder != path,
            created_at=found.created_at,
            mark=tree.mark(path if folder != path else f"{path}/", found.version),
        )

    def _find(self, uri: str) -> _Found:
        asked = _Name.read(uri)
        repository = Repository(asked.host, asked.repository, self._credentials)
        version: str | None = None
        if asked.artifact:
            commit, version = _released(repository, asked)
        else:
            commit = repository.commit_of(asked.rev)
        snapshot = repository.snapshot(commit, pinned=asked.rev == commit)
        path = asked.path
        if asked.artifact:
            folder, name = gto.place_of(asked.artifact) or ("", "")
            near = f"{folder}/dvc.yaml".lstrip("/")
            path = Project(snapshot, near, repository.called).artifact(folder, name)
        project = Project(snapshot, path, repository.called)
        tree = _Tree(snapshot, project, repository.called, self._credentials, asked.host)
        created_at = datetime.fromtimestamp(snapshot.seconds, UTC) if version else None
        return _Found(asked, snapshot.commit, path, tree, version, created_at)

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        asked = _Name.read(uri)
        repository = Repository(asked.host, asked.repository, self._credentials)
        commit = _released(repository, asked)[0] if asked.artifact else repository.commit_of(asked.rev)
        return known if known.uri.endswith(f"@{commit}") else None


@dataclass(frozen=True)
class _Found:
    """Where a URI leads: a path in the files of a commit."""

    asked: _Name
    commit: str
    path: str
    tree: _Tree
    version: str | None
    created_at: datetime | None

    def pinned(self, path: str) -> str:
        return f"dvc://{self.asked.host}/{self.asked.repository}/{quote(path)}@{self.commit}"


def _released(repository: Repository, asked: _Name) -> tuple[str, str | None]:
    """The commit of an artifact's stage or version, and which version that is."""
    tags = repository.refs(list(gto.prefixes(asked.artifact)))
    registry = gto.Registry.of(
        asked.artifact, {name.removeprefix("refs/tags/"): commit for name, commit in tags.items()}
    )
    called = f"the artifact {asked.artifact!r} of {repository.called}"
    versions, stages = registry.versions(), registry.stages()
    if asked.stage:
        if asked.stage not in stages:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{called} has no version in the stage {asked.stage!r}; its stages: "
                f"{listed(sorted(stages))}. Assign one with 'gto assign {asked.artifact} --version VERSION "
                f"--stage {asked.stage}' and push the tag, or fix spec.model.uri",
            )
        return stages[asked.stage], registry.version_of(stages[asked.stage])
    wanted = asked.version or next(reversed(versions), "")
    if wanted not in versions:
        what = f"version {wanted}" if wanted else "versions"
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"{called} has no {what}; it has: {listed(list(reversed(versions)))}. Register one with "
            f"'gto register {asked.artifact}' and push the tag, or fix spec.model.uri",
        )
    return versions[wanted], wanted


class _Tree:
    """All files of a commit: those that Git has, and those that DVC keeps."""

    def __init__(
        self, snapshot: Snapshot, project: Project, called: str, credentials: Credentials, host: str
    ) -> None:
        self.called = called
        self._snapshot = snapshot
        self._project = project
        self._credentials = credentials
        self._host = host
        self._lists: dict[str, dict[str, Tracked]] = {}

    def model(self, path: str) -> str:
        """The path itself where it is a file, or the only ``.onnx`` file in the folder there."""
        self._snapshot.refuse_links(path)
        if self.find(path) is not None:
            return path
        here = self._names(path)
        models = [name for name in here if name.endswith(".onnx")]
        if len(models) == 1:
            return f"{path}/{models[0]}"
        if len(models) > 1:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{path} of {self.called} has several .onnx files ({listed(models)}): name one, such as "
                f"{path}/{models[0]}",
            )
        if here:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{path} of {self.called} has no .onnx file; it holds: {listed(here)}. Add the model there, "
                "or fix spec.model.uri",
            )
        if path in self._project.unfinished:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self._project.unfinished[path]} of {self.called} names {path}, but not by its MD5: run "
                "'dvc commit' (or 'dvc repro'), 'dvc push', and commit the result to Git",
            )
        above = posixpath.dirname(path)
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"{self.called} has no {path} in the commit {self._snapshot.commit[:12]}, neither in Git nor in "
            f"DVC; {above or 'its top folder'} holds: {listed(self._names(above))}. Add it with 'dvc add', "
            "push and commit, or fix spec.model.uri",
        )

    def files(self, path: str) -> tuple[str, dict[str, int | None]]:
        """All files below a path, by their path below the folder that is given first.

        That is the path itself, or the folder above where the path is a file.
        """
        self._snapshot.refuse_links(path)
        listing = Listing(f"{path} of {self.called}")
        if self.find(path) is not None:
            folder, name = posixpath.split(path)
            listing.add(name)
            return folder, listing.sizes()
        start = f"{path}/"
        paths = {each for each in self._project.tracked if each.startswith(start)}
        folders = [self._project.tracked[each] for each in paths if self._project.tracked[each].is_folder]
        paths -= {each.path for each in folders}
        for folder_ in (*self._folders(path), *folders):
            paths.update(each for each in self._list(folder_) if each.startswith(start))
        for each in self._snapshot:
            if each.startswith(start) and not _is_of_dvc(each):
                self._snapshot.refuse_links(each)
                paths.add(each)
        if not paths:
            # It says why.
            self.model(path)
        for each in sorted(paths):
            listing.add(each.removeprefix(start))
        return path, listing.sizes()

    def find(self, path: str) -> Tracked | str | None:
        """What DVC keeps under a path, or the path where Git has the file itself."""
        found = self._project.tracked.get(path)
        if found is not None and not found.is_folder:
            return found
        for folder in self._folders(posixpath.dirname(path)):
            listing = self._list(folder)
            if path in listing:
                return listing[path]
        return path if path in self._snapshot else None

    def mark(self, path: str, version: str | None) -> str:
        """A short name of a model's bytes and of all that is next to it."""
        folder = posixpath.dirname(path)
        start = f"{folder}/" if folder else ""
        sums = [
            (each.path, each.md5) for each in self._project.tracked.values() if each.path.startswith(start)
        ]
        sums += [(each.path, each.md5) for each in self._folders(folder)]
        sums += [
            (each, self._snapshot.id_of(each))
            for each in self._snapshot
            if each.startswith(start) and not _is_of_dvc(each)
        ]
        lines = "\n".join(f"{where}\0{what}" for where, what in sorted(sums))
        return hashlib.sha256(f"{path}\0{version}\0{lines}".encode(errors="surrogateescape")).hexdigest()

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The bytes of files; all that Git has come in one request, within its bound."""
        in_git = [path for path in paths if isinstance(self.find(path), str)]
        texts = self._snapshot.read(in_git)
        for path in paths:
            if path in texts:
                if texts[path].startswith(_POINTER):
                    raise ModelError(
                        ModelFault.UNSUPPORTED_ARTIFACT_STORE,
                        f"{path} of {self.called} is kept by Git LFS, which is not read: keep it in DVC, "
                        "with 'dvc add', or in Git itself",
                    )
                yield path, iter([texts[path]])
                continue
            missing = f"{self.called} has no {path} in that commit, neither in Git nor in DVC: push it"
            with self.open(path, missing) as pieces:
                yield path, pieces

    @contextmanager
    def open(self, path: str, missing: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a file; ``missing`` is said where there is none."""
        found = self.find(path)
        if found is None:
            self._snapshot.refuse_links(path)
            raise ModelError(ModelFault.MODEL_NOT_FOUND, missing)
        if isinstance(found, str):
            yield iter(self._snapshot.read([found]).values())
            return
        with self._stored(found) as pieces:
            yield pieces

    @contextmanager
    def _stored(self, tracked: Tracked) -> Iterator[Iterator[bytes]]:
        objects = self._objects(tracked)
        called = objects.called(tracked.key)
        missing = (
            f"{tracked.path} is in {tracked.said_in} of {self.called}, but {called} does not exist: run "
            "'dvc push' where the model was made"
            + (", or name the repository that it was imported from" if tracked.imported else "")
        )
        with objects.open(tracked.key, missing) as pieces:
            checked = _Checked(pieces, tracked, called)
            try:
                yield iter(checked)
            except ModelError as error:
                if error.reason in _BROKEN:
                    checked.finish()
                raise

    def _objects(self, tracked: Tracked) -> Objects:
        if self._credentials.dvc_remote:
            remote = Remote("DVC_REMOTE_URL", {**self._options(tracked), "url": self._credentials.dvc_remote})
        else:
            remote = self._project.remote_of(tracked)
        return objects_of(remote, self._credentials, self._host)

    def _options(self, tracked: Tracked) -> dict[str, str]:
        """What the repository says of its remote, where it has one; the Secret says where that is."""
        try:
            options = self._project.remote_of(tracked).options
        except ModelError:
            return {}
        return {name: options[name] for name in ("account_name", "region") if name in options}

    def _list(self, folder: Tracked) -> dict[str, Tracked]:
        """The files of a folder that DVC keeps."""
        if folder.path not in self._lists:
            text = bytearray()
            with self._stored(folder) as pieces:
                for piece in pieces:
                    text += piece
                    if len(text) > _LARGEST_LIST:
                        raise ModelError(
                            ModelFault.REPOSITORY_UNREADABLE,
                            f"the list of files of {folder.path} has more than {_LARGEST_LIST // 1024**2} "
                            "MiB: keep the model in a folder of its own",
                        )
            self._lists[folder.path] = entries(folder, bytes(text))
        return self._lists[folder.path]

    def _folders(self, path: str) -> Iterator[Tracked]:
        """Folders that DVC keeps: the one at a path, and those above."""
        while path:
            found = self._project.tracked.get(path)
            if found is not None and found.is_folder:
                yield found
            path = posixpath.dirname(path)

    def _names(self, folder: str) -> list[str]:
        """What is in a folder."""
        paths = {path for path, each in self._project.tracked.items() if not each.is_folder}
        paths.update(path for path in self._snapshot if not path.endswith((".dvc", ".gitignore")))
        for each in self._folders(folder):
            paths.update(self._list(each))
        start = f"{folder}/" if folder else ""
        below = {path.removeprefix(start) for path in paths if path.startswith(start)}
        return sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})


def _is_of_dvc(path: str) -> bool:
    """Whether a file says where others are, and is none of a model's."""
    return path.endswith(".dvc") or posixpath.basename(path) in ("dvc.lock", "dvc.yaml", ".gitignore")


class DvcFiles:
    """A model in a commit, and what is next to it."""

    def __init__(self, tree: _Tree, path: str) -> None:
        self._tree = tree
        self._folder, self._name = posixpath.split(path)

    @property
    def main(self) -> str:
        return self._name if self._name.endswith(".onnx") and self._name.isprintable() else "model.onnx"

    def describe(self, path: str) -> str:
        return f"{self._at(path)} of {self._tree.called}"

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        missing = (
            f"{self._at(self.main)} of {self._tree.called} keeps weights in {path!r}, but the commit has no "
            f"{self._at(path)}, neither in Git nor in DVC: add that file with 'dvc add', push and commit, or "
            "save the model as one file"
        )
        with self._tree.open(self._at(path), missing) as pieces:
            yield pieces

    def _at(self, path: str) -> str:
        return posixpath.join(self._folder, self._name if path == self.main else path)


class _Checked:
    """Bytes that must have the MD5 by which they were asked for; this finds what a store lost."""

    def __init__(self, pieces: Iterator[bytes], tracked: Tracked, called: str) -> None:
        self._pieces = pieces
        self._tracked = tracked
        self._called = called
        self._sum = hashlib.md5(usedforsecurity=False)
        #: DVC 2 took texts with the ends of lines that Unix has.
        self._unix = hashlib.md5(usedforsecurity=False) if tracked.old else None
        self._held = b""
        self._count = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._take(piece)
            yield piece
        self._check()

    def finish(self) -> None:
        """Read what is left and check, within a bound."""
        for piece in self._pieces:
            self._take(piece)
            if self._count > _MOST_CHECKED:
                return
        self._check()

    def _take(self, piece: bytes) -> None:
        self._count += len(piece)
        self._sum.update(piece)
        if self._unix is not None:
            text = self._held + piece
            self._held = b"\r" if text.endswith(b"\r") else b""
            self._unix.update(text[: len(text) - len(self._held)].replace(b"\r\n", b"\n"))

    def _check(self) -> None:
        wanted = self._tracked.md5.removesuffix(".dir")
        found = [self._sum.hexdigest()]
        if self._unix is not None:
            self._unix.update(self._held)
            found.append(self._unix.hexdigest())
        if wanted not in found:
            raise ModelError(
                ModelFault.DIGEST_MISMATCH,
                f"{self._called} has {self._count} bytes with the MD5 {found[0]}, but "
                f"{self._tracked.said_in} says that {self._tracked.path} has {wanted}: the store lost or "
                "changed them; delete that object and 'dvc push' again where the model was made",
            )


def _invalid(uri: str, why: str) -> ModelError:
    return ModelError(
        ModelFault.INVALID_MODEL_URI,
        f"{uri!r} {why or 'is not the address of a model in DVC'}; for example {_EXAMPLES}. A repository in "
        "a group of groups ends in .git; special characters are written as in addresses, # as %23",
    )
