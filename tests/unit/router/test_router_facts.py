"""What the router's files say, as a table that a reviewer can check; a real Envoy loads them elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from slipway.core.traffic.envoy import config
from slipway.core.traffic.envoy.bootstrap import bootstrap
from slipway.core.traffic.envoy.routes import Arm, Route

Document = dict[str, Any]

A = Arm("a", "a.payments.svc", 8080)
B = Arm("b", "b.payments.svc", 8080)
FRAUD = Route("fraud", 10000, A)
RETRIED = "2 retries on connect-failure,refused-stream,reset-before-request"

STABLE = """
cluster fraud/a = a.payments.svc:8080 http, ready by :8080
route / -> fraud/a, 15.000s, RETRIED
"""
CANARY = """
cluster fraud/a = a.payments.svc:8080 http, ready by :8080
cluster fraud/b = b.payments.svc:8080 http, ready by :8080
cluster fraud/b/shadow = b.payments.svc:8080 http, ready by :8080
cluster fraud/b-else-a = fraud/b, else fraud/a
cluster fraud/a-else-b = fraud/a, else fraud/b
route /v2/models/[^/]+(/versions/[^/]+)?/infer -> 10% fraud/b-else-a, 90% fraud/a, by x-user-id, \
25% copied to fraud/b/shadow, 15.000s, RETRIED,reset
route / -> 10% fraud/b-else-a, 90% fraud/a, by x-user-id, 25% copied to fraud/b/shadow, 15.000s, RETRIED
"""
# A canary of weight 0 has its clusters, so that its first share is one change of the weights.
GRPC = """
cluster fraud/a = a.payments.svc:8080 http, ready by :8080
cluster fraud/a/grpc = a.payments.svc:9000 http2, ready by :8080
cluster fraud/b = b.payments.svc:8080 http, ready by :8080
cluster fraud/b/grpc = b.payments.svc:9000 http2, ready by :8080
cluster fraud/b/shadow = b.payments.svc:8080 http, ready by :8080
cluster fraud/b/shadow/grpc = b.payments.svc:9000 http2, ready by :8080
cluster fraud/b-else-a = fraud/b, else fraud/a
cluster fraud/a-else-b = fraud/a, else fraud/b
cluster fraud/b-else-a/grpc = fraud/b/grpc, else fraud/a/grpc
cluster fraud/a-else-b/grpc = fraud/a/grpc, else fraud/b/grpc
route grpc / -> fraud/a/grpc, 15.000s, RETRIED
route / -> fraud/a, 15.000s, RETRIED
"""
CLOSED = """
cluster fraud/a = a.payments.svc:8080 http, ready by :8080
route / -> 503 the route to this model is being set up
"""


@pytest.mark.parametrize(
    ("route", "facts"),
    [
        (FRAUD, STABLE),
        (replace(FRAUD, canary=B, weight=10, mirror_percent=25, affinity_header="x-user-id"), CANARY),
        (replace(FRAUD, stable=replace(A, grpc_port=9000), canary=replace(B, grpc_port=9000)), GRPC),
        (replace(FRAUD, closed=True), CLOSED),
    ],
    ids=["stable", "canary", "grpc", "closed"],
)
def test_the_files_of_a_route(route: Route, facts: str) -> None:
    found = {name: json.loads(text)["resources"] for name, text in config.files([route]).items()}
    (table,) = found["weights.json"]
    (host,) = table["virtual_hosts"]
    assert host["domains"] == ["fraud"]
    lines = [*map(_cluster, found["clusters.json"]), *map(_route, host["routes"])]
    assert lines == facts.replace("RETRIED", RETRIED).strip().splitlines()


def test_what_is_the_same_in_every_cluster_of_pods() -> None:
    files = config.files([replace(FRAUD, canary=replace(B, grpc_port=9000), weight=5, mirror_percent=5)])
    pods = [one for one in json.loads(files["clusters.json"])["resources"] if "load_assignment" in one]
    assert len(pods) == 5
    for one in pods:
        assert one["lb_policy"] == "LEAST_REQUEST"
        assert one["connect_timeout"] == "1s"
        # Names of headless Services: looked up each second, and a pod that left is not waited for.
        assert one["cluster_type"]["typed_config"]["dns_refresh_rate"] == "1s"
        assert one["ignore_health_on_host_removal"] is True
        assert one["common_lb_config"]["healthy_panic_threshold"] == {"value": 1}
        (check,) = one["health_checks"]
        assert (check["interval"], check["timeout"], check["unhealthy_threshold"]) == ("2s", "1s", 2)
        assert check["http_health_check"] == {"path": "/v2/health/ready"}
        (limits,) = one["circuit_breakers"]["thresholds"]
        # Copies never take what requests need.
        most = 512 if "/shadow" in one["name"] else 8192
        assert (limits["max_requests"], limits["max_connections"]) == (most, most // 2)


def test_a_listener_leads_to_its_own_route_whatever_a_client_sends() -> None:
    files = config.files([FRAUD])
    (listener,) = json.loads(files["listeners.json"])["resources"]
    assert listener["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 10000}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (mutation,) = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    assert mutation["append"] == {
        "header": {"key": "x-slipway-route", "value": "fraud"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    (table,) = json.loads(files["weights.json"])["resources"]
    assert (table["vhost_header"], table["request_headers_to_remove"]) == (
        "x-slipway-route",
        ["x-slipway-route"],
    )
    # Nobody counts as internal: Envoy then takes no order from a client's headers.
    assert manager["use_remote_address"] is True
    assert manager["internal_address_config"]["cidr_ranges"] == [
        {"address_prefix": "255.255.255.255", "prefix_len": 32}
    ]
    assert manager["rds"]["config_source"]["path_config_source"]["path"] == "/etc/slipway/router/weights.json"


def test_the_bootstrap_opens_four_readings_and_a_drain_and_bounds_itself() -> None:
    found = bootstrap()
    assert found["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9901}
    (own,) = found["static_resources"]["listeners"]
    assert own["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 9902}
    assert own["ignore_global_conn_limit"] is True
    (host,) = own["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    assert [(one["match"]["path"], _cluster_of(one)) for one in host["routes"]] == [
        ("/drain", None),
        ("/ready", "admin"),
        ("/stats", "admin"),
        ("/stats/prometheus", "admin"),
        ("/config_dump", "admin"),
    ]
    methods = {
        header["string_match"]["exact"] for one in host["routes"] for header in one["match"]["headers"]
    }
    assert methods == {"GET"}
    sources = found["dynamic_resources"]
    assert [sources[kind]["path_config_source"]["path"] for kind in ("cds_config", "lds_config")] == [
        "/etc/slipway/router/clusters.json",
        "/etc/slipway/router/listeners.json",
    ]
    heap, connections = (one["typed_config"] for one in found["overload_manager"]["resource_monitors"])
    assert heap["max_heap_size_bytes"] == 384 * 1024 * 1024
    assert connections["max_active_downstream_connections"] == 20000
    actions = {
        one["name"]: one["triggers"][0]["threshold"]["value"] for one in found["overload_manager"]["actions"]
    }
    assert actions == {
        "envoy.overload_actions.shrink_heap": 0.9,
        "envoy.overload_actions.stop_accepting_requests": 0.97,
    }
    (settings,) = found["stats_config"]["histogram_bucket_settings"]
    assert settings["buckets"] == [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 3600000]


def _cluster_of(route: Document) -> str | None:
    found = route.get("route", {}).get("cluster")
    return None if found is None else str(found)


def _cluster(found: Document) -> str:
    line = f"cluster {found['name']} = "
    if "load_assignment" not in found:
        return line + ", else ".join(found["cluster_type"]["typed_config"]["clusters"])
    (places,) = found["load_assignment"]["endpoints"]
    (place,) = places["lb_endpoints"]
    address = place["endpoint"]["address"]["socket_address"]
    options = found["typed_extension_protocol_options"][
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    ]
    (protocol,) = options["explicit_http_config"]
    ready = place["endpoint"].get("health_check_config", address)["port_value"]
    name = protocol.removesuffix("_protocol_options")
    return line + f"{address['address']}:{address['port_value']} {name}, ready by :{ready}"


def _route(found: Document) -> str:
    match = found["match"]
    line = "route " + ("grpc " if "grpc" in match else "")
    line += (match.get("prefix") or match["safe_regex"]["regex"]) + " -> "
    if "direct_response" in found:
        answer = found["direct_response"]
        return line + f"{answer['status']} {answer['body']['inline_string'].strip()}"
    route = found["route"]
    parts = [
        f"{one['weight']}% {one['name']}" for one in route.get("weighted_clusters", {}).get("clusters", ())
    ]
    parts += [route["cluster"]] if "cluster" in route else []
    parts += [f"by {one['header']['header_name']}" for one in route.get("hash_policy", ())]
    parts += [
        f"{one['runtime_fraction']['default_value']['numerator']}% copied to {one['cluster']}"
        for one in route.get("request_mirror_policies", ())
    ]
    retries = route["retry_policy"]
    parts += [route["timeout"], f"{retries['num_retries']} retries on {retries['retry_on']}"]
    return line + ", ".join(parts)
