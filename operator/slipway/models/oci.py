"""``oci://REGISTRY/REPO[:TAG|@DIGEST]``: artifacts, ModelPack and modelcars in registries."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from slipway.contract import ModelFault
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError, listed, shortened
from slipway.models.oci_login import authorize, login_of
from slipway.models.source import Located
from slipway.models.web import Answer, Web, unexpected

_HOST = r"(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?)"
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_URI = re.compile(
    rf"oci://{_HOST}/(?P<name>{_NAME}(?:/{_NAME})*)"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})|@(?P<digest>{_DIGEST}))?"
)
_HINT = (
    "give OCI_USERNAME and OCI_PASSWORD, or the .dockerconfigjson of a pull secret, in the Secret that "
    "spec.model.credentials.secretRef names, for somebody who may pull; a registry may deny a repository "
    "that does not exist in the same way"
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
#: Registries answer no larger ones, in bytes.
_LARGEST_MANIFEST = 4 * 1024 * 1024
_MOST_LAYERS = 500
#: Files of one model, over all its layers.
_MOST_FILES = 10_000
_PATIENCE = 60.0
#: Where a layer's file is called: oras, ModelPack.
_NAMES = ("org.opencontainers.image.title", "org.cncf.model.filepath", "org.cnai.model.filepath")
#: The folder of a modelcar.
_CAR = "models"


@dataclass(frozen=True)
class _Name:
    host: str
    name: str
    tag: str
    digest: str

    @classmethod
    def read(cls, uri: str) -> _Name:
        match = _URI.fullmatch(uri)
        if match is None:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{uri!r} must be oci://REGISTRY/REPOSITORY with :TAG or @sha256:DIGEST at its end; for "
                "example oci://ghcr.io/shop/fraud:v7",
            )
        digest = match["digest"] or ""
        return cls(match["host"], match["name"], "" if digest else match["tag"] or "latest", digest)

    @property
    def repository(self) -> str:
        return f"{self.host}/{self.name}"

    def pinned(self, digest: str) -> str:
        return f"oci://{self.repository}@{digest}"


@dataclass(frozen=True)
class _Blob:
    """A layer, or one file in it."""

    digest: str
    media_type: str
    #: In the archive that the layer is; empty where the layer is the file.
    member: str = ""


class OciSource:
    """Registries, entered with a name and password or a pull secret, or as everybody."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def locate(self, uri: str) -> Located:
        asked = _Name.read(uri)
        registry = _Registry(asked, self._credentials)
        digest, manifest = registry.manifest(asked.digest or asked.tag)
        if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
            chosen = _of_index(asked, manifest)
            manifest = registry.manifest(chosen)[1]
        files = _Layers(registry, manifest)
        return Located(uri=asked.pinned(digest), version=None, files=files, mark=digest, whole=True)

    def is_still(self, uri: str, pinned: str) -> bool:
        asked = _Name.read(uri)
        registry = _Registry(asked, self._credentials)
        return pinned == asked.pinned(registry.manifest(asked.digest or asked.tag)[0])


class _Registry:
    """One repository of a registry."""

    def __init__(self, asked: _Name, credentials: Credentials) -> None:
        self.called = asked.repository
        self._base = f"https://{_address_of(asked.host)}/v2/{asked.name}"
        self._tag = asked.tag
        trust = credentials.trust()
        login = login_of(asked.host, credentials)
        self._web = Web(
            self._base,
            None,
            trust,
            _HINT,
            challenge=lambda challenge: authorize(challenge, login, trust, asked.name),
        )

    def manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """A manifest by tag or digest, with its digest; raises :class:`ModelError`."""
        url = f"{self._base}/manifests/{reference}"
        headers = {"Accept": ", ".join((*_MANIFESTS, *_INDEXES))}
        with self._web.exchange(url, headers, None) as response:
            text = bytearray()
            for piece in response.iter_bytes():
                text += piece
                if len(text) > _LARGEST_MANIFEST:
                    raise self._unreadable(f"{reference} has a manifest of more than 4 MiB")
            status = response.status_code
        if status == 404:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self.called} has no {reference}{self._tags()}. Push it, or fix spec.model.uri",
            )
        if status != 200:
            raise unexpected(url, Answer(status, text.decode("utf-8", "replace")))
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        if ":" in reference and digest != reference:
            raise ModelError(
                ModelFault.DIGEST_MISMATCH,
                f"{self.called} answers with another manifest ({digest}) than {reference}: check the "
                "registry and any proxy in between",
            )
        try:
            manifest = json.loads(text)
        except (ValueError, RecursionError):
            manifest = None
        if not isinstance(manifest, dict):
            raise self._unreadable(f"{reference} has a manifest that is no JSON object")
        return digest, manifest

    @contextmanager
    def blob(self, digest: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob, which must have its digest."""
        if not re.fullmatch(_DIGEST, digest):
            raise self._unreadable(f"a layer has the digest {digest[:80]!r}, which is no SHA-256")
        missing = f"{self.called} lacks the layer {digest} of its manifest: push it again"
        with self._web.open(f"{self._base}/blobs/{digest}", missing, _PATIENCE) as pieces:
            yield self._checked(pieces, digest)

    def _checked(self, pieces: Iterator[bytes], digest: str) -> Iterator[bytes]:
        found = hashlib.sha256()
        for piece in pieces:
            found.update(piece)
            yield piece
        if f"sha256:{found.hexdigest()}" != digest:
            raise ModelError(
                ModelFault.DIGEST_MISMATCH,
                f"{self.called} answers with other bytes (sha256:{found.hexdigest()}) than those of "
                f"{digest}: check the registry and any proxy in between, and push the model again",
            )

    def _unreadable(self, what: str) -> ModelError:
        return ModelError(
            ModelFault.UNSUPPORTED_ARTIFACT_STORE,
            f"{self.called}: {what}. Push the model with 'oras push', as a ModelPack or as an image with "
            f"/{_CAR}",
        )

    def _tags(self) -> str:
        """What there is instead, as far as the registry tells."""
        if not self._tag:
            return ""
        try:
            answer = self._web.document(f"{self._base}/tags/list", {"n": "20"})
        except ModelError:
            return ""
        tags = answer.json().get("tags")
        return f"; its tags: {listed([str(tag) for tag in tags])}" if isinstance(tags, list) and tags else ""


class _Layers:
    """The files of a manifest's layers."""

    def __init__(self, registry: _Registry, manifest: dict[str, Any]) -> None:
        self._registry = registry
        self._files: dict[str, _Blob] = {}
        layers = _maps(manifest.get("layers"))
        if len(layers) > _MOST_LAYERS:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{registry.called} has {len(layers)} layers, and {_MOST_LAYERS} at most are read: push the "
                "model alone",
            )
        named = [(layer, _named(layer)) for layer in layers]
        is_image = not any(name for _, name in named)
        for layer, name in named:
            blob = _Blob(str(layer.get("digest")), str(layer.get("mediaType")))
            if name and not _is_archive(blob.media_type, layer):
                self._files[_inside(name, registry.called)] = blob
            elif _is_archive(blob.media_type, layer) and (name or is_image):
                self._files.update(self._members(blob, f"{_CAR}/" if is_image else ""))
            if len(self._files) > _MOST_FILES:
                raise ModelError(
                    ModelFault.INVALID_MODEL_URI,
                    f"{registry.called} has more than {_MOST_FILES} files: push the model alone",
                )
        self._main = self._model()

    @property
    def main(self) -> str:
        return posixpath.basename(self._main)

    def describe(self, path: str) -> str:
        return f"{self._at(path)} of {self._registry.called}"

    @contextmanager
    def open(self, path: str) -> Iterator[Iterator[bytes]]:
        blob = self._files.get(self._at(path))
        if blob is None:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self._main} of {self._registry.called} keeps weights in {path!r}, but there is no "
                f"{self._at(path)} next to it: push that file too, or save the model as one file",
            )
        with self._registry.blob(blob.digest) as pieces:
            if not blob.member:
                yield pieces
                return
            with _archive(pieces, self._registry.called) as archive:
                for member in archive:
                    if _clean(member.name) == blob.member and member.isreg():
                        yield _content(archive, member, pieces)
                        return
        raise ModelError(
            ModelFault.MODEL_CHANGED, f"{self.describe(path)} is not in its layer any more: try again"
        )

    def _at(self, path: str) -> str:
        return posixpath.join(posixpath.dirname(self._main), path)

    def _members(self, blob: _Blob, below: str) -> dict[str, _Blob]:
        """The files of a layer that is an archive, of an image those of its folder for models."""
        found = {}
        with self._registry.blob(blob.digest) as pieces, _archive(pieces, self._registry.called) as archive:
            for member in archive:
                name = _clean(member.name)
                if member.isreg() and name.startswith(below) and name:
                    found[name] = _Blob(blob.digest, blob.media_type, name)
                if len(found) > _MOST_FILES:
                    break
        return found

    def _model(self) -> str:
        models = sorted(name for name in self._files if name.endswith(".onnx"))
        cars = [name for name in models if name.startswith(f"{_CAR}/")]
        models = cars or models
        if len(models) == 1:
            return models[0]
        if models:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI,
                f"{self._registry.called} has several .onnx files ({listed(models)}): push each under a name "
                "of its own",
            )
        raise ModelError(
            ModelFault.MODEL_NOT_FOUND,
            f"{self._registry.called} has no .onnx file; it holds: {listed(sorted(self._files))}. Push it "
            f"with 'oras push {self._registry.called}:TAG model.onnx'",
        )


def _of_index(asked: _Name, index: dict[str, Any]) -> str:
    """The digest of the one manifest that is meant: a model is the same on each platform."""
    usable = [
        each
        for each in _maps(index.get("manifests"))
        if (platform := each.get("platform")) is None
        or (isinstance(platform, dict) and platform.get("os") != "unknown")
    ]
    for each in usable:
        platform = each.get("platform") or {}
        if len(usable) == 1 or (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return str(each.get("digest"))
    raise ModelError(
        ModelFault.INVALID_MODEL_URI,
        f"{asked.repository} has an index of {len(usable)} manifests, none of them for linux/amd64: name one "
        "by its digest",
    )


def _maps(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _named(layer: dict[str, Any]) -> str:
    notes = layer.get("annotations")
    names = [notes.get(key) for key in _NAMES] if isinstance(notes, dict) else []
    return next((name for name in names if isinstance(name, str) and name), "")


def _is_archive(media_type: str, layer: dict[str, Any]) -> bool:
    notes = layer.get("annotations")
    unpack = isinstance(notes, dict) and notes.get("io.deis.oras.content.unpack") == "true"
    return unpack or re.search(r"[.+]tar\b", media_type) is not None


def _inside(name: str, called: str) -> str:
    path = _clean(name)
    if not path:
        raise ModelError(
            ModelFault.INVALID_MODEL_URI,
            f"a layer of {called} is called {shortened(name, 80)!r}, which is no file in a folder: push it "
            "from the folder of the model",
        )
    return path


def _clean(name: str) -> str:
    path = posixpath.normpath(name)
    return "" if path.startswith(("/", "..")) or path == "." or not path.isprintable() else path


class _Stream:
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, count: int) -> bytes:
        while len(self._held) < count and (piece := next(self._pieces, b"")):
            self._held += piece
        found, self._held = self._held[:count], self._held[count:]
        return found


@contextmanager
def _archive(pieces: Iterator[bytes], called: str) -> Iterator[tarfile.TarFile]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], _Stream(pieces)), mode="r|*"))
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise ModelError(
                ModelFault.MODEL_TRUNCATED,
                f"a layer of {called} cannot be unpacked ({shortened(str(error), 100)}): push it again, as "
                "tar or gzip",
            ) from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A file's bytes; then the rest of its layer is read, whose digest is known of all of it alone."""
    file = archive.extractfile(member)
    while file is not None and (piece := file.read(1024 * 1024)):
        yield piece
    for _ in pieces:
        pass


def _address_of(host: str) -> str:
    """Docker's registry is elsewhere than its name."""
    return "registry-1.docker.io" if host == "docker.io" else host
