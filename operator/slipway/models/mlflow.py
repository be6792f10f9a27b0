"""``mlflow://NAME@ALIAS`` and ``mlflow://NAME/VERSION``: models in an MLflow registry, over its REST API."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import quote, unquote, urlsplit

import httpx

from slipway.contract import ModelFault, Resolution
from slipway.models.credentials import Credentials, Login
from slipway.models.faults import ModelError, listed, shortened
from slipway.models.folder import MOST_FILES, Listing, Whole, one_by_one
from slipway.models.source import Files, Located
from slipway.models.web import Answer, Web, shown, unexpected

if TYPE_CHECKING:
    from slipway.models.buckets import Bucket

_URI = re.compile(r"mlflow://(?P<name>[^/@?#]+)(?:@(?P<alias>[^/@?#]+)|/(?P<version>[1-9][0-9]*))")
_HINT = (
    "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the Secret "
    "that spec.model.credentials.secretRef names, for somebody who may read the model; "
    "MLflow may deny a model that does not exist in the same way"
)
_API = "/api/2.0/mlflow"
#: Where MLflow lists what it hands out; a file's own address goes on from there.
_LISTED = "/mlflow-artifacts/artifacts"
_ARTIFACTS = f"/api/2.0{_LISTED}"
#: A proxying tracking server reads a whole file from its store before it sends the first byte of it.
_MODEL_SECONDS = 300.0
_MLMODEL_SECONDS = 30.0
#: Largest MLmodel file that is read, in bytes; they have a few kB.
_LARGEST_MLMODEL = 4 * 1024 * 1024


@dataclass(frozen=True)
class _Name:
    """A registered model, as the URI names it: one of ``alias`` and ``version`` is set."""

    name: str
    alias: str | None
    version: str | None

    @classmethod
    def read(cls, uri: str) -> _Name:
        match = _URI.fullmatch(uri)
        name = unquote(match["name"]) if match else ""
        if match is None or not name.strip() or "/" in name or ":" in name:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{uri!r} must be mlflow://NAME@ALIAS or mlflow://NAME/VERSION with a number as version; "
                "for example mlflow://fraud@champion or mlflow://fraud/3. "
                "Spaces and other special characters of the name are written as in addresses, %20",
            )
        return cls(name, unquote(match["alias"]) if match["alias"] else None, match["version"])


class MlflowSource:
    """One MLflow tracking server: the Secret's, or else the installation's."""

    def __init__(self, credentials: Credentials, tracking_uri: str) -> None:
        """``tracking_uri`` is the installation's; empty where there is none."""
        self._credentials = credentials
        self._tracking_uri = credentials.tracking_uri or tracking_uri

    def locate(self, uri: str) -> Located:
        asked = _Name.read(uri)
        registry = _Registry(*self._server(), self._credentials)
        version, created_at = registry.version(asked)
        folder = registry.artifacts(asked.name, version)
        return Located(
            uri=_pinned(asked.name, version),
            version=version,
            files=registry.onnx_files(asked.name, version, folder),
            created_at=created_at,
        )

    def whole(self, uri: str) -> Whole:
        """All files of a version, of whatever flavors."""
        asked = _Name.read(uri)
        registry = _Registry(*self._server(), self._credentials)
        version, created_at = registry.version(asked)
        folder = registry.artifacts(asked.name, version)
        try:
            found = folder.whole()
        except ModelError as error:
            if error.reason != ModelFault.MODEL_NOT_FOUND:
                raise
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"version {version} of {asked.name!r} is registered in MLflow, but the artifact store has "
                f"none of its files ({error}): log and register the model again",
            ) from None
        return replace(
            found, uri=_pinned(asked.name, version), version=version, created_at=created_at, mark=None
        )

    def put(self, uri: str, path: str, content: bytes) -> None:
        """Store a file in the folder of a version, whatever was there before; raises :class:`ModelError`."""
        asked = _Name.read(uri)
        registry = _Registry(*self._server(), self._credentials)
        version, _ = registry.version(asked)
        registry.artifacts(asked.name, version).put(path, content)

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        """A version's bytes do not change: whoever fetches them checks that."""
        asked = _Name.read(uri)
        version, _ = _Registry(*self._server(), self._credentials).version(asked)
        return known if known.uri == _pinned(asked.name, version) else None

    def _server(self) -> tuple[str, Web]:
        if not self._tracking_uri:
            raise ModelError(
                ModelFault.REGISTRY_UNREACHABLE,
                "no MLflow tracking server is known: give MLFLOW_TRACKING_URI in the Secret that "
                "spec.model.credentials.secretRef names, or mlflow.trackingURI to the Helm chart",
            )
        try:
            url = httpx.URL(self._tracking_uri)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise ModelError(
                ModelFault.REGISTRY_UNREACHABLE,
                "MLFLOW_TRACKING_URI must be the http:// or https:// address of an MLflow tracking server, "
                "such as http://mlflow.mlflow:5000",
            )
        login = self._credentials.mlflow
        if not login.authorization() and url.userinfo:
            login = Login(username=url.username, password=url.password)
        base = str(url.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        return base, Web(base, login.authorization(), self._credentials.trust(), _HINT)


class _Registry:
    """The parts of MLflow's REST API that lead from a name to files."""

    def __init__(self, base: str, web: Web, credentials: Credentials) -> None:
        self._base = base
        self._web = web
        self._credentials = credentials

    def version(self, asked: _Name) -> tuple[str, datetime | None]:
        """The version that a name means now, which exists and is ready, and when it was registered."""
        if asked.alias is None:
            path, query = "/model-versions/get", {"name": asked.name, "version": asked.version or ""}
        else:
            path, query = "/registered-models/alias", {"name": asked.name, "alias": asked.alias}
        answer = self._ask(path, query)
        # MLflow answers 404 for a name that is missing and 400 for an alias that is.
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
            self._missing(asked, answer)
        found = self._part(answer, path, "model_version")
        version, status = str(found.get("version", "")), found.get("status", "READY")
        if status != "READY":
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"version {version} of {asked.name!r} is not ready in MLflow ({status}): "
                f"{found.get('status_message') or 'finish its registration, or register it again'}",
            )
        return version, _moment(found.get("creation_timestamp"))

    def artifacts(self, name: str, version: str) -> _Folder:
        """The folder with the version's files."""
        path = "/model-versions/get-download-uri"
        answer = self._ask(path, {"name": name, "version": version})
        location = str(self._part(answer, path).get("artifact_uri", ""))
        if location.startswith("models:/m-"):
            path = f"/logged-models/{quote(location.removeprefix('models:/'))}"
            info = self._part(self._ask(path, {}), path, "model").get("info")
            location = str(info.get("artifact_uri", "")) if isinstance(info, dict) else ""
        called = f"version {version} of {name!r}"
        parts = urlsplit(location)
        if parts.scheme in ("http", "https"):
            return _Proxied(self._web, location.rstrip("/"), called)
        # An alias that stands needs no client of a store.
        from slipway.models.locations import bucket_of

        bucket = bucket_of(location, self._credentials)
        if bucket is not None:
            return _InBucket(*bucket, called)
        if parts.scheme != "mlflow-artifacts":
            kind = parts.scheme or "a folder of the server"
            raise ModelError(
                ModelFault.UNSUPPORTED_ARTIFACT_STORE,
                f"MLflow keeps version {version} of {name!r} in {kind}, where it does not hand out files: "
                "run it with 'mlflow server --serve-artifacts' and log the model again in a new experiment, "
                "keep artifacts in S3, Google Cloud Storage or Azure Blob Storage, or give the files by "
                "their own address",
            )
        server = httpx.URL(self._base)
        base = self._base
        if parts.netloc:
            base = f"{server.scheme}://{parts.netloc}{server.path.rstrip('/')}"
        return _Proxied(self._web, f"{base}{_ARTIFACTS}/{quote(unquote(parts.path).strip('/'))}", called)

    def onnx_files(self, name: str, version: str, folder: _Folder) -> Files:
        """The files of the ONNX flavor, as the MLmodel file in the folder says."""
        called = f"version {version} of {name!r}"
        document = bytearray()
        with folder.files("MLmodel").open("MLmodel") as pieces:
            for piece in pieces:
                document += piece
                if len(document) > _LARGEST_MLMODEL:
                    break
        flavors = _flavors(bytes(document))
        if "onnx" not in flavors:
            raise ModelError(
                ModelFault.UNSUPPORTED_FLAVOR,
                f"{called} has the flavors {listed(sorted(flavors))}, but not onnx, which is what Slipway "
                "serves. Convert it and log it again, for scikit-learn with mlflow.onnx.log_model("
                f"skl2onnx.to_onnx(model, X[:1]), name='model', registered_model_name={name!r}). Slipway "
                "does not convert it by itself: loading a pickled model runs whatever code is in the file",
            )
        onnx = flavors["onnx"]
        data = str(onnx.get("data", "model.onnx")) if isinstance(onnx, dict) else "model.onnx"
        data = posixpath.normpath(data)
        if data.startswith(("/", "..")) or data == ".":
            raise ModelError(
                ModelFault.MODEL_LOAD_FAILED,
                f"the MLmodel file of {called} places the model in {data!r}, outside of its folder: "
                "log it again",
            )
        return folder.files(data)

    def _ask(self, path: str, query: dict[str, str]) -> Answer:
        return self._web.document(f"{self._base}{_API}{path}", query)

    def _part(self, answer: Answer, path: str, *keys: str) -> dict[str, Any]:
        """The object below ``keys`` of a good answer."""
        value: Any = answer.json()
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if answer.status != HTTPStatus.OK or not isinstance(value, dict) or not value:
            if answer.status == HTTPStatus.OK:
                raise ModelError(
                    ModelFault.REGISTRY_UNREACHABLE,
                    f"{shown(self._base)} does not answer as MLflow's REST API does: "
                    "check MLFLOW_TRACKING_URI",
                )
            raise unexpected(f"{self._base}{_API}{path}", answer)
        return value

    def _missing(self, asked: _Name, answer: Answer) -> NoReturn:
        """Say what there is instead, as far as the registry tells."""
        server = shown(self._base)
        if not answer.json().get("error_code"):
            raise ModelError(
                ModelFault.REGISTRY_UNREACHABLE,
                f"{server} does not answer as MLflow's REST API does (HTTP {answer.status}): "
                "check MLFLOW_TRACKING_URI",
            )
        known = self._ask("/registered-models/get", {"name": asked.name})
        if known.status == HTTPStatus.NOT_FOUND:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{server} has no registered model {asked.name!r}; it has: "
                f"{listed(self._names(asked.name))}. Register it, or fix spec.model.uri",
            )
        model = known.json().get("registered_model", {})
        if asked.alias is not None:
            aliases = [f"{alias.get('alias')} ({alias.get('version')})" for alias in model.get("aliases", [])]
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"the registered model {asked.name!r} has no alias {asked.alias!r}; it has: "
                f"{listed(aliases)}. Set it with MlflowClient().set_registered_model_alias({asked.name!r}, "
                f"{asked.alias!r}, VERSION), or fix spec.model.uri",
            )
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"the registered model {asked.name!r} has no version {asked.version}; "
            f"it has: {listed(self._versions(asked.name))}. Fix spec.model.uri, or register that version "
            f"({shortened(str(answer.json().get('message', '')), 200)})",
        )

    def _names(self, like: str) -> list[str]:
        answer = self._ask("/registered-models/search", {"max_results": "100"})
        names = [str(model.get("name")) for model in answer.json().get("registered_models", [])]
        return sorted(names, key=lambda name: SequenceMatcher(None, name, like).ratio(), reverse=True)

    def _versions(self, name: str) -> list[str]:
        quoted = name.replace("'", "''")
        answer = self._ask("/model-versions/search", {"filter": f"name='{quoted}'", "max_results": "100"})
        versions = [str(version.get("version")) for version in answer.json().get("model_versions", [])]
        return sorted(versions, key=lambda version: int(version) if version.isdigit() else 0, reverse=True)


def _pinned(name: str, version: str) -> str:
    return f"mlflow://{quote(name, safe='')}/{version}"


class _Folder(Protocol):
    """The folder of a version."""

    def files(self, path: str) -> Files:
        """A file by its path, with what is next to it."""

    def whole(self) -> Whole:
        """All files; whose URI and version are the registry's matter."""

    def put(self, path: str, content: bytes) -> None:
        """Store a file."""


@dataclass(frozen=True)
class _Proxied:
    """A folder that MLflow hands out itself, by its address."""

    web: Web
    address: str
    called: str

    def files(self, path: str) -> _ArtifactFiles:
        below, main = posixpath.split(path)
        return _ArtifactFiles(
            self.web, posixpath.join(self.address, quote(below)).rstrip("/"), main, self.called
        )

    def whole(self) -> Whole:
        listing = Listing(self.called)
        folders, count = [""], 0
        while folders:
            below = folders.pop()
            for name, is_folder, size in self._entries(below):
                path = posixpath.join(below, name)
                if not is_folder:
                    listing.add(path, size)
                    continue
                listing.check(path)
                folders.append(path)
                count += 1
                if count > MOST_FILES:
                    raise listing.refused(f"has more than {MOST_FILES} folders")
        files = _ArtifactFiles(self.web, self.address, "", self.called)
        return Whole(self.address, None, listing.sizes(), files.describe, one_by_one(files.open))

    def put(self, path: str, content: bytes) -> None:
        address = f"{self.address}/{quote(path)}"
        with _without_proxy_advice(self.called):
            answer = self.web.put(address, content)
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT):
            raise unexpected(address, answer)

    def _entries(self, below: str) -> Iterator[tuple[str, bool, int | None]]:
        """Names in a folder, whether each is one, and bytes of files."""
        root, found, folder = self.address.partition(_LISTED)
        if not found:
            raise ModelError(
                ModelFault.UNSUPPORTED_ARTIFACT_STORE,
                f"the files of {self.called} are at {shown(self.address)}, which cannot be listed: run "
                "MLflow with 'mlflow server --serve-artifacts' and log the model again in a new experiment",
            )
        path = posixpath.join(unquote(folder).strip("/"), below)
        with _without_proxy_advice(self.called):
            answer = self.web.document(f"{root}{_LISTED}", {"path": path})
        entries = answer.json().get("files", [])
        if answer.status == HTTPStatus.NOT_FOUND:
            return
        if answer.status != HTTPStatus.OK or not isinstance(entries, list):
            raise unexpected(f"{root}{_LISTED}", answer)
        for entry in entries:
            if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
                raise unexpected(f"{root}{_LISTED}", answer)
            size = str(entry.get("file_size"))
            is_folder = entry.get("is_dir") is True
            yield posixpath.basename(entry["path"]), is_folder, int(size) if size.isdecimal() else None


@dataclass(frozen=True)
class _InBucket:
    """A folder in a bucket, which is entered with the Secret's own keys for it."""

    bucket: Bucket
    key: str
    called: str

    def files(self, path: str) -> Files:
        from slipway.models.buckets import BucketFiles

        key = posixpath.join(self.key, path)
        missing = (
            f"{self.called} is registered in MLflow, but its file {path} is not in the artifact store "
            f"({self.bucket.called(key)}): log and register the model again"
        )
        return BucketFiles(self.bucket, key, missing=missing)

    def whole(self) -> Whole:
        return self.bucket.folder(self.key)

    def put(self, path: str, content: bytes) -> None:
        self.bucket.put(posixpath.join(self.key, path), content)


class _ArtifactFiles:
    """Files below one folder of MLflow's artifact store."""

    def __init__(self, web: Web, folder: str, main: str, called: str) -> None:
        self._web = web
        self._folder = folder
        self._main = main
        self._called = called

    @property
    def main(self) -> str:
        return self._main

    def describe(self, path: str) -> str:
        return f"{path} of {self._called}"

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        address = f"{self._folder}/{quote(path)}"
        missing = (
            f"{self._called} is registered in MLflow, but its file {path} is not in the artifact store "
            f"({shown(address)}): log and register the model again"
        )
        patience = _MLMODEL_SECONDS if path == "MLmodel" else _MODEL_SECONDS
        with _without_proxy_advice(self._called), self._web.open(address, missing, patience) as pieces:
            yield pieces


@contextmanager
def _without_proxy_advice(called: str) -> Iterator[None]:
    try:
        yield
    except ModelError as error:
        # MLflow's own advice, which it gives with HTTP 503 to each request for an artifact.
        if "-serve-artifacts" not in str(error):
            raise
        raise ModelError(
            ModelFault.UNSUPPORTED_ARTIFACT_STORE,
            f"MLflow does not hand out the files of {called}, because it was started "
            "without --serve-artifacts: start it with 'mlflow server --serve-artifacts'",
        ) from None


def _moment(given: object) -> datetime | None:
    """Milliseconds since the epoch, which the registry sends as a number or as text."""
    try:
        return datetime.fromtimestamp(int(str(given)) / 1000.0, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _flavors(document: bytes) -> dict[str, Any]:
    import yaml

    try:
        model = yaml.safe_load(document)
    except yaml.YAMLError:
        model = None
    flavors = model.get("flavors") if isinstance(model, dict) else None
    return flavors if isinstance(flavors, dict) else {}
