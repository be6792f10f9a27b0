"""What a person can do while the stable revision has no ready pod, and what happens otherwise."""

from __future__ import annotations

from slipway.api.types import ModelDeploymentSpec
from slipway.core.observed import Observed, is_ready
from slipway.core.plan import Plan
from slipway.core.resource import Resource
from slipway.core.rollout.commands import annotation, commands_for
from slipway.core.rollout.roles import ready_pods_of
from slipway.core.rollout.situation import Command


def way_out(resource: Resource, spec: ModelDeploymentSpec, plan: Plan, observed: Observed) -> str:
    """In words that change only with what can be done; empty while the stable revision has ready pods."""
    roles, name = plan.roles, resource.owner.name
    if roles.stable is None or ready_pods_of(roles.stable, observed):
        return ""
    if roles.rejection is not None:
        return (
            f"revision {roles.rejection.revision} was rejected: {roles.rejection.message}; "
            f"kubectl slipway retry {name} lets it in again"
        )
    if roles.rollout is not None and any(is_ready(pod) for pod in observed.pods(roles.rollout.revision)):
        if Command.ABORT in commands_for(resource.annotations, roles.rollout):
            return (
                f"revision {roles.rollout.revision} answers, and a person aborted it; to let it take over: "
                f"kubectl annotate mdep {name} {annotation(Command.ABORT)}-, "
                f"then kubectl slipway promote-full {name}"
            )
        if roles.rollout.phase == "Aborting":
            return (
                f"revision {roles.rollout.revision} answers: {roles.rollout.message}; "
                f"kubectl slipway promote-full {name} lets it take over all the same"
            )
        return f"revision {roles.rollout.revision}: {roles.rollout.message}"
    if roles.suspended:
        return f"the wanted revision is held: {roles.suspended}"
    window = roles.previous[: spec.rollout.rollbackWindowRevisions]
    if roles.wanted is not None and roles.wanted.name == roles.stable and window:
        return (
            "if its pods cannot come back, set spec.model to that of an earlier revision "
            f"({', '.join(window)}): it takes over as soon as it is ready"
        )
    return ""
