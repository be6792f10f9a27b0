"""Repositories of Git over HTTPS: which commit a name means, and the files of one commit without history."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from os import SEEK_END
from typing import TYPE_CHECKING

import httpx
from dulwich.client import AbstractHttpGitClient
from dulwich.object_store import MemoryObjectStore
from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree

from slipway.contract import ModelFault
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError, listed, shortened
from slipway.models.git_pack import unpacked_size
from slipway.models.web import Web

if TYPE_CHECKING:
    from dulwich.client import HTTPResponse

_HINT = (
    "give GIT_TOKEN, or GIT_USERNAME and GIT_PASSWORD, in the Secret that spec.model.credentials.secretRef "
    "names, for somebody who may read the repository; a host may deny one that does not exist in the same way"
)
#: All that a server sends for one look at a repository, in bytes. A commit's folders have a few hundred kB;
#: a server that cannot leave the files out sends those too.
_MOST_BYTES = 32 * 1024 * 1024
#: What that unpacks to, in bytes, all of which is kept in memory.
_MOST_UNPACKED = 96 * 1024 * 1024
_LEAVE_OUT = (
    "let the server leave files out (git config uploadpack.allowFilter true; large hosts do), or keep models "
    "in a repository of their own"
)
#: Files of a commit.
_MOST_FILES = 100_000
#: Folders within folders.
_DEEPEST = 64
#: Bytes of an answer in which a server says no.
_LONGEST_REFUSAL = 512
_PEELED = b"^{}"
#: What no name of a ref begins with: the server is to list none.
_NO_REF = b"refs/none/"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(rev: str) -> bool:
    """Whether a revision is a whole hash, which means the same for ever."""
    return _COMMIT.fullmatch(rev) is not None


class Snapshot:
    """The files of one commit; reading them is up to whoever made it."""

    def __init__(
        self,
        commit: str,
        seconds: int,
        files: Mapping[str, tuple[int, str]],
        read: Callable[[Sequence[str]], dict[str, bytes]],
    ) -> None:
        """``files``: mode and hash by path. ``seconds``: when it was committed, since the epoch."""
        self.commit = commit
        self.seconds = seconds
        self._files = files
        self._read = read

    def __contains__(self, path: str) -> bool:
        return path in self._files and stat.S_ISREG(self._files[path][0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def id_of(self, path: str) -> str:
        """The hash of a file's content."""
        return self._files[path][1]

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The content of files, by path, in one request at most."""
        ids = {path: self.id_of(path) for path in paths}
        found = self._read(sorted(set(ids.values())))
        return {path: found[each] for path, each in ids.items()}

    def refuse_links(self, path: str) -> None:
        """Raises :class:`ModelError` where a path leads through a symbolic link or into a submodule."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            here = "/".join(parts[:count])
            mode = self._files[here][0] if here in self._files else 0
            if stat.S_ISLNK(mode):
                raise ModelError(
                    ModelFault.INVALID_MODEL_URI,
                    f"{here} is a symbolic link in Git, and links are not followed: name the file that it "
                    "leads to",
                )
            if mode and not stat.S_ISREG(mode):
                raise ModelError(
                    ModelFault.INVALID_MODEL_URI,
                    f"{here} is a submodule: name the repository that it is of",
                )


class Repository:
    """One repository on a server that speaks Git's smart protocol."""

    def __init__(self, host: str, path: str, credentials: Credentials) -> None:
        self.called = f"{host}/{path}"
        home = f"https://{host}/{path}"
        web = Web(home, credentials.git.authorization(), credentials.trust(), _HINT)
        self._client = _Client(home, web, self.called)

    def refs(self, prefixes: Sequence[str]) -> dict[str, str]:
        """The commits of branches and tags that begin with one of the full names, in two requests."""
        with self._understood():
            found = self._client.get_refs("", ref_prefix=[prefix.encode() for prefix in prefixes]).refs
        commits = {}
        for name, commit in found.items():
            if commit is not None and not name.endswith(_PEELED):
                peeled = found.get(type(name)(name + _PEELED))
                commits[name.decode("utf-8", "replace")] = (peeled or commit).decode()
        return {
            name: commit
            for name, commit in commits.items()
            if name.startswith(tuple(prefixes)) and is_commit(commit)
        }

    def commit_of(self, rev: str) -> str:
        """What a branch, a tag or a hash means now; a tag wins over a branch, as in Git."""
        if is_commit(rev):
            return rev
        names = [f"refs/tags/{rev}", f"refs/heads/{rev}"]
        found = self.refs(names)
        for name in names:
            if name in found:
                return found[name]
        there = [name.split("/", 2)[2] for name in sorted(self.refs(["refs/heads/", "refs/tags/"]))]
        short = re.fullmatch("[0-9a-f]{4,39}", rev) is not None
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"{self.called} has no branch and no tag {rev!r}; it has: {listed(there, 10)}. "
            + ("A commit is named by all 40 digits of its hash. " if short else "")
            + "Push it, or fix spec.model.uri",
        )

    def snapshot(self, commit: str, pinned: bool) -> Snapshot:
        """The files of a commit, without its history and, where the server can, without what is in them.

        ``pinned``: people named the commit itself.
        """
        store = MemoryObjectStore()
        with self._understood(commit, pinned):
            self._client.bring(store, [commit], depth=1)
            found = store[ObjectID(commit.encode())]
            while isinstance(found, Tag):
                found = store[found.object[1]]
            if not isinstance(found, Commit):
                raise ModelError(
                    ModelFault.INVALID_MODEL_URI, f"{commit} is no commit of {self.called}: name a commit"
                )
            files = dict(self._files(store, found.tree, "", 0, [0]))

        def read(ids: Sequence[str]) -> dict[str, bytes]:
            with self._understood(commit, pinned):
                missing = [each for each in ids if ObjectID(each.encode()) not in store]
                if missing:
                    self._client.bring(store, missing)
                blobs = {each: store[ObjectID(each.encode())] for each in ids}
                return {each: blob.data for each, blob in blobs.items() if isinstance(blob, Blob)}

        return Snapshot(found.id.decode(), int(found.commit_time), files, read)

    def _files(
        self, store: MemoryObjectStore, tree: ObjectID, above: str, depth: int, count: list[int]
    ) -> Iterator[tuple[str, tuple[int, str]]]:
        folder = store[tree]
        if not isinstance(folder, Tree) or depth > _DEEPEST:
            raise self._too_large(f"folders more than {_DEEPEST} deep")
        for entry in folder.items():
            assert entry.path is not None
            assert entry.mode is not None
            assert entry.sha is not None
            path = above + entry.path.decode("utf-8", "surrogateescape")
            count[0] += 1
            if count[0] > _MOST_FILES:
                raise self._too_large(f"more than {_MOST_FILES:,} files")
            if stat.S_ISDIR(entry.mode):
                yield from self._files(store, entry.sha, f"{path}/", depth + 1, count)
            else:
                yield path, (entry.mode, entry.sha.decode())

    def _too_large(self, what: str) -> ModelError:
        return ModelError(
            ModelFault.REPOSITORY_UNREADABLE,
            f"{self.called} has {what} in one commit: keep models in a repository of their own",
        )

    @contextmanager
    def _understood(self, commit: str = "", pinned: bool = False) -> Iterator[None]:
        """Bytes come from a stranger: whatever the client says of them is one fault."""
        self._client.begin()
        try:
            yield
        except (ModelError, OSError, MemoryError):
            raise
        except Exception as error:
            said = shortened(str(error), 200) or type(error).__name__
            if isinstance(error, _RefusedError) and pinned:
                raise ModelError(
                    ModelFault.MODEL_NOT_FOUND,
                    f"{self.called} does not give the commit {commit} ({said}): it was pushed over, or never "
                    "pushed; push it, under a tag so that it stays, or fix spec.model.uri",
                ) from None
            if isinstance(error, _RefusedError) and commit:
                raise ModelError(
                    ModelFault.MODEL_CHANGED,
                    f"{self.called} does not give the commit {commit} any more ({said}): the branch or tag "
                    "moved meanwhile; it is tried again by itself",
                ) from None
            raise ModelError(
                ModelFault.REPOSITORY_UNREADABLE,
                f"{self.called} does not answer as a Git server does ({said}): check spec.model.uri and the "
                "server's log",
            ) from error


class _Client(AbstractHttpGitClient):
    """The protocol is dulwich's, the connections are ours: with our trust, retries and bounds."""

    def __init__(self, home: str, web: Web, called: str) -> None:
        super().__init__(home, thin_packs=False, quiet=True)
        self._web = web
        self._called = called
        self._left = _MOST_BYTES

    def begin(self) -> None:
        """Bytes are counted from here."""
        self._left = _MOST_BYTES

    def bring(self, store: MemoryObjectStore, wants: Sequence[str], depth: int | None = None) -> None:
        """Put objects into the store; without what is in files where ``depth`` is given."""
        file, commit, abort = store.add_pack()
        try:
            self.fetch_pack(
                "",
                lambda *_, **__: [ObjectID(want.encode()) for want in wants],
                _Nothing(),
                file.write,
                depth=depth,
                ref_prefix=[_NO_REF],
                filter_spec=b"blob:none" if depth else None,
            )
            file.seek(0)
            if unpacked_size(file, _MOST_UNPACKED) > _MOST_UNPACKED:
                raise ModelError(
                    ModelFault.REPOSITORY_UNREADABLE,
                    f"what {self._called} sends for one commit unpacks to more than "
                    f"{_MOST_UNPACKED // 1024**2} MiB: {_LEAVE_OUT}",
                )
            file.seek(0, SEEK_END)
        except BaseException:
            abort()
            raise
        commit()

    @staticmethod
    def _warn_filter_objects() -> None:
        """A server that cannot leave files out sends them all, up to the bound."""

    def _http_request(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        raise_for_status: bool = True,
    ) -> tuple[HTTPResponse, Callable[[int], bytes]]:
        del raise_for_status
        body = data if data is None or isinstance(data, bytes) else b"".join(data)
        sent = {name: value for name, value in (headers or {}).items() if name != "Content-Length"}
        with ExitStack() as stack:
            response = stack.enter_context(self._web.exchange(url, sent, body))
            kind = response.headers.get("Content-Type", "")
            if response.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise ModelError(
                    ModelFault.MODEL_NOT_FOUND,
                    f"there is no repository {self._called} (HTTP {response.status_code}), or its host hides "
                    f"it: fix spec.model.uri, or {_HINT}",
                )
            if response.status_code != HTTPStatus.OK or not kind.startswith("application/x-git-"):
                raise ModelError(
                    ModelFault.REPOSITORY_UNREADABLE,
                    f"{self._called} does not answer as a Git server does (HTTP {response.status_code}, "
                    f"{shortened(kind, 60) or 'no content type'}): check that spec.model.uri begins with the "
                    "repository's address for git clone",
                )
            reply = _Reply(response, url, self._spend)
            refusal = reply.refusal()
            if refusal:
                raise _RefusedError(refusal)
            reply.held = stack.pop_all()
        return reply, reply.read

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ModelError(
                ModelFault.REPOSITORY_UNREADABLE,
                f"{self._called} sends more than {_MOST_BYTES // 1024**2} MiB for one commit: {_LEAVE_OUT}",
            )


class _RefusedError(Exception):
    """What the server says in place of what it was asked for."""


class _Reply:
    """An answer as dulwich reads it."""

    def __init__(self, response: httpx.Response, asked: str, spend: Callable[[int], None]) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.content_type: str | None = response.headers.get("Content-Type")
        self.redirect_location = str(response.url) if response.url != httpx.URL(asked) else ""
        self._pieces = response.iter_bytes()
        self._spend = spend
        #: What ends with it.
        self.held = ExitStack()
        self._buffer = bytearray()

    def read(self, amt: int | None = None) -> bytes:
        """So many bytes, or what is left."""
        while amt is None or len(self._buffer) < amt:
            try:
                piece = next(self._pieces, b"")
            except (httpx.TransportError, httpx.DecodingError) as error:
                raise ModelError(
                    ModelFault.REGISTRY_UNREACHABLE,
                    f"the Git server broke off ({shortened(str(error), 120) or type(error).__name__}): check "
                    "it and any proxy in between; it is tried again by itself",
                ) from None
            if not piece:
                break
            self._spend(len(piece))
            self._buffer += piece
        end = len(self._buffer) if amt is None else amt
        found = bytes(self._buffer[:end])
        del self._buffer[:end]
        return found

    def refusal(self) -> str:
        """Git's servers say no with status 200; dulwich would lose the words."""
        first = self.read(_LONGEST_REFUSAL)
        self._buffer[:0] = first
        return first[8:].decode("utf-8", "replace") if first[4:8] == b"ERR " else ""

    def geturl(self) -> str:
        return self.redirect_location

    def close(self) -> None:
        self.held.close()


class _Nothing:
    """What we have already: nothing."""

    shallow: frozenset[ObjectID] = frozenset()

    def __next__(self) -> ObjectID | None:
        return None

    def ack(self, sha: ObjectID) -> None:
        """Never happens."""

    def nak(self) -> None:
        """Never happens."""
