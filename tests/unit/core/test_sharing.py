"""Equal parts of decoded resources are one object, and say what they said before."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core.resource import read
from slipway.core.sharing import with_shared_names
from tests.unit.core.generated import specs

SPEC: dict[str, Any] = {"model": {"uri": "mlflow://fraud/1"}, "scaling": {"maxReplicas": 3}}


def decoded(spec: dict[str, Any]) -> ModelDeploymentSpec:
    return with_shared_names(ModelDeploymentSpec.model_validate(spec))


@given(specs())
def test_a_spec_says_the_same_as_before(spec: dict[str, Any]) -> None:
    plain, same = ModelDeploymentSpec.model_validate(spec), decoded(spec)
    assert same == plain
    assert same.model_dump(mode="json") == plain.model_dump(mode="json")
    assert same.model_dump(mode="json", exclude_unset=True) == plain.model_dump(
        mode="json", exclude_unset=True
    )


def test_what_resources_do_not_ask_for_is_one_for_all_of_them() -> None:
    first, second = decoded(SPEC), decoded(SPEC)
    assert first.runtime is second.runtime
    assert first.rollout is second.rollout
    assert first.scaling.model_fields_set is second.scaling.model_fields_set


def test_what_is_said_and_what_is_the_default_stay_apart() -> None:
    default = decoded(SPEC).rollout.historyLimit
    said, unsaid = decoded({**SPEC, "rollout": {"historyLimit": default}}), decoded(SPEC)
    assert said.rollout == unsaid.rollout
    assert said.rollout.model_dump(exclude_unset=True) == {"historyLimit": default}
    assert unsaid.model_dump(exclude_unset=True).keys() == SPEC.keys()


def test_conditions_of_a_status_share_the_names_of_their_fields_alone() -> None:
    meta = {"name": "fraud", "namespace": "payments", "uid": "u", "generation": 1}
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": kind,
            "message": kind,
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in ("Ready", "Resolved")
    ]
    status = read({"metadata": meta, "spec": SPEC, "status": {"conditions": conditions}}).status
    plain = ModelDeploymentStatus.model_validate({"conditions": conditions})
    assert status.model_dump(exclude_unset=True) == plain.model_dump(exclude_unset=True)
    first, second = status.conditions
    assert first != second
    assert first.model_fields_set is second.model_fields_set
    assert with_shared_names(plain).conditions[0].model_fields_set is first.model_fields_set


def test_a_copy_with_a_change_leaves_the_default_as_it_is() -> None:
    default = decoded(SPEC).rollout
    changed = default.model_copy(update={"historyLimit": default.historyLimit + 1})
    assert changed != default
    assert decoded(SPEC).rollout is default
    assert decoded(SPEC).rollout.historyLimit == changed.historyLimit - 1
