"""A ModelDeployment is decoded once for each of its states, however many there are and whoever reads it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import KIND, ModelDeploymentSpec
from slipway.engine.metrics.controller import ModelDeploymentCollector, RolloutCollector
from slipway.engine.metrics.monitoring import MonitoringCollector
from slipway.engine.store import Key
from tests.unit.world import NAMESPACE, World


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the name of each type that is decoded."""
    found: list[str] = []
    for type_ in (ModelDeploymentSpec, ModelDeploymentStatus):
        validate = type_.model_validate

        def counted(*given: Any, _validate: Any = validate, _name: str = type_.__name__, **named: Any) -> Any:
            found.append(_name)
            return _validate(*given, **named)

        monkeypatch.setattr(type_, "model_validate", counted)
    return found


async def test_at_rest_nothing_is_decoded(decoded: list[str]) -> None:
    world = World()
    await world.operator.start()
    world.models["mlflow://fraud@champion"] = world.models["mlflow://fraud/1"]
    for number in range(10):
        world.create(
            {"model": {"uri": "mlflow://fraud@champion"}, "monitoring": {"drift": {}}}, name=f"m{number}"
        )
    await world.run(120)
    operator, registry = world.operator, CollectorRegistry()
    for collector in (
        ModelDeploymentCollector(operator.store),
        RolloutCollector(operator.store),
        MonitoringCollector(operator.store, operator.judge),
    ):
        registry.register(collector)
    decoded.clear()
    for key in list(operator.store.resources()):
        await operator.reconciler.reconcile(key)
        await operator.reconciler.reconcile(Key(key.namespace, "", routers=True))
    for _ in range(5):
        await operator.aliases.round()
        await operator.judge.round()
    text = generate_latest(registry).decode()
    assert text.count("slipway_modeldeployment_ready{") == 10
    assert decoded == []


async def test_a_round_of_claims_looks_at_what_changed_and_at_what_others_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    await world.operator.start()
    for number in range(10):
        world.create(name=f"m{number}")
    await world.run(60)
    operator, looked = world.operator, list[Key]()
    resource = operator.store.resource

    def counted(key: Key) -> Any:
        looked.append(key)
        return resource(key)

    monkeypatch.setattr(operator.store, "resource", counted)
    monkeypatch.setattr(operator.store, "resources", None)
    await operator.claims.round()
    looked.clear()
    await operator.claims.round()
    assert looked == []
    world.annotate("team", "risk", "m3")
    await operator.claims.round()
    assert looked == [Key(NAMESPACE, "m3")]


async def test_a_change_decodes_the_one_that_changed_once(decoded: list[str]) -> None:
    world = World()
    await world.operator.start()
    for number in range(5):
        world.create({"model": {"uri": "mlflow://fraud/1"}}, name=f"m{number}")
    await world.run(120)
    store = world.operator.store
    manifest = store.resource(Key(NAMESPACE, "m3"))
    assert manifest is not None
    assert manifest["kind"] == KIND
    decoded.clear()
    version = int(manifest["metadata"]["resourceVersion"]) + 1000
    changed = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}
    for _ in range(3):
        # The answer to a write, the watch, and the sweep each tell of the same state.
        assert store.put(changed) is not None
    assert decoded == ["ModelDeploymentStatus"], "its spec is of the same generation"
