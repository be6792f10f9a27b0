"""What belongs to a group of routers, and what is read from it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from slipway.api.pods import PodOptions
from slipway.api.reasons import Reason
from slipway.core.observed import Fault, Manifest, ObjectKind
from slipway.core.resource import Resource
from slipway.core.traffic.envoy.objects import routes_map, told
from slipway.core.traffic.envoy.routes import Route

log = logging.getLogger(__name__)


def pod_options(resources: Iterable[Resource]) -> PodOptions | None:
    """What the one ModelDeployment of a group says of pods; None if it cannot be read."""
    specs = [found.spec for found in resources]
    return next((spec.runtime.pod for spec in specs if not isinstance(spec, Fault)), None)


def is_held(resource: Resource) -> bool:
    """Whether routers go on as they are for a ModelDeployment: what its status asks for cannot be read."""
    return resource.status_fault is not None and not resource.deleting


def told_to(children: Iterable[Manifest], model: str) -> tuple[Route, ...] | Fault:
    """What routers were told last, or why it cannot be read."""
    name = routes_map(model)
    for child in children:
        if child["kind"] == ObjectKind.CONFIG_MAP and child["metadata"]["name"] == name:
            try:
                return told(child)
            except ValueError as error:
                log.warning("the routers' ConfigMap cannot be read", extra={"error": str(error)})
                return Fault(
                    Reason.ROUTES_FROM_ANOTHER_VERSION,
                    f"routers go on as they are: ConfigMap {name} cannot be read ({error}); run the operator "
                    "that wrote it or a newer one, or delete that ConfigMap",
                )
    return ()


def deployments(children: Iterable[Manifest]) -> Iterator[Manifest]:
    """The Deployments among them."""
    return (child for child in children if child["kind"] == ObjectKind.DEPLOYMENT)


def owner_reference(resource: Resource) -> dict[str, object]:
    """No controller: the routers belong to several."""
    return {**resource.owner.reference(), "controller": False, "blockOwnerDeletion": False}


#: The autoscaler first, so that it does not act on a Deployment that is going.
_ORDER = (
    ObjectKind.AUTOSCALER,
    ObjectKind.DISRUPTION_BUDGET,
    ObjectKind.DEPLOYMENT,
    ObjectKind.CONFIG_MAP,
    ObjectKind.SERVICE_ACCOUNT,
)


def in_order_of_deletion(children: Iterable[Manifest]) -> list[Manifest]:
    """What the operator wrote of a group, as it is to be deleted; pods go by themselves."""
    found = list(children)
    return [child for kind in _ORDER for child in found if child["kind"] == kind]
