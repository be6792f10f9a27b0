"""Reads the public keys of ServiceAccounts' tokens from the API server, as every ServiceAccount may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from slipway.core.objects.cluster_keys import as_text
from slipway.engine.observers.looks import UnreadError

CONFIGURATION, KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"
#: Of each answer.
MOST_BYTES = 256 * 1024
SECONDS = 10.0


class ClusterKeyReader:
    """Called, it returns the text of the keys."""

    def __init__(self, client: ApiClient, observe: Callable[[str, int], None]) -> None:
        """
        Args:
            client: of the API server.
            observe: is told method and status code of every request.
        """
        self._client = client
        self._observe = observe

    async def __call__(self) -> str:
        """Raises :class:`UnreadError`."""
        try:
            return as_text(await self._get(CONFIGURATION), await self._get(KEYS))
        except ValueError as error:
            raise UnreadError(str(error)) from error

    async def _get(self, path: str) -> dict[str, Any]:
        # The keys come as application/jwk-set+json alone.
        headers = {"Accept": "application/json, */*"}
        try:
            async with asyncio.timeout(SECONDS):
                request = await self._client.param_serialize(
                    "GET", path, header_params=headers, auth_settings=["BearerToken"]
                )
                answer = await self._client.call_api(*request, _request_timeout=SECONDS)
                async with answer.response as response:
                    body = bytearray()
                    async for chunk in response.content.iter_any():
                        body += chunk
                        if len(body) > MOST_BYTES:
                            raise UnreadError(
                                f"the API server answers {path} with more than {MOST_BYTES} bytes"
                            )
        except ApiException as error:
            self._observe("GET", int(error.status or 0))
            raise _refused(path, int(error.status or 0)) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._observe("GET", 0)
            raise UnreadError(f"the API server does not answer {path}: {type(error).__name__}") from error
        self._observe("GET", answer.status)
        if answer.status != 200:
            raise _refused(path, answer.status)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UnreadError(f"the API server answers {path} with something else than a JSON object")
        return found


def _refused(path: str, status: int) -> UnreadError:
    how = ": bind the ClusterRole system:service-account-issuer-discovery to system:serviceaccounts"
    return UnreadError(f"the API server answers {path} with {status}{how if status in (401, 403) else ''}")
