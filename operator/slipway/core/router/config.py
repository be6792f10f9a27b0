"""Envoy's configuration as a pure function of the routes.

The bootstrap is fixed for the life of a pod. Everything else stands in files that Envoy reads again whenever
the ConfigMap volume that holds them is swapped: one file of listeners, one of clusters, and one of weights a
ModelDeployment. A shift of traffic changes nothing but that last one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from slipway.contract import READY_PATH
from slipway.core.router.routes import (
    Arm,
    Route,
    arm_cluster,
    arms,
    fallback_cluster,
    protocols,
    shadow_cluster,
)

Json = dict[str, Any]

#: Where readiness, counters and read-back are had, on every interface; the admin interface itself is not.
ROUTER_ADMIN_PORT = 9902
#: Envoy's own admin interface, on loopback only.
ENVOY_ADMIN_PORT = 9901
#: Where the ConfigMaps with the files are mounted.
ROUTER_DIR = "/etc/slipway/router"
#: Called by the preStop hook; answers once clients have had ``drain_seconds`` to leave.
DRAIN_PATH = "/drain"
#: Bounds of the latency histograms; the thresholds that a gate may ask for.
LATENCY_BOUNDS_MILLISECONDS = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)

LISTENERS_FILE = "listeners.json"
CLUSTERS_FILE = "clusters.json"

#: The model server keeps idle connections for 620 s; Envoy has to be the one who closes.
_UPSTREAM_IDLE = "300s"
#: As the model server: longer than clients keep theirs.
_DOWNSTREAM_IDLE = "620s"

_TYPE = "type.googleapis.com/envoy"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ROUTER = f"{_TYPE}.extensions.filters.http.router.v3.Router"
_CONNECTIONS = f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def route_file(name: str) -> str:
    """Name of the file with one ModelDeployment's weights."""
    return f"route-{name}.json"


def files(
    routes: Sequence[Route], *, directory: str = ROUTER_DIR, address: str = "0.0.0.0"
) -> dict[str, str]:
    """All files of a router, by name, in a fixed order; each is one line of JSON.

    The order of ``routes`` does not matter. ``directory`` and ``address`` are as for :func:`bootstrap`.

    Raises:
        ValueError: if two routes share a name or a listener, or one breaks a rule of :func:`refusal`.
    """
    ordered = sorted(routes, key=lambda route: route.name)
    for what in ("name", "listener"):
        if len({getattr(route, what) for route in ordered}) < len(ordered):
            raise ValueError(f"two routes have the same {what}")
    found = {CLUSTERS_FILE: _response(cluster for route in ordered for cluster in _clusters(route))}
    for route in ordered:
        found[route_file(route.name)] = _response([_route_configuration(route)])
    found[LISTENERS_FILE] = _response(_listener(route, directory, address) for route in ordered)
    return found


def bootstrap(
    directory: str = ROUTER_DIR,
    *,
    address: str = "0.0.0.0",
    port: int = ROUTER_ADMIN_PORT,
    admin_port: int = ENVOY_ADMIN_PORT,
    drain_seconds: int = 30,
    heap_bytes: int = 384 * 1024 * 1024,
) -> Json:
    """What Envoy starts from.

    Args:
        directory: of the files; every swap of the volume makes Envoy read them again.
        address: that listeners bind to.
        port: of readiness, counters and read-back.
        admin_port: of Envoy's own admin interface, on loopback.
        drain_seconds: that ``GET /drain`` takes.
        heap_bytes: beyond which new requests are refused with 503.
    """
    return {
        "node": {"id": "router", "cluster": "slipway"},
        "admin": {"address": _socket("127.0.0.1", admin_port)},
        "stats_flush_on_admin": True,
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"prefix": "cluster."}, "buckets": [float(bound) for bound in LATENCY_BOUNDS_MILLISECONDS]}
            ]
        },
        "dynamic_resources": {
            "cds_config": _file_source(directory, CLUSTERS_FILE),
            "lds_config": _file_source(directory, LISTENERS_FILE),
        },
        "static_resources": {
            "listeners": [_own_listener(address, port, drain_seconds)],
            "clusters": [_admin_cluster(admin_port)],
        },
        "overload_manager": _overload(heap_bytes),
    }


def _response(resources: Iterable[Json]) -> str:
    """A discovery response whose version says what is in it."""
    found = list(resources)
    digest = hashlib.sha256(_json(found).encode()).hexdigest()[:16]
    return _json({"version_info": digest, "resources": found})


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _file_source(directory: str, name: str) -> Json:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{directory}/{name}", "watched_directory": {"path": directory}},
    }


def _socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


# --- listeners ---


def _listener(route: Route, directory: str, address: str) -> Json:
    return {
        "@type": f"{_TYPE}.config.listener.v3.Listener",
        "name": route.name,
        "address": _socket(address, route.listener),
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "http",
                        "typed_config": {
                            **_connections(route.name),
                            "rds": {
                                "route_config_name": route.name,
                                "config_source": _file_source(directory, route_file(route.name)),
                            },
                        },
                    }
                ]
            }
        ],
    }


def _connections(stat_prefix: str) -> Json:
    return {
        "@type": _CONNECTIONS,
        "stat_prefix": stat_prefix,
        # HTTP/1.1 and HTTP/2 without TLS on one port.
        "codec_type": "AUTO",
        "use_remote_address": True,
        # No client is trusted with Envoy's own headers, whatever its address.
        "internal_address_config": {
            "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
        },
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": _DOWNSTREAM_IDLE},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": _ROUTER, "suppress_envoy_headers": True}}
        ],
    }


# --- routes ---


def _route_configuration(route: Route) -> Json:
    virtual_host: Json = {"name": route.name, "domains": ["*"]}
    if route.closed:
        closed = {"status": 503, "body": {"inline_string": "the route to this model is being set up\n"}}
        virtual_host["routes"] = [{"match": {"prefix": "/"}, "direct_response": closed}]
    else:
        virtual_host["routes"] = [
            {"match": {"prefix": "/", **({"grpc": {}} if grpc else {})}, "route": _action(route, grpc)}
            for grpc in reversed(protocols(arms(route)))
        ]
    return {
        "@type": f"{_TYPE}.config.route.v3.RouteConfiguration",
        "name": route.name,
        "validate_clusters": True,
        "virtual_hosts": [virtual_host],
    }


def _action(route: Route, grpc: bool) -> Json:
    action: Json = {
        **_split(route, grpc),
        "timeout": f"{route.timeout_milliseconds / 1000:.3f}s",
        "retry_policy": {
            # Only what has not reached a model server, so that nothing is asked twice.
            "retry_on": "connect-failure,refused-stream,reset-before-request",
            "num_retries": 2,
            # A second try goes to the next arm rather than to another dead pod of the same one.
            "retry_priority": {
                "name": "previous",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                    "update_frequency": 1,
                },
            },
            "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        },
    }
    if route.affinity_header is not None:
        action["hash_policy"] = [{"header": {"header_name": route.affinity_header}}]
    if route.canary is not None and route.mirror_percent > 0:
        action["request_mirror_policies"] = [
            {
                "cluster": shadow_cluster(route, route.canary, grpc),
                "runtime_fraction": {
                    "default_value": {"numerator": route.mirror_percent, "denominator": "HUNDRED"}
                },
                "disable_shadow_host_suffix_append": True,
            }
        ]
    return action


def _split(route: Route, grpc: bool) -> Json:
    stable = arm_cluster(route, route.stable, grpc)
    if route.canary is None or route.weight <= 0:
        return {"cluster": stable}
    canary = fallback_cluster(route, route.canary, route.stable, grpc)
    if route.weight >= 100:
        return {"cluster": canary}
    # The canary comes first: its share of the hashes then only grows with its weight, and keeps its users.
    split: Json = {
        "clusters": [
            {"name": canary, "weight": route.weight},
            {"name": stable, "weight": 100 - route.weight},
        ]
    }
    if route.affinity_header is not None:
        split["use_hash_policy"] = True
    return {"weighted_clusters": split}


# --- clusters ---


def _clusters(route: Route) -> Iterator[Json]:
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
    protocol: Json = {"http2_protocol_options": {}} if grpc else {"http_protocol_options": {}}
    return {
        **_CLUSTER,
        "name": name,
        "lb_policy": "LEAST_REQUEST",
        "cluster_type": _DNS,
        "connect_timeout": "1s",
        # A pod that DNS no longer names gets no new request, however well it is.
        "ignore_health_on_host_removal": True,
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "circuit_breakers": {"thresholds": [_SHADOW_LIMITS if shadow else _LIMITS]},
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": protocol,
            }
        },
        # Always by REST: gRPC pods answer there too, and one protocol of health is enough.
        "health_checks": [_HEALTH_CHECK],
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "address": _socket(arm.host, port),
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
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_TYPE}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": members,
            },
        },
        "circuit_breakers": {"thresholds": [_LIMITS]},
    }


#: Every address of the name is a pod; the name is asked again as often as its answer allows.
_DNS: Json = {
    "name": "envoy.cluster.dns",
    "typed_config": {
        "@type": f"{_TYPE}.extensions.clusters.dns.v3.DnsCluster",
        "dns_lookup_family": "V4_PREFERRED",
        "respect_dns_ttl": True,
        "dns_refresh_rate": "2s",
        "dns_failure_refresh_rate": {"base_interval": "0.5s", "max_interval": "2s"},
    },
}
_CLUSTER: Json = {"@type": f"{_TYPE}.config.cluster.v3.Cluster"}
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
    # Without these a pod that has no traffic yet is asked once a minute.
    "no_traffic_interval": "2s",
    "no_traffic_healthy_interval": "2s",
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
    "http_health_check": {"path": READY_PATH},
}


# --- the router's own ---


def _own_listener(address: str, port: int, drain_seconds: int) -> Json:
    """Readiness, counters and read-back; nothing that changes anything but ``/drain``."""
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    drain: Json = {
        "match": {"path": DRAIN_PATH, "headers": [get]},
        "direct_response": {"status": 200, "body": {"inline_string": "drained\n"}},
        "typed_per_filter_config": {
            "drain": {
                "@type": f"{_TYPE}.extensions.filters.http.lua.v3.LuaPerRoute",
                "source_code": {"inline_string": _DRAIN},
            },
            "delay": {
                "@type": f"{_TYPE}.extensions.filters.http.fault.v3.HTTPFault",
                "delay": {"fixed_delay": f"{drain_seconds}s", "percentage": {"numerator": 100}},
            },
        },
    }
    read = [
        {"match": {"path": path, "headers": [get]}, "route": {"cluster": "admin", "timeout": "10s"}}
        for path in ("/ready", "/stats", "/stats/prometheus", "/config_dump")
    ]
    connections = _connections("own")
    connections["http_filters"] = [
        {"name": "drain", "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.lua.v3.Lua"}},
        {"name": "delay", "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.fault.v3.HTTPFault"}},
        *connections["http_filters"],
    ]
    connections["route_config"] = {
        "name": "own",
        "virtual_hosts": [{"name": "own", "domains": ["*"], "routes": [drain, *read]}],
    }
    return {
        "name": "own",
        "address": _socket(address, port),
        "ignore_global_conn_limit": True,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
    }


#: Envoy's admin interface wants POST, a preStop hook can only GET.
_DRAIN = """function envoy_on_request(handle)
  handle:httpCall("admin", {[":method"] = "POST", [":path"] = "/healthcheck/fail", [":authority"] = "admin"}, "", 2000)
end
"""


def _admin_cluster(admin_port: int) -> Json:
    return {
        "name": "admin",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "admin",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _socket("127.0.0.1", admin_port)}}]}
            ],
        },
    }


def _overload(heap_bytes: int) -> Json:
    """Refuse rather than die: a router that is killed loses every model's requests."""

    def monitor(kind: str, config: Json) -> Json:
        name = f"envoy.resource_monitors.{kind}"
        return {"name": name, "typed_config": config}

    def trigger(value: float) -> list[Json]:
        return [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": value}}]

    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            monitor(
                "fixed_heap",
                {
                    "@type": f"{_TYPE}.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": heap_bytes,
                },
            ),
            monitor(
                "global_downstream_max_connections",
                {
                    "@type": f"{_TYPE}.extensions.resource_monitors.downstream_connections.v3"
                    ".DownstreamConnectionsConfig",
                    "max_active_downstream_connections": 20000,
                },
            ),
        ],
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": trigger(0.9)},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": trigger(0.97)},
        ],
    }
