"""Signed tokens (JWT): whom they name, told offline by the public keys of their issuers."""

from __future__ import annotations

import binascii
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import jwt
import orjson

from slipway.names import CLUSTER_ISSUER
from slipway_server.access.jwks import ALGORITHMS, KeySet, read_key_set
from slipway_server.access.mounted import current
from slipway_server.settings import Access, RequiredClaim

#: Clocks may differ by so much, in seconds.
SKEW = 60
#: Claims that say from when on a token is good.
_BEGINNINGS = ("nbf", "iat")
#: Callers of an issuer's tokens begin with it, and with the issuer's name in the spec.
TOKEN_PREFIX = "jwt:"
_LONGEST_SUBJECT = 256
_ACCOUNT = re.compile(r"system:serviceaccount:[a-z0-9][-a-z0-9]{0,62}:[a-z0-9][-.a-z0-9]{0,252}")
_PART = re.compile(rb"[-_A-Za-z0-9]+")
_VERIFIERS = {name: jwt.get_algorithm_by_name(name) for name in ALGORITHMS}


class TokenError(Exception):
    """Why a token names nobody. With ``is_ours`` it is this server's keys that are missing."""

    def __init__(self, words: str, is_ours: bool = False) -> None:
        super().__init__(words)
        self.is_ours = is_ours


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a token names, until when (seconds since 1970)."""

    caller: str
    until: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a token says of itself, before anybody believes it.

    Attributes:
        signed: what the signature is of.
        claims: as they were read, once.
        key: what it has to be signed with.
        wall: when it was shown, in seconds since 1970.
    """

    signed: bytes
    signature: bytes
    claims: dict[str, Any]
    algorithm: str
    key: Any
    issuer: _Trusted
    wall: float


@dataclass(frozen=True, slots=True)
class _Trusted:
    """One issuer, with its keys as they are now."""

    name: str
    issuer: str
    audiences: frozenset[str]
    claim: str
    required: tuple[RequiredClaim, ...]
    keys: KeySet


class Issuers:
    """All issuers whose tokens are taken. What cannot be read verifies nothing."""

    def __init__(self, access: Access, directory: Path) -> None:
        self._access = access
        self._directory = directory
        self._trusted: dict[str, _Trusted] = {}
        #: What is wrong with the keys.
        self.faults: tuple[str, ...] = ()
        self.read()

    @property
    def has_keys(self) -> bool:
        """Whether any token at all could be good."""
        return any(each.keys.keys for each in self._trusted.values())

    def read(self) -> None:
        """Read all keys again."""
        found = []
        directory = current(self._directory)
        for each in self._access.issuers:
            keys = read_key_set(directory / f"{each.name}.json")
            audiences = frozenset(each.audiences)
            found.append(
                _Trusted(each.name, each.issuer, audiences, each.callerClaim, each.requiredClaims, keys)
            )
        if self._access.serviceAccountAudience:
            keys = read_key_set(directory / f"{CLUSTER_ISSUER}.json")
            audiences = frozenset((self._access.serviceAccountAudience,))
            found.append(_Trusted(CLUSTER_ISSUER, keys.issuer, audiences, "sub", (), keys))
        self.faults = tuple(fault for each in found for fault in each.keys.faults)
        self._trusted = {}
        for trusted in found:
            # The first one of a name counts: a spec has no two, but for the cluster's own.
            self._trusted.setdefault(trusted.issuer, trusted)

    def claimed(self, token: bytes, wall: float) -> Claimed:
        """What a token says of itself; raises :class:`TokenError` where it can be refused for that alone.

        This costs a few microseconds, and computes nothing with keys. ``wall`` is in seconds since 1970.
        """
        parts = token.split(b".")
        if len(parts) != 3 or not all(map(_PART.fullmatch, parts)):
            raise TokenError("this is no signed token")
        head, claims = _object(parts[0]), _object(parts[1])
        algorithm, kid = head.get("alg"), head.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise TokenError("the token is signed in a way that is not taken")
        if "crit" in head or "b64" in head or not isinstance(kid, str | None):
            raise TokenError("the token has a header that is not understood")
        named = claims.get("iss")
        issuer = self._trusted.get(named) if isinstance(named, str) and named else None
        if issuer is None:
            if any(not each.issuer for each in self._trusted.values()):
                raise TokenError("the server does not know yet who issues the cluster's tokens", True)
            raise TokenError("the token is of an issuer that is not one of this model's")
        if not issuer.keys.keys:
            raise TokenError(
                "the server has no keys of the token's issuer; its owner has to look at them", True
            )
        expires = claims.get("exp")
        if not _is_time(expires):
            raise TokenError("the token does not say until when it is good")
        if expires + SKEW <= wall:
            raise TokenError("the token has expired: get another one")
        if not _meets(claims.get("aud"), issuer.audiences):
            raise TokenError("the token is for another audience")
        key = issuer.keys.find(kid, algorithm)
        if key is None:
            raise TokenError("the token is signed with a key that is not, or no longer, its issuer's")
        signed = token[: -len(parts[2]) - 1]
        return Claimed(signed, _bytes(parts[2]), claims, algorithm, key, issuer, wall)

    def verify(self, claimed: Claimed) -> Named:
        """Whom a token names; raises :class:`TokenError` if its issuer did not sign it so."""
        issuer, claims = claimed.issuer, claimed.claims
        # Not by jwt.decode: it parses all again, which takes three times as long as an RSA signature.
        try:
            is_signed = _VERIFIERS[claimed.algorithm].verify(claimed.signed, claimed.key, claimed.signature)
        except (jwt.PyJWTError, ValueError, TypeError):
            is_signed = False
        if not is_signed or not _is_well_formed(claims):
            raise TokenError("the token is not good: its signature or its claims are wrong")
        if any(claims[name] > claimed.wall + SKEW for name in _BEGINNINGS if name in claims):
            raise TokenError("the token is not good yet")
        for each in issuer.required:
            if not _meets(claims.get(each.name), frozenset(each.values)):
                raise TokenError("the token lacks a claim that this model requires")
        subject = claims.get(issuer.claim)
        if (
            not isinstance(subject, str)
            or not 0 < len(subject) <= _LONGEST_SUBJECT
            or not subject.isprintable()
        ):
            raise TokenError("the token names nobody")
        until = float(claims["exp"]) + SKEW
        if issuer.name != CLUSTER_ISSUER:
            return Named(f"{TOKEN_PREFIX}{issuer.name}:{subject}", until)
        if not _ACCOUNT.fullmatch(subject):
            raise TokenError("the token is of no ServiceAccount")
        return Named(subject, until)


def _meets(given: Any, wanted: Iterable[str]) -> bool:
    """Whether a claim is one of some strings, or a list with one of them."""
    if isinstance(given, list):
        return any(isinstance(each, str) and each in wanted for each in given)
    return isinstance(given, str) and given in wanted


def _is_time(given: Any) -> TypeGuard[float]:
    """Whether a claim is a time as RFC 7519 has it: a number of seconds since 1970."""
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _is_well_formed(claims: dict[str, Any]) -> bool:
    """Whether the registered claims that a token has are of the types of RFC 7519."""
    if not all(_is_time(claims[name]) for name in _BEGINNINGS if name in claims):
        return False
    if not all(isinstance(claims[name], str) for name in ("sub", "jti") if name in claims):
        return False
    audience = claims.get("aud")
    return not isinstance(audience, list) or all(isinstance(each, str) for each in audience)


def _bytes(part: bytes) -> bytes:
    try:
        return urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        raise TokenError("this is no signed token") from None


def _object(part: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(_bytes(part))
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise TokenError("this is no signed token")
    return found
