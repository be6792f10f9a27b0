"""What follows when monitoring finds something bad: one Job for each episode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slipway.api.types import ModelDeploymentSpec
from slipway.api.verdicts import EpisodeStatus, MonitoringStatus, VerdictStatus
from slipway.core import naming
from slipway.core.objects.job import breach_job
from slipway.core.objects.metadata import Owner
from slipway.core.observed import ObjectKind, ObjectReference, Observed
from slipway.core.revision import Revision


def going_on(
    spec: ModelDeploymentSpec, monitoring: MonitoringStatus | None, action: str
) -> Iterator[tuple[VerdictStatus, EpisodeStatus]]:
    """Breaches that a spec wants this action for, and that have not ended."""
    asked = spec.monitoring.onBreach if spec.monitoring is not None else None
    if asked is None or asked.action != action:
        return
    for verdict in monitoring.verdicts if monitoring is not None else ():
        named = asked.conditions is None or verdict.type in asked.conditions
        if named and verdict.episode is not None and verdict.episode.endedAt is None:
            yield verdict, verdict.episode


def breach_jobs(
    owner: Owner,
    spec: ModelDeploymentSpec,
    stable: Revision | None,
    told: MonitoringStatus | None,
    observed: Observed,
) -> list[dict[str, Any]]:
    """Jobs that are to be created: for episodes that status tells of, and not more than one for each.

    What status does not hold yet a killed operator would forget, and begin anew under another name. Status
    remembers the Jobs, too: one that is gone is not made again.
    """
    monitoring = spec.monitoring
    if stable is None or told is None or told.version != stable.model.version:
        return []
    template = monitoring.onBreach.job if monitoring is not None and monitoring.onBreach is not None else None
    if template is None:
        return []
    return [
        breach_job(owner, job_name(owner, verdict, episode), template, stable, verdict)
        for verdict, episode in going_on(spec, told, "Job")
        if episode.job is None and observed.find(ObjectKind.JOB, job_name(owner, verdict, episode)) is None
    ]


def job_name(owner: Owner, verdict: VerdictStatus, episode: EpisodeStatus) -> str:
    """The same however often an episode is looked at, and another one for each."""
    return naming.breach_job(owner.name, [owner.uid, verdict.type, episode.startedAt])


def with_jobs(
    owner: Owner, spec: ModelDeploymentSpec, monitoring: MonitoringStatus, observed: Observed
) -> MonitoringStatus:
    """Monitoring with the Jobs that were created since it was written, and what kept one from being so."""
    found = {}
    for verdict, episode in going_on(spec, monitoring, "Job"):
        name = job_name(owner, verdict, episode)
        fault = observed.faults.get(ObjectReference(ObjectKind.JOB, name))
        if episode.job is None and observed.find(ObjectKind.JOB, name) is not None:
            found[verdict.type] = episode.model_copy(update={"job": name, "fault": None})
        elif episode.job is None and fault is not None:
            words = f"{fault.reason}: {fault.message}"[:1024]
            found[verdict.type] = episode.model_copy(update={"fault": words})
    if not found:
        return monitoring
    verdicts = tuple(
        verdict.model_copy(update={"episode": found[verdict.type]}) if verdict.type in found else verdict
        for verdict in monitoring.verdicts
    )
    return monitoring.model_copy(update={"verdicts": verdicts})
