"""What the engine asks of the Kubernetes API, and where each kind lives there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slipway.api.types import GROUP, KIND, PLURAL, VERSION
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.ownership import REPLICA_SET


@dataclass(frozen=True)
class ApiResource:
    """Group (empty for the core group), version and plural of a kind."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """URL path of the collection, of the namespace's part of it, or of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{where}/{self.plural}{f'/{name}' if name else ''}"


RESOURCES: Mapping[str, ApiResource] = {
    KIND: ApiResource(GROUP, VERSION, PLURAL),
    ObjectKind.CONTROLLER_REVISION: ApiResource("apps", "v1", "controllerrevisions"),
    ObjectKind.DEPLOYMENT: ApiResource("apps", "v1", "deployments"),
    REPLICA_SET: ApiResource("apps", "v1", "replicasets"),
    ObjectKind.SERVICE: ApiResource("", "v1", "services"),
    ObjectKind.AUTOSCALER: ApiResource("autoscaling", "v2", "horizontalpodautoscalers"),
    ObjectKind.DISRUPTION_BUDGET: ApiResource("policy", "v1", "poddisruptionbudgets"),
    ObjectKind.SERVICE_ACCOUNT: ApiResource("", "v1", "serviceaccounts"),
    ObjectKind.POD: ApiResource("", "v1", "pods"),
    ObjectKind.ENDPOINT_SLICE: ApiResource("discovery.k8s.io", "v1", "endpointslices"),
    ObjectKind.CONFIG_MAP: ApiResource("", "v1", "configmaps"),
    ObjectKind.HTTP_ROUTE: ApiResource("gateway.networking.k8s.io", "v1", "httproutes"),
    ObjectKind.JOB: ApiResource("batch", "v1", "jobs"),
}

#: Kinds that a cluster need not know.
OPTIONAL = frozenset({ObjectKind.HTTP_ROUTE.value})


def typed(manifest: Manifest, kind: str) -> Manifest:
    """The manifest with its kind and API version, which items of a list come without."""
    resource = RESOURCES[kind]
    version = f"{resource.group}/{resource.version}" if resource.group else resource.version
    return {**manifest, "kind": kind, "apiVersion": version}


@dataclass(frozen=True)
class Page:
    """A part of a list, and the resource version of the whole."""

    items: tuple[Manifest, ...]
    version: int


#: Operations of a JSON Patch (RFC 6902).
Patch = Sequence[Mapping[str, Any]]


class Kube(Protocol):
    """The few calls that Slipway makes. Each raises :class:`slipway.engine.errors.ApiError`."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None if there is none of that name."""

    async def list(self, kind: str, namespace: str | None) -> tuple[list[Manifest], int]:
        """All objects of a kind that concern Slipway, and the resource version of the list."""

    def pages(self, kind: str, namespace: str | None) -> AsyncIterator[Page]:
        """The same page by page, so that no more than one has to be held; 410 where it lasted too long."""

    def watch(self, kind: str, namespace: str | None, version: int) -> AsyncIterator[tuple[str, Manifest]]:
        """What happens to objects of a kind that concern Slipway, from a resource version on.

        ``ADDED``, ``MODIFIED`` or ``DELETED`` and the object; ``BOOKMARK`` with nothing but a newer version.
        Ends after some minutes; after an error only a list can tell what happened meanwhile.
        """

    async def create(self, manifest: Manifest, manager: str) -> Manifest:
        """Create an object, 409 ``AlreadyExists`` where there is one of that name; the object as it is."""

    async def apply(self, manifest: Manifest, manager: str) -> Manifest:
        """Forced server-side apply; the object as it is now."""

    async def patch(self, manifest: Manifest, operations: Patch, manager: str) -> Manifest:
        """JSON Patch of this very object as it was read, 409 if it has changed; the object as it is now.

        For what an apply cannot do: take away what another manager put there.
        """

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        """Forced server-side apply to the ``status`` subresource; the object as it is now."""

    async def replace_status(self, manifest: Manifest, manager: str) -> Manifest:
        """All of ``status``, whoever wrote what is in it, 409 if the object has changed; the object as it is.

        For what an apply cannot do: take away what another manager put there.
        """

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object, by uid, in the background; nothing if it is gone already."""

    async def emit(self, namespace: str, event: dict[str, Any]) -> None:
        """Create an ``events.k8s.io/v1`` Event."""

    async def repeat(self, namespace: str, name: str, series: dict[str, Any]) -> None:
        """Say of an Event that it happened again: ``count`` and ``lastObservedTime`` of its series."""
