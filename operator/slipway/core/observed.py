"""What the cluster shows of one ModelDeployment, as plain frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from slipway.api.reasons import Reason
from slipway.api.status import CrashStatus
from slipway.api.verdicts import MonitoringStatus
from slipway.core import naming

#: An object as the API server sends it; never changed in place.
Manifest = Mapping[str, Any]


class ObjectKind(StrEnum):
    """Kinds of objects that Slipway watches beside the ModelDeployment itself."""

    CONTROLLER_REVISION = "ControllerRevision"
    DEPLOYMENT = "Deployment"
    SERVICE = "Service"
    AUTOSCALER = "HorizontalPodAutoscaler"
    DISRUPTION_BUDGET = "PodDisruptionBudget"
    SERVICE_ACCOUNT = "ServiceAccount"
    POD = "Pod"
    ENDPOINT_SLICE = "EndpointSlice"
    CONFIG_MAP = "ConfigMap"
    HTTP_ROUTE = "HTTPRoute"
    JOB = "Job"


@dataclass(frozen=True)
class ObjectReference:
    """Names one child in the namespace of its ModelDeployment."""

    kind: ObjectKind
    name: str


@dataclass(frozen=True)
class Fault:
    """Why something could not be done, or does not work.

    ``of_model`` says that the model or its server did it itself: what the cluster did to a pod is no verdict
    on the model, and may be over in a moment. ``may_pass`` says that it is new and is often over without
    anybody's doing: an autoscaler adds a node, other pods leave.
    """

    reason: Reason
    message: str
    of_model: bool = field(default=False, compare=False)
    may_pass: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class ArmCount:
    """What one revision answered: requests, errors, and how many took longer than each bound in ms.

    ``meant`` is how many requests the split gave it, whoever answered them.
    """

    requests: int = 0
    errors: int = 0
    slow: Mapping[int, int] = field(default_factory=dict)
    meant: int = 0


@dataclass(frozen=True)
class ServedCount:
    """What one revision's pods counted: requests, those that broke its contract, and answers by output and
    bin."""

    requests: int = 0
    violations: int = 0
    predictions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class AnswerAgreement:
    """Requests that both revisions answered, and those of them that each gate that asks finds unlike."""

    pairs: int
    unlike: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ObservedTraffic:
    """What the routers do for one ModelDeployment, as each of them says itself.

    Those of both groups while it moves between the namespace's and its own.

    Attributes:
        routers: router pods that are there.
        synced_routers: of these, that were seen to have the route.
        weights: percent to the canary, as seen on each.
        receiving: revisions that any of them sends anything to, copies included.
        canary_pods: pods of the canary that every router knows and finds well.
        canary: what the canary answered since the last look; None where it could not be had.
        stable: likewise of the stable revision.
        canary_served: what its own pods counted meanwhile; None where it could not be had, or nobody asks.
        stable_served: likewise of the stable revision.
        agreement: how alike both answered the same requests meanwhile; None where that could not be had, or
            nobody asks.
        evidence_error: why the Prometheus that the resource names could not be asked for a due look, or None.
        evidence_fault: why the Prometheus that the resource names may not be asked at all, or None.
        fault: why there is no router, or none for this ModelDeployment; None while all seems under way.
        arrived: whether every router of the group that it should have has the route.
        approximate: whether shares come from numbers of pods, and with connections rather than requests.
        obstacle: what keeps the canary from being sent more than it is, or None.
        wait: seconds until time alone may change any of it, or None.
    """

    routers: int = 0
    synced_routers: int = 0
    weights: frozenset[int] = frozenset()
    receiving: frozenset[str] = frozenset()
    canary_pods: int = 0
    canary: ArmCount | None = None
    stable: ArmCount | None = None
    canary_served: ServedCount | None = None
    stable_served: ServedCount | None = None
    agreement: AnswerAgreement | None = None
    evidence_error: str | None = None
    evidence_fault: Fault | None = None
    fault: Fault | None = None
    arrived: bool = False
    approximate: bool = False
    obstacle: str | None = None
    wait: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every router has the route."""
        return 0 < self.routers == self.synced_routers


@dataclass(frozen=True)
class Observed:
    """The children of one ModelDeployment, and what writing them met with."""

    children: Mapping[ObjectKind, tuple[Manifest, ...]] = field(default_factory=dict)
    #: What the last round of writes met with, by the child that could not be written.
    faults: Mapping[ObjectReference, Fault] = field(default_factory=dict)
    #: What the routers of the namespace do for it; None where none is asked.
    traffic: ObservedTraffic | None = None
    #: A port of the namespace's routers that no ModelDeployment has; None where none is needed or left.
    free_port: int | None = None
    #: Asks for the model's name to be resolved again, another value each time; None where it is not.
    refresh_token: str | None = None
    #: What monitoring says of the stable version; None where nothing is judged.
    monitoring: MonitoringStatus | None = None
    #: Processes of model servers that died lately, by revision.
    crashes: Mapping[str, CrashStatus] = field(default_factory=dict)
    #: Why the name that the spec follows cannot be looked up again, or None.
    refresh_fault: Fault | None = None
    #: Pod of a neighbour that finds out what this one asks too; None where it is to make its own.
    neighbour_resolver: Manifest | None = None
    #: Why that one cannot be made, or None.
    neighbour_fault: Fault | None = None
    #: The keys by which the cluster signs tokens of ServiceAccounts; None where none is known.
    cluster_keys: str | None = None
    #: Public keys of issuers by the address at which they were read.
    issuer_keys: Mapping[str, str] = field(default_factory=dict)
    #: Whether its pods may be replaced now for a change of the installation, should that be needed.
    may_upgrade: bool = False
    #: Whether every such upgrade that is under way is stuck.
    upgrades_halted: bool = False
    #: Whether the namespace has room for another audit now.
    may_audit: bool = False

    def of(self, kind: ObjectKind) -> tuple[Manifest, ...]:
        """All children of a kind that are not being deleted, sorted by name."""
        return self.children.get(kind, ())

    def find(self, kind: ObjectKind, name: str) -> Manifest | None:
        """The child with this name, if it exists."""
        return next((child for child in self.of(kind) if child["metadata"]["name"] == name), None)

    def pods(self, revision: str) -> tuple[Manifest, ...]:
        """Serving pods of a revision, newest first."""
        found = [pod for pod in self.of(ObjectKind.POD) if revision_of_object(pod) == revision]
        return tuple(
            sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)
        )

    def ready_pods_behind(self, service: str) -> frozenset[str]:
        """Names of pods to which a Service leads, ready for traffic."""
        found: set[str] = set()
        for slice_ in self.of(ObjectKind.ENDPOINT_SLICE):
            if slice_["metadata"].get("labels", {}).get("kubernetes.io/service-name") != service:
                continue
            for endpoint in slice_.get("endpoints") or ():
                target = endpoint.get("targetRef") or {}
                if (endpoint.get("conditions") or {}).get("ready") and target.get("kind") == "Pod":
                    found.add(target["name"])
        return frozenset(found)


def observe(
    children: Iterable[Manifest],
    faults: Mapping[ObjectReference, Fault] | None = None,
    traffic: ObservedTraffic | None = None,
    free_port: int | None = None,
    refresh_token: str | None = None,
    monitoring: MonitoringStatus | None = None,
    refresh_fault: Fault | None = None,
) -> Observed:
    """Sort children by kind; those being deleted are as good as gone, but pods, which drain."""
    by_kind: dict[ObjectKind, list[Manifest]] = {}
    for child in children:
        if child["metadata"].get("deletionTimestamp") and child["kind"] != ObjectKind.POD:
            continue
        by_kind.setdefault(ObjectKind(child["kind"]), []).append(child)
    return Observed(
        children={
            kind: tuple(sorted(found, key=lambda child: str(child["metadata"]["name"])))
            for kind, found in by_kind.items()
        },
        faults=dict(faults or {}),
        traffic=traffic,
        free_port=free_port,
        refresh_token=refresh_token,
        monitoring=monitoring,
        refresh_fault=refresh_fault,
    )


def revision_of_object(child: Manifest) -> str | None:
    """The revision that a child belongs to, or None."""
    labels = child["metadata"].get("labels") or {}
    if labels.get(naming.COMPONENT_LABEL) != "model-server":
        return None
    found = labels.get(naming.REVISION_LABEL)
    return str(found) if found else None


def is_ready(pod: Manifest) -> bool:
    """Whether a pod's Ready condition is True."""
    return condition(pod, "Ready") == "True"


def condition(child: Manifest, type_: str) -> str | None:
    """Status of a condition of a child, or None."""
    found = condition_of(child, type_)
    return str(found["status"]) if found else None


def condition_of(child: Manifest, type_: str) -> Manifest | None:
    """A condition of a child, or None."""
    conditions = (child.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found.get("type") == type_), None)


def timestamp(text: str | None) -> datetime | None:
    """An RFC 3339 time as Kubernetes writes it, or None."""
    return datetime.fromisoformat(text) if text else None


def rfc3339(moment: datetime) -> str:
    """A time in whole seconds, as Kubernetes writes it; the other way round as :func:`timestamp`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
