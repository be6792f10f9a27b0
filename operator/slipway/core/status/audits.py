"""What audits say of the revision that clients reach, or before there is one of the wanted one."""

from __future__ import annotations

from slipway.api.audits import AuditResult
from slipway.api.reasons import ConditionType, Reason
from slipway.core.monitoring.verdict import bounded
from slipway.core.plan import Plan
from slipway.core.status.condition_value import ConditionValue

#: By verdict, the worst first; what has not been audited yet comes before what passed.
_SAID = {
    "Fail": ("False", Reason.AUDIT_FAILED),
    "Error": ("Unknown", Reason.AUDIT_ERROR),
    "Inconclusive": ("Unknown", Reason.AUDIT_INCONCLUSIVE),
    "": ("Unknown", Reason.AUDITING),
    "Pass": ("True", Reason.AUDITS_PASSED),
}


def audits_passed(plan: Plan) -> dict[ConditionType, ConditionValue]:
    """True where all passed; there only where audits are asked for."""
    told, subject = plan.audits.told, plan.audits.subject
    if not told:
        return {}
    order = list(_SAID)
    ranked = sorted(told, key=lambda one: order.index(_verdict(one[1])))
    status, reason = _SAID[_verdict(ranked[0][1])]
    words = bounded([f"audit {name}: {_words(result)}" for name, result in ranked])
    return {ConditionType.AUDITS_PASSED: ConditionValue(status, reason, f"revision {subject}: {words}")}


def _verdict(result: AuditResult | None) -> str:
    return "" if result is None else result.verdict


def _words(result: AuditResult | None) -> str:
    return "is under way" if result is None else result.message
