"""Plans as one comment on a pull request, in GitHub's Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slipway.api.audits import Audit, AuditResult
from slipway.api.rollout import Gate
from slipway.cli.markdown import MOST, cell, code, plain, table
from slipway.cli.planned import Planned
from slipway.cli.sides import Side, rows
from slipway.names import KIND

_COUNTED = {
    "ErrorRate": "errors",
    "Violations": "requests against the input contract",
    "PredictionShift": "answers spread otherwise than stable's",
    "ShadowAgreement": "other answers than stable's to the same requests",
}
_DONE = {"create": "created", "change": "changed", "delete": "deleted", "apply": "applied"}


@dataclass(frozen=True)
class Proposed:
    """What applying a file would do to one ModelDeployment.

    Attributes:
        source: the file.
        planned: what would follow.
        now: what serves, or the base has; None where there is nothing.
        then: what would serve; None where it was removed.
        audits: what audits found already of the version that would serve.
    """

    source: str
    planned: Planned
    now: Side | None = None
    then: Side | None = None
    audits: tuple[AuditResult, ...] = ()


def comment(found: Sequence[Proposed], compared: str, marker: str = "") -> str:
    """All plans; what is too long for a comment is cut, and says so.

    Args:
        found: the plans.
        compared: with what, in words.
        marker: the first line, by which the comment is found again.
    """
    head = f"{marker}\n## Slipway\n\n" if marker else "## Slipway\n\n"
    if not found:
        return f"{head}No {KIND} changes, {plain(compared)}.\n"
    text = f"{head}{_summary(found)}, {plain(compared)}.\n"
    for number, one in enumerate(found):
        left = len(found) - number
        rest = f"\n… and {left} more; the log of the run has all.\n"
        room = MOST - len(text) - len(rest)
        fitting = next((part for part in _sections(one) if len(part) <= room), None)
        if fitting is None:
            return text + rest
        text += fitting
    return text


def _summary(found: Sequence[Proposed]) -> str:
    counts = Counter(_kind(one.planned) for one in found)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    return f"**{len(found)} {KIND}{'s' if len(found) > 1 else ''}**: {told}"


def _kind(planned: Planned) -> str:
    if planned.complaints:
        return "invalid"
    if planned.removed:
        return "removed"
    if planned.is_new:
        return "with a new revision"
    if planned.upgrade:
        return "whose pods are replaced"
    return "without a new revision"


def _sections(one: Proposed) -> Iterator[str]:
    """All of it, and the same with less, down to its beginning."""
    whole = list(_parts(one))
    yield "\n" + "\n".join(whole)
    yield "\n" + "\n".join([*whole[:2], "Too long to be shown here; the log of the run has all.\n"])


def _parts(one: Proposed) -> Iterator[str]:
    planned = one.planned
    yield f"### {code(f'{planned.namespace}/{planned.name}')} in {code(one.source)}\n"
    if planned.complaints:
        yield f"**Invalid**, as {plain(planned.checked_by)} says:\n"
        yield "".join(f"- {code(words)}\n" for words in planned.complaints)
        return
    if planned.removed:
        yield f"**Removed**: {plain(planned.removed)}.\n"
        return
    yield f"**Revision**: {plain(planned.revision)}.\n"
    if planned.upgrade:
        yield f"**Pods**: {plain(planned.upgrade)}.\n"
    facts = [
        [f"**{plain(row.name)}**" if row.now != row.then else plain(row.name), cell(row.now), cell(row.then)]
        for row in rows(one.now, one.then)
    ]
    if facts:
        yield table(["", "now", "with this change"], facts)
    if planned.conversion:
        yield f"**Proof of its conversion**: {plain(planned.conversion)}.\n"
    if planned.device:
        yield f"**Device**: {plain(planned.device)}.\n"
    yield from _rollout(one)
    yield from _objects(planned)


def _rollout(one: Proposed) -> Iterator[str]:
    planned, spec = one.planned, one.then.spec if one.then is not None else None
    if planned.strategy:
        yield f"**Rollout**: {code(planned.strategy)}\n"
        if planned.steps:
            yield "".join(f"{number}. {plain(step)}\n" for number, step in enumerate(planned.steps, 1))
    if spec is None or not planned.is_new:
        return
    if planned.steps:
        gates = "".join(
            f"- {code(gate.name)}: {plain(_gate(gate))}\n" for gate in spec.rollout.analysis.gates
        )
        yield f"**Gates**\n\n{gates}"
    if spec.rollout.audits:
        known = {found.name: found for found in one.audits}
        listed = "".join(f"- {_audit(audit, known.get(audit.name))}\n" for audit in spec.rollout.audits)
        yield f"**Audits before traffic**\n\n{listed}"


def _gate(gate: Gate) -> str:
    what = _COUNTED.get(gate.type, f"requests over {gate.thresholdMilliseconds} ms")
    return what if gate.acts else f"{what}; reported, and decides nothing"


def _audit(audit: Audit, found: AuditResult | None) -> str:
    said = "not run yet" if found is None else f"{found.verdict}; {found.message}"
    return f"{code(audit.name)} ({audit.type}): {plain(said)}"


def _objects(planned: Planned) -> Iterator[str]:
    verbs = Counter(one.verb for one in planned.changes)
    if not verbs:
        return
    told = ", ".join(f"{count} {_DONE.get(verb, verb)}" for verb, count in verbs.items())
    lines = [
        [one.verb, code(one.kind), cell(one.name), cell(", ".join(one.fields))] for one in planned.changes
    ]
    yield f"<details><summary>Objects: {told}</summary>\n"
    yield table(["", "kind", "name", "fields"], lines)
    yield "</details>\n"
