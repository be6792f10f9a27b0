"""What has to be observed for a rollout beside the cluster's objects, from what is known of it alone.

A rollout is looked at every so often, and then needs what was counted since the look before. Whoever counts
for it has to be read twice: once as soon as traffic is split as it is, and again when the look is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from slipway.api.base import share
from slipway.core.allowed import Allowed
from slipway.core.observed import Fault, ObservedTraffic
from slipway.core.resource import Resource
from slipway.core.rollout.due import next_look
from slipway.core.rollout.looks import TOLERANCE

#: For which pods remember answers beyond the next look, in seconds, and for which they do at most.
SPARE_SECONDS, MOST_SECONDS = 60, 7200


@dataclass(frozen=True)
class Interest:
    """In what was counted since a look.

    Attributes:
        revisions: canary and stable.
        split: what is counted; counting begins again where it is another.
        look: the look that status remembers, since which it is.
        due: when the next look is.
        seconds: between two looks.
    """

    revisions: tuple[str, str]
    split: tuple[object, ...]
    look: str
    due: datetime
    seconds: float

    @property
    def subject(self) -> object:
        """What counts are of: those of two subjects are never one look's."""
        return self.revisions, self.split


@dataclass(frozen=True)
class AnswerInterest(Interest):
    """In answers of both revisions to the same requests.

    Attributes:
        memory_seconds: for which pods are to go on remembering them.
        tolerances: by how much numbers that are alike may differ, by the gates that ask.
    """

    memory_seconds: int
    tolerances: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class PrometheusInterest(Interest):
    """In what a Prometheus scraped of routers.

    Attributes:
        address: of the Prometheus.
        routers: names of all that have to be scraped, and the life of their counters.
        fault: why it is not to be asked at all, or None.
    """

    address: str
    routers: tuple[tuple[str, str], ...]
    fault: Fault | None = None


@dataclass(frozen=True)
class Interests:
    """Of one ModelDeployment; None where nobody asks.

    Attributes:
        arms: in what routers say that both revisions answered.
        pods: in what both revisions' own pods counted.
        answers: in how alike they answered.
        prometheus: in what a Prometheus has of them.
    """

    arms: Interest | None = None
    pods: Interest | None = None
    answers: AnswerInterest | None = None
    prometheus: PrometheusInterest | None = None


def interests(
    resource: Resource, traffic: ObservedTraffic | None, routers: Mapping[str, str], allowed: Allowed
) -> Interests:
    """What has to be observed for a ModelDeployment.

    Args:
        resource: with the status that holds its rollout.
        traffic: as it was seen to be split, or None where there is nothing to split.
        routers: by name, the life of the counters of each of its routers.
        allowed: by the installation.
    """
    status, spec = resource.status, resource.spec
    rollout = status.rollout
    if (
        traffic is None
        or isinstance(spec, Fault)
        or rollout is None
        or status.canary is None
        or status.stable is None
    ):
        return Interests()
    analysis, revisions = spec.rollout.analysis, (status.canary.revision, status.stable.revision)
    due, look = next_look(rollout, analysis), rollout.lookedAt or rollout.startedAt
    arms = Interest(
        revisions, (rollout.id, traffic.weights, traffic.receiving), look, due, analysis.intervalSeconds
    )
    answers = prometheus = None
    if rollout.mirrorPercent and any(gate.compares_answers for gate in analysis.gates):
        answers = AnswerInterest(
            revisions,
            (rollout.id,),
            look,
            due,
            seconds=analysis.intervalSeconds,
            memory_seconds=min(MOST_SECONDS, 2 * analysis.intervalSeconds + SPARE_SECONDS),
            tolerances=tuple(
                (gate.name, share(gate.tolerance or TOLERANCE))
                for gate in analysis.gates
                if gate.compares_answers
            ),
        )
    if len(traffic.weights) != 1:
        # Routers are on their way from one weight to another: what is counted meanwhile is of neither.
        return Interests(answers=answers)
    is_pods = spec.traffic.gatewayAPI is not None or any(gate.is_counted_by_pods for gate in analysis.gates)
    source, lives = analysis.prometheus, tuple(sorted(routers.items()))
    if source is not None and lives and not traffic.approximate:
        prometheus = PrometheusInterest(
            revisions,
            (*arms.split, lives),
            look,
            due,
            analysis.intervalSeconds,
            source.address,
            lives,
            allowed.prometheus_fault(source),
        )
    return Interests(arms, arms if is_pods else None, answers, prometheus)
