"""Where signatures of a manifest, and statements about it, are in a registry, as cosign puts them there.

Cosign 3 attaches an artifact with a bundle to the manifest. Cosign 2 has a tag made of the manifest's digest,
and a layer below it for each signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from slipway.contract import ModelFault
from slipway.models.cosign import BUNDLE, PREDICATE, PROVENANCE, SIMPLE, Offer
from slipway.models.faults import ModelError
from slipway.models.oci_attached import Manifests, referrers
from slipway.models.oci_layers import maps
from slipway.models.signature import LARGEST_SIGNATURE

#: Signatures of one manifest that are read, of each kind.
_MOST = 50
_PREDICATE = "dev.sigstore.bundle.predicateType"


class Repository(Manifests, Protocol):
    """A repository of a registry."""

    def tagged(self, tag: str) -> dict[str, Any] | None:
        """The manifest of a tag; None where there is none."""

    def blob(self, digest: str) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a blob, which must have its digest."""


def offers(registry: Repository, digest: str) -> Iterator[Offer]:
    """What a registry has as signatures of a manifest, those by cosign 3 first.

    Raises :class:`ModelError` where they are too many, or the registry does not answer.
    """
    artifacts = referrers(registry, digest, BUNDLE, _is_signature)
    yield from _attached(registry, artifacts[:_MOST], "signature")
    tag = f"{digest.replace(':', '-')}.sig"
    layers = maps((registry.tagged(tag) or {}).get("layers"))
    yield from _tagged(registry, tag, layers[:_MOST])
    if len(artifacts) > _MOST or len(layers) > _MOST:
        raise ModelError(
            ModelFault.SIGNATURE_INVALID,
            f"{registry.called} has more than {_MOST} signatures of {digest}, and of the first none counts: "
            "delete those that are not needed ('cosign clean' deletes all), and sign it again",
        )


def provenances(registry: Repository, digest: str) -> Iterator[Offer]:
    """What a registry has attached to a manifest that says where it was built.

    Raises :class:`ModelError` where they are too many, or the registry does not answer.
    """
    artifacts = referrers(registry, digest, BUNDLE, _is_provenance)
    yield from _attached(registry, artifacts[:_MOST], "provenance")
    if len(artifacts) > _MOST:
        raise ModelError(
            ModelFault.PROVENANCE_INVALID,
            f"{registry.called} has more than {_MOST} attestations of {digest} that may be of provenance, "
            "and of the first none counts: delete those that are not needed ('oras discover' lists them)",
        )


def _attached(registry: Repository, artifacts: Iterable[str], kind: str) -> Iterator[Offer]:
    for artifact in artifacts:
        try:
            manifest = registry.manifest(artifact)[1]
        except ModelError as error:
            if error.reason != ModelFault.MODEL_NOT_FOUND:
                raise
            continue
        # There is one in what cosign makes.
        for layer in maps(manifest.get("layers"))[:1]:
            if layer.get("mediaType") == BUNDLE:
                where = f"the {kind} {artifact} of {registry.called}"
                yield Offer(where, _Reading(registry, str(layer.get("digest"))))


def _tagged(registry: Repository, tag: str, layers: Iterable[dict[str, Any]]) -> Iterator[Offer]:
    for place, layer in enumerate(layers, start=1):
        notes = layer.get("annotations")
        if layer.get("mediaType") == SIMPLE and isinstance(notes, dict):
            where = f"signature {place} of {registry.called}:{tag}"
            yield Offer(where, _Reading(registry, str(layer.get("digest"))), notes)


def _is_signature(listed: dict[str, Any]) -> bool:
    """Whether what is listed may be a signature, and not the result of a scan, for one."""
    notes = listed.get("annotations")
    return not isinstance(notes, dict) or notes.get(_PREDICATE, PREDICATE) == PREDICATE


def _is_provenance(listed: dict[str, Any]) -> bool:
    """Whether what is listed may be provenance, of whatever version."""
    notes = listed.get("annotations")
    kind = str(notes.get(_PREDICATE, PROVENANCE)) if isinstance(notes, dict) else PROVENANCE
    return kind.startswith(PROVENANCE.removesuffix("v1"))


@dataclass(frozen=True)
class _Reading:
    """Reads a blob, cut once it is too large for a signature."""

    registry: Repository
    digest: str

    def __call__(self) -> bytes:
        text = bytearray()
        with self.registry.blob(self.digest) as pieces:
            for piece in pieces:
                text += piece
                if len(text) > LARGEST_SIGNATURE:
                    break
        return bytes(text)
