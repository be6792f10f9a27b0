"""spec.access in a cluster: pods are replaced, and an installation may take nothing without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slipway.contract import ACCESS_KEYS_DIR
from slipway.core.observed import Manifest, ObjectKind
from tests.unit.engine.test_pod_options import templates
from tests.unit.engine.test_upgrades import PLAIN, Watcher, canary, revisions, serving
from tests.unit.world import NAME, SETTINGS, World

ACCESS = {"apiKeys": {"secretRef": {"name": "fraud-keys"}}}


def guarded(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "access": ACCESS}


def checks(template: Manifest) -> bool:
    (server,) = template["spec"]["containers"]
    return any(found["mountPath"] == ACCESS_KEYS_DIR for found in server["volumeMounts"])


async def test_access_replaces_pods_and_begins_no_canary() -> None:
    world = await serving(canary(1))
    before = world.status()
    assert world.said()["AccessControlled"] == "False AccessOpen"
    watcher = Watcher(world)
    world.create(guarded(canary(1)))
    await world.run(60)
    assert all(map(checks, templates(world)))
    assert world.said()["AccessControlled"] == "True CallersChecked"
    assert world.said()["Ready"] == "True Serving"
    assert revisions(world) == {before["stable"]["revision"]}
    assert not world.status().get("rollout")
    assert watcher.least_ready == 2
    writes = world.writes()
    await world.restart()
    await world.run(60)
    assert world.writes() == writes


async def test_both_revisions_of_a_canary_check_callers() -> None:
    world = await serving(canary(1))
    world.create(canary(2))
    await world.run(60)
    rollout = world.status()["rollout"]
    world.create(guarded(canary(2)))
    await world.run(60)
    assert [checks(template) for template in templates(world)] == [True, True]
    assert world.status()["rollout"]["id"] == rollout["id"]
    assert world.said()["AccessControlled"] == "True CallersChecked"


async def test_an_installation_that_demands_access_starts_nothing_without_it_and_stops_nothing() -> None:
    world = World()
    world.settings = replace(SETTINGS, access_required=True)
    await world.operator.start()
    world.create(PLAIN)
    await world.restart()
    await world.run(120)
    assert world.said() == {"Ready": "False AccessRequired", "Stalled": "True AccessRequired"}
    assert world.kube.all(ObjectKind.POD) == []
    world.create(guarded(PLAIN))
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    # Nobody opens what is closed by taking it out.
    world.create(PLAIN)
    await world.run(120)
    assert world.said()["Ready"] == "False AccessRequired"
    assert all(map(checks, templates(world, NAME)))
    assert world.kube.all(ObjectKind.POD) != []
