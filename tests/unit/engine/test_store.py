"""What the store takes in, and what it does not."""

from __future__ import annotations

from typing import Any

from slipway.api.types import KIND
from slipway.core import names
from slipway.core.observed import Kind
from slipway.engine.store import Key, Store, owner_key, project

KEY = Key("payments", "fraud")


def resource(version: int = 1, uid: str = "owner", name: str = "fraud", namespace: str = "payments") -> Any:
    meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"kind": KIND, "metadata": meta}


def child(
    version: int = 1, uid: str = "child", owner: str | None = "owner", kind: Kind = Kind.DEPLOYMENT
) -> Any:
    meta: dict[str, Any] = {
        "name": "fraud-1",
        "namespace": "payments",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {names.MODEL_LABEL: "fraud"},
    }
    if owner is not None:
        meta["ownerReferences"] = [{"uid": owner, "controller": True}]
    return {"kind": kind.value, "metadata": meta}


def filled(*manifests: Any) -> Store:
    store = Store()
    for manifest in manifests:
        store.put(manifest)
    return store


def test_a_newer_version_replaces_an_older_one() -> None:
    store = filled(resource(1))
    assert store.put(resource(2)) == KEY
    assert store.resource(KEY) == resource(2)


def test_an_older_version_is_ignored_and_concerns_nobody() -> None:
    store = filled(resource(10))
    assert store.put(resource(9)) is None
    assert store.resource(KEY) == resource(10)


def test_versions_are_numbers_not_text() -> None:
    store = filled(resource(9))
    assert store.put(resource(10)) == KEY


def test_what_carries_no_label_of_slipways_is_not_kept() -> None:
    stranger = child()
    stranger["metadata"]["labels"] = None
    store = Store()
    assert store.put(stranger) is None
    assert store.remove(stranger) is None
    assert store.count(Kind.DEPLOYMENT) == 0
    assert owner_key(stranger) is None


def test_a_child_concerns_the_model_deployment_of_its_label() -> None:
    store = filled(resource())
    assert store.put(child()) == KEY
    assert store.children(KEY) == [child()]
    assert store.count(Kind.DEPLOYMENT) == 1


def test_a_removed_object_is_gone_and_concerns_its_owner() -> None:
    store = filled(resource(), child())
    assert store.remove(child(2)) == KEY
    assert store.children(KEY) == []
    assert store.remove(child(2)) is None, "once is enough"


def test_the_end_of_an_object_does_not_remove_its_successor() -> None:
    store = filled(resource(), child(5, uid="new"))
    assert store.remove(child(4, uid="old")) is None
    assert store.children(KEY) == [child(5, uid="new")]


def test_children_of_another_uid_are_not_the_model_deployments() -> None:
    store = filled(resource(uid="new"), child(owner="old"))
    assert store.children(KEY) == []


def test_an_object_that_merely_wears_the_label_is_not_a_child() -> None:
    assert filled(resource(), child(owner=None)).children(KEY) == []


def test_pods_and_endpoint_slices_belong_to_other_controllers_and_are_children_all_the_same() -> None:
    for kind in (Kind.POD, Kind.ENDPOINT_SLICE):
        assert len(filled(resource(), child(owner="replicaset", kind=kind)).children(KEY)) == 1


def test_children_known_before_their_owner_are_there_once_it_is() -> None:
    store = filled(child())
    assert store.children(KEY) == []
    store.put(resource())
    assert store.children(KEY) == [child()]


def test_children_of_one_name_in_two_namespaces_are_told_apart() -> None:
    other = resource(namespace="other", uid="elsewhere")
    store = filled(resource(), other, child())
    assert store.children(Key("other", "fraud")) == []
    assert sorted(store.resources()) == [Key("other", "fraud"), KEY]


def test_a_list_brings_what_no_watch_told() -> None:
    store = filled(resource(1))
    assert store.replace(KIND, [resource(3), resource(2, uid="b", name="b")], 3) == {
        KEY,
        Key("payments", "b"),
    }
    assert store.resource(KEY) == resource(3)


def test_a_list_that_says_nothing_new_concerns_nobody() -> None:
    store = filled(resource(), child())
    assert store.replace(Kind.DEPLOYMENT, [child()], 50) == set()


def test_what_is_missing_from_a_list_is_gone() -> None:
    store = filled(resource(), child(5))
    assert store.replace(Kind.DEPLOYMENT, [], 5) == {KEY}
    assert store.children(KEY) == []
    assert store.resource(KEY) is not None, "other kinds are left alone"


def test_what_is_newer_than_a_list_may_be_missing_from_it() -> None:
    store = filled(resource(), child(6))
    assert store.replace(Kind.DEPLOYMENT, [], 5) == set()
    assert store.children(KEY) == [child(6)]


def test_a_list_older_than_what_is_known_changes_nothing() -> None:
    store = filled(resource(9))
    assert store.replace(KIND, [resource(4)], 4) == set()
    assert store.resource(KEY) == resource(9)


def test_a_successor_of_the_same_name_takes_the_place_of_what_is_gone() -> None:
    store = filled(resource(1, uid="old"))
    assert store.replace(KIND, [resource(8, uid="new")], 8) == {KEY}
    assert store.resource(KEY) == resource(8, uid="new")


def test_only_what_is_read_is_kept() -> None:
    pod = child(kind=Kind.POD)
    pod["metadata"] |= {"managedFields": [{}], "annotations": {"a": "b"}}
    pod |= {"spec": {"containers": []}, "status": {"phase": "Running"}}
    kept = project(pod)
    assert not {"managedFields", "annotations"} & set(kept["metadata"])
    assert "spec" not in kept
    assert kept["status"] == {"phase": "Running"}
    assert "spec" in pod, "what was given is not changed"
    deployment = child()
    deployment["metadata"] |= {"managedFields": [{}], "annotations": {"a": "b"}}
    assert project(deployment)["metadata"]["annotations"] == {"a": "b"}
    assert "managedFields" not in project(deployment)["metadata"]


def test_a_key_reads_as_kubectl_writes_it() -> None:
    assert str(KEY) == "payments/fraud"
