"""What audits said, as a report shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slipway.api.audits import AuditFigure, AuditResult
from slipway.api.status import ModelDeploymentStatus


@dataclass(frozen=True)
class AuditReport:
    """One audit of one version; ``role`` is stable, canary, or empty for a version that has none."""

    result: AuditResult
    role: str

    @property
    def figures(self) -> tuple[AuditFigure, ...]:
        """What was measured."""
        return self.result.figures


def audits_of(status: ModelDeploymentStatus) -> Iterator[AuditReport]:
    """All that status remembers, the newest first."""
    roles = {
        each.revision: role
        for role, each in (("canary", status.canary), ("stable", status.stable))
        if each is not None
    }
    for found in sorted(status.audits or (), key=lambda one: one.finishedAt, reverse=True):
        yield AuditReport(found, roles.get(found.revision, ""))
