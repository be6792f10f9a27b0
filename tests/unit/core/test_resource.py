"""A ModelDeployment as it is read, also where parts of it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.reasons import Reason
from slipway.api.status import ModelDeploymentStatus
from slipway.core.observed import Fault
from slipway.core.resource import Resource, read

REJECTED = {
    "revision": "cccccccccc",
    "digest": f"sha256:{'2' * 64}",
    "id": "cccccccccc.1",
    "rejectedAt": "2026-11-24T11:00:00Z",
    "message": "gate error-rate: canary 14 errors in 1,210",
}


def found(status: Any, spec: Any = None) -> Resource:
    meta = {"name": "fraud", "namespace": "payments", "uid": "u", "generation": 3}
    wanted = {"model": {"uri": "mlflow://fraud/1"}} if spec is None else spec
    return read({"metadata": meta, "spec": wanted, "status": status})


def test_a_status_keeps_what_can_be_read_of_it() -> None:
    status = {"observedGeneration": 2, "canaryWeight": "much", "rejected": [REJECTED, {"revision": 3}]}
    resource = found(status)
    assert resource.status.observedGeneration == 2
    assert resource.status.canaryWeight is None
    assert [one.revision for one in resource.status.rejected] == ["cccccccccc"]
    assert resource.status_fault is not None
    assert resource.status_fault.reason is Reason.STATUS_FROM_ANOTHER_VERSION
    words = (
        "; another version of the operator wrote it: run that one or a newer one. What serves is left as it "
    )
    words += "is until then"
    assert resource.status_fault.message.startswith("status.")
    assert resource.status_fault.message.endswith(words)


@pytest.mark.parametrize("status", ["Ready", [1], {"rejected": "all"}])
def test_a_status_of_which_nothing_can_be_read_is_an_empty_one(status: Any) -> None:
    resource = found(status)
    assert resource.status == ModelDeploymentStatus()
    assert resource.status_fault is not None


def test_a_spec_that_cannot_be_read_says_which_field_and_what_to_do() -> None:
    spec = found(None, {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"minReplicas": "few"}}).spec
    assert isinstance(spec, Fault)
    assert spec.reason is Reason.INVALID_RESOURCE
    assert spec.message.startswith("spec.scaling.minReplicas: ")
    assert spec.message.endswith("; fix the field, or upgrade the operator if its CRD is newer")
