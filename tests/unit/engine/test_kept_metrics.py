"""The page of metrics: each ModelDeployment's part is written when it changes, and joined."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from slipway.api.types import API_VERSION, KIND
from slipway.core.resource import Resource
from slipway.engine.metrics.audits import AuditCollector
from slipway.engine.metrics.controller import ModelDeploymentCollector, RolloutCollector
from slipway.engine.metrics.kept import KeptText
from slipway.engine.metrics.monitoring import MonitoringCollector
from slipway.engine.store import Key, Store
from tests.unit.world import World

PLACE = "payments"


def resource(name: str, version: int, status: dict[str, Any]) -> dict[str, Any]:
    meta = {"namespace": PLACE, "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    spec = {"model": {"uri": "mlflow://fraud/1"}, "monitoring": {"drift": {"psi": {"warning": 0.1}}}}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": spec, "status": status}


def whole(store: Store, judge: Any) -> bytes:
    """The same page, written anew."""
    registry = CollectorRegistry()
    for collector in (
        ModelDeploymentCollector(store),
        RolloutCollector(store),
        AuditCollector(store),
        MonitoringCollector(store, judge),
    ):
        registry.register(collector)
    text: bytes = generate_latest(registry)
    return text


def families(text: bytes) -> dict[bytes, list[bytes]]:
    """Lines by the family that they stand under, each sorted; a family may be there once."""
    found: dict[bytes, list[bytes]] = {}
    name = b""
    for line in text.splitlines():
        if line.startswith(b"# HELP "):
            name = line.split()[2]
            assert name not in found, "a family that is told in two places"
            found[name] = []
        found[name].append(line)
    return {name: sorted(lines) for name, lines in found.items()}


async def test_the_page_is_the_same_as_one_that_is_written_anew() -> None:
    world = World()
    await world.operator.start()
    store, judge = world.operator.store, world.operator.judge
    kept = KeptText(
        store,
        [
            ModelDeploymentCollector(store),
            RolloutCollector(store),
            AuditCollector(store),
            MonitoringCollector(store, judge),
        ],
    )
    assert families(await kept.text()) == families(whole(store, judge))
    for name in ("fraud", "churn"):
        world.create(name=name)
        await world.settle()
        assert families(await kept.text()) == families(whole(store, judge))
    assert b'slipway_modeldeployment_ready{name="churn",namespace="payments"} 1.0' in await kept.text()
    world.kube.take((KIND, PLACE, "churn"))
    assert b"churn" not in await kept.text()
    assert families(await kept.text()) == families(whole(store, judge))


class _Counting:
    """Counts what it is asked to write."""

    def __init__(self, store: Store) -> None:
        self._collector = ModelDeploymentCollector(store)
        self.written = 0

    def of(self, resources: Iterable[Resource]) -> Iterable[Metric]:
        found = list(resources)
        self.written += len(found)
        return self._collector.of(found)

    def others(self) -> Iterable[Metric]:
        return ()


async def test_only_what_changed_is_written_again() -> None:
    store = Store()
    for number in range(200):
        store.put(resource(f"m{number}", number, {"replicas": 1}))
    counting = _Counting(store)
    kept = KeptText(store, [counting])
    assert (await kept.text()).count(b"slipway_modeldeployment_replicas{") == 200
    assert counting.written == 200
    for _ in range(3):
        await kept.text()
    assert counting.written == 200
    store.put(resource("m7", 1000, {"replicas": 3}))
    assert b'slipway_modeldeployment_replicas{name="m7",namespace="payments"} 3.0' in await kept.text()
    assert counting.written == 201
    known = store.resource(Key(PLACE, "m8"))
    assert known is not None
    store.bury(known)
    assert b'name="m8"' not in await kept.text()
    assert counting.written == 201


async def test_a_page_of_many_that_changed_lets_others_have_a_turn() -> None:
    store, turns = Store(), 0
    for number in range(200):
        store.put(resource(f"m{number}", number, {"replicas": 1}))
    kept = KeptText(store, [ModelDeploymentCollector(store)])
    writing = asyncio.create_task(kept.text())
    while not writing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 20
    assert (await writing).count(b"slipway_modeldeployment_replicas{") == 200
