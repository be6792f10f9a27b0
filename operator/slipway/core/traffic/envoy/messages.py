"""What the parts of Envoy's configuration have in common."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

#: Where readiness, counters and read-back are had, on every interface; the admin interface itself is not.
ROUTER_ADMIN_PORT = 9902
#: Envoy's own admin interface, on loopback only.
ENVOY_ADMIN_PORT = 9901
#: Where the ConfigMaps with the files are mounted.
ROUTER_DIR = "/etc/slipway/router"
BOOTSTRAP_FILE = "bootstrap.yaml"
LISTENERS_FILE = "listeners.json"
CLUSTERS_FILE = "clusters.json"
WEIGHTS_FILE = "weights.json"

TYPE = "type.googleapis.com/envoy"

_GRPC_STATS = f"{TYPE}.extensions.filters.http.grpc_stats.v3.FilterConfig"
_ROUTER = f"{TYPE}.extensions.filters.http.router.v3.Router"
#: As the model server: longer than clients keep theirs, so that the client is the one who closes.
_IDLE = "620s"


#: Every address that a pod has, of both families; the kernel has to know IPv6.
EVERY_ADDRESS = "::"


def tcp_address(address: str, port: int) -> Json:
    """An address of TCP; :data:`EVERY_ADDRESS` is that of IPv4 too."""
    both = {"ipv4_compat": True} if address == EVERY_ADDRESS else {}
    return {"socket_address": {"address": address, "port_value": port, **both}}


def file_source(directory: str, name: str) -> Json:
    """A file that is read again whenever its directory, a ConfigMap volume, is swapped."""
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{directory}/{name}", "watched_directory": {"path": directory}},
    }


def connections(stat_prefix: str) -> Json:
    """How connections of clients are treated: HTTP/1.1 and HTTP/2 without TLS, on one port."""
    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat_prefix,
        "codec_type": "AUTO",
        "use_remote_address": True,
        # No client is trusted with Envoy's own headers, whatever its address.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": _IDLE},
        "http_filters": [
            # gRPC says what went wrong where HTTP's status does not.
            {"name": "grpc", "typed_config": {"@type": _GRPC_STATS, "individual_method_stats_allowlist": {}}},
            {"name": "router", "typed_config": {"@type": _ROUTER, "suppress_envoy_headers": True}},
        ],
    }
