"""Who may have signed a model: what a resolver is given of ``spec.model.verify.signature``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from slipway.contract import Identity
from slipway.names import AUTHORITIES_ENV, PUBLIC_KEYS_ENV, TRUST_ROOT_ENV

#: The signature next to a model, as OpenSSF Model Signing calls it: no part of the model.
SIGNATURE_FILE = "model.sig"
#: Bundles that say where a model was built, next to it as well: one, or one a line.
PROVENANCE_FILE = "provenance.sigstore.json"
_FIELD = "spec.model.verify.signature"


@dataclass(frozen=True)
class Trust:
    """Who may have signed a model: holders of keys, or identities by certificates, or by Sigstore's logs.

    Attributes:
        keys: public keys in PEM, one after the other.
        authorities: certificates in PEM that chains have to lead to; None where certificates do not count.
        root: Sigstore's ``trusted_root.json``; None where keyless signatures do not count.
        identities: whom a certificate may name.
        named: what messages call the place of the keys, the authorities or the trust root.
    """

    keys: str = ""
    authorities: str | None = None
    root: str | None = None
    identities: tuple[Identity, ...] = ()
    named: str = f"{_FIELD}.publicKeys"

    @classmethod
    def of(
        cls,
        identities: tuple[Identity, ...] = (),
        environment: Mapping[str, str] = os.environ,
        named: str | None = None,
    ) -> Trust:
        """As a resolver's pod has it in environment variables and in its task."""
        if TRUST_ROOT_ENV in environment:
            named = named or f"{_FIELD}.keyless.trustRoot"
            return cls(root=environment[TRUST_ROOT_ENV], identities=identities, named=named)
        if AUTHORITIES_ENV in environment:
            named = named or f"{_FIELD}.certificate.authorities"
            return cls(authorities=environment[AUTHORITIES_ENV], identities=identities, named=named)
        return cls(environment.get(PUBLIC_KEYS_ENV, ""), named=named or f"{_FIELD}.publicKeys")


def called(identity: Identity) -> str:
    """An identity in words."""
    issuer = f" by {identity.issuer}" if identity.issuer is not None else ""
    return f"{identity.kind}:{identity.value}{issuer}"
