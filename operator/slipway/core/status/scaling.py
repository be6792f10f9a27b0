"""Whether the autoscalers of the revisions in use do anything."""

from __future__ import annotations

from datetime import datetime

from slipway.api.reasons import ConditionType, Reason
from slipway.core.observed import Observed
from slipway.core.resource import Resource
from slipway.core.rollout.roles import Roles
from slipway.core.scaling_deadline import PATIENCE, inactive
from slipway.core.status.condition_value import ConditionValue

#: What no waiting ends: another autoscaler counts the same pods.
_AMBIGUOUS = "AmbiguousSelector"


def scaling_active(
    resource: Resource, roles: Roles, observed: Observed, now: datetime
) -> dict[ConditionType, ConditionValue]:
    """False, with the autoscaler's own words, where one of them is not active; there only then."""
    for name, found, since in inactive(resource.owner.name, roles, observed):
        ambiguous = found.get("reason") == _AMBIGUOUS
        if not ambiguous and since is not None and now - since < PATIENCE:
            continue
        words = f"HorizontalPodAutoscaler {name}: {found.get('reason')}: {found.get('message', '')}"
        if ambiguous:
            words += (
                "; another autoscaler, such as one of KEDA, counts the same pods, and both have stopped: "
                "delete it, and set spec.scaling.minReplicas and maxReplicas"
            )
        else:
            words += "; the number of pods stays as it is: see that the cluster has a metrics server"
        return {ConditionType.SCALING_ACTIVE: ConditionValue("False", Reason.SCALING_INACTIVE, words)}
    return {}
