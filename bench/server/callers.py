"""Our server where callers show who they are: what it is told, and the header that requests carry."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway.contract import Access, AccessLimits, AccessRule, CallerLimits, Issuer
from tests.server.tokens import AUDIENCE, ISSUER, Signer, key_set

KEYS, TOKENS = "slipway-keys", "slipway-tokens"
_EVERYBODY = (AccessRule(callers=("*",), actions=("Infer",)),)


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may ask (none: everybody), where the server reads their keys, and what a request shows."""

    access: Access | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def limited(callers: Iterable[str], requests_per_second: int, scratch: Path) -> dict[str, Guard]:
    """One guard with so many requests a second for each of these callers, by whose header is shown."""
    keys, shown = scratch / "keys", {name: secrets.token_urlsafe(32) for name in callers}
    keys.mkdir(exist_ok=True)
    for name, key in shown.items():
        (keys / name).write_text(f"sha256:{hashlib.sha256(key.encode()).hexdigest()}")
    limits = AccessLimits(perCaller=CallerLimits(requestsPerSecond=requests_per_second))
    access = Access(allow=_EVERYBODY, limits=limits)
    environment = {"SLIPWAY_ACCESS_KEYS_DIR": str(keys)}
    return {name: Guard(access, environment, _bearer(key)) for name, key in shown.items()}


def guard(name: str, scratch: Path) -> Guard:
    """The guard of the server of this name; its files are made in ``scratch``."""
    if name == KEYS:
        keys, key = scratch / "keys", secrets.token_urlsafe(32)
        keys.mkdir(exist_ok=True)
        (keys / "app").write_text(f"sha256:{hashlib.sha256(key.encode()).hexdigest()}")
        return Guard(Access(allow=_EVERYBODY), {"SLIPWAY_ACCESS_KEYS_DIR": str(keys)}, _bearer(key))
    if name == TOKENS:
        issuers, signer = scratch / "issuers", Signer("ES256")
        issuers.mkdir(exist_ok=True)
        (issuers / "sso.json").write_text(key_set(signer.jwk()))
        sso = Issuer(name="sso", issuer=ISSUER, audiences=(AUDIENCE,))
        access = Access(allow=_EVERYBODY, apiKeys=False, issuers=(sso,))
        return Guard(access, {"SLIPWAY_ACCESS_ISSUERS_DIR": str(issuers)}, _bearer(signer.token()))
    return Guard()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
