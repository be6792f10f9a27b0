"""The cluster's public keys, by which pods verify tokens of ServiceAccounts without asking the API server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.objects.metadata import Owner, metadata
from slipway.core.observed import Manifest, ObjectKind, Observed

#: The key of the ConfigMap.
DATA_KEY = "jwks.json"
#: What the API server may show of them; it has one or two keys.
MOST_KEYS, LONGEST_ISSUER = 64, 512
_PUBLIC = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")


def as_text(configuration: Mapping[str, Any], key_set: Mapping[str, Any]) -> str:
    """Both documents of the API server as one: a JSON Web Key Set that also names its issuer.

    The same keys in another order are the same text. Raises ``ValueError`` for what is neither.
    """
    issuer, keys = configuration.get("issuer"), key_set.get("keys")
    if not isinstance(issuer, str) or not 0 < len(issuer) <= LONGEST_ISSUER:
        raise ValueError("the API server does not say who issues tokens of ServiceAccounts")
    if not isinstance(keys, list) or not 0 < len(keys) <= MOST_KEYS:
        raise ValueError(f"the API server shows no keys of ServiceAccounts' tokens, or more than {MOST_KEYS}")
    found = []
    for key in keys:
        if not isinstance(key, dict):
            raise ValueError("the API server shows a key that is no object")
        found.append(
            {name: key[name] for name in _PUBLIC if isinstance(key.get(name), str) and len(key[name]) <= 4096}
        )
    found.sort(key=lambda key: json.dumps(key, sort_keys=True))
    return json.dumps({"issuer": issuer, "keys": found}, sort_keys=True)


def needs_cluster_keys(spec: ModelDeploymentSpec) -> bool:
    """Whether tokens of ServiceAccounts are taken."""
    return spec.access is not None and spec.access.serviceAccounts is not None


def kept_cluster_keys(owner: Owner, observed: Observed) -> tuple[Manifest, ...]:
    """The ConfigMap, if there is one."""
    found = observed.find(ObjectKind.CONFIG_MAP, naming.cluster_keys(owner.name))
    return () if found is None else (found,)


def cluster_keys(owner: Owner, text: str) -> dict[str, Any]:
    """ConfigMap that a ModelDeployment's pods mount; ``text`` is of :func:`as_text`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, naming.cluster_keys(owner.name), naming.labels(owner.name, "access")),
        "data": {DATA_KEY: text},
    }
