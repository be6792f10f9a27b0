"""The identity of a ModelDeployment's pods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slipway.core import naming
from slipway.core.objects.metadata import Owner, metadata


def service_account(owner: Owner, pull_secrets: Iterable[str] = ()) -> dict[str, Any]:
    """ServiceAccount without a token: neither the model server nor the resolver asks the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(
            owner, naming.service_account(owner.name), naming.labels(owner.name, "identity")
        ),
        "automountServiceAccountToken": False,
        **pulling(pull_secrets),
    }


def pulling(secrets: Iterable[str]) -> dict[str, Any]:
    """The field of a ServiceAccount, or of a pod, that gives its new pods these Secrets to pull images with.

    Those of the installation are not in pods, so that a change restarts none. Without any the field is left
    to whoever sets it.
    """
    names = [{"name": name} for name in secrets]
    return {"imagePullSecrets": names} if names else {}
