"""Two revisions of a model, and the route to them."""

from __future__ import annotations

import pytest

from slipway.core.traffic.envoy.routes import Route
from tests.ports import free_port
from tests.unit.router.running import Pods


@pytest.fixture
async def stable() -> Pods:
    return await Pods("aaaaaaaaaa").start()


@pytest.fixture
async def canary() -> Pods:
    return await Pods("bbbbbbbbbb").start()


@pytest.fixture
def route(stable: Pods, canary: Pods) -> Route:
    return Route("fraud", free_port(), stable.arm, canary.arm)
