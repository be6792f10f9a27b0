"""Pods that only say that they are Slipway's are neither read nor counted."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.core import naming
from slipway.core.endpoint import Endpoint
from slipway.core.observed import ObjectKind
from slipway.engine.ownership import REPLICA_SET
from tests.unit.world import KEY, NAME, NAMESPACE, World

PAUSE = {"pause": {"untilApproved": True}}
GATES = {"gates": [{"name": "contract", "type": "Violations"}], "intervalSeconds": 10}
SPEC: dict[str, Any] = {
    "scaling": {"minReplicas": 2},
    "monitoring": {"drift": {"windowSeconds": 600}},
    "rollout": {
        "strategy": "Canary",
        "steps": [{"setWeight": 50}, {"analysis": {}}, PAUSE],
        "analysis": GATES,
    },
}


class Listening(World):
    """Notes which pods are read."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        super().__init__()

    def _operator(self) -> Any:
        for holder, name in (
            (self.routers, "read"),
            (self.routers, "read_pod"),
            (self.pods, "read"),
            (self.routers, "take_answers"),
        ):
            setattr(holder, name, self._noting(getattr(type(holder), name).__get__(holder)))
        return super()._operator()

    def _noting(self, read: Any) -> Any:
        async def noting(target: Endpoint, *more: Any) -> Any:
            self.asked.add(target.host)
            return await read(target, *more)

        return noting

    def forge(self, name: str, labels: dict[str, str], *owners: dict[str, Any]) -> None:
        """A ready pod of a stranger's."""
        self.kube.update(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": labels,
                    "ownerReferences": list(owners),
                },
                "spec": {"containers": []},
                "status": {
                    "phase": "Running",
                    "podIP": name,
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            },
            "stranger",
        )

    def put(self, kind: str, name: str, labels: dict[str, str], *owners: dict[str, Any]) -> dict[str, Any]:
        """An object of a stranger's, as an owner."""
        meta = {"name": name, "namespace": NAMESPACE, "labels": labels, "ownerReferences": list(owners)}
        spec = {"replicas": 0, "template": {"metadata": {"labels": {}}, "spec": {}}}
        self.kube.update({"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec}, "stranger")
        return owner(self.kube.find(kind, NAMESPACE, name))


def owner(manifest: Any, **other: Any) -> dict[str, Any]:
    meta = manifest["metadata"]
    found = {"apiVersion": "apps/v1", "kind": manifest["kind"], "name": meta["name"], "uid": meta["uid"]}
    return {**found, "controller": True, **other}


@pytest.fixture
async def world() -> Listening:
    world = Listening()
    await world.operator.start()
    world.create({"model": {"uri": "mlflow://fraud/1"}, **SPEC})
    world.routers.requests_per_second = 200
    await world.run(60)
    return world


async def forge_all(world: Listening, labels: dict[str, str], deployment: str, prefix: str = "") -> None:
    """Every kind of owner that proves nothing."""
    real = next(
        found for found in world.kube.all(REPLICA_SET) if found["metadata"]["name"].startswith(deployment)
    )
    live = world.kube.find(ObjectKind.DEPLOYMENT, NAMESPACE, deployment)
    resource = world.kube.find("ModelDeployment", NAMESPACE, NAME)
    world.forge(f"{prefix}alone", labels)
    world.forge(f"{prefix}of-nobody", labels, owner(real, name="other", uid="other"))
    world.forge(f"{prefix}wrong-uid", labels, owner(real, uid="other"))
    world.forge(f"{prefix}no-controller", labels, owner(real, controller=False))
    world.forge(f"{prefix}of-the-deployment", labels, owner(live))
    world.forge(f"{prefix}of-the-resource", labels, owner(resource))
    world.forge(f"{prefix}of-a-set-alone", labels, world.put(REPLICA_SET, f"{prefix}set-alone", labels))
    wrong = world.put(REPLICA_SET, f"{prefix}wrong-set", labels, owner(live, uid="other"))
    world.forge(f"{prefix}of-a-set-of-nobody", labels, wrong)
    own = world.put("Deployment", f"{prefix}strangers-own", labels, owner(resource))
    world.forge(
        f"{prefix}of-their-deployment", labels, world.put(REPLICA_SET, f"{prefix}their-set", labels, own)
    )


_NAMES = (
    "alone",
    "of-nobody",
    "wrong-uid",
    "no-controller",
    "of-the-deployment",
    "of-the-resource",
    "of-a-set-alone",
    "of-a-set-of-nobody",
    "of-their-deployment",
)
FORGED = {prefix + name for name in _NAMES for prefix in ("", "c-")}


async def test_model_servers_that_nobody_of_slipways_made_are_not_read_nor_counted(world: Listening) -> None:
    stable = world.status()["stable"]["revision"]
    labels = naming.labels(NAME, "model-server", stable)
    await forge_all(world, labels, naming.revision_object(NAME, stable))
    world.create({"model": {"uri": "mlflow://fraud/2"}, **SPEC})
    await world.run(60)
    canary = world.status()["canary"]["revision"]
    await forge_all(
        world, naming.labels(NAME, "model-server", canary), naming.revision_object(NAME, canary), "c-"
    )
    await world.run(120)
    await world.restart()
    await world.run(60)
    assert world.asked & FORGED == set()
    # The cluster's other controllers took the others away.
    left = {"alone", "of-the-deployment", "of-the-resource", "of-a-set-alone"}
    assert {pod["metadata"]["name"] for pod in world.kube.all(ObjectKind.POD)} >= left
    own = {name for name in world.asked if name.startswith(f"{NAME}-")}
    assert len(own) >= 3, "those of both revisions are"
    assert world.status()["rollout"]["phase"] in ("Paused", "Progressing")
    assert world.status()["rollout"]["looks"], "forged pods did not keep counts away"


@pytest.mark.parametrize("name", _NAMES)
async def test_what_leads_to_no_deployment_of_slipways_proves_nothing(world: Listening, name: str) -> None:
    revision = world.status()["stable"]["revision"]
    labels = naming.labels(NAME, "model-server", revision)
    await forge_all(world, labels, naming.revision_object(NAME, revision))
    store = world.operator.store
    pods = {child["metadata"]["name"] for child in store.children(KEY) if child["kind"] == ObjectKind.POD}
    assert name not in pods
    assert not store.is_believed(world.kube.find(ObjectKind.POD, NAMESPACE, name))
    assert len(pods) == 2


async def test_routers_that_nobody_of_slipways_made_are_not_read_nor_waited_for(world: Listening) -> None:
    await forge_all(world, naming.router_labels(), naming.router())
    world.routers.mute |= FORGED
    world.create({"model": {"uri": "mlflow://fraud/2"}, **SPEC})
    await world.run(120)
    assert world.asked & FORGED == set()
    assert world.status()["rollout"]["weight"] == 50
    assert world.said()["TrafficSynced"] == "True Routed"


async def test_a_pod_that_leaves_after_its_deployment_is_still_ours(world: Listening) -> None:
    revision = world.status()["stable"]["revision"]
    store = world.operator.store
    (replica_set,) = [
        found
        for found in world.kube.all(REPLICA_SET)
        if found["metadata"]["name"].startswith(naming.revision_object(NAME, revision))
    ]
    before = [child for child in store.children(KEY) if child["kind"] == ObjectKind.POD]
    store.bury(replica_set)
    assert [child for child in store.children(KEY) if child["kind"] == ObjectKind.POD] == before
    assert len(before) == 2
