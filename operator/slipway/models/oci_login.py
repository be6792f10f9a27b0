"""How registries are entered: a name and password, given at once or for a token."""

from __future__ import annotations

import base64
import json
import re
import ssl
from http import HTTPStatus

import httpx

from slipway.contract import ModelFault
from slipway.models.credentials import Credentials, Login
from slipway.models.faults import ModelError
from slipway.models.web import Web, shown

_PART = re.compile(r'([A-Za-z_]+)="([^"]*)"')
_HINT = "check OCI_USERNAME and OCI_PASSWORD, or the pull secret, in the Secret"


def login_of(host: str, credentials: Credentials) -> Login:
    """Who enters a registry: the Secret's own name, or what its pull secret has for the host.

    Raises :class:`ModelError` where that is none.
    """
    if credentials.oci.username or not credentials.pull_secret:
        return credentials.oci
    try:
        entries = json.loads(credentials.pull_secret)["auths"]
        found = next((entry for name, entry in entries.items() if _host(name) == _host(host)), None)
        if found is None:
            return Login()
        if found.get("username"):
            return Login(username=str(found["username"]), password=str(found.get("password", "")))
        name, _, password = base64.b64decode(found["auth"], validate=True).decode().partition(":")
        return Login(username=name, password=password)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            "the key .dockerconfigjson of the credentials Secret is not what 'kubectl create secret "
            "docker-registry' makes: make it again",
        ) from None


def authorize(challenge: str, login: Login, trust: ssl.SSLContext, name: str) -> str | None:
    """The ``Authorization`` that a ``WWW-Authenticate`` asks for; None where there is none to give.

    A registry names where its tokens come from, and the password goes there; only over TLS.
    """
    kind, _, rest = challenge.partition(" ")
    if kind.lower() == "basic":
        return login.authorization()
    parts = dict(_PART.findall(rest))
    realm = parts.get("realm", "")
    if kind.lower() != "bearer" or not realm.startswith("https://"):
        return None
    query = {"scope": parts.get("scope") or f"repository:{name}:pull"}
    if parts.get("service"):
        query["service"] = parts["service"]
    answer = Web(realm, login.authorization(), trust, _HINT).document(realm, query)
    token = answer.json().get("token") or answer.json().get("access_token")
    if answer.status != HTTPStatus.OK or not isinstance(token, str):
        raise ModelError(
            ModelFault.REGISTRY_UNREACHABLE,
            f"{shown(realm)} gives no token (HTTP {answer.status}): see its log; it is tried again by itself",
        )
    return f"Bearer {token}"


def _host(name: str) -> str:
    """Docker's own registry has several names."""
    host = httpx.URL(name if "://" in name else f"https://{name}").netloc.decode()
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host
