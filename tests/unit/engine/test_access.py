"""spec.access in a cluster: pods are replaced, and an installation may take nothing without it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.contract import ACCESS_KEYS_DIR, ModelFault
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.observers.cluster_keys import INTERVAL, ClusterKeys
from slipway.engine.observers.looks import UnreadError
from slipway.engine.store import Key
from tests.unit.engine.test_pod_options import templates
from tests.unit.engine.test_upgrades import PLAIN, Watcher, canary, revisions, serving
from tests.unit.world import NAME, NAMESPACE, SETTINGS, World, failing

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


def with_accounts(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**spec, "access": {**more, "serviceAccounts": {}}}


def keys_of(world: World) -> list[str]:
    """What pods are given of the cluster's keys."""
    maps = world.kube.all(ObjectKind.CONFIG_MAP)
    return [
        found["data"]["jwks.json"] for found in maps if found["metadata"]["name"] == f"{NAME}-cluster-keys"
    ]


async def test_pods_get_the_clusters_keys_and_follow_them_without_being_replaced() -> None:
    world = await serving(with_accounts(canary(1)))
    assert keys_of(world) == [world.kube.cluster_keys]
    assert world.said()["AccessControlled"] == "True CallersChecked"
    pods = {found["metadata"]["uid"] for found in world.kube.all(ObjectKind.POD)}
    world.kube.cluster_keys = '{"issuer": "https://cluster", "keys": [{"kid": "2"}]}'
    await world.run(2 * INTERVAL.total_seconds())
    assert keys_of(world) == [world.kube.cluster_keys]
    assert {found["metadata"]["uid"] for found in world.kube.all(ObjectKind.POD)} == pods
    # Whoever changes them otherwise is not listened to.
    world.kube.edit(
        (ObjectKind.CONFIG_MAP, NAMESPACE, f"{NAME}-cluster-keys"),
        lambda live: live["data"].update({"jwks.json": "x"}),
    )
    await world.run(5)
    assert keys_of(world) == [world.kube.cluster_keys]
    world.create(guarded(canary(1)))
    await world.run(60)
    assert keys_of(world) == []
    assert world.said()["Ready"] == "True Serving"


async def test_no_pod_starts_before_the_clusters_keys_are_known_and_those_that_serve_go_on() -> None:
    world = World()
    world.kube.cluster_keys = UnreadError("the API server answers with 403")
    await world.operator.start()
    world.create(with_accounts(PLAIN))
    await world.run(30)
    assert world.said()["Ready"] == "False ClusterKeysUnread"
    assert world.kube.all(ObjectKind.POD) == []
    world.kube.cluster_keys = '{"issuer": "https://cluster", "keys": [{"kid": "1"}]}'
    await world.run(120)
    assert world.said()["Ready"] == "True Serving"
    # From then on an API server that shows none takes nothing away.
    world.kube.cluster_keys = UnreadError("the API server answers with 403")
    before = keys_of(world)
    await world.restart()
    await world.run(120)
    assert keys_of(world) == before != []
    assert world.said()["Ready"] == "True Serving"
    world.create({**with_accounts(PLAIN), "model": {"uri": "mlflow://fraud/2"}})
    await world.run(240)
    assert world.said()["Ready"] == "True Serving"
    assert world.status()["stable"]["version"] == "2"


async def test_the_api_server_is_asked_while_somebody_needs_keys_and_less_often_while_it_fails() -> None:
    asked: list[datetime] = []
    now = datetime(2026, 11, 24, tzinfo=UTC)

    async def read() -> str:
        asked.append(now)
        raise UnreadError("503")

    told: list[Key] = []
    keys = ClusterKeys(read, told.append, lambda: now, lambda: 0.5)
    await keys.pool.drain()
    assert asked == []
    keys.subscribe(Key("a", "b"), True)
    for _ in range(600):
        await keys.pool.drain()
        now += timedelta(seconds=1)
    # A second, two, four … and 30 in the end.
    assert 20 <= len(asked) <= 30
    assert told == [Key("a", "b")]
    keys.forget(Key("a", "b"))
    count = len(asked)
    now += timedelta(hours=1)
    await keys.pool.drain()
    assert len(asked) == count


def ended(pod: Manifest) -> dict[str, Any] | None:
    """Status of a pod whose server is to check callers and found no key, again and again."""
    if not checks({"spec": pod["spec"]}):
        return None
    return failing(ModelFault.ACCESS_KEYS_MISSING, "the Secret has no usable key")


async def test_pods_that_find_no_key_are_told_of_and_those_that_serve_go_on() -> None:
    world = World()
    await world.operator.start()
    world.pod_status = ended
    world.create(guarded(PLAIN))
    await world.run(60)
    assert world.said()["Ready"] == "False AccessKeysMissing"
    assert "no usable key" in world.message("Ready")
    # A model that nobody could ask serves on when its access is given wrongly, and no version is rejected.
    world = await serving(canary(1))
    before = {found["metadata"]["uid"] for found in world.kube.all(ObjectKind.POD)}
    world.pod_status = ended
    world.create(guarded(canary(1)))
    await world.run(300)
    assert world.said()["Ready"].startswith("True")
    assert world.said()["AccessControlled"] == "False AccessPending"
    assert before <= {found["metadata"]["uid"] for found in world.kube.all(ObjectKind.POD)}
    assert not world.status().get("rejected")
    assert "AccessKeysMissing" in str(world.status()["upgrade"]) + str(world.status()["conditions"])


async def test_tls_replaces_pods_and_the_service_says_so_once_it_leads_to_them() -> None:
    world = await serving(PLAIN)
    tls = {"secretRef": {"name": "fraud-tls"}}
    world.create({**PLAIN, "access": {**ACCESS, "tls": tls}})
    await world.run(120)
    assert world.said()["AccessControlled"] == "True CallersChecked"
    assert world.said()["Ready"] == "True Serving"
    (service,) = [found for found in world.kube.all(ObjectKind.SERVICE) if found["metadata"]["name"] == NAME]
    assert service["spec"]["ports"][0]["appProtocol"] == "https"
    assert "appProtocol" not in service["spec"]["ports"][2]
    world.create(PLAIN)
    await world.run(120)
    (service,) = [found for found in world.kube.all(ObjectKind.SERVICE) if found["metadata"]["name"] == NAME]
    assert service["spec"]["ports"][0]["appProtocol"] == "http"


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
