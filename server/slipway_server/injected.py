"""Credentials of the pod's ServiceAccount that somebody put into the container that serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

#: By these a cloud's clients find an identity.
_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_CLIENT_SECRET",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
#: Where Kubernetes and the clouds' webhooks mount tokens.
SECRETS = Path("/var/run/secrets")


def injected(environment: Mapping[str, str], secrets: Path = SECRETS) -> str:
    """What of credentials is there, in words; empty where nothing is."""
    found = [name for name in _VARIABLES if environment.get(name)]
    try:
        found += [str(path) for path in sorted(secrets.rglob("*")) if path.is_file()]
    except OSError:
        found.append(str(secrets))
    return ", ".join(found[:5])
