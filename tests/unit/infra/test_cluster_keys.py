"""The cluster's public keys are read from a web server: bounded, with words for all that goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from slipway.engine.observers.looks import UnreadError
from slipway.infra import cluster_keys
from slipway.infra.cluster_keys import CONFIGURATION, KEYS, MOST_BYTES, ClusterKeyReader
from tests.unit.infra.api_server import Answer, api_server

ISSUER = {
    "issuer": "https://kubernetes.default.svc.cluster.local",
    "jwks_uri": "https://10.0.0.1/openid/v1/jwks",
}
KEY = {"use": "sig", "kty": "RSA", "kid": "abc", "alg": "RS256", "n": "AQAB", "e": "AQAB"}


def shows(configuration: Any = ISSUER, keys: Any = None, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        if request.path == CONFIGURATION:
            return web.json_response(configuration)
        assert request.path == KEYS
        # As the API server does: it has this type alone.
        if not any(
            kind.strip() in ("*/*", "application/jwk-set+json")
            for kind in request.headers["Accept"].split(",")
        ):
            return web.Response(status=406)
        text = keys if isinstance(keys, str) else json.dumps({"keys": [KEY]} if keys is None else keys)
        return web.Response(text=text, status=status, content_type="application/jwk-set+json")

    return answer


async def test_keys_are_read_with_their_issuer() -> None:
    seen: list[tuple[str, int]] = []
    async with api_server(shows()) as server:
        text = await ClusterKeyReader(server.client, lambda method, code: seen.append((method, code)))()
    assert json.loads(text) == {"issuer": ISSUER["issuer"], "keys": [KEY]}
    assert server.asked == [("GET", CONFIGURATION), ("GET", KEYS)]
    assert seen == [("GET", 200), ("GET", 200)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (shows(status=403), "system:service-account-issuer-discovery"),
        (shows(status=401), "system:service-account-issuer-discovery"),
        (shows(status=500), "with 500"),
        (shows(status=302), "with 302"),
        (shows(keys="{"), "something else than a JSON object"),
        (shows(keys="[]"), "something else than a JSON object"),
        (shows(keys="[" * 100_000), "something else than a JSON object"),
        (shows(keys=" " * (MOST_BYTES + 1)), f"more than {MOST_BYTES} bytes"),
        (shows(keys={"keys": []}), "shows no keys"),
        (shows(configuration={}), "does not say who issues"),
    ],
)
async def test_what_is_no_set_of_keys_is_told_in_words(answer: Answer, words: str) -> None:
    async with api_server(answer) as server:
        with pytest.raises(UnreadError, match=words):
            await ClusterKeyReader(server.client, lambda *_: None)()


async def test_an_api_server_that_does_not_answer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_server(shows()) as server:
        await server.server.close()
        with pytest.raises(UnreadError, match="does not answer"):
            await ClusterKeyReader(server.client, lambda *_: None)()
    monkeypatch.setattr(cluster_keys, "SECONDS", 0.0)
    async with api_server(shows()) as server:
        with pytest.raises(UnreadError, match="does not answer"):
            await ClusterKeyReader(server.client, lambda *_: None)()
