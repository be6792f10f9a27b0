"""What is kept of objects is all that is read of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.api.types import API_VERSION, KIND
from slipway.core import naming
from slipway.core.observed import ObjectKind
from slipway.engine.projection import is_same, project
from slipway.engine.store import Key, Store
from tests.unit.core.tables import cases, run

CASES = dict(cases())
KEY = Key("payments", "fraud")


@pytest.mark.parametrize("name", CASES)
def test_what_is_kept_gives_the_same_plan_and_report_as_all_of_it(name: str) -> None:
    """Every case of the tables: each pod that fails, each Deployment that is refused, each Service."""
    whole, kept = run(CASES[name]), run(CASES[name], project)
    assert kept.report == whole.report
    if whole.plan is not None and kept.plan is not None:
        assert kept.plan.apply == whole.plan.apply
        assert kept.plan.roles == whole.plan.roles
        assert kept.plan.requeue_at == whole.plan.requeue_at
        assert [found["metadata"] for found in kept.plan.delete] == [
            project(found)["metadata"] for found in whole.plan.delete
        ]


def an_object(kind: str, number: int = 0, version: int = 1, **more: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "name": f"fraud-{number}",
        "namespace": KEY.namespace,
        "uid": f"{kind}-{number}",
        "resourceVersion": str(version),
        "labels": {naming.MODEL_LABEL: KEY.name},
    }
    found = {"apiVersion": "v1", "kind": kind, "metadata": meta, **more}
    # As they come: no two have anything in common.
    read: dict[str, Any] = json.loads(json.dumps(found))
    return read


def pod(version: int, **status: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True", "lastProbeTime": None, "observedGeneration": 1}
    container = {
        "name": "server",
        "ready": True,
        "restartCount": 0,
        "containerID": "containerd://1",
        "imageID": "sha256:1",
        "volumeMounts": [{"name": "model", "mountPath": "/model"}],
    }
    base = {"phase": "Running", "podIP": "10.0.0.1", "hostIP": "192.0.2.1", "qosClass": "Burstable"}
    whole = {**base, "conditions": [condition], "containerStatuses": [container], **status}
    return an_object(ObjectKind.POD, version=version, spec={"containers": [{}]}, status=whole)


def test_of_a_pod_what_nobody_reads_is_not_kept() -> None:
    assert project(pod(1))["status"] == {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "server", "ready": True, "restartCount": 0, "containerID": "containerd://1"}
        ],
    }


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        ({}, False),
        ({"hostIP": "192.0.2.2", "podIPs": [{"ip": "10.0.0.1"}]}, False),
        ({"podIP": "10.0.0.2"}, True),
        ({"phase": "Failed"}, True),
        ({"conditions": []}, True),
        ({"containerStatuses": [{"name": "server", "restartCount": 1}]}, True),
    ],
)
def test_a_change_of_what_nobody_reads_is_no_news_and_its_version_is_known(
    change: dict[str, Any], is_news: bool
) -> None:
    store = Store()
    store.put(pod(1))
    assert store.put(pod(2, **change)) == (KEY if is_news else None)
    # A write that begins from it is not refused.
    (known,) = store._children[KEY]
    assert known.look()["metadata"]["resourceVersion"] == "2"
    assert store.put(pod(1)) is None, "the past stays the past"


def test_what_a_watch_tells_of_an_own_write_is_news_though_its_answer_said_the_same() -> None:
    store = Store()
    service = an_object(ObjectKind.SERVICE, spec={"selector": {"a": "b"}})
    assert store.put(service) == KEY
    assert store.put(service) == KEY


def test_of_a_resource_the_spec_is_kept_decoded_alone_and_kubectls_copy_of_it_not_at_all() -> None:
    copy = "kubectl.kubernetes.io/last-applied-configuration"
    made = an_object(KIND, spec={"model": {"uri": "mlflow://fraud/1"}})
    made["apiVersion"] = API_VERSION
    made["metadata"] |= {"name": KEY.name, "annotations": {copy: "{}", "team": "risk"}}
    store = Store()
    store.put(made)
    known, resource = store.resource(KEY), store.read(KEY)
    assert known is not None
    assert resource is not None
    assert "spec" not in known
    assert known["metadata"]["annotations"] == resource.annotations == {"team": "risk"}
    assert getattr(resource.spec, "model", None) is not None


def test_a_state_is_the_same_whatever_its_version() -> None:
    one, two = project(pod(1)), project(pod(2))
    assert is_same(one, two)
    assert not is_same(one, project(pod(2, phase="Failed")))
