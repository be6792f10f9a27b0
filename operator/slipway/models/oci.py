"""``oci://REGISTRY/REPO[:TAG|@DIGEST]``: artifacts, ModelPack and modelcars in registries.

What is pinned is ``oci://REGISTRY/REPO@DIGEST``, and with ``?attached=DIGEST,DIGEST`` what is attached to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx

from slipway.contract import ModelFault, Resolution
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError, listed
from slipway.models.folder import Whole
from slipway.models.marks import is_same, of_bytes
from slipway.models.oci_attached import attached, mark_of, referring
from slipway.models.oci_layers import CAR, Layers, maps
from slipway.models.oci_login import Door, login_of
from slipway.models.oci_memory import Memory, today
from slipway.models.source import Located
from slipway.models.web import Answer, Web, unexpected

if TYPE_CHECKING:
    from slipway.models.cosign import Offer

_HOST = r"(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?)"
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_URI = re.compile(
    rf"oci://{_HOST}/(?P<name>{_NAME}(?:/{_NAME})*)"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})"
    rf"|@(?P<digest>{_DIGEST})(?:\?attached=(?P<attached>{_DIGEST}(?:,{_DIGEST})*))?)?"
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
#: Of what refers to a manifest.
_MOST_PAGES = 10
_PATIENCE = 60.0


@dataclass(frozen=True)
class _Name:
    host: str
    name: str
    tag: str
    digest: str
    #: Digests of the artifacts with files next to the model; None where they are to be looked up.
    attached: tuple[str, ...] | None = None

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
        attached = tuple(match["attached"].split(",")) if match["attached"] else None
        tag = "" if digest else match["tag"] or "latest"
        return cls(match["host"], match["name"], tag, digest, attached)

    @property
    def repository(self) -> str:
        return f"{self.host}/{self.name}"

    def pinned(self, digest: str, attached: Iterable[str] = ()) -> str:
        tail = ",".join(attached)
        return f"oci://{self.repository}@{digest}" + (f"?attached={tail}" if tail else "")


class OciSource:
    """Registries, entered with a name and password or a pull secret, or as everybody."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def locate(self, uri: str) -> Located:
        asked, registry, digest, manifest = self._found(uri)
        if asked.attached is None:
            refer = referring(registry, digest)
            beside = attached(registry, digest, refer)
        else:
            refer = asked.attached
            beside = attached(registry, digest, refer, may_be_gone=True)
        files = Layers(registry, manifest, {name: blob for name, (_, blob) in beside.items()})
        pinned = asked.pinned(digest, sorted({artifact for artifact, _ in beside.values()}))
        return Located(
            uri=pinned,
            version=None,
            files=files,
            mark=registry.memory.with_mark(mark_of(digest, refer)),
            whole=True,
            manifest=_Signed(registry, digest, files.has),
        )

    def whole(self, uri: str) -> Whole | None:
        """All files of an artifact, or those in the folder for models of an image; none that are attached."""
        asked, registry, digest, manifest = self._found(uri)
        files = Layers(registry, manifest)
        return Whole(
            asked.pinned(digest),
            None,
            files.sizes(),
            files.describe_whole,
            files.read,
            mark=registry.memory.with_mark(digest),
            manifest=_Signed(registry, digest, lambda _: True),
        )

    def _found(self, uri: str) -> tuple[_Name, _Registry, str, dict[str, Any]]:
        """The name, its repository, the digest that it has, and the manifest with the files."""
        asked = _Name.read(uri)
        registry = _Registry(asked, self._credentials)
        digest, manifest = registry.manifest(asked.digest or asked.tag)
        if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
            chosen = _of_index(asked, manifest)
            manifest = registry.manifest(chosen)[1]
        return asked, registry, digest, manifest

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        asked = _Name.read(uri)
        registry = _Registry(asked, self._credentials, Memory.of(known.mark))
        digest = registry.manifest(asked.digest or asked.tag)[0]
        if known.folder is not None or known.mark is None:
            is_still = known.uri == asked.pinned(digest)
        else:
            is_still = known.uri.startswith(asked.pinned(digest)) and is_same(
                known.mark, mark_of(digest, referring(registry, digest))
            )
        if not is_still or known.mark is None:
            return known if is_still else None
        return known.model_copy(update={"mark": registry.memory.with_mark(of_bytes(known.mark))})


@dataclass(frozen=True)
class _Signed:
    """The manifest that a name leads to, as :class:`slipway.models.signed.Signable` has it.

    Attributes:
        registry: its repository.
        digest: its digest.
        has: whether it names a file, by path.
    """

    registry: _Registry
    digest: str
    has: Callable[[str], bool]

    @property
    def called(self) -> str:
        return f"{self.registry.called}@{self.digest}"

    def offers(self) -> Iterator[Offer]:
        # Nobody else needs what verifies.
        from slipway.models.oci_signatures import offers

        return offers(self.registry, self.digest)

    def provenances(self) -> Iterator[Offer]:
        from slipway.models.oci_signatures import provenances

        return provenances(self.registry, self.digest)


class _Registry:
    """One repository of a registry."""

    def __init__(self, asked: _Name, credentials: Credentials, memory: Memory | None = None) -> None:
        """``memory``: of the looks before; afterwards what this one found out, too."""
        self.memory = memory or Memory()
        self.called = asked.repository
        self._base = f"https://{_address_of(asked.host)}/v2/{asked.name}"
        self._tag = asked.tag
        trust = credentials.trust()
        self._door = Door(httpx.URL(self._base), asked.name, login_of(asked.host, credentials), trust)
        entered = self._door.enter(self.memory.entry)
        self._web = Web(self._base, entered, trust, _HINT, challenge=self._answer)

    def _answer(self, challenge: str) -> str | None:
        authorization, note = self._door.answer(challenge)
        self.memory = replace(self.memory, entry=note)
        return authorization

    def manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """A manifest by tag or digest, with its digest; raises :class:`ModelError`."""
        found = self._manifest(reference)
        if found is None:
            raise ModelError(
                ModelFault.MODEL_NOT_FOUND,
                f"{self.called} has no {reference}{self._tags()}. Push it, or fix spec.model.uri",
            )
        return found

    def tagged(self, tag: str) -> dict[str, Any] | None:
        """The manifest of a tag; None where there is none."""
        try:
            found = self._manifest(tag)
        except ModelError as error:
            # Registries may deny what they do not have.
            if error.reason != ModelFault.MODEL_ACCESS_DENIED:
                raise
            return None
        return found[1] if found else None

    def _manifest(self, reference: str) -> tuple[str, dict[str, Any]] | None:
        url = f"{self._base}/manifests/{reference}"
        status, text, _ = self._read(url, (*_MANIFESTS, *_INDEXES), reference)
        if status == 404:
            return None
        if status != 200:
            raise unexpected(url, Answer(status, text.decode("utf-8", "replace")))
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        if ":" in reference and digest != reference:
            raise ModelError(
                ModelFault.DIGEST_MISMATCH,
                f"{self.called} answers with another manifest ({digest}) than {reference}: check the "
                "registry and any proxy in between",
            )
        manifest = _object(text)
        if manifest is None:
            raise self._unreadable(f"{reference} has a manifest that is no JSON object")
        return digest, manifest

    def referring(self, digest: str, kind: str) -> list[dict[str, Any]]:
        """The pages of what refers to a manifest, by the referrers API, or a tag where that is not there."""
        if self.memory.by_tag is None:
            pages = self._index(f"referrers/{digest}?artifactType={kind}")
            if pages is not None:
                return pages
            self.memory = replace(self.memory, by_tag=today())
        return self._index(f"manifests/{digest.replace(':', '-')}") or []

    def _index(self, path: str) -> list[dict[str, Any]] | None:
        """The pages of an index below the repository; None where the registry has none there."""
        pages: list[dict[str, Any]] = []
        url = f"{self._base}/{path}"
        while url:
            try:
                status, text, url = self._read(url, _INDEXES[:1], path.partition("?")[0])
            except ModelError as error:
                # Registries may deny what they do not have.
                if error.reason != ModelFault.MODEL_ACCESS_DENIED or pages:
                    raise
                return None
            page = _object(text) if status == 200 else None
            if page is None or not isinstance(page.get("manifests"), list):
                return pages or None
            pages.append(page)
            if len(pages) > _MOST_PAGES:
                raise self._unreadable(f"{path.partition('?')[0]} has more than {_MOST_PAGES} pages")
        return pages

    def _read(self, url: str, accept: Iterable[str], called: str) -> tuple[int, bytes, str]:
        """The status and the body of an answer, and the address of its next page, if it has one."""
        with self._web.exchange(url, {"Accept": ", ".join(accept)}, None) as response:
            text = bytearray()
            for piece in response.iter_bytes():
                text += piece
                if len(text) > _LARGEST_MANIFEST:
                    raise self._unreadable(f"{called} has a manifest of more than 4 MiB")
            after = response.links.get("next", {}).get("url", "")
            return response.status_code, bytes(text), str(response.url.join(after)) if after else ""

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
            f"/{CAR}",
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


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _of_index(asked: _Name, index: dict[str, Any]) -> str:
    """The digest of the one manifest that is meant: a model is the same on each platform."""
    usable = [
        each
        for each in maps(index.get("manifests"))
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


def _address_of(host: str) -> str:
    """Docker's registry is elsewhere than its name."""
    return "registry-1.docker.io" if host == "docker.io" else host
