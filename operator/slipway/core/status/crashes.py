"""What is said while processes of the model server die, and their pods serve on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slipway.api.base import INT32
from slipway.api.reasons import ConditionType, Reason
from slipway.api.status import RevisionStatus
from slipway.core.naming import MODEL_LABEL, REVISION_LABEL, SERVER_CONTAINER
from slipway.core.objects.metadata import Owner
from slipway.core.status.condition_value import ConditionValue


def at_least(count: int) -> int:
    """The largest of 0, 1, 2, 5, 10, 20, 50, … that is no more; status holds no more than 32 bits."""
    steps = (digit * 10**zeros for zeros in range(10) for digit in (1, 2, 5))
    return max((step for step in steps if step <= min(count, INT32)), default=0)


def crashing(owner: Owner, roles: Iterable[RevisionStatus | None]) -> dict[ConditionType, ConditionValue]:
    """Nothing while no process was seen to die lately; Ready is not touched by it."""
    told = [part for role in roles if role is not None for part in _told(owner, role)]
    if not told:
        return {}
    return {ConditionType.CRASHING: ConditionValue("True", Reason.PROCESSES_ENDED, "; ".join(told))}


def _told(owner: Owner, role: RevisionStatus) -> Iterator[str]:
    found = role.crashes
    if found is None:
        return
    died = []
    if found.runs:
        ended = f"{_count(found.runs, 'run')} of the model ended their process"
        died.append(f"{ended} (their pod refuses such a request from then on, by its digest: 422)")
    if found.servers:
        died.append(f"{_count(found.servers, 'server process')} died, with the requests under way in it")
    where = f"-n {owner.namespace} -l {MODEL_LABEL}={owner.name},{REVISION_LABEL}={role.revision}"
    yield (
        f"version {role.version}, since {found.since}: at least {' and '.join(died)}; the pods serve on. "
        "The log tells who sent the requests and which operators are in doubt: "
        f"kubectl logs {where} -c {SERVER_CONTAINER} --tail=-1"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"
