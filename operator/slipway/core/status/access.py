"""Whether the pods check who asks."""

from __future__ import annotations

from slipway.api.access import Access
from slipway.api.reasons import ConditionType, Reason
from slipway.api.types import ModelDeploymentSpec
from slipway.core.objects.deployment import checks_callers
from slipway.core.objects.external import is_external
from slipway.core.observed import ObjectKind, Observed, revision_of_object
from slipway.core.status.condition_value import ConditionValue
from slipway.core.upgrade import is_replacing


def _ways(access: Access) -> list[str]:
    """By what callers are known."""
    ways = []
    if access.apiKeys is not None:
        ways.append(f"the hashes in Secret {access.apiKeys.secretRef.name}")
    if access.issuers:
        ways.append(f"tokens of {', '.join(each.issuer for each in access.issuers)}"[:300])
    if access.serviceAccounts is not None:
        ways.append("tokens of ServiceAccounts")
    if access.tls is not None and access.tls.clientCA is not None:
        ways.append("their certificates")
    return ways


def access_controlled(spec: ModelDeploymentSpec, observed: Observed) -> dict[ConditionType, ConditionValue]:
    """True once no pod is left that does not check callers as the spec says."""
    access = spec.access
    if access is None:
        value = ConditionValue(
            "False",
            Reason.ACCESS_OPEN,
            "everybody who reaches the pods may use the model"
            + (
                ", unless the server itself, which is not Slipway's, checks who asks"
                if is_external(spec.runtime)
                else ": give spec.access, see docs/access.md"
            ),
        )
        return {ConditionType.ACCESS_CONTROLLED: value}
    behind = [
        str(live["metadata"]["name"])
        for live in observed.of(ObjectKind.DEPLOYMENT)
        if revision_of_object(live) is not None and (not checks_callers(live, access) or is_replacing(live))
    ]
    if behind:
        value = ConditionValue(
            "False",
            Reason.ACCESS_PENDING,
            f"pods of {', '.join(behind)} do not all check callers as spec.access says yet",
        )
    else:
        value = ConditionValue(
            "True",
            Reason.CALLERS_CHECKED,
            f"callers are known by {' and by '.join(_ways(access))}",
        )
    return {ConditionType.ACCESS_CONTROLLED: value}
