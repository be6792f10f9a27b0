"""How the operator reaches the API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import encode_basic_auth, web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from slipway.core.observed import ObjectKind
from slipway.infra.connection import with_one_look_at_the_environment
from slipway.infra.kube import KubeClient
from tests.unit.infra.api_server import api_server

PROXY = "http://user:secret@proxy.corp:3128"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_no_request_looks_at_the_environment_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "fraud"}})

    async with api_server(answer) as server:
        configuration = with_one_look_at_the_environment(server.client.configuration)
        async with ApiClient(configuration) as client:
            kube = KubeClient(client, lambda *_: None, lambda: 12.0)
            await kube.get(ObjectKind.SERVICE, "payments", "fraud")
            jobs: list[Any] = []
            loop = asyncio.get_running_loop()
            monkeypatch.setattr(loop, "run_in_executor", lambda *args: jobs.append(args))
            for _ in range(3):
                await kube.get(ObjectKind.SERVICE, "payments", "fraud")
    assert jobs == []


def test_the_environments_proxy_is_the_api_servers_unless_that_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def proxy(host: str, own: str | None = None) -> str | None:
        configuration = Configuration(host=host)
        configuration.proxy = own
        found = with_one_look_at_the_environment(configuration).proxy
        return None if found is None else str(found)

    assert proxy("https://10.0.0.1:443") is None
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "10.0.0.1,.svc")
    assert proxy("https://api.example.com:6443") == PROXY
    assert proxy("https://api.example.com:6443", "http://kubeconfigs:1") == "http://kubeconfigs:1"
    assert proxy("https://10.0.0.1:443") is None
    assert proxy("https://kubernetes.default.svc") is None
    assert proxy("http://api.example.com") is None


async def test_requests_go_by_way_of_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.host, request.headers.get("Proxy-Authorization")))
        return web.json_response({"metadata": {"name": "fraud"}})

    async with api_server(answer) as proxy:
        address = str(proxy.server.make_url("")).rstrip("/").replace("//", "//user:secret@")
        monkeypatch.setenv("HTTP_PROXY", address)
        configuration = Configuration(host="http://api.example.com")
        configuration.ca_cert_data = proxy.client.configuration.ca_cert_data
        async with ApiClient(with_one_look_at_the_environment(configuration)) as client:
            kube = KubeClient(client, lambda *_: None, lambda: 12.0)
            await kube.get(ObjectKind.SERVICE, "payments", "fraud")
    assert seen == [("api.example.com", encode_basic_auth("user", "secret"))]
