"""Who signed a model without a key of their own, as Sigstore has it: by an identity of an OpenID issuer.

Sigstore's own library verifies: the certificate that Fulcio issued for minutes, that it was logged, and that
Rekor logged the signature while it was valid. All of that is in the bundle, and is verified by the trust root
that the spec names. Nothing is fetched.
"""

from __future__ import annotations

import tempfile

from cryptography import x509
from sigstore.errors import Error, VerificationError
from sigstore.models import Bundle, TrustedRoot
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
    try:
        kind, payload = verifier.verify_dsse(Bundle.from_json(bundle), policy)
    except InvalidError:
        raise
    except Error as error:
        raise InvalidError(f"Sigstore does not accept it: {error}") from None
    except Exception as error:  # what an attacker wrote can trip the library in any way
        raise InvalidError(f"Sigstore cannot read it ({type(error).__name__}: {error})") from None
    if kind != PAYLOAD:
        raise InvalidError(f"it is of {kind[:100]!r} and not {PAYLOAD!r}")
    return policy.found, payload


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
