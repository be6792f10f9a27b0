"""What a router's Envoy starts from; fixed for the life of a pod."""

from __future__ import annotations

from slipway.core.traffic.envoy.messages import (
    CLUSTERS_FILE,
    ENVOY_ADMIN_PORT,
    LISTENERS_FILE,
    ROUTER_ADMIN_PORT,
    ROUTER_DIR,
    TYPE,
    Json,
    connections,
    file_source,
    tcp_address,
)

#: Called by the preStop hook; answers once clients have had ``drain_seconds`` to leave.
DRAIN_PATH = "/drain"
#: Bounds of the latency histograms; the thresholds that a gate may ask for.
LATENCY_BOUNDS_MILLISECONDS = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
#: What is counted of each cluster: Envoy left alone makes a hundred thousand series of a hundred models.
_COUNTED = (
    r"cluster\.[^.]+\.upstream_rq_(total|completed|[1-5]xx|401|403|422|429|time|timeout|active|retry"
    r"|retry_success|pending_failure_eject|pending_overflow|pending_active|rx_reset|tx_reset)",
    r"cluster\.[^.]+\.(grpc\.\d+|upstream_cx_(total|active|connect_fail|overflow)|membership_(total|healthy))",
    r"http\.[^.]+\.downstream_(rq|cx)_(total|active|[1-5]xx|overload_close|time)",
    r"(server|cluster_manager|listener_manager|overload|http\.[^.]+\.rds)\..*",
)
#: Above any timeout, so that the last bucket holds every request.
LAST_BOUND_MILLISECONDS = 3_600_000


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
        "admin": {"address": tcp_address("127.0.0.1", admin_port)},
        "stats_flush_on_admin": True,
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {"patterns": [{"safe_regex": {"regex": regex}} for regex in _COUNTED]}
            },
            "histogram_bucket_settings": [
                {
                    "match": {"prefix": "cluster."},
                    "buckets": [
                        float(bound) for bound in (*LATENCY_BOUNDS_MILLISECONDS, LAST_BOUND_MILLISECONDS)
                    ],
                }
            ],
        },
        "dynamic_resources": {
            "cds_config": file_source(directory, CLUSTERS_FILE),
            "lds_config": file_source(directory, LISTENERS_FILE),
        },
        "static_resources": {
            "listeners": [_own_listener(address, port, drain_seconds)],
            "clusters": [_admin_cluster(admin_port)],
        },
        "overload_manager": _overload(heap_bytes),
    }


def _own_listener(address: str, port: int, drain_seconds: int) -> Json:
    """Readiness, counters and read-back; nothing that changes anything but ``/drain``."""
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    drain: Json = {
        "match": {"path": DRAIN_PATH, "headers": [get]},
        "direct_response": {"status": 200, "body": {"inline_string": "drained\n"}},
        "typed_per_filter_config": {
            "drain": {
                "@type": f"{TYPE}.extensions.filters.http.lua.v3.LuaPerRoute",
                "source_code": {"inline_string": _DRAIN},
            },
            "delay": {
                "@type": f"{TYPE}.extensions.filters.http.fault.v3.HTTPFault",
                "delay": {"fixed_delay": f"{drain_seconds}s", "percentage": {"numerator": 100}},
            },
        },
    }
    read = [
        {"match": {"path": path, "headers": [get]}, "route": {"cluster": "admin", "timeout": "10s"}}
        for path in ("/ready", "/stats", "/stats/prometheus", "/config_dump")
    ]
    http = connections("own")
    http["http_filters"] = [
        {"name": "drain", "typed_config": {"@type": f"{TYPE}.extensions.filters.http.lua.v3.Lua"}},
        {"name": "delay", "typed_config": {"@type": f"{TYPE}.extensions.filters.http.fault.v3.HTTPFault"}},
        *http["http_filters"],
    ]
    http["route_config"] = {
        "name": "own",
        "virtual_hosts": [{"name": "own", "domains": ["*"], "routes": [drain, *read]}],
    }
    return {
        "name": "own",
        "address": tcp_address(address, port),
        "ignore_global_conn_limit": True,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": http}]}],
    }


#: Envoy's admin interface wants POST, a preStop hook can only GET.
_DRAIN = """function envoy_on_request(handle)
  local post = {[":method"] = "POST", [":path"] = "/healthcheck/fail", [":authority"] = "admin"}
  handle:httpCall("admin", post, "", 2000)
end
"""


def _admin_cluster(admin_port: int) -> Json:
    endpoint = {"endpoint": {"address": tcp_address("127.0.0.1", admin_port)}}
    return {
        "name": "admin",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "admin", "endpoints": [{"lb_endpoints": [endpoint]}]},
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
                    "@type": f"{TYPE}.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": heap_bytes,
                },
            ),
            monitor(
                "global_downstream_max_connections",
                {
                    "@type": f"{TYPE}.extensions.resource_monitors.downstream_connections.v3"
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
