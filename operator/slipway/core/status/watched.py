"""What is not watched of a server of one's own."""

from __future__ import annotations

from slipway.api.reasons import ConditionType, Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.core.objects.external import is_external
from slipway.core.status.condition_value import ConditionValue
from slipway.core.traffic.routed import has_routers

_LEFT_OUT = "inputs, answers, drift, data quality, labels and groups are not counted"


def watched(spec: ModelDeploymentSpec) -> dict[ConditionType, ConditionValue]:
    """Nothing for Slipway's own server, which counts what there is to count."""
    if not is_external(spec.runtime):
        return {}
    counted = (
        "routers count requests, errors and latency"
        if has_routers(spec)
        else "nor are requests and errors: only a rollout by routers (strategy Canary, BlueGreen or Shadow) "
        "counts them"
    )
    words = f"runtime.server is External: {_LEFT_OUT}; {counted}"
    return {ConditionType.WATCHED: ConditionValue("False", Reason.EXTERNAL_SERVER, words)}
