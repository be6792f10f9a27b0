"""What buckets have in common: objects by key, folders by prefix, and pinned versions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import httpx
import obstore
from obstore.exceptions import BaseError

from slipway.contract import ModelFault, Resolution
from slipway.models.bucket_faults import Words, bucket_fault
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError, listed
from slipway.models.folder import Listing, Whole, one_by_one
from slipway.models.marks import BESIDE
from slipway.models.source import Located

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    Store = S3Store | GCSStore | AzureStore

#: Bytes of a piece: memory stays flat, and each piece is worth a call of the hash.
_PIECE = 1024 * 1024
#: Seconds to wait for a connection, and for the next bytes of an answer.
_CONNECT_SECONDS, _READ_SECONDS = 4, 30
#: Together these give up on a silent or absent store within about 25 seconds. A body that breaks off is
#: continued where it ended, as often.
_RETRIES, _FIRST_PAUSE, _LONGEST_PAUSE = 3, 0.5, 3.0
#: Entries that stores list in one request.
_PAGE = 1000
#: Entries of a folder that are looked through for the model.
_MOST_ENTRIES = 10_000
#: The version of an object that was stored before its bucket had versions: the next upload replaces it.
_NO_VERSION = "null"
#: Stores that do not say when an object was written leave this year.
_NO_YEAR = 1970


@dataclass(frozen=True)
class Place:
    """A key in a bucket, as the URI names it. ``folder``: a model is to be found below the key."""

    key: str
    version: str | None = None

    @classmethod
    def read(cls, path: str, version: str | None = None) -> Place | None:
        """The part of a URI after the bucket; None where no object can be called so."""
        try:
            key = unquote(path, errors="strict")
        except UnicodeDecodeError:
            return None
        parts = key.removesuffix("/").split("/")
        if not key.isprintable() or any(part in ("", ".", "..") for part in parts):
            return None
        return cls(key, unquote(version) if version else None)

    @property
    def is_file(self) -> bool:
        return self.key.endswith(".onnx")

    def checked(self, uri: str) -> Place:
        """Itself; raises :class:`ModelError` for a folder with a version."""
        if self.version and not self.is_file:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{uri!r} names a version of a folder, and only objects have versions: name the .onnx file",
            )
        return self

    def checked_folder(self, uri: str) -> Place:
        """Itself; raises :class:`ModelError` for what can only be a folder, with a version."""
        if self.version and self.key.endswith("/"):
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{uri!r} names a version of a folder, and only objects have versions: leave the version "
                "out, and give each version of the model a folder of its own",
            )
        return self


@dataclass(frozen=True)
class Pinning:
    """How a scheme writes the URI that names an object for good: its root, and a version."""

    root: str
    with_version: str

    def uri(self, key: str, version: str | None) -> str:
        tail = self.with_version.format(quote(version, safe="")) if version else ""
        return f"{self.root}/{quote(key)}{tail}"


class BucketSource:
    """A scheme whose URIs are a bucket, a key and, where people want one, a version."""

    #: With the groups ``bucket``, ``path`` and ``version``.
    uri: re.Pattern[str]
    #: What a URI must be, with examples.
    form: str

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def bucket(self, name: str) -> Bucket:
        """A bucket by its name; raises :class:`ModelError` where the Secret does not open it."""
        raise NotImplementedError

    def locate(self, uri: str) -> Located:
        """The model at a URI."""
        match = self.uri.fullmatch(uri)
        place = Place.read(match["path"], match["version"]) if match else None
        if match is None or place is None:
            raise ModelError(ModelFault.INVALID_MODEL_URI, f"{uri!r} must be {self.form}")
        return self.bucket(match["bucket"]).locate(place.checked(uri))

    def whole(self, uri: str) -> Whole | None:
        """All files at a URI."""
        match = self.uri.fullmatch(uri)
        place = Place.read(match["path"], match["version"]) if match else None
        if match is None or place is None:
            raise ModelError(ModelFault.INVALID_MODEL_URI, f"{uri!r} must be {self.form}")
        return self.bucket(match["bucket"]).whole(place.checked_folder(uri))

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        """Finding it is as cheap, and gives its mark."""
        del uri, known
        return None


class Bucket:
    """One bucket of a store, read with at most a few requests at a time and memory for one piece."""

    def __init__(self, store: Store, pinning: Pinning, words: Words) -> None:
        self._store = store
        self._pinning = pinning
        self._words = words

    def locate(self, place: Place) -> Located:
        """The model at a key, or the only one in the folder there, pinned by its version or its ETag."""
        key, listed_mark = (place.key, None) if place.is_file else self._model_in(place.key.rstrip("/"))
        seen = self.look(key, place.version)
        version = seen.get("version")
        version = None if version == _NO_VERSION else version
        own_mark = _mark(key, version, seen["e_tag"])
        is_marked = own_mark is not None and listed_mark is not None
        return Located(
            uri=self._pinning.uri(key, version or place.version),
            version=version,
            files=BucketFiles(self, key, version, seen["e_tag"]),
            created_at=_moment(seen),
            # What is listed has no versions everywhere.
            mark=_mark_of_all([(key, own_mark), ("", listed_mark)]) if is_marked else own_mark,
            whole=is_marked,
            # What has a version in its URI is not looked at again.
            beside=None if listed_mark or place.version else lambda: self._beside(key, own_mark),
        )

    def _beside(self, key: str, own: str | None) -> str | None:
        """A mark of an object as it was seen, and of all objects of its folder in a listing of one page.

        None where those are too many, or the store may not be listed.
        """
        start = key.rpartition("/")[0]
        start = f"{start}/" if start else ""
        marks = [("", own)]
        try:
            for entry in self._entries(key, start):
                name = entry["path"].removeprefix(start)
                if entry["path"] != key:
                    marks.append((name, _mark(name, entry.get("version"), entry["e_tag"])))
                if len(marks) >= _PAGE:
                    return None
        except ModelError as error:
            if error.reason != ModelFault.MODEL_ACCESS_DENIED:
                raise
            return None
        found = _mark_of_all(marks)
        return f"{BESIDE}{found}" if found else None

    def whole(self, place: Place) -> Whole | None:
        """An object, or all objects below a key; None for an ``.onnx`` file."""
        if place.is_file:
            return None
        found = self._object(place)
        if found is None:
            return self.folder(place.key.rstrip("/"))
        folder, _, name = place.key.rpartition("/")
        listing = Listing(self.called(folder or place.key))
        listing.add(name, found["size"])
        version = found.get("version")
        version = None if version == _NO_VERSION else version
        files = BucketFiles(self, place.key, version, found["e_tag"])
        return Whole(
            uri=self._pinning.uri(place.key, version or place.version),
            version=version,
            sizes=listing.sizes(),
            describe=files.describe,
            read=one_by_one(files.open),
            is_file=True,
            created_at=_moment(found),
            mark=_mark(place.key, version, found["e_tag"]),
        )

    def put(self, key: str, content: bytes) -> None:
        """Store an object; raises :class:`ModelError`."""
        with self._faults(key):
            obstore.put(self._store, key, content)

    def folder(self, key: str) -> Whole:
        """All objects below a key. Their changes while they are read are seen by the mark."""
        start = f"{key}/"
        listing, marks, newest = Listing(self.called(key)), [], None
        for count, entry in enumerate(self._entries(key, start)):
            if count > _MOST_ENTRIES:
                raise listing.refused(f"has more than {_MOST_ENTRIES} objects")
            name = entry["path"].removeprefix(start)
            is_below = entry["path"] != name
            if not is_below or (entry["size"] == 0 and not self._exists(entry["path"])):
                # What consoles make to show an empty folder.
                continue
            listing.add(name, entry["size"])
            marks.append((name, _mark(name, entry.get("version"), entry["e_tag"])))
            moment = _moment(entry)
            newest = moment if newest is None or (moment is not None and moment > newest) else newest
        if not marks:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self.called(key)} does not exist. Upload the model there, or fix spec.model.uri",
            )

        @contextmanager
        def open_(path: str) -> Iterator[Iterator[bytes]]:
            missing = f"{self.called(start + path)} was listed and is gone: restore it; it is tried again"
            with self.open(start + path, {}, missing) as pieces:
                yield pieces

        return Whole(
            uri=f"{self._pinning.uri(key, None)}/",
            version=None,
            sizes=listing.sizes(),
            describe=lambda path: self.called(start + path),
            read=one_by_one(open_),
            created_at=newest,
            mark=_mark_of_all(marks),
        )

    def _entries(self, key: str, start: str) -> Iterator[ObjectMeta]:
        with self._faults(key):
            for page in obstore.list(self._store, prefix=start or None, chunk_size=_PAGE):
                yield from page

    def _object(self, place: Place) -> ObjectMeta | None:
        """What a key itself names; None where that is a folder at most."""
        if place.key.endswith("/"):
            return None
        try:
            found = self.look(place.key, place.version)
        except ModelError as error:
            # Stores that may not be listed deny what does not exist; then its listing says so.
            is_absent = error.reason in (ModelFault.MODEL_NOT_FOUND, ModelFault.MODEL_ACCESS_DENIED)
            if place.version or not is_absent:
                raise
            return None
        return found if found["size"] else None

    def _exists(self, key: str) -> bool:
        try:
            self.look(key)
        except ModelError as error:
            if error.reason != ModelFault.MODEL_NOT_FOUND:
                raise
            return False
        return True

    def called(self, key: str) -> str:
        """What messages call an object."""
        return self._pinning.uri(key, None)

    def look(self, key: str, version: str | None = None) -> ObjectMeta:
        """What a store says of an object, in one request."""
        try:
            return self._get(key, _of(version, {"head": True})).meta
        except (BaseError, FileNotFoundError, ValueError) as error:
            if not self._words.has_status(error):
                raise self._fault(error, key) from None
        # An answer to HEAD has no body, and only the body says why.
        with self._faults(key):
            return self._get(key, _of(version, {})).meta

    @contextmanager
    def open(self, key: str, options: GetOptions, missing: str = "") -> Iterator[Iterator[bytes]]:
        """The bytes of an object in pieces."""
        with self._faults(key, missing):
            found = self._get(key, options)
        yield self._pieces(found, key)

    def _get(self, key: str, options: GetOptions) -> GetResult:
        return obstore.get(self._store, key, options=options)

    def _pieces(self, found: GetResult, key: str) -> Iterator[bytes]:
        size, come = found.meta["size"], 0
        stream = iter(found.stream(min_chunk_size=_PIECE))
        while True:
            try:
                piece = next(stream, None)
            except (BaseError, OSError) as error:
                raise self._words.broken(error, self.called(key), come, size) from None
            if piece is None:
                break
            come += len(piece)
            yield bytes(piece)
        if come < size:
            raise ModelError(
                ModelFault.MODEL_TRUNCATED,
                f"{self.called(key)} broke off after {come} bytes of the {size} it announced: "
                "check the stored file and any proxy in between",
            )

    def _model_in(self, folder: str) -> tuple[str, str | None]:
        """The key of the one ``.onnx`` file in a folder, and a mark of all that is in it."""
        names: list[str] = []
        marks: list[tuple[str, str | None]] = []
        start = f"{folder}/"
        with self._faults(folder):
            entries = obstore.list(self._store, prefix=start, chunk_size=_PAGE)
            for entry in (entry for page in entries for entry in page):
                names.append(entry["path"].removeprefix(start))
                marks.append((names[-1], _mark(names[-1], entry.get("version"), entry["e_tag"])))
                if len(names) > _MOST_ENTRIES:
                    raise ModelError(
                        ModelFault.INVALID_MODEL_URI,
                        f"{self.called(folder)} has more than {_MOST_ENTRIES} objects: name the .onnx file",
                    )
        here = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in names})
        models = [name for name in here if name.endswith(".onnx")]
        if len(models) > 1:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{self.called(folder)} has several .onnx files ({listed(models)}): name one, "
                f"such as {self.called(start + models[0])}",
            )
        if models:
            return start + models[0], _mark_of_all(marks)
        what = f"has no .onnx file; it holds: {listed(here)}" if here else "does not exist"
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"{self.called(folder)} {what}. Upload the model there, or fix spec.model.uri",
        )

    @contextmanager
    def _faults(self, key: str, missing: str = "") -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError, ValueError) as error:
            raise self._fault(error, key, missing) from None

    def _fault(self, error: Exception, key: str, missing: str = "") -> ModelError:
        return bucket_fault(error, self._words, self.called(key), missing)


class BucketFiles:
    """A model in a bucket and what is kept next to it."""

    def __init__(
        self, bucket: Bucket, key: str, version: str | None = None, etag: str | None = None, missing: str = ""
    ) -> None:
        """``missing`` is said where the model itself is not there."""
        self._bucket = bucket
        self._missing = missing
        self._key = key
        self._version = version
        self._etag = etag

    @property
    def main(self) -> str:
        return self._key.rpartition("/")[2]

    def describe(self, path: str) -> str:
        return self._bucket.called(self._at(path))

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        if path == self.main:
            # What was looked at is what is read: a version, or else the bytes with that ETag.
            options: GetOptions = (
                {"version": self._version}
                if self._version
                else {"if_match": self._etag}
                if self._etag
                else {}
            )
            missing = self._missing
        else:
            options = {}
            missing = (
                f"{self._bucket.called(self._key)} keeps weights in {path!r}, but {self.describe(path)} does "
                "not exist: upload that file next to it, or save the model as one file"
            )
        with self._bucket.open(self._at(path), options, missing) as pieces:
            yield pieces

    def _at(self, path: str) -> str:
        folder, slash, _ = self._key.rpartition("/")
        return f"{folder}{slash}{path}"


def https_endpoint(given: str, key: str) -> httpx.URL | None:
    """The address of a store of one's own, under a key of the Secret; secrets go there, so only over TLS."""
    return endpoint(given, key, ("https",))


def endpoint(given: str, key: str, schemes: tuple[str, ...]) -> httpx.URL | None:
    """The address under a key of the Secret, or None; raises :class:`ModelError`."""
    if not given:
        return None
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in schemes or not url.host or url.userinfo or url.query or url.fragment:
        raise ModelError(
            ModelFault.REGISTRY_UNREACHABLE,
            f"{key} of the credentials Secret must be the {':// or '.join(schemes)}:// address of a store, "
            "such as https://storage.example.com:9000, without user, query or fragment",
        )
    return url


def client_options(credentials: Credentials, allow_http: bool = False) -> ClientConfig:
    """Time-outs and trust of a store's connections."""
    options: ClientConfig = {
        # Of the whole body, which may be of many gigabytes; a silent store is noticed by the other two.
        "timeout": timedelta(days=1),
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=_READ_SECONDS),
        "allow_http": allow_http,
    }
    if credentials.ca_certificates:
        credentials.trust()
        options["root_certificate"] = credentials.ca_certificates
    return options


def retries() -> RetryConfig:
    """With back-off and jitter; as many for one request, however long it takes."""
    return {
        "max_retries": _RETRIES,
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_PAUSE),
            "max_backoff": timedelta(seconds=_LONGEST_PAUSE),
            "base": 2,
        },
        "retry_timeout": timedelta(days=1),
    }


def opened(make: Callable[[], Store], words: Words) -> Store:
    """A store from its configuration; raises :class:`ModelError` where a value of that cannot be used."""
    try:
        return make()
    except (BaseError, ValueError) as error:
        raise words.misconfigured(error) from None


def _of(version: str | None, options: GetOptions) -> GetOptions:
    return {**options, "version": version} if version else options


def _mark(key: str, version: str | None, etag: str | None) -> str | None:
    """A short name of an object's key and version, or else ETag."""
    if not version and not etag:
        return None
    return hashlib.sha256("\0".join((key, version or "", etag or "")).encode()).hexdigest()


def _mark_of_all(marks: Sequence[tuple[str, str | None]]) -> str | None:
    """One of objects by their names, where each of them has one."""
    if not all(mark for _, mark in marks):
        return None
    lines = sorted(f"{name}\0{mark}" for name, mark in marks)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _moment(meta: ObjectMeta) -> datetime | None:
    """When an object was written."""
    written = meta["last_modified"].astimezone(UTC)
    return written if written.year > _NO_YEAR else None
