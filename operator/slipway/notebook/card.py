"""How a ModelDeployment shows itself in a notebook: text, and HTML that says the same.

The HTML has no script and no style sheet, and inherits colours and fonts: it can be read in light and in dark
editors, and harms no other cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from slipway.api.status import Condition, ModelDeploymentStatus, RevisionStatus
from slipway.cli.ages import age
from slipway.cli.drawing import draw, told_step, tone_of
from slipway.cli.get import cells, table
from slipway.cli.terminal import Tone, lay_out
from slipway.core.observed import Fault
from slipway.core.resource import Resource
from slipway.core.rollout.machine import steps_of
from slipway.report.templates import templates_of

#: Conditions that monitoring writes.
MONITORED = ("Drift", "DataQuality", "Performance", "Fairness")


@dataclass(frozen=True)
class Bar:
    """A revision's share of the traffic, in percent."""

    role: str
    share: int
    version: str
    revision: str
    pods: str
    is_ready: bool


@dataclass(frozen=True)
class Step:
    """A rollout's step in words; ``state`` is ``done``, ``current`` or ``left``."""

    words: str
    state: str


def text_of(resource: Resource, now: datetime) -> str:
    """The card as text: what ``kubectl slipway status`` prints."""
    return lay_out(draw(resource, now), None, color=False)


def html_of(resource: Resource, now: datetime) -> str:
    """The card as HTML; what comes from users is escaped."""
    status, spec = resource.status, resource.spec
    conditions = {one.type: one for one in status.conditions}
    ready = conditions.get("Ready")
    rollout = status.rollout
    steps = (
        ()
        if rollout is None or isinstance(spec, Fault)
        else tuple(_steps(steps_of(spec.rollout), rollout.step))
    )
    monitoring = status.monitoring
    drifted = [one for verdict in (monitoring.verdicts if monitoring else ()) for one in verdict.features]
    html: str = _template("card.html.j2").render(
        place=f"{resource.owner.namespace}/{resource.owner.name}",
        uri=None if isinstance(spec, Fault) else spec.model.uri,
        ready=ready,
        model=status.model,
        url=status.url,
        faults=[one for one in (spec, resource.status_fault) if isinstance(one, Fault)],
        bars=list(_bars(status)),
        rollout=rollout,
        steps=steps,
        gates=rollout.gates if rollout is not None else (),
        since=age(rollout.startedAt, now) if rollout is not None else "",
        monitored=[conditions[name] for name in MONITORED if name in conditions],
        features=drifted,
        rejected=status.rejected,
        reasons=[one for one in status.conditions if _is_trouble(one)],
        is_trouble=_is_trouble,
    )
    return html


def table_of(manifests: Sequence[dict[str, Any]], now: datetime, *, namespaces: bool) -> tuple[str, str]:
    """A list of ModelDeployments as text and as HTML."""
    lines = table(list(manifests), now, wide=False, namespaces=namespaces, headers=True)
    text = lay_out(lines, None, color=False) if manifests else "no ModelDeployments found"
    header, rows = cells(manifests, now, wide=False, namespaces=namespaces)
    return text, str(_template("list.html.j2").render(header=header, rows=rows))


def _bars(status: ModelDeploymentStatus) -> Iterator[Bar]:
    share = status.canaryWeight or 0
    if status.stable is not None:
        yield _bar("stable", status.stable, 100 - share)
    if status.canary is not None:
        yield _bar("canary", status.canary, share if status.stable is not None else 0)


def _bar(role: str, one: RevisionStatus, share: int) -> Bar:
    pods = f"{one.readyReplicas}/{one.replicas} pods ready"
    return Bar(role, share, one.version, one.revision, pods, one.readyReplicas > 0)


def _steps(steps: Sequence[Any], current: int) -> Iterator[Step]:
    for number, step in enumerate(steps):
        state = "done" if number < current else "current" if number == current else "left"
        yield Step(told_step(step), state)


def _is_trouble(condition: Condition) -> bool:
    return tone_of(condition) is Tone.BAD


@cache
def _template(name: str) -> Any:
    return templates_of("slipway.notebook").get_template(name)
