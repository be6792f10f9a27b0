"""Envoy's clusters of a route: the pods of each arm, and what stands in for an arm that fails."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.contract import READY_PATH
from slipway.core.traffic.envoy.messages import TYPE, Json, tcp_address
from slipway.core.traffic.envoy.routes import (
    Arm,
    Route,
    arm_cluster,
    arms,
    fallback_cluster,
    protocols,
    shadow_cluster,
)

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
#: The model server keeps idle connections for 620 s; Envoy has to be the one who closes.
_UPSTREAM_IDLE = "300s"
#: Every address of the name is a pod. It is asked for each second, since a pod that is new waits for it.
_DNS: Json = {
    "name": "envoy.cluster.dns",
    "typed_config": {
        "@type": f"{TYPE}.extensions.clusters.dns.v3.DnsCluster",
        "dns_lookup_family": "V4_PREFERRED",
        "dns_refresh_rate": "1s",
        "dns_failure_refresh_rate": {"base_interval": "0.5s", "max_interval": "1s"},
    },
}
_CLUSTER: Json = {"@type": f"{TYPE}.config.cluster.v3.Cluster"}
#: Of each arm on each router pod: room for any honest load, and an end to one model taking all.
_LIMITS: Json = {
    "max_connections": 4096,
    "max_pending_requests": 4096,
    "max_requests": 8192,
    "max_retries": 1024,
}
#: Copies are dropped long before they could take memory from real requests.
_SHADOW_LIMITS: Json = {"max_connections": 256, "max_pending_requests": 256, "max_requests": 512}
_HEALTH_CHECK: Json = {
    "timeout": "1s",
    "interval": "2s",
    # Without this a pod that has no traffic yet is asked once a minute.
    "no_traffic_interval": "2s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "http_health_check": {"path": READY_PATH},
}


def clusters_of(route: Route) -> Iterator[Json]:
    """Every cluster that the rules of a route may name."""
    for arm in arms(route):
        for grpc in protocols((arm,)):
            yield _pods(arm_cluster(route, arm, grpc), arm, grpc)
    if route.canary is None:
        return
    for grpc in protocols((route.canary,)):
        yield _pods(shadow_cluster(route, route.canary, grpc), route.canary, grpc, shadow=True)
    for grpc in protocols(arms(route)):
        for first, second in ((route.canary, route.stable), (route.stable, route.canary)):
            yield _fallback(
                fallback_cluster(route, first, second, grpc),
                [arm_cluster(route, first, grpc), arm_cluster(route, second, grpc)],
            )


def _pods(name: str, arm: Arm, grpc: bool, shadow: bool = False) -> Json:
    port = arm.grpc_port if grpc and arm.grpc_port is not None else arm.port
    # Without a table, headers that differ by the id of a request alone look alike to the model server.
    http2: Json = {"http2_protocol_options": {"hpack_table_size": 0}}
    protocol: Json = http2 if grpc else {"http_protocol_options": {}}
    return {
        **_CLUSTER,
        "name": name,
        "lb_policy": "LEAST_REQUEST",
        "cluster_type": _DNS,
        "connect_timeout": "1s",
        # A pod that DNS no longer names gets no new request, however well it is.
        "ignore_health_on_host_removal": True,
        # What a check finds counts at once, rather than up to a second after the pod was first named.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}, "update_merge_window": "0s"},
        "circuit_breakers": {"thresholds": [_SHADOW_LIMITS if shadow else _LIMITS]},
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": protocol,
            }
        },
        # Always by REST: gRPC pods answer there too, and one protocol of health is enough.
        "health_checks": [
            {**_HEALTH_CHECK, "http_health_check": {"path": arm.ready_path}}
            if arm.ready_path
            else _HEALTH_CHECK
        ],
        "load_assignment": {
            # Says nothing here, and has to be something.
            "cluster_name": "pods",
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "address": tcp_address(arm.host, port),
                                **({"health_check_config": {"port_value": arm.port}} if grpc else {}),
                            }
                        }
                    ]
                }
            ],
        },
    }


def _fallback(name: str, members: list[str]) -> Json:
    return {
        **_CLUSTER,
        "name": name,
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": members,
            },
        },
        "circuit_breakers": {"thresholds": [_LIMITS]},
    }
