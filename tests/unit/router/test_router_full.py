"""A real Envoy with as many models as a group of routers may have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slipway.core.traffic.envoy.routes import Route
from slipway.core.traffic.routed import GROUP_MODELS
from tests.ports import free_ports
from tests.unit.router.running import Pods, running_router, send, until


async def test_a_full_router_takes_up_every_route_and_is_read(
    stable: Pods, canary: Pods, tmp_path: Path
) -> None:
    arms = [replace(pods.arm, grpc_port=pods.arm.port) for pods in (stable, canary)]
    routes = [
        Route(f"m{number:03}" + "x" * 41, port, *arms, weight=50, mirror_percent=10)
        for number, port in enumerate(free_ports(GROUP_MODELS))
    ]
    async with running_router(tmp_path, routes) as router:
        await until(router, lambda state: all(state.does(route) for route in routes), 60)
        for route in (routes[0], routes[-1]):
            assert (await send(route.listener, 20)).failed == 0
