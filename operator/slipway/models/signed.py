"""Who signed what is to be served: its files, by a signature next to them, or the manifest that has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from slipway.models.faults import ModelError, listed
from slipway.models.trust import SIGNATURE_FILE, Trust
from slipway.names import ModelFault

if TYPE_CHECKING:
    from slipway.models.cosign import Offer

#: What is wrong with a signature when it, and not the store, is to blame.
DAMAGED = (ModelFault.MODEL_NOT_FOUND, ModelFault.DIGEST_MISMATCH, ModelFault.UNSUPPORTED_ARTIFACT_STORE)
#: Problems that a message has.
_TOLD = 3


class Signable(Protocol):
    """What names files by their digests and may be signed as a whole."""

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hexadecimal digits."""

    @property
    def called(self) -> str:
        """What messages call it."""

    @property
    def has(self) -> Callable[[str], bool]:
        """Whether it names a file, by path."""

    def offers(self) -> Iterator[Offer]:
        """What there is as signatures; raises ``ModelError``."""

    def provenances(self) -> Iterator[Offer]:
        """What there is as statements of where it was built; raises ``ModelError``."""


def signer_of(
    bundle: bytes | None,
    where: str,
    sums: Mapping[str, str],
    trust: Trust,
    manifest: Signable | None = None,
    *,
    is_whole: bool = False,
) -> str:
    """Who signed exactly these files: one signature that counts is enough.

    Args:
        bundle: the signature next to them, if there is one.
        where: what messages call that.
        sums: SHA-256 (64 hexadecimal digits) of each file, by path.
        trust: who may have signed.
        manifest: what names the files, where that can be signed, too.
        is_whole: whether those are all files of the folder.

    Raises:
        ModelError: where nobody did who is trusted.
    """
    from slipway.models.signature import verify

    problems: list[str] = []
    if bundle is not None:
        try:
            return verify(bundle, trust, sums, where, is_whole)
        except ModelError as error:
            problems.append(str(error))
    if manifest is not None:
        for offer in manifest.offers():
            try:
                return _signer_by(offer, manifest, sums, trust)
            except ModelError as error:
                if error.reason != ModelFault.SIGNATURE_INVALID:
                    raise
                problems.append(str(error))
    if not problems:
        raise _missing(where, manifest)
    raise ModelError(ModelFault.SIGNATURE_INVALID, told(problems))


def told(problems: list[str]) -> str:
    """Problems in one message, each once."""
    problems = list(dict.fromkeys(problems))
    rest = f"; and {len(problems) - _TOLD} more do not count" if len(problems) > _TOLD else ""
    return "; ".join(problems[:_TOLD]) + rest


def _signer_by(offer: Offer, manifest: Signable, sums: Mapping[str, str], trust: Trust) -> str:
    """Who made a signature of a manifest; raises :class:`ModelError`."""
    from slipway.models.bundle import InvalidError
    from slipway.models.cosign import signer_of_manifest

    try:
        signer = signer_of_manifest(offer, manifest.digest, trust)
    except InvalidError as error:
        raise _invalid(offer, str(error)) from None
    except ModelError as error:
        if error.reason not in DAMAGED:
            raise
        raise _invalid(offer, str(error)) from None
    beside = sorted(path for path in sums if not manifest.has(path))
    if beside:
        raise _invalid(
            offer,
            f"it does not cover {listed(beside)}, which the manifest does not name: push it with the model "
            f"and sign that, or attach a {SIGNATURE_FILE} for all of it",
        )
    return signer


def _invalid(offer: Offer, what: str) -> ModelError:
    return ModelError(ModelFault.SIGNATURE_INVALID, f"{offer.where} does not count: {what}")


def _missing(where: str, manifest: Signable | None) -> ModelError:
    if manifest is None:
        what, also = f"there is no {where}", f"put the {SIGNATURE_FILE} of another tool next to it"
    else:
        what = f"there is no {where} and no signature by cosign of {manifest.called}"
        also = "sign that with cosign sign"
    return ModelError(
        ModelFault.SIGNATURE_MISSING,
        f"{what}, and spec.model.verify.signature asks for it: sign the model with slipway sign, or {also}",
    )
