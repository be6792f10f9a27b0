"""Public keys of issuers that the operator reads at addresses, so that pods ask no issuer.

Each ModelDeployment has a ConfigMap with the key sets of its issuers, which its pods mount as they would one
that somebody else keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slipway.api.access import Issuer, KeyRef, Source
from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.naming import content_hash
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.observed import Manifest, ObjectKind, Observed

#: What an issuer may show: keys, and characters of one member of a key.
MOST_KEYS, LONGEST_MEMBER = 64, 4096
_PUBLIC = ("kty", "kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y")
_KINDS = ("RSA", "EC", "OKP")


def key_set_text(document: Mapping[str, Any]) -> str:
    """The public half of the public keys of a JSON Web Key Set.

    The same keys in another order are the same text, and an empty set is one. Raises ``ValueError`` for what
    is none.
    """
    keys = document.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError("shows no JSON Web Key Set")
    if len(keys) > MOST_KEYS:
        raise ValueError(f"shows more than {MOST_KEYS} keys")
    found = [
        {name: key[name] for name in _PUBLIC if name in key and _fits(key[name])}
        for key in keys
        # A secret that both sides know is no key of an issuer's, and nobody else is to have it.
        if key.get("kty") in _KINDS
    ]
    found.sort(key=lambda key: json.dumps(key, sort_keys=True))
    return json.dumps({"keys": found}, sort_keys=True)


def _fits(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= len(_PUBLIC) and all(isinstance(one, str) and len(one) <= 32 for one in value)
    return isinstance(value, str) and len(value) <= LONGEST_MEMBER


def source_of(issuer: Issuer, model_deployment: str) -> Source:
    """Where pods find an issuer's keys: what the spec refers to, or what the operator keeps."""
    if issuer.jwks.uri is None:
        return issuer.jwks
    ref = KeyRef(name=naming.issuer_keys(model_deployment), key=_data_key(issuer, issuer.jwks.uri))
    return Source(configMapKeyRef=ref)


def kept_issuer_keys(owner: Owner, observed: Observed) -> tuple[Manifest, ...]:
    """The ConfigMap, if there is one."""
    found = observed.find(ObjectKind.CONFIG_MAP, naming.issuer_keys(owner.name))
    return () if found is None else (found,)


def key_sets(spec: ModelDeploymentSpec, owner: Owner, observed: Observed) -> dict[str, str | None]:
    """By the keys of the ConfigMap, what each address showed last; None where that is not known.

    What was kept before stays while an address cannot be read. It is found by the address, so that keys of
    one never stand for another's.
    """
    kept = next((one.get("data") or {} for one in kept_issuer_keys(owner, observed)), {})
    issuers = () if spec.access is None else spec.access.issuers
    return {
        (name := _data_key(issuer, uri)): observed.issuer_keys.get(uri, kept.get(name))
        for issuer in issuers
        if (uri := issuer.jwks.uri) is not None
    }


def issuer_keys(owner: Owner, texts: Mapping[str, str]) -> dict[str, Any]:
    """ConfigMap that a ModelDeployment's pods mount; ``texts`` are of :func:`key_sets`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, naming.issuer_keys(owner.name), naming.labels(owner.name, "access")),
        "data": dict(texts),
    }


def _data_key(issuer: Issuer, uri: str) -> str:
    return f"{issuer.name}-{content_hash([uri])}.json"
