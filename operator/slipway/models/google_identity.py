"""Google's federation: a token of another issuer for one of Google's, as a credential configuration says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from slipway.contract import ModelFault
from slipway.models.faults import ModelError

if TYPE_CHECKING:
    from obstore.store import GCSCredential

CONFIGURATION_ENV = "GOOGLE_APPLICATION_CREDENTIALS"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_SECONDS = 30.0


class FederatedGoogle:
    """Gives obstore tokens of Google's for a token in a file: an ``external_account`` configuration.

    The token is read each time, since its file is written again before it expires.
    """

    def __init__(self, configuration: Path, client: Callable[[], httpx.Client]) -> None:
        """Raises :class:`ModelError` where the configuration is none, or is of a kind that is not taken."""
        self._where = configuration
        self._client = client
        self.fault: ModelError | None = None
        try:
            found = json.loads(configuration.read_text())
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or found.get("type") != "external_account":
            raise self._wrong("is no JSON file with type external_account")
        source = found.get("credential_source")
        if not isinstance(source, dict) or not isinstance(source.get("file"), str):
            raise self._wrong("takes its token from something else than a file (credential_source.file)")
        self._found: dict[str, Any] = found
        self._source: dict[str, Any] = source
        self._exchange = self._address("token_url")
        self._impersonate = (
            self._address("service_account_impersonation_url")
            if found.get("service_account_impersonation_url")
            else None
        )

    def __call__(self) -> GCSCredential:
        """A token that opens Google's stores; raises :class:`ModelError`, which is kept as ``fault``."""
        try:
            return self._credential()
        except ModelError as error:
            self.fault = error
            raise
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self.fault = ModelError(
                ModelFault.REGISTRY_UNREACHABLE,
                f"{httpx.URL(self._exchange).host} gave no token for the ServiceAccount's "
                f"({type(error).__name__}): check that pods of this namespace reach it, and {self._where}; "
                "it is tried again by itself",
            )
            raise self.fault from None

    def _credential(self) -> GCSCredential:
        with self._client() as client:
            answer = self._post(
                client,
                self._exchange,
                data={
                    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                    "audience": str(self._found.get("audience", "")),
                    "scope": _SCOPE,
                    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    "subject_token_type": str(self._found.get("subject_token_type", "")),
                    "subject_token": self._token(),
                },
            )
            token, seconds = str(answer["access_token"]), float(answer.get("expires_in", 300))
            ends = datetime.now(UTC) + timedelta(seconds=seconds)
            if self._impersonate is not None:
                answer = self._post(
                    client,
                    self._impersonate,
                    json={"scope": [_SCOPE]},
                    headers={"Authorization": f"Bearer {token}"},
                )
                token, ends = str(answer["accessToken"]), datetime.fromisoformat(str(answer["expireTime"]))
        return {"token": token, "expires_at": ends}

    def _post(self, client: httpx.Client, address: str, **request: Any) -> dict[str, Any]:
        answer = client.post(address, timeout=_SECONDS, **request)
        if answer.status_code in (400, 401, 403):
            said = (
                answer.json().get("error_description", "")
                if "json" in answer.headers.get("content-type", "")
                else ""
            )
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED,
                f"{httpx.URL(address).host} refused the ServiceAccount's token (HTTP {answer.status_code}"
                f"{f', {said[:200]}' if said else ''}): check the workload identity pool, its provider and "
                "who may use it",
            )
        found = answer.raise_for_status().json()
        if not isinstance(found, dict):
            raise self._wrong("names an address that answers no token")
        return found

    def _token(self) -> str:
        try:
            text = Path(self._source["file"]).read_text().strip()
            how = self._source.get("format") or {}
            return (
                str(json.loads(text)[how["subject_token_field_name"]]) if how.get("type") == "json" else text
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise self._wrong("names a file without the token that it should have") from None

    def _address(self, name: str) -> str:
        found = str(self._found.get(name, ""))
        if not found.startswith("https://"):
            raise self._wrong(f"has no https address as {name}")
        return found

    def _wrong(self, what: str) -> ModelError:
        return ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            f"{self._where}, which {CONFIGURATION_ENV} names, {what}: give it the credential configuration "
            "of a workload identity pool",
        )
