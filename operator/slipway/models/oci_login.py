"""How registries are entered: a name and password, given at once or for a token."""

from __future__ import annotations

import base64
import json
import re
import ssl
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from slipway.contract import ModelFault
from slipway.models.credentials import Credentials, Login
from slipway.models.faults import ModelError
from slipway.models.oci_memory import BASIC
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


@dataclass(frozen=True)
class Door:
    """How one repository is entered.

    Attributes:
        home: the address of its registry.
        name: that of the repository.
        login: whose name and password.
        trust: in whose certificates.
    """

    home: httpx.URL
    name: str
    login: Login
    trust: ssl.SSLContext

    def answer(self, challenge: str) -> tuple[str | None, str]:
        """The ``Authorization`` that a ``WWW-Authenticate`` asks for, and a note to give it at once.

        None where there is none to give. A registry names where its tokens come from, and the password goes
        there; only over TLS.
        """
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return self.login.authorization(), BASIC
        parts = dict(_PART.findall(rest))
        realm = parts.get("realm", "")
        if kind.lower() != "bearer" or not realm.startswith("https://"):
            return None, ""
        scope = parts.get("scope") or self._scope
        service = {"service": parts["service"]} if parts.get("service") else {}
        return self._token(realm, {"scope": scope, **service}), self._note(realm, service)

    def enter(self, note: str) -> str | None:
        """The ``Authorization`` by the note of an answer to a challenge; None where it does not help."""
        if note == BASIC:
            return self.login.authorization()
        if not note:
            return None
        try:
            return self._token(str(self.home.copy_with(raw_path=note.encode())), {"scope": self._scope})
        except (ModelError, httpx.InvalidURL):
            # The registry says what it wants now.
            return None

    @property
    def _scope(self) -> str:
        return f"repository:{self.name}:pull"

    def _note(self, realm: str, service: dict[str, str]) -> str:
        """Nothing for what is on another host: the registry alone says where a password may go."""
        try:
            url = httpx.URL(realm).copy_merge_params(service)
        except httpx.InvalidURL:
            return ""
        same = (url.scheme, url.host, url.port) == (self.home.scheme, self.home.host, self.home.port)
        return url.raw_path.decode("ascii") if same else ""

    def _token(self, realm: str, query: dict[str, str]) -> str:
        return _token(realm, query, self.login, self.trust)


def _token(realm: str, query: dict[str, str], login: Login, trust: ssl.SSLContext) -> str:
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
