"""What the store takes in, and what it does not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from slipway.api.types import KIND, ModelDeploymentSpec
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.projection import project
from slipway.engine.store import Key, Store, owner_key

KEY = Key("payments", "fraud")


def resource(version: int = 1, uid: str = "owner", name: str = "fraud", namespace: str = "payments") -> Any:
    meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"kind": KIND, "metadata": meta}


def child(
    version: int = 1,
    uid: str = "child",
    owner: str | None = "owner",
    kind: ObjectKind = ObjectKind.DEPLOYMENT,
) -> Any:
    meta: dict[str, Any] = {
        "name": "fraud-1",
        "namespace": "payments",
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {naming.MODEL_LABEL: "fraud"},
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
    assert store.count(ObjectKind.DEPLOYMENT) == 0
    assert owner_key(stranger) is None


def test_a_child_concerns_the_model_deployment_of_its_label() -> None:
    store = filled(resource())
    assert store.put(child()) == KEY
    assert store.children(KEY) == [child()]
    assert store.count(ObjectKind.DEPLOYMENT) == 1


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
    for kind in (ObjectKind.POD, ObjectKind.ENDPOINT_SLICE):
        assert len(filled(resource(), child(owner="replicaset", kind=kind)).children(KEY)) == 1


def test_a_pod_that_merely_wears_a_resolvers_labels_is_not_a_child() -> None:
    pretender = child(owner="somebody", kind=ObjectKind.POD)
    pretender["metadata"]["labels"][naming.COMPONENT_LABEL] = "resolver"
    assert filled(resource(), pretender).children(KEY) == []


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


def listed(store: Store, kind: str, items: list[Any], version: int, namespace: str | None = None) -> set[Key]:
    listing = store.listing(kind, namespace)
    listing.take(items)
    return listing.end(version)


def test_a_list_brings_what_no_watch_told() -> None:
    store = filled(resource(1))
    assert listed(store, KIND, [resource(3), resource(2, uid="b", name="b")], 3) == {
        KEY,
        Key("payments", "b"),
    }
    assert store.resource(KEY) == resource(3)


def test_a_list_that_says_nothing_new_concerns_nobody() -> None:
    store = filled(resource(), child())
    assert listed(store, ObjectKind.DEPLOYMENT, [child()], 50) == set()


def test_what_is_missing_from_a_list_is_gone() -> None:
    store = filled(resource(), child(5))
    assert listed(store, ObjectKind.DEPLOYMENT, [], 5) == {KEY}
    assert store.children(KEY) == []
    assert store.resource(KEY) is not None, "other kinds are left alone"


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    store = filled(resource(), resource(2, uid="elsewhere", namespace="other"))
    assert listed(store, KIND, [], 9, "other") == {Key("other", "fraud")}
    assert store.resource(KEY) is not None


def test_what_appears_while_a_list_is_on_its_way_may_be_missing_from_it_or_older_in_it() -> None:
    store = filled(resource())
    listing = store.listing(ObjectKind.DEPLOYMENT)
    store.put(child(6))
    assert listing.end(5) == set()
    assert store.children(KEY) == [child(6)]
    listing = store.listing(ObjectKind.DEPLOYMENT)
    store.put(child(9))
    listing.take([child(7)])
    assert listing.end(8) == set()
    assert store.children(KEY) == [child(9)]


def test_after_etcd_went_back_to_a_backup_a_list_is_right_whatever_its_versions_are() -> None:
    changed, gone = child(900), child(950, uid="gone")
    gone["metadata"]["name"] = "fraud-2"
    store = filled(resource(1000), changed, gone)
    assert store.put(resource(40)) is None, "one event is no proof"
    assert listed(store, KIND, [resource(40)], 55) == {KEY}
    assert store.resource(KEY) == resource(40)
    assert listed(store, ObjectKind.DEPLOYMENT, [child(30)], 55) == {KEY}
    assert store.children(KEY) == [child(30)]
    assert store.put(resource(56)) == KEY, "and watches are believed again"
    listing = store.listing(KIND)
    assert store.put(resource(58)) == KEY
    listing.take([resource(57)])
    assert listing.end(57) == set(), "also before a list that was on its way"
    assert store.resource(KEY) == resource(58)


def test_a_spec_is_decoded_once_for_each_generation() -> None:
    first = stated(1, generation=1, uri="mlflow://fraud/1")
    store = filled(first)
    before = store.read(KEY)
    store.put(stated(2, generation=1, uri="mlflow://fraud/1"))
    after = store.read(KEY)
    assert before is not None
    assert after is not None
    assert after.spec is before.spec
    store.put(stated(3, generation=2, uri="mlflow://fraud/2"))
    assert model_of(store) == "mlflow://fraud/2"
    store.put(stated(4, generation=2, uid="successor", uri="mlflow://fraud/3"))
    assert model_of(store) == "mlflow://fraud/3", "of another resource of that name"


def test_after_etcd_went_back_to_a_backup_the_same_generation_may_be_of_another_spec() -> None:
    store = filled(stated(900, generation=5, uri="mlflow://fraud/1"))
    listed(store, KIND, [stated(40, generation=5, uri="mlflow://fraud/2")], 55)
    assert model_of(store) == "mlflow://fraud/2"


def stated(version: int, generation: int, uri: str, uid: str = "owner") -> Any:
    found = resource(version, uid)
    found["metadata"]["generation"] = generation
    return {**found, "spec": {"model": {"uri": uri}}}


def model_of(store: Store) -> str:
    found = store.read(KEY)
    assert found is not None
    assert isinstance(found.spec, ModelDeploymentSpec)
    return found.spec.model.uri


def test_a_list_that_begins_again_says_nothing_of_what_it_told_before() -> None:
    store = filled(resource(), child(5))
    listing = store.listing(ObjectKind.DEPLOYMENT)
    listing.take([child(5)])
    listing.again()
    assert listing.end(9) == {KEY}
    assert store.children(KEY) == []


def test_a_successor_of_the_same_name_takes_the_place_of_what_is_gone() -> None:
    store = filled(resource(1, uid="old"))
    assert listed(store, KIND, [resource(8, uid="new")], 8) == {KEY}
    assert store.resource(KEY) == resource(8, uid="new")


def test_an_answer_that_is_read_after_a_deletion_brings_nothing_back() -> None:
    store = filled(resource(1), child(2))
    store.bury(resource(3))
    store.bury(child(4))
    assert store.put(resource(2)) is None
    assert store.put(child(9)) is None
    assert store.resource(KEY) is None
    assert store.everything() == set()


def test_an_answer_about_the_one_before_does_not_hide_a_successor() -> None:
    store = filled(resource(1, uid="old"))
    store.bury(resource(3, uid="old"))
    assert store.put(resource(4, uid="new")) == KEY
    assert store.put(resource(9, uid="old")) is None
    assert store.resource(KEY) == resource(4, uid="new")


def test_a_deletion_whose_object_was_never_seen_counts_too() -> None:
    store = Store()
    assert store.bury(resource(3)) is None
    assert store.put(resource(2)) is None


def test_a_list_on_its_way_brings_nothing_back_that_was_deleted_meanwhile() -> None:
    store = filled(resource(1))
    listing = store.listing(KIND)
    store.bury(resource(3))
    listing.take([resource(1)])
    assert listing.end(2) == set()
    assert store.resource(KEY) is None


def test_deletions_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = Store(), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for number in range(100):
        store.bury(resource(uid=f"u{number}"))
    now = 1000.0
    store.bury(resource(uid="last"))
    assert len(store._gone) == 1


def test_an_object_that_is_given_to_another_leaves_the_first() -> None:
    store = filled(resource(), resource(uid="b", name="b"), child(kind=ObjectKind.POD))
    given = child(2, kind=ObjectKind.POD)
    given["metadata"]["labels"] = {naming.MODEL_LABEL: "b"}
    assert store.put(given) == Key("payments", "b")
    assert store.children(KEY) == []


def test_only_what_is_read_is_kept() -> None:
    pod = child(kind=ObjectKind.POD)
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


def test_a_list_ends_step_by_step_and_what_is_seen_meanwhile_stays() -> None:
    found = []
    for number in range(1000):
        manifest = child(uid=f"c{number}")
        manifest["metadata"]["name"] = f"fraud-{number}"
        found.append(manifest)
    store = filled(*found)
    listing = store.listing(ObjectKind.DEPLOYMENT)
    listing.take(found[:500])
    ending = listing.ending(10)
    next(ending)
    # Another one takes the name of one that is gone, and one comes that no list could have.
    late = child(20, uid="another")
    late["metadata"]["name"] = "fraud-900"
    store.put(late)
    new = child(21, uid="new")
    new["metadata"]["name"] = "new"
    store.put(new)
    assert len(list(ending)) == 3
    assert listing.changed == {KEY}
    assert store.count(ObjectKind.DEPLOYMENT) == 502


def test_a_list_of_one_namespace_goes_through_its_own_objects_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    store, walked = Store(), []
    for namespace in ("a", "b"):
        meta = {"namespace": namespace, "name": "one", "uid": namespace, "resourceVersion": "5"}
        store.put({"kind": KIND, "metadata": meta, "spec": {}})
    every = store._of

    def of(kind: str, namespace: str | None) -> list[Manifest]:
        walked.append(namespace)
        return every(kind, namespace)

    monkeypatch.setattr(store, "_of", of)
    listing = store.listing(KIND, "a")
    listing.take([])
    assert listing.end(9) == {Key("a", "one")}
    assert walked == ["a"]
