"""A CRD that is older than the operator is noticed and said, and has no status refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from slipway.api.crd import crd
from slipway.api.status import ModelDeploymentStatus
from slipway.core.crd_schema import declared, missing, schema_of
from slipway.engine.errors import ApiError
from slipway.engine.installed_crd import InstalledCrd
from slipway.engine.metrics.controller import InstalledCollector
from tests.unit.world import World

OURS = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def older(*paths: str) -> dict[str, Any]:
    """Our schema without some fields; ``[]`` stands for the items of a list."""
    schema = deepcopy(OURS)
    for path in paths:
        *way, last = path.split(".")
        node = schema
        for step in way:
            node = node["properties"][step.removesuffix("[]")]
            node = node["items"] if step.endswith("[]") else node
        del node["properties"][last]
    return schema


def openapi(schema: dict[str, Any]) -> dict[str, Any]:
    """As the API server publishes it, among others."""
    kinds = [{"group": "slipway.dev", "version": "v1alpha1", "kind": "ModelDeployment"}]
    other = {"x-kubernetes-group-version-kind": [{**kinds[0], "kind": "ModelDeploymentList"}]}
    return {
        "components": {
            "schemas": {
                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object"},
                "dev.slipway.v1alpha1.ModelDeploymentList": other,
                "dev.slipway.v1alpha1.ModelDeployment": {**schema, "x-kubernetes-group-version-kind": kinds},
            }
        }
    }


LACKING = ("spec.card", "status.rejected", "status.rollout.gates[].verdict", "status.monitoring")


def test_what_an_older_crd_lacks_is_found_wherever_it_is() -> None:
    assert list(missing(OURS, OURS)) == []
    assert sorted(missing(OURS, older(*LACKING))) == sorted(LACKING)
    assert list(missing(older(*LACKING), OURS)) == [], "a newer one lacks nothing"
    everything = {"properties": {"spec": {}, "status": {"x-kubernetes-preserve-unknown-fields": True}}}
    assert all(path.startswith("spec.") for path in missing(OURS, everything))


def test_the_schema_is_found_among_others() -> None:
    found = schema_of(openapi(OURS))
    assert found is not None
    assert found["properties"]["status"] == OURS["properties"]["status"]
    assert schema_of({}) is None
    assert schema_of({"components": {"schemas": {}}}) is None


def test_only_what_is_declared_is_left_of_a_value() -> None:
    schema = older(*LACKING)["properties"]["status"]
    status = {
        "rejected": [{"revision": "a"}],
        "previous": ["b"],
        "rollout": {"id": "x", "gates": [{"name": "g", "verdict": "Pass"}]},
    }
    assert declared(schema, status) == {"previous": ["b"], "rollout": {"id": "x", "gates": [{"name": "g"}]}}
    assert declared({}, status) == status, "nothing is known of it"


def test_no_field_that_the_operator_writes_is_lost_with_its_own_crd() -> None:
    for name in ModelDeploymentStatus.model_fields:
        assert declared(OURS["properties"]["status"], {name: None}) == {name: None}


async def _world(*paths: str) -> tuple[World, InstalledCrd]:
    async def read() -> Mapping[str, Any]:
        return openapi(older(*paths))

    world, installed = World(), InstalledCrd(read)
    world.kube.undeclared = {path.removeprefix("status.") for path in paths}
    await installed.look()
    return world, installed


async def test_status_is_written_without_what_an_older_crd_would_have_all_of_it_refused_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, installed = await _world("status.previous", "status.url")
    world.operator.reconciler._writer._fit = installed.fit
    await world.operator.start()
    world.create()
    await world.run(60)
    assert world.said()["Ready"] == "True Serving"
    assert not {"previous", "url"} & world.status().keys()
    before = world.writes()
    await world.run(60)
    assert world.writes() == before, "nothing is written at rest"
    assert caplog.text.count("the CRD is older than the operator") == 1
    await installed.look()
    assert caplog.text.count("the CRD is older than the operator") == 1, "said once"
    registry = CollectorRegistry()
    registry.register(InstalledCollector(installed))
    assert registry.get_sample_value("slipway_operator_crd_missing_fields") == 2


async def test_without_that_no_status_would_be_written() -> None:
    world, _ = await _world("status.previous", "status.url")
    await world.operator.start()
    world.create()
    await world.run(60)
    assert world.operator.errors[-1].code == 500


async def test_a_crd_that_follows_a_moment_later_is_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server publishes a CRD some seconds after it was applied."""
    monkeypatch.setattr("slipway.engine.installed_crd.SOON", 0.01)
    answers = [older("status.url"), older("status.url"), OURS]

    async def read() -> Mapping[str, Any]:
        return openapi(answers.pop(0) if len(answers) > 1 else answers[0])

    installed = InstalledCrd(read)
    await installed.look()
    assert installed.missing
    watching = asyncio.create_task(installed.watch())
    for _ in range(1000):
        if not installed.missing:
            break
        await asyncio.sleep(0.01)
    watching.cancel()
    assert installed.fit({"url": "u"}) == {"url": "u"}


async def test_a_schema_that_cannot_be_read_changes_nothing() -> None:
    answers: list[Any] = [openapi(older("status.url")), ApiError(403, "Forbidden", "no"), {"paths": {}}]

    async def read() -> Mapping[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return dict(answer)

    installed = InstalledCrd(read)
    assert installed.fit({"url": "u", "replicas": 1}) == {"url": "u", "replicas": 1}
    for _ in range(3):
        await installed.look()
        assert installed.missing == ("status.url",)
        assert installed.fit({"url": "u", "replicas": 1}) == {"replicas": 1}
