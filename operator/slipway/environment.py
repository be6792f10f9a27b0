"""What the chart sets, from environment variables."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from slipway.api.pods import PodOptions
from slipway.core.allowed import Allowed, GatewayRule
from slipway.core.objects.diff import quantity
from slipway.core.revision import Settings
from slipway.core.traffic.envoy.messages import EVERY_ADDRESS
from slipway.core.traffic.envoy.objects import RouterSettings
from slipway.infra import http, webhook

#: Less memory than this does not hold a router's own.
LEAST_MEBIBYTES = 128


@dataclass(frozen=True)
class Environment:
    """What the chart sets."""

    settings: Settings
    routers: RouterSettings
    allowed: Allowed
    namespaces: tuple[str, ...]
    namespace: str
    identity: str
    workers: int
    #: Upgrades at a time.
    most_upgrades: int
    port: int
    webhook_token: str
    webhook_port: int

    @classmethod
    def read(cls) -> Environment:
        """From environment variables.

        Raises:
            SystemExit: if one that is needed is missing.
        """
        image = os.environ.get("SLIPWAY_SERVER_IMAGE", "")
        if not image:
            sys.exit("SLIPWAY_SERVER_IMAGE is not set: it names the model server image")
        router_image = os.environ.get("SLIPWAY_ROUTER_IMAGE", "")
        if not router_image:
            sys.exit("SLIPWAY_ROUTER_IMAGE is not set: it names the image of Envoy for the routers")
        pods = _pod_options("SLIPWAY_MODEL_PODS")
        # They are in a ServiceAccount, so that a change of them restarts nothing.
        more = (found.name for found in pods.imagePullSecrets)
        pull_secrets = tuple(dict.fromkeys((*_names("SLIPWAY_IMAGE_PULL_SECRETS"), *more)))
        pods = pods.model_copy(update={"imagePullSecrets": ()})
        return cls(
            settings=Settings(
                server_image=image,
                image_pull_policy=os.environ.get("SLIPWAY_SERVER_IMAGE_PULL_POLICY") or "IfNotPresent",
                mlflow_tracking_uri=os.environ.get("SLIPWAY_MLFLOW_TRACKING_URI", ""),
                image_pull_secrets=pull_secrets,
                downloads=_amounts("SLIPWAY_DOWNLOAD_RESOURCES"),
                pods=pods,
                access_required=os.environ.get("SLIPWAY_ACCESS_REQUIRED") == "true",
                audit_image=os.environ.get("SLIPWAY_AUDIT_IMAGE", ""),
                audit_pull_policy=os.environ.get("SLIPWAY_AUDIT_IMAGE_PULL_POLICY") or "IfNotPresent",
                issuers=_addresses("SLIPWAY_ISSUERS"),
                cuda_image=os.environ.get("SLIPWAY_CUDA_IMAGE", ""),
            ),
            routers=RouterSettings(
                image=router_image,
                address=router_address(os.environ.get("POD_IP", "")),
                image_pull_policy=os.environ.get("SLIPWAY_ROUTER_IMAGE_PULL_POLICY") or "IfNotPresent",
                least_replicas=int(os.environ.get("SLIPWAY_ROUTER_LEAST_REPLICAS", "2")),
                most_replicas=int(os.environ.get("SLIPWAY_ROUTER_MOST_REPLICAS", "10")),
                image_pull_secrets=pull_secrets,
                pods=pods,
                **_router_amounts(),
            ),
            allowed=allowed(
                os.environ.get("SLIPWAY_PROMETHEUS_ADDRESSES", "[]"), os.environ.get("SLIPWAY_GATEWAYS", "[]")
            ),
            namespaces=_names("SLIPWAY_WATCH_NAMESPACES"),
            namespace=os.environ.get("POD_NAMESPACE", "default"),
            identity=os.environ.get("POD_NAME") or socket.gethostname(),
            workers=int(os.environ.get("SLIPWAY_WORKERS", "16")),
            most_upgrades=int(os.environ.get("SLIPWAY_MAX_CONCURRENT_UPGRADES", "5")),
            port=int(os.environ.get("SLIPWAY_HTTP_PORT", str(http.PORT))),
            webhook_token=os.environ.get("SLIPWAY_WEBHOOK_TOKEN", ""),
            webhook_port=int(os.environ.get("SLIPWAY_WEBHOOK_PORT", str(webhook.PORT))),
        )


def _names(variable: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())


def _addresses(variable: str) -> frozenset[str]:
    """A list of addresses in JSON, as in the chart's values.

    Raises:
        SystemExit: if it is something else.
    """
    try:
        found = json.loads(os.environ.get(variable) or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        sys.exit(f"{variable} is no list of addresses in JSON, as the chart has it")
    return frozenset(found)


def _pod_options(variable: str) -> PodOptions:
    """What pods have beyond what runs in them, in JSON, as in the chart's values.

    Raises:
        SystemExit: if it is something else.
    """
    try:
        return PodOptions.model_validate_json(os.environ.get(variable) or "{}")
    except ValidationError as error:
        first = error.errors()[0]
        sys.exit(f"{variable}: {'.'.join(map(str, first['loc']))}: {first['msg']}")


def _amounts(variable: str) -> dict[str, dict[str, str]] | None:
    """Requests and limits of a container in JSON, as in the chart's values; None where nothing is set.

    Raises:
        SystemExit: if they are none.
    """
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        found = {
            name: {key: str(amount) for key, amount in (json.loads(text).get(name) or {}).items()}
            for name in ("requests", "limits")
        }
        for amount in (amount for amounts in found.values() for amount in amounts.values()):
            quantity(amount)
    except (AttributeError, ValueError) as error:
        sys.exit(f"{variable} is not the resources of a container: {error}")
    return found


def _router_amounts() -> dict[str, Any]:
    """What routers ask for and may use; their memory is also what Envoy refuses requests by."""
    found = _amounts("SLIPWAY_ROUTER_RESOURCES")
    if found is None:
        return {}
    limits = found["limits"]
    mebibytes = int(quantity(limits.pop("memory", "512Mi")) / 2**20)
    if mebibytes < LEAST_MEBIBYTES:
        sys.exit(f"SLIPWAY_ROUTER_RESOURCES: a router needs limits.memory of {LEAST_MEBIBYTES}Mi or more")
    return {"requests": found["requests"] or None, "limits": limits, "memory_mebibytes": mebibytes}


def router_address(own: str) -> str:
    """Where routers listen, by the operator's own address: pods are reached by that family.

    Where that is IPv4, a node's kernel may know no IPv6, and ``::`` could not be bound.
    """
    return EVERY_ADDRESS if ":" in own else "0.0.0.0"


def allowed(addresses: str, gateways: str) -> Allowed:
    """What the installation allows, from two lists in JSON, as in the chart's values.

    Raises:
        SystemExit: if they are none.
    """
    try:
        rules = tuple(
            GatewayRule(frozenset(one["namespaces"]), frozenset(one["gateways"]), tuple(one["hostnames"]))
            for one in json.loads(gateways)
        )
        return Allowed(frozenset(map(str, json.loads(addresses))), rules)
    except (ValueError, TypeError, KeyError) as error:
        sys.exit(f"SLIPWAY_PROMETHEUS_ADDRESSES or SLIPWAY_GATEWAYS is not as the chart has it: {error!r}")
