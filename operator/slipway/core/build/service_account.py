"""The identity of a ModelDeployment's pods."""

from __future__ import annotations

from typing import Any

from slipway.core import names
from slipway.core.build.metadata import Owner, metadata


def service_account(owner: Owner) -> dict[str, Any]:
    """ServiceAccount without a token: neither the model server nor the resolver asks the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(owner, names.service_account(owner.name), names.labels(owner.name, "identity")),
        "automountServiceAccountToken": False,
    }
