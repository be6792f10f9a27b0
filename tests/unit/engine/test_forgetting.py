"""Nothing of a ModelDeployment stays in memory once it is gone, whoever kept it."""

from __future__ import annotations

import gc
from collections import deque
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from slipway.api.types import KIND
from slipway.engine.store import Key
from tests.unit.world import NAMESPACE, World

#: Part of every name here, and of nothing else.
MARK = "zebra"
CANARY = {"strategy": "Canary", "steps": [{"setWeight": 50}, {"analysis": {}}, {"pause": {}}]}

SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "canary": {"rollout": CANARY},
    "dedicated": {"rollout": CANARY, "traffic": {"router": "Dedicated"}},
    "violations": {
        "rollout": {
            **CANARY,
            "analysis": {"gates": [{"name": "v", "type": "Violations", "maxPercent": "1%"}]},
        },
        "inputs": {"onViolation": "Count"},
    },
    "ratio": {
        "rollout": {"strategy": "Canary", "steps": [{"setWeight": 50}, {"pause": {}}]},
        "traffic": {"provider": "ReplicaRatio"},
    },
    "gateway": {
        "rollout": {"strategy": "Canary", "steps": [{"setWeight": 50}, {"pause": {}}]},
        "traffic": {
            "provider": "GatewayAPI",
            "gatewayAPI": {
                "parentRefs": [{"name": "public", "namespace": "gateways"}],
                "hostnames": ["fraud.example.com"],
            },
        },
    },
    "shadow": {
        "rollout": {
            "strategy": "Shadow",
            "steps": [{"setMirror": {"percent": 100}}, {"analysis": {}}],
            "analysis": {"gates": [{"name": "a", "type": "ShadowAgreement"}]},
        }
    },
    "prometheus": {
        "rollout": {**CANARY, "analysis": {"prometheus": {"address": "http://prometheus.monitoring:9090"}}},
    },
    "watched": {"monitoring": {"drift": {}}},
}


def holding(root: object, skipped: list[object]) -> list[str]:
    """Texts that hold the mark and can be reached from an object, each with the way to it."""
    seen = {id(one) for one in skipped}
    queue = deque([(root, type(root).__name__)])
    found = []
    while queue:
        one, way = queue.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, str | bytes):
            if MARK in str(one):
                found.append(f"{way}: {str(one)[:80]!r}")
            continue
        if isinstance(one, type | ModuleType | CodeType | FrameType | BuiltinFunctionType):
            continue
        if isinstance(one, FunctionType | MethodType):
            parts: list[Any] = [getattr(one, "__self__", None), *(getattr(one, "__closure__", None) or ())]
        else:
            parts = gc.get_referents(one)
        queue.extend((part, f"{way} > {type(part).__name__}") for part in parts if part is not None)
    return found


async def lived(world: World) -> None:
    """One of each kind serves, and has a rollout under way."""
    for kind, spec in SPECS.items():
        world.create({"model": {"uri": "mlflow://fraud/1"}, **spec}, name=f"{MARK}-{kind}")
    alias = {
        "uri": "mlflow://fraud@champion",
        "credentials": {"secretRef": {"name": "s"}},
        "refreshSeconds": 60,
    }
    world.create({"model": alias}, name=f"{MARK}-secret")
    world.create({"model": {"uri": f"mlflow://{MARK}@champion"}}, name=f"{MARK}-alias")
    world.create({"model": {"uri": "mlflow://fraud/9"}}, name=f"{MARK}-broken")
    world.create({"model": {}}, name=f"{MARK}-unreadable")
    await world.run(90)
    for kind, spec in SPECS.items():
        world.create({"model": {"uri": "mlflow://fraud/2"}, **spec}, name=f"{MARK}-{kind}")
    await world.run(90)


async def test_nothing_of_what_was_deleted_is_kept() -> None:
    world = World()
    for name in (f"mlflow://{MARK}@champion", "mlflow://fraud@champion"):
        world.models[name] = world.models["mlflow://fraud/1"]
    world.routers.requests_per_second = 20
    await world.operator.start()
    await lived(world)
    operator = world.operator
    outside = [world, world.kube, world.routers, world.pods, world.prometheus, world.gateways, operator]
    parts = (operator.reconciler, operator.observers, operator.claims, operator.store)
    assert all(holding(part, outside) for part in parts), "they do hold something to be forgotten"
    seen, traffic = operator.observers, operator.reconciler._traffic
    looks = [observer._subjects for observer in (seen.pods, seen.answers, seen.prometheus)]
    for source in (*looks, seen.routers._groups, traffic._arms, traffic._accepted):
        assert source, "a kind of rollout is missing above"
    for key in list(operator.store.resources()):
        world.kube.take((KIND, NAMESPACE, key.name))
    await world.run(120)
    assert world.kube.places() == []
    for part in parts:
        assert holding(part, outside) == []


async def test_nothing_of_the_one_before_is_told_of_another_of_its_name() -> None:
    """It was deleted and made again between two looks."""
    world = World()
    await world.operator.start()
    key = Key(NAMESPACE, "again")
    alias = {
        "uri": "mlflow://fraud@champion",
        "credentials": {"secretRef": {"name": "s"}},
        "refreshSeconds": 60,
    }
    world.models["mlflow://fraud@champion"] = world.models["mlflow://fraud/1"]
    world.create({"model": alias}, name="again")
    await world.run(30)
    first = world.operator.aliases._due[key]
    world.kube.take((KIND, NAMESPACE, "again"))
    world.create({"model": alias}, name="again")
    await world.run(20)
    assert world.operator.aliases._due[key] > first, "its time counts from its own beginning"
