"""What splits traffic, each behind the same one verb."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from slipway.core import ratio
from slipway.core.observed import Fault, Observed, Traffic
from slipway.core.resource import Resource
from slipway.core.traffic import is_routed
from slipway.engine.routing import Routers


class Provider(Protocol):
    """Brings traffic to where a ModelDeployment's status wants it."""

    async def apply(self, desired: Resource, observed: Observed, /) -> Traffic | None:
        """Have traffic follow, and tell what it was seen to do; None where there is nothing to split.

        Args:
            desired: whose status says which revisions there are, and what share the canary is to have.
            observed: its children.

        Raises:
            ApiError: where the API server could not be asked; the run is to be repeated.
        """


class ReplicaRatio:
    """The Service of the ModelDeployment, which the plan writes; nothing else is needed."""

    async def apply(self, desired: Resource, observed: Observed, /) -> Traffic | None:
        """See :class:`Provider`."""
        status, spec = desired.status, desired.spec
        if isinstance(spec, Fault) or not is_routed(spec) or status.stable is None:
            return None
        canary = status.canary.revision if status.canary and status.rollout else None
        weight = status.rollout.weight if status.rollout and canary else 0
        return ratio.traffic(desired.owner, status.stable.revision, canary, weight, observed)


class Providers:
    """Picks the provider that a ModelDeployment names."""

    def __init__(self, routers: Routers) -> None:
        """``routers`` is the first of them, and may still have a route that another provider took over."""
        self._routers = routers
        self._others: dict[str, Provider] = {"ReplicaRatio": ReplicaRatio()}

    async def apply(self, desired: Resource, observed: Observed, /) -> Traffic | None:
        """See :class:`Provider`."""
        before = await self._routers.apply(desired, observed)
        provider = (
            None if isinstance(desired.spec, Fault) else self._others.get(desired.spec.traffic.provider)
        )
        if provider is None:
            return before
        traffic = await provider.apply(desired, observed)
        if traffic is None or before is None:
            return traffic
        return replace(traffic, reached=traffic.reached | before.reached)
