"""Who signed a model without a key of their own, as Sigstore has it: by an identity of an OpenID issuer.

Sigstore's own library verifies: the certificate that Fulcio issued for minutes, that it was logged, and that
Rekor logged the signature while it was valid. All of that is in the bundle, and is verified by the trust root
that the spec names. Nothing is fetched.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cryptography import x509
from sigstore._internal.trust import RekorKeyring
from sigstore.errors import Error, VerificationError
from sigstore.models import Bundle, InvalidBundle, TransparencyLogEntry, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import OIDCIssuer, OIDCIssuerV2

from slipway.models.bundle import PAYLOAD, InvalidError
from slipway.models.certificates import accepted
from slipway.models.faults import ModelError
from slipway.models.trust import Trust
from slipway.names import ModelFault


def statement_of(bundle: bytes, trust: Trust) -> tuple[str, bytes]:
    """Who signed a bundle's statement, in words, and the statement.

    Raises:
        InvalidError: where it does not count.
        ModelError: where the trust root cannot be used.
    """
    verifier = _verifier(trust)
    policy = _Accepted(trust)
    with _asked():
        kind, payload = verifier.verify_dsse(Bundle.from_json(bundle), policy)
    if kind != PAYLOAD:
        raise InvalidError(f"it is of {kind[:100]!r} and not {PAYLOAD!r}")
    return policy.found, payload


def signer_of_promised(
    message: bytes, signature: bytes, certificate: Mapping[str, str], entry: Mapping[str, Any], trust: Trust
) -> str:
    """Who signed a message, in words, where the log's promise is all that the signer kept of it.

    Args:
        message: that was signed.
        signature: of it.
        certificate: that of the signer, as a bundle has it.
        entry: the log's, as Rekor answers it: ``body``, ``integratedTime``, ``logIndex``, ``logID``; and its
            ``promise``.
        trust: the authorities and logs, and who is accepted.

    Raises:
        InvalidError: where it does not count.
        ModelError: where the trust root cannot be used.
    """
    verifier = _verifier(trust)
    policy = _Accepted(trust)
    with _asked():
        logged = {
            "logIndex": str(entry["logIndex"]),
            "logId": {"keyId": b64encode(bytes.fromhex(entry["logID"])).decode()},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
            "integratedTime": str(entry["integratedTime"]),
            "inclusionPromise": {"signedEntryTimestamp": entry["promise"]},
            # The format wants one. It proves nothing, and nobody looks at it.
            "inclusionProof": {"logIndex": "0", "rootHash": "", "treeSize": "1", "hashes": []},
            "canonicalizedBody": entry["body"],
        }
        said = {
            "mediaType": Bundle.BundleType.BUNDLE_0_1.value,
            "verificationMaterial": {
                "x509CertificateChain": {"certificates": [certificate]},
                "tlogEntries": [logged],
            },
            "messageSignature": {
                "messageDigest": {
                    "algorithm": "SHA2_256",
                    "digest": b64encode(hashlib.sha256(message).digest()).decode(),
                },
                "signature": b64encode(signature).decode(),
            },
        }
        verifier.verify_artifact(message, _Promised.from_json(json.dumps(said)), policy)
    return policy.found


class _PromisedEntry(TransparencyLogEntry):
    """An entry that the log promised to take in, and a time that it signed; not the proof that it did.

    Bundles of version 0.1 may have no more. Sigstore's library wants the proof of them, too, which cosign 2
    does not keep.
    """

    def _validate(self) -> None:
        if self._inner.inclusion_promise is None or not self._inner.integrated_time:
            raise InvalidBundle("entry must contain inclusion promise, with time")

    def _verify(self, keyring: RekorKeyring) -> None:
        self._verify_set(keyring)


class _Promised(Bundle):
    """A bundle with such an entry."""

    def _verify(self) -> None:
        material = self._inner.verification_material
        assert material.x509_certificate_chain is not None
        (leaf,), (entry,) = material.x509_certificate_chain.certificates, material.tlog_entries
        self._signing_certificate = x509.load_der_x509_certificate(leaf.raw_bytes)
        self._log_entry = _PromisedEntry(entry)


@contextmanager
def _asked() -> Iterator[None]:
    """What Sigstore's library raises, as :class:`InvalidError`."""
    try:
        yield
    except InvalidError:
        raise
    except Error as error:
        raise InvalidError(f"Sigstore does not accept it: {error}") from None
    except Exception as error:  # what an attacker wrote can trip the library in any way
        raise InvalidError(f"Sigstore cannot read it ({type(error).__name__}: {error})") from None


class _Accepted:
    """The policy by which an identity is accepted, and which it was."""

    def __init__(self, trust: Trust) -> None:
        self._trust, self.found = trust, ""

    def verify(self, cert: x509.Certificate) -> None:
        """Raise :class:`InvalidError` where the certificate is of nobody who is accepted."""
        issuers = {identity.issuer for identity in self._trust.identities if identity.issuer is not None}
        issuer = next((issuer for issuer in sorted(issuers) if _is_by(cert, issuer)), None)
        if issuer is None:
            raise InvalidError(
                "its certificate is of none of the issuers of the identities that are accepted: let one of "
                "them sign, or add the identity, if it is to be trusted"
            )
        self.found = accepted(cert, self._trust, issuer)


def _is_by(cert: x509.Certificate, issuer: str) -> bool:
    for policy in (OIDCIssuerV2(issuer), OIDCIssuer(issuer)):
        try:
            policy.verify(cert)
        except VerificationError:
            continue
        return True
    return False


def _verifier(trust: Trust) -> Verifier:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(trust.root or "")
        file.flush()
        try:
            return Verifier(trusted_root=TrustedRoot.from_file(file.name))
        except (Error, ValueError) as error:
            raise ModelError(
                ModelFault.SIGNATURE_INVALID,
                f"{trust.named} is no trust root that can be used ({error}): put a trusted_root.json there",
            ) from None
