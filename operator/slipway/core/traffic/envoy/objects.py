"""The objects of a group of routers: those that a namespace shares, or a ModelDeployment's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from slipway.api.pods import NOTHING, PodOptions, over
from slipway.api.types import GROUP
from slipway.core import naming
from slipway.core.objects import pod
from slipway.core.objects.service_account import pulling
from slipway.core.traffic.envoy.bootstrap import DRAIN_PATH, bootstrap
from slipway.core.traffic.envoy.config import admit, files
from slipway.core.traffic.envoy.messages import (
    BOOTSTRAP_FILE,
    CLUSTERS_FILE,
    LISTENERS_FILE,
    ROUTER_ADMIN_PORT,
    ROUTER_DIR,
    WEIGHTS_FILE,
)
from slipway.core.traffic.envoy.routes import Arm, Route, refusal

Json = dict[str, Any]

ROUTES_KEY = "routes.json"
CONTAINER = "envoy"

_MIB = 1024 * 1024


@dataclass(frozen=True)
class RouterSettings:
    """What an installation sets for all its routers.

    Attributes:
        image: any Envoy from 1.34 on that has ``envoy`` on its PATH; a digest pins it.
        image_pull_policy: as Kubernetes has it.
        least_replicas: of each group of routers.
        most_replicas: likewise.
        drain_seconds: that a leaving router goes on serving, for clients to go elsewhere and requests to end.
        address: that routers listen on: that of IPv4, or ``::`` where pods are reached by IPv6.
        memory_mebibytes: limit of a router pod; at three quarters of it, requests are refused with 503.
        requests: what a router pod asks for; None for what does for a hundred models.
        limits: what it may use at most beside memory.
        image_pull_secrets: Secrets, of the routers' own namespace, that the image is pulled with.
        pods: what their pods have; a ServiceAccount is none of it.
    """

    image: str
    image_pull_policy: str = "IfNotPresent"
    least_replicas: int = 2
    most_replicas: int = 10
    drain_seconds: int = 30
    memory_mebibytes: int = 512
    address: str = "0.0.0.0"
    requests: Mapping[str, str] | None = None
    limits: Mapping[str, str] | None = None
    image_pull_secrets: tuple[str, ...] = ()
    pods: PodOptions = NOTHING


def routes_map(model: str = "") -> str:
    """Name of the ConfigMap with the weights, and with what the routers were told in the words of Slipway."""
    return f"{naming.router(model)}-routes"


def clusters_map(model: str = "") -> str:
    """Name of the ConfigMap with the clusters."""
    return f"{naming.router(model)}-clusters"


def listeners_map(model: str = "") -> str:
    """Name of the ConfigMap with the listeners, and with what Envoy starts from."""
    return f"{naming.router(model)}-listeners"


def is_router(child: Mapping[str, Any], model: str = "") -> bool:
    """Whether an object is a part of a group of routers."""
    found = child["metadata"].get("labels") or {}
    return all(found.get(key) == value for key, value in naming.router_labels(model).items())


def router_objects(
    namespace: str,
    routes: Sequence[Route],
    settings: RouterSettings,
    owners: Sequence[Json],
    model: str = "",
    own: PodOptions = NOTHING,
) -> list[Json]:
    """All objects of a group of routers, in the order in which they are to be applied.

    A change of weights differs in one ConfigMap alone; no change of routes differs in the pods.

    Args:
        namespace: of the ModelDeployments and the routers.
        routes: of all ModelDeployments of the group; those that :func:`slipway.core.router.config.admit`
            refuses are left out.
        settings: of the installation.
        owners: owner references; the routers go with the last of them.
        model: name of the ModelDeployment whose own they are; empty for those of the namespace.
        own: what that ModelDeployment says of pods; which ServiceAccount and RuntimeClass its model needs is
            nothing to routers.
    """
    said = own.model_copy(update={"serviceAccountName": None, "runtimeClassName": None})
    build = _Builder(namespace, [dict(owner) for owner in owners], model, said)
    return [
        build.service_account(settings),
        *build.config_maps(routes, settings),
        build.deployment(settings),
        build.autoscaler(settings),
        build.disruption_budget(),
    ]


def told(config_map: Mapping[str, Any]) -> tuple[Route, ...]:
    """The routes that a ConfigMap :func:`routes_map` was written for, in the fields that this version knows.

    Raises:
        ValueError: if it is not one that :func:`router_objects` made, or lacks what this version needs.
    """
    try:
        return tuple(_route(found) for found in json.loads(config_map["data"][ROUTES_KEY]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no routes in {ROUTES_KEY}: {error!r}") from error


def _plain(route: Route) -> Json:
    """As it is written; what an arm does not have is left out, so that nothing is written for it."""
    found = asdict(route)
    for arm in (found["stable"], found["canary"]):
        if arm is not None and arm["ready_path"] is None:
            del arm["ready_path"]
    return found


def _route(found: Mapping[str, Any]) -> Route:
    canary = found.get("canary")
    route = Route(
        **{**_known(Route, found), "stable": _arm(found["stable"]), "canary": canary and _arm(canary)}
    )
    if (why := refusal(route)) is not None:
        raise TypeError(why)
    return route


def _arm(found: Mapping[str, Any]) -> Arm:
    return Arm(**_known(Arm, found))


def _known(kind: type[Route] | type[Arm], found: Mapping[str, Any]) -> Json:
    names_ = {one.name for one in fields(kind)}
    return {name: value for name, value in found.items() if name in names_}


def envoy_arguments(drain_seconds: int) -> tuple[str, ...]:
    """How Envoy is started, beside what it starts from.

    Args:
        drain_seconds: that clients of a listener that goes have; each connection is closed after its next
            answer, and all in the end.
    """
    # Each worker has connections of its own; Envoy's default is one a CPU of the node.
    workers = ("--concurrency", "2", "--disable-hot-restart", "--log-level", "warning")
    return (*workers, "--drain-strategy", "immediate", "--drain-time-s", str(drain_seconds))


class _Builder:
    def __init__(self, namespace: str, owners: list[Json], model: str, own: PodOptions) -> None:
        self._namespace = namespace
        self._owners = owners
        self._model = model
        self._own = own
        self._name = naming.router(model)
        self._labels = naming.router_labels(model)

    def service_account(self, settings: RouterSettings) -> Json:
        """An identity without a token: Envoy asks no API server."""
        return {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": self._metadata(self._name),
            "automountServiceAccountToken": False,
            **pulling(pod.pulled(self._own, settings.image_pull_secrets)),
        }

    def config_maps(self, routes: Sequence[Route], settings: RouterSettings) -> Iterator[Json]:
        """Clusters before the routes that name them, and those before the listeners that use them."""
        admitted, _ = admit(routes)
        found = files(admitted, address=settings.address)
        in_words = json.dumps([_plain(route) for route in admitted], separators=(",", ":"))
        yield self._config_map(clusters_map(self._model), {CLUSTERS_FILE: found[CLUSTERS_FILE]})
        weights = {WEIGHTS_FILE: found[WEIGHTS_FILE], ROUTES_KEY: in_words}
        yield self._config_map(routes_map(self._model), weights)
        listeners = {BOOTSTRAP_FILE: _bootstrap(settings), LISTENERS_FILE: found[LISTENERS_FILE]}
        yield self._config_map(listeners_map(self._model), listeners)

    def deployment(self, settings: RouterSettings) -> Json:
        """The pods; ``replicas`` is left to the autoscaler."""
        meta = self._metadata(self._name)
        if self._own != NOTHING:
            # Pull secrets of the installation reach no template but beside those of a ModelDeployment.
            installed = naming.content_hash(self._template(settings, NOTHING))
            pulled = f".{naming.content_hash(settings.image_pull_secrets)}" * bool(self._own.imagePullSecrets)
            meta["annotations"] = {naming.INSTALLED_ANNOTATION: installed + pulled}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "selector": {"matchLabels": self._labels},
                "revisionHistoryLimit": 1,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": self._template(settings, self._own),
            },
        }

    def _template(self, settings: RouterSettings, own: PodOptions) -> Json:
        options = over(settings.pods, own)
        annotations = {
            # Envoy reads all but this file anew while it runs.
            f"{GROUP}/bootstrap": naming.content_hash(_bootstrap(settings)),
            "prometheus.io/scrape": options.annotations.get("prometheus.io/scrape", "true"),
            "prometheus.io/port": str(ROUTER_ADMIN_PORT),
            "prometheus.io/path": "/stats/prometheus",
        }
        return {
            "metadata": pod.meta(options, self._labels, annotations),
            "spec": self._pod(settings, options, own),
        }

    def autoscaler(self, settings: RouterSettings) -> Json:
        """Never fewer than two, so that one may go."""
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": self._metadata(self._name),
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self._name},
                "minReplicas": settings.least_replicas,
                "maxReplicas": max(settings.least_replicas, settings.most_replicas),
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {
                            "name": "cpu",
                            "target": {"type": "Utilization", "averageUtilization": 70},
                        },
                    }
                ],
            },
        }

    def disruption_budget(self) -> Json:
        """One pod at a time."""
        return {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self._metadata(self._name),
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": self._labels},
            },
        }

    def _pod(self, settings: RouterSettings, options: PodOptions, own: PodOptions) -> Json:
        pulled = pod.pulled(own, settings.image_pull_secrets) if own.imagePullSecrets else ()
        return {
            "serviceAccountName": self._name,
            "automountServiceAccountToken": False,
            **pulling(pulled),
            "enableServiceLinks": False,
            "securityContext": pod.POD_SECURITY,
            "terminationGracePeriodSeconds": settings.drain_seconds + 15,
            "containers": [self._container(settings)],
            "volumes": [
                {
                    # One volume, so that what changes together is swapped together.
                    "name": "files",
                    "projected": {
                        "sources": [
                            {"configMap": {"name": name}} for name in (named(self._model) for named in _MAPS)
                        ]
                    },
                },
                {"name": "tmp", "emptyDir": {}},
            ],
            "topologySpreadConstraints": pod.spread(options, self._labels),
            **pod.classes(options),
        }

    def _container(self, settings: RouterSettings) -> Json:
        ready = {"httpGet": {"path": "/ready", "port": "admin", "scheme": "HTTP"}}
        return {
            "name": CONTAINER,
            "image": settings.image,
            "imagePullPolicy": settings.image_pull_policy,
            "command": ["envoy"],
            "args": ["-c", f"{ROUTER_DIR}/{BOOTSTRAP_FILE}", *envoy_arguments(settings.drain_seconds)],
            # None; said, so that one which somebody adds is noticed.
            "env": [],
            "ports": [{"name": "admin", "containerPort": ROUTER_ADMIN_PORT, "protocol": "TCP"}],
            "readinessProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3},
            # A drain ends in time for this; one that nobody follows up is fixed by it.
            "livenessProbe": {
                **ready,
                "initialDelaySeconds": 15,
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 3 + settings.drain_seconds // 10,
            },
            "lifecycle": {"preStop": {"httpGet": {"path": DRAIN_PATH, "port": "admin", "scheme": "HTTP"}}},
            "resources": {
                "requests": dict(settings.requests or {"cpu": "100m", "memory": "96Mi"}),
                "limits": {**(settings.limits or {}), "memory": f"{settings.memory_mebibytes}Mi"},
            },
            "securityContext": pod.CONTAINER_SECURITY,
            "volumeMounts": [
                {"name": "files", "mountPath": ROUTER_DIR, "readOnly": True},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }

    def _config_map(self, name: str, data: dict[str, str]) -> Json:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._metadata(name), "data": data}

    def _metadata(self, name: str) -> Json:
        found: Json = {"name": name, "namespace": self._namespace, "labels": self._labels}
        if self._owners:
            found["ownerReferences"] = self._owners
        return found


_MAPS = (clusters_map, routes_map, listeners_map)


def _bootstrap(settings: RouterSettings) -> str:
    return json.dumps(
        bootstrap(
            address=settings.address,
            drain_seconds=settings.drain_seconds,
            heap_bytes=settings.memory_mebibytes * _MIB * 3 // 4,
        ),
        separators=(",", ":"),
    )
