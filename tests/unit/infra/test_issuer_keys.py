"""Public keys of issuers are read from a web server: bounded, and in no word of what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from slipway.core.objects.issuer_keys import MOST_KEYS, key_set_text
from slipway.engine.observers.looks import UnreadError
from slipway.infra import bounded
from slipway.infra.bounded import Budget
from slipway.infra.issuer_keys import MOST_BYTES, issuer_key_reader
from tests.ports import free_port

RSA = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256", "n": "AQAB", "e": "AQAB"}
EC = {"kty": "EC", "kid": "2", "crv": "P-256", "x": "AA", "y": "BB"}
ED = {"kty": "OKP", "kid": "3", "crv": "Ed25519", "x": "AA"}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def shows(document: Any, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        text = document if isinstance(document, str) else json.dumps(document)
        return web.Response(text=text, status=status, headers=headers)

    return answer


async def never(_: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def read(answer: Answer, asked: list[str] | None = None) -> str:
    """What is read at an address that answers so."""
    port = free_port()

    async def handle(request: web.Request) -> web.StreamResponse:
        if asked is not None:
            asked.append(request.path_qs)
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with issuer_key_reader(Budget()) as reader:
            return await reader(f"http://127.0.0.1:{port}/jwks?v=1")
    finally:
        await runner.cleanup()


async def test_public_keys_are_read_and_nothing_else() -> None:
    private = {**RSA, "d": "secret", "p": "secret", "x5c": ["certificate"], "note": "x"}
    shared = {"kty": "oct", "k": "secret"}
    asked: list[str] = []
    text = await read(shows({"keys": [private, EC, shared, ED], "more": 1}), asked)
    assert asked == ["/jwks?v=1"]
    assert sorted(json.loads(text)["keys"], key=lambda key: str(key["kid"])) == [RSA, EC, ED]
    assert "secret" not in text
    # In another order they are the same text, so that nothing is written anew.
    assert text == await read(shows({"keys": [ED, private, EC]}))


async def test_an_issuer_that_shows_no_key_has_none() -> None:
    assert json.loads(await read(shows({"keys": []}))) == {"keys": []}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (shows({"keys": [RSA]}, 404), "with status 404"),
        (shows({"keys": [RSA]}, 500), "with status 500"),
        (shows("", 302, Location="http://169.254.169.254/latest"), "with status 302"),
        (shows({"keys": [RSA]}, **{"Content-Encoding": "gzip"}), "in an encoding that nobody asked for"),
        (shows("<html>evil words</html>"), "something else than JSON"),
        (shows([RSA]), "something else than a JSON object"),
        (shows("[" * 3_000), "something else than JSON"),
        (shows("[" * 100_000), "more than 4096 values"),
        (shows({"keys": {"1": RSA}}), "no JSON Web Key Set"),
        (shows({"keys": ["evil words"]}), "no JSON Web Key Set"),
        (shows({"jwks_uri": "https://elsewhere"}), "no JSON Web Key Set"),
        (shows({"keys": [ED] * (MOST_KEYS + 1)}), f"more than {MOST_KEYS} keys"),
        (shows(" " * (MOST_BYTES + 1)), f"more than {MOST_BYTES} bytes"),
        (never, "does not answer in time"),
    ],
)
async def test_what_is_no_key_set_is_refused(
    answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "TIMEOUT", 2.0)
    asked: list[str] = []
    with pytest.raises(UnreadError) as caught:
        await read(answer, asked)
    assert words in str(caught.value)
    assert "evil" not in str(caught.value)
    assert asked == ["/jwks?v=1"]


async def test_nobody_who_answers_is_said_to_be_so() -> None:
    async with issuer_key_reader(Budget()) as reader:
        with pytest.raises(UnreadError, match="does not answer: ClientConnectorError"):
            await reader(f"http://127.0.0.1:{free_port()}/jwks")


def test_members_that_are_too_long_or_of_another_type_are_left_out() -> None:
    odd = {**EC, "x": "A" * 5000, "kid": 7, "key_ops": ["verify"], "use": ["a"] * 100}
    assert json.loads(key_set_text({"keys": [odd]})) == {
        "keys": [{"crv": "P-256", "key_ops": ["verify"], "kty": "EC", "y": "BB"}]
    }
