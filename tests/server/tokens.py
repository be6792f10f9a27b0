"""Issuers for the tests: key pairs, the sets of their public keys, and tokens signed with them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER, AUDIENCE = "https://sso.example.com", "fraud"
#: Making RSA keys takes long, so that all tests have the same.
_RSA: list[Any] = []


def private_key(algorithm: str) -> Any:
    """A new one, but for RSA."""
    if algorithm[:2] in ("RS", "PS"):
        if not _RSA:
            _RSA.append(rsa.generate_private_key(65537, 2048))
        return _RSA[0]
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[algorithm])


class Signer:
    """One issuer's key pair."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "k1") -> None:
        self.algorithm, self.kid = algorithm, kid
        self.private = private_key(algorithm)

    def jwk(self, **more: Any) -> dict[str, Any]:
        """The public key."""
        made = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        named = {} if self.kid is None else {"kid": self.kid}
        return {**{k: v for k, v in made.items() if k != "key_ops"}, **named, "use": "sig", **more}

    def token(
        self,
        claims: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **more: Any,
    ) -> str:
        """A good token, but for what is said otherwise."""
        given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": time.time() + 3600, **(claims or {})}
        given.update(more)
        for name in without:
            del given[name]
        kid = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode(given, self.private, self.algorithm, {**kid, **(headers or {})})


def key_set(*keys: Mapping[str, Any], **more: Any) -> str:
    return json.dumps({"keys": list(keys), **more})


__all__ = ["AUDIENCE", "ISSUER", "Signer", "key_set", "private_key"]
