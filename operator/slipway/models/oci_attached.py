"""Files that are attached to a model: artifacts of one type, whose subject is the model's manifest (OCI 1.1).

A registry lists what refers to a manifest. One that does not has a tag, made of the manifest's digest, under
which whoever attaches keeps that list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from slipway.contract import ModelFault
from slipway.models.faults import ModelError
from slipway.models.oci_layers import Blob, maps, title_of
from slipway.models.trust import SIGNATURE_FILE
from slipway.names import PROFILE_FILE, PROOF_FILE

#: The type of artifacts with files that belong next to a model.
ARTIFACT_TYPE = "application/vnd.slipway.model-files.v1"
#: What some registries list in place of the type: that of the empty configuration.
_UNTOLD = {"", "application/vnd.oci.empty.v1+json"}
#: Files that may be attached: none of them is served.
FILES = (PROFILE_FILE, PROOF_FILE, SIGNATURE_FILE)
#: Artifacts that may be of the type, which are read.
_MOST = 20
_CREATED = "org.opencontainers.image.created"


class Manifests(Protocol):
    """A repository of a registry."""

    @property
    def called(self) -> str:
        """What messages call it."""

    def referring(self, digest: str, kind: str) -> list[dict[str, Any]]:
        """The pages of the index of what refers to a manifest, of a type where the registry sorts it."""

    def manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """A manifest by tag or digest, with its digest; raises :class:`ModelError`."""


def referring(registry: Manifests, digest: str) -> tuple[str, ...]:
    """The digests of what refers to a manifest and may be of our type, in order.

    Raises :class:`ModelError` where they are too many.
    """
    found = referrers(registry, digest, ARTIFACT_TYPE)
    if len(found) > _MOST:
        raise ModelError(
            ModelFault.INVALID_MODEL_URI,
            f"{registry.called} has more than {_MOST} artifacts attached to {digest} that may be of the "
            f"type {ARTIFACT_TYPE}: delete those that are not needed ('oras discover' lists them, 'oras "
            "manifest delete' deletes one), or push the model again with its files in one artifact",
        )
    return found


def referrers(
    registry: Manifests,
    digest: str,
    kind: str,
    may_count: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> tuple[str, ...]:
    """The digests of what refers to a manifest and may be of a type, in order.

    Args:
        registry: its repository.
        digest: that of the manifest.
        kind: the type of artifacts.
        may_count: whether what is listed, of that type, is meant.
    """
    found = {
        str(each.get("digest"))
        for page in registry.referring(digest, kind)
        for each in maps(page.get("manifests"))
        if each.get("artifactType", "") in {kind, *_UNTOLD} and may_count(each)
    }
    return tuple(sorted(found))


def attached(
    registry: Manifests, subject: str, digests: Iterable[str], *, may_be_gone: bool = False
) -> dict[str, tuple[str, Blob]]:
    """Files by name, each with the digest of the artifact that has it: of several the one that was made last.

    ``may_be_gone``: an artifact that was deleted since has none. Raises :class:`ModelError`.
    """
    found: dict[str, tuple[str, str, Blob]] = {}
    for digest in digests:
        try:
            manifest = registry.manifest(digest)[1]
        except ModelError as error:
            if not may_be_gone or error.reason != ModelFault.MODEL_NOT_FOUND:
                raise
            continue
        refers = manifest.get("subject")
        is_of_it = isinstance(refers, dict) and refers.get("digest") == subject
        if manifest.get("artifactType") != ARTIFACT_TYPE or not is_of_it:
            continue
        notes = manifest.get("annotations")
        made = str(notes.get(_CREATED, "")) if isinstance(notes, dict) else ""
        for layer in maps(manifest.get("layers")):
            name = title_of(layer)
            if name in FILES and (name not in found or (made, digest) > found[name][:2]):
                found[name] = (made, digest, Blob.of(layer))
    return {name: (digest, blob) for name, (_, digest, blob) in found.items()}


def mark_of(digest: str, refer: Iterable[str]) -> str:
    """A short name of a manifest and of what refers to it."""
    lines = [digest, *refer]
    if len(lines) == 1:
        return digest
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"
