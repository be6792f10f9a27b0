"""What ``kubectl slipway doctor`` reads of a cluster. It writes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from slipway.api.crd import crd
from slipway.cli.cluster import Cluster, Manifest
from slipway.cli.errors import CommandError, ForbiddenError, MissingError, NotInstalledError
from slipway.core.crd_schema import missing, schema_of

T = TypeVar("T")
_BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
#: Namespaces that are looked at one by one.
_MOST_NAMESPACES = 50


@dataclass(frozen=True)
class Unseen:
    """What could not be read, and why."""

    why: str


@dataclass(frozen=True)
class Facts:
    """What is known of an installation and its models.

    Attributes:
        kubernetes: major and minor version.
        crd_lacks: fields that this version's CRD has and the cluster's has not; None where it has no CRD.
        operators: Deployments.
        bindings: of the chart's admission policies; None where the cluster has no such kind.
        metrics: whether the metrics API answers.
        models: ModelDeployments that could be listed.
        models_elsewhere: why those of other namespaces are not known; None where all are.
        namespaces: labels of the namespaces with models.
        network_policies: those of the namespaces with models.
        not_examined: namespaces with models beyond those that are looked at.
    """

    kubernetes: tuple[int, int]
    crd_lacks: tuple[str, ...] | Unseen | None
    operators: list[Manifest] | Unseen
    bindings: list[Manifest] | Unseen | None
    metrics: bool | Unseen
    models: list[Manifest] | Unseen
    models_elsewhere: Unseen | None
    namespaces: Mapping[str, Mapping[str, str] | Unseen]
    network_policies: Mapping[str, list[Manifest] | Unseen]
    not_examined: int = 0


def facts(there: Cluster, *, everywhere: bool) -> Facts:
    """Read all that the user may read.

    Args:
        there: the cluster.
        everywhere: models of all namespaces, as far as they may be listed; otherwise those of its namespace.

    Raises:
        CommandError: where the API server does not answer at all.
    """
    version = there.read("the version of Kubernetes", "/version")
    models, elsewhere = _models(there, everywhere)
    found = [] if isinstance(models, Unseen) else models
    names = sorted({str(one["metadata"]["namespace"]) for one in found})
    examined = names[:_MOST_NAMESPACES]
    return Facts(
        kubernetes=(_number(version.get("major")), _number(version.get("minor"))),
        crd_lacks=_seen(lambda: _crd_lacks(there)),
        operators=_seen(there.operators),
        bindings=_seen(lambda: _bindings(there)),
        metrics=_metrics(there),
        models=models,
        models_elsewhere=elsewhere,
        namespaces={name: _seen(lambda name=name: there.labels(name)) for name in examined},  # type: ignore[misc]
        network_policies={
            name: _seen(lambda name=name: there.network_policies(name))  # type: ignore[misc]
            for name in examined
        },
        not_examined=len(names) - len(examined),
    )


def _seen(read: Callable[[], T]) -> T | Unseen:
    try:
        return read()
    except CommandError as error:
        return Unseen(str(error))


def _number(text: object) -> int:
    digits = re.match(r"\d+", str(text))
    return int(digits.group()) if digits else 0


def _models(there: Cluster, everywhere: bool) -> tuple[list[Manifest] | Unseen, Unseen | None]:
    elsewhere = None
    try:
        if everywhere:
            return there.select(everywhere=True), None
    except NotInstalledError:
        return [], None
    except CommandError as error:
        elsewhere = Unseen(str(error))
    try:
        return there.select(), elsewhere
    except NotInstalledError:
        return [], None
    except CommandError as error:
        return Unseen(str(error)), elsewhere


def _crd_lacks(there: Cluster) -> tuple[str, ...] | None:
    try:
        schema = schema_of(there.openapi())
    except (NotInstalledError, MissingError):
        return None
    if schema is None:
        return None
    ours: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return tuple(missing(ours, schema))


def _bindings(there: Cluster) -> list[Manifest] | None:
    try:
        return there.pages("admission policies", _BINDINGS, "app.kubernetes.io/part-of=slipway")
    except MissingError:
        return None


def _metrics(there: Cluster) -> bool | Unseen:
    try:
        there.read("the metrics API", "/apis/metrics.k8s.io/v1beta1")
    except ForbiddenError as error:
        return Unseen(str(error))
    except CommandError:
        # Not there, or there and broken: autoscalers know nothing either way.
        return False
    return True
