"""What an installation allows ModelDeployments to have the operator do for them.

The operator reaches further than whoever writes a ModelDeployment: it sends requests from its own network and
writes routes that its user may not write. So both need leave, which the chart's values give.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass

from slipway.api.access import key_addresses
from slipway.api.reasons import Reason
from slipway.api.rollout import PrometheusSource
from slipway.api.traffic import GatewayAPI, ParentRef
from slipway.api.types import ModelDeploymentSpec
from slipway.core.observed import Fault

#: For any namespace, any Gateway's name, or any host name.
ANY = "*"
_USER = re.compile(r"//[^/]*@")


@dataclass(frozen=True)
class GatewayRule:
    """Gateways of other namespaces that ModelDeployments may be attached to.

    Attributes:
        namespaces: of the ModelDeployments; ``*`` for all.
        gateways: ``NAMESPACE/NAME``, or ``NAMESPACE/*``.
        hostnames: that their routes may have; ``*.example.com`` for all below it, ``*`` for any and for none.
    """

    namespaces: frozenset[str]
    gateways: frozenset[str]
    hostnames: tuple[str, ...] = ()


@dataclass(frozen=True)
class Allowed:
    """The lists of the chart's values.

    Attributes:
        prometheus: addresses that rollouts may name.
        gateways: each rule adds to what is allowed.
    """

    prometheus: frozenset[str] = frozenset()
    gateways: tuple[GatewayRule, ...] = ()

    def prometheus_fault(self, source: PrometheusSource) -> Fault | None:
        """Why a Prometheus is not asked, or None where it may be."""
        if source.address.rstrip("/") in {address.rstrip("/") for address in self.prometheus}:
            return None
        shown = _USER.sub("//", source.address)
        return Fault(
            Reason.PROMETHEUS_NOT_ALLOWED,
            f"{shown} is no Prometheus that this installation allows: have it added to the chart's value "
            "rollouts.prometheus.addresses, or remove spec.rollout.analysis.prometheus",
        )

    def gateway_fault(self, namespace: str, gateway: GatewayAPI) -> Fault | None:
        """Why there is no route for a ModelDeployment of a namespace, or None where there may be one.

        The Gateways of its own namespace are its own.
        """
        for parent in gateway.parentRefs:
            if parent.namespace in (None, namespace):
                continue
            refused = self._refused(namespace, parent, gateway.hostnames)
            if refused:
                return Fault(
                    Reason.GATEWAY_NOT_ALLOWED,
                    f"namespace {namespace} may not have {refused} on Gateway "
                    f"{parent.namespace}/{parent.name}: have it added to the chart's value gatewayAPI.allow, "
                    "or change spec.traffic.gatewayAPI",
                )
        return None

    def _refused(self, namespace: str, parent: ParentRef, hostnames: Iterable[str]) -> str:
        """What of a route is not allowed, in words; empty where all of it is."""
        places = {f"{parent.namespace}/{parent.name}", f"{parent.namespace}/{ANY}"}
        rules = [
            rule for rule in self.gateways if rule.namespaces & {namespace, ANY} and rule.gateways & places
        ]
        if not rules:
            return "a route"
        allowed = [pattern for rule in rules for pattern in rule.hostnames]
        if ANY in allowed:
            return ""
        asked = list(hostnames)
        if not asked:
            return "a route for every host name (spec.traffic.gatewayAPI.hostnames is empty)"
        return next(
            (f"host name {name}" for name in asked if not any(_covers(one, name) for one in allowed)), ""
        )


def access_fault(spec: ModelDeploymentSpec, required: bool) -> Fault | None:
    """Why nothing is done for a ModelDeployment that everybody could use, or None where it may be."""
    if not required or spec.access is not None:
        return None
    return Fault(
        Reason.ACCESS_REQUIRED,
        "this installation (access.required of the chart's values) takes no ModelDeployment without "
        "spec.access: say who may ask; nothing is changed meanwhile, and what serves goes on as it is",
    )


def issuer_fault(spec: ModelDeploymentSpec, issuers: Set[str]) -> Fault | None:
    """Why nothing is done for a ModelDeployment that has the operator read keys where it may not, or None.

    Args:
        spec: of the ModelDeployment.
        issuers: addresses that the installation allows.
    """
    refused = sorted(key_addresses(spec.access) - issuers)
    if not refused:
        return None
    return Fault(
        Reason.ISSUER_NOT_ALLOWED,
        f"{refused[0]} is no address at which this installation lets keys of issuers be read: have it added "
        "to the chart's value access.issuers, or give spec.access.issuers.jwks by reference; nothing is "
        "changed meanwhile, and what serves goes on as it is",
    )


def device_fault(spec: ModelDeploymentSpec, cuda_image: str) -> Fault | None:
    """Why nothing is done for a ModelDeployment whose device this installation has no image for, or None.

    Args:
        spec: of the ModelDeployment.
        cuda_image: of the installation; empty where it has none.
    """
    runtime = spec.runtime
    if runtime.device != "CUDA" or runtime.image or cuda_image:
        return None
    return Fault(
        Reason.CUDA_IMAGE_MISSING,
        "spec.runtime.device is CUDA, and this installation has no image for it: have the chart's value "
        "server.cudaImage set (the Dockerfile's target server-cuda builds one), or name one in "
        "spec.runtime.image; nothing is changed meanwhile, and what serves goes on as it is",
    )


def _covers(pattern: str, name: str) -> bool:
    """Whether a host name, which may be a wildcard itself, is no more than a pattern."""
    return name == pattern or (pattern.startswith("*.") and name.endswith(pattern[1:]))
