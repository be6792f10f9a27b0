"""Routers and model servers of pods that have IPv6 alone, and of those that have both families."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from slipway.core.endpoint import Endpoint, endpoint_of
from slipway.core.traffic.envoy.messages import EVERY_ADDRESS
from slipway.core.traffic.envoy.objects import RouterSettings, router_objects
from slipway.core.traffic.envoy.routes import Route
from slipway.environment import router_address
from slipway.infra.bounded import Budget
from slipway.infra.pods import pod_reader
from slipway.infra.routers import router_reader
from slipway_server.door.listen import bind
from tests.ports import free_port
from tests.unit.router.naming import naming
from tests.unit.router.running import Pods, Router


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
async def test_a_router_of_every_address_serves_both_families_and_finds_pods_of_either(
    tmp_path: Path, host: str
) -> None:
    pods = await Pods("aaaaaaaaaa", host).start()
    route = Route("fraud", free_port(), replace(pods.arm, host="fraud-aaaaaaaaaa"))
    async with naming() as names:
        names.addresses["fraud-aaaaaaaaaa"] = [host]
        router = Router(tmp_path, resolver=names.resolver(), listen=EVERY_ADDRESS)
        router.write([route])
        await asyncio.to_thread(router.start)
        try:
            await _serves_both(router, route)
        finally:
            router.stop()


async def _serves_both(router: Router, route: Route) -> None:
    async with router_reader(Budget()) as read, aiohttp.ClientSession() as session:
        for own in ("[::1]", "127.0.0.1"):
            async with asyncio.timeout(10):
                while True:
                    url = f"http://{own}:{route.listener}/v2/models/fraud/infer"
                    with contextlib.suppress(aiohttp.ClientConnectorError):
                        async with session.post(url, data=b"{}") as response:
                            if response.status == 200:
                                break
                    await asyncio.sleep(0.05)
            state = await read(Endpoint("payments", own.strip("[]"), router.port), None)
            assert state is not None
            assert state.does(route)
            assert state.arms["fraud", "aaaaaaaaaa"].healthy_pods == 1


@pytest.mark.parametrize(
    ("own", "address"),
    [
        ("10.0.0.7", "0.0.0.0"),
        ("", "0.0.0.0"),
        ("fd00::7", EVERY_ADDRESS),
        ("2001:db8::1", EVERY_ADDRESS),
    ],
)
def test_routers_listen_by_the_family_by_which_pods_are_reached(own: str, address: str) -> None:
    assert router_address(own) == address
    settings = RouterSettings("router", address=router_address(own))
    route = Route("fraud", 10000, Pods("aaaaaaaaaa").arm)
    maps = [one for one in router_objects("payments", [route], settings, []) if one["kind"] == "ConfigMap"]
    text = "".join(found for one in maps for found in one["data"].values())
    other = EVERY_ADDRESS if address == "0.0.0.0" else "0.0.0.0"
    assert text.count(f'"address":"{address}"') == 2, "its own listener and the model's"
    assert f'"address":"{other}"' not in text
    assert text.count('"ipv4_compat":true') == (2 if address == EVERY_ADDRESS else 0)


@pytest.mark.parametrize(("address", "shown"), [("fd00::7", "[fd00::7]:8081"), ("10.0.0.7", "10.0.0.7:8081")])
def test_an_address_of_either_family_is_one_of_a_url(address: str, shown: str) -> None:
    pod = {"kind": "Pod", "metadata": {"namespace": "payments"}, "status": {"podIP": address}}
    assert str(endpoint_of(pod, 8081)) == shown


async def test_a_pod_is_read_by_ipv6() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Host: [::1]:" in head
        body = b'slipway_inference_rows_total{model_version="7"} 3\n'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    async with pod_reader({"slipway_inference_rows_total"}, Budget()) as read:
        found = await read(Endpoint("payments", "::1", port))
    server.close()
    assert found == {"7": {("slipway_inference_rows_total", ()): 3.0}}


async def test_a_model_server_listens_on_every_address_of_both_families() -> None:
    with bind(None, 0) as listening:
        port = listening.getsockname()[1]
        for host in ("::1", "127.0.0.1"):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
