"""Envoy's configuration as a pure function of the routes.

It stands in files that Envoy reads again whenever the ConfigMap volume that holds them is swapped: one of
listeners, one of clusters, and one of weights; a shift of traffic changes nothing but the last. There are no
more, since Envoy watches each with an inotify instance of its own, of which all pods of a user on a node have
128 together: one file a ModelDeployment would abort Envoy from a hundred on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from slipway.core.traffic.envoy.clusters import clusters_of
from slipway.core.traffic.envoy.messages import (
    CLUSTERS_FILE,
    LISTENERS_FILE,
    ROUTER_DIR,
    TYPE,
    WEIGHTS_FILE,
    Json,
    connections,
    file_source,
    tcp_address,
)
from slipway.core.traffic.envoy.routes import (
    Arm,
    Route,
    arm_cluster,
    arms,
    fallback_cluster,
    protocols,
    refusal,
    shadow_cluster,
)

#: Of a file; a ConfigMap holds 1 MiB of data.
MAX_FILE_BYTES = 980 * 1024

#: Where a virtual host says which version it is.
VERSION_METADATA = "slipway.dev"

#: Routes of which small things are kept, and those of which texts are, so that what did not change is not
#: rendered again: 2 to 16 kB each.
_MOST_ROUTES, _MOST_TEXTS = 4096, 512
_WEIGHTS = "weights"
#: Tells the routes of one listener from another's; never seen outside of Envoy.
_HEADER = "x-slipway-route"
_INFER = r"/v2/models/[^/]+(/versions/[^/]+)?/infer"
_INFER_GRPC = r"/inference\.GRPCInferenceService/ModelInfer"
#: What has not reached a model server may be sent again whatever it is.
_UNSENT = "connect-failure,refused-stream,reset-before-request"
_PREVIOUS_PRIORITIES = f"{TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"


@dataclass(frozen=True)
class Rendered:
    """A router's files, and what could not be put into them.

    Attributes:
        files: name → text, in a fixed order; each is one line of JSON.
        refused: name of a route → why it is left out, and what to do about it.
    """

    files: dict[str, str]
    refused: dict[str, str]


def render(routes: Sequence[Route], *, directory: str = ROUTER_DIR, address: str = "0.0.0.0") -> Rendered:
    """All files of a router; the order of ``routes`` does not matter.

    A route that cannot be rendered is left out, and changes nothing for the others.

    Args:
        routes: of all ModelDeployments that the router serves.
        directory: of the files.
        address: that listeners bind to.
    """
    ordered, refused = admit(routes)
    found = {CLUSTERS_FILE: _response(_clusters(route) for route in ordered)}
    found[WEIGHTS_FILE] = _response([_route_configuration(ordered)])
    found[LISTENERS_FILE] = _response(
        _listener(route.name, route.listener, directory, address) for route in ordered if not route.leaving
    )
    return Rendered(found, refused)


def files(
    routes: Sequence[Route], *, directory: str = ROUTER_DIR, address: str = "0.0.0.0"
) -> dict[str, str]:
    """The files of :func:`render`."""
    return render(routes, directory=directory, address=address).files


@lru_cache(maxsize=_MOST_ROUTES)
def version(route: Route) -> str:
    """What a router reports as the version of a route that it took up."""
    return _digest(f"[{_json(_virtual_host(route))}]")


def admit(routes: Sequence[Route]) -> tuple[list[Route], dict[str, str]]:
    """The routes that a router can serve, by name, and why it cannot serve the others.

    Room is counted as if every route had a canary, so that one that begins takes no other's place.
    """
    admitted: list[Route] = []
    refused: dict[str, str] = {}
    listeners: dict[int, str] = {}
    names: set[str] = set()
    used = 0
    for route in sorted(routes, key=lambda route: (route.listener, route.name)):
        needed = max(_reserved(route.name, route.stable, route.canary), 1)
        why = refusal(route)
        if why is None and route.listener in listeners:
            why = f"listener {route.listener} belongs to {listeners[route.listener]}"
        if why is None and route.name in names:
            why = f"there is another route {route.name}"
        if why is None and used + needed > MAX_FILE_BYTES:
            why = f"the router is full with {len(admitted)} models; set spec.traffic.router: Dedicated"
        if why is not None:
            refused[route.name] = why
            continue
        admitted.append(route)
        listeners[route.listener] = route.name
        names.add(route.name)
        used += needed
    return sorted(admitted, key=lambda route: route.name), refused


@lru_cache(maxsize=_MOST_ROUTES)
def _reserved(name: str, stable: Arm, canary: Arm | None) -> int:
    """Bytes in the fullest file that a route may come to need."""
    twin = replace(stable, revision="-" * len(stable.revision))
    routes = (Route(name, 0, stable, found) for found in (twin, canary or twin))
    return max(sum(len(_json(cluster)) + 1 for cluster in clusters_of(route)) for route in routes)


def _response(resources: Iterable[str]) -> str:
    """A discovery response, of texts of its resources, whose version says what is in it."""
    found = f"[{','.join(filter(None, resources))}]"
    return f'{{"version_info":"{_digest(found)}","resources":{found}}}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _json(content: Any) -> str:
    return json.dumps(content, separators=(",", ":"))


def _clusters(route: Route) -> str:
    """Texts of the clusters of a route: no weight changes them."""
    return _clusters_between(route.name, route.stable, route.canary)


@lru_cache(maxsize=_MOST_TEXTS)
def _clusters_between(name: str, stable: Arm, canary: Arm | None) -> str:
    return ",".join(map(_json, clusters_of(Route(name, 0, stable, canary))))


# --- listeners ---


@lru_cache(maxsize=_MOST_TEXTS)
def _listener(name: str, port: int, directory: str, address: str) -> str:
    listener: Json = {
        "@type": f"{TYPE}.config.listener.v3.Listener",
        "name": name,
        "address": tcp_address(address, port),
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "http",
                        "typed_config": {
                            **connections(name),
                            # Whatever Host a client sends, and whatever it puts into this header.
                            "early_header_mutation_extensions": [_named(name)],
                            # The same for all listeners, so that Envoy has it once.
                            "rds": {
                                "route_config_name": _WEIGHTS,
                                "config_source": file_source(directory, WEIGHTS_FILE),
                            },
                        },
                    }
                ]
            }
        ],
    }
    return _json(listener)


# --- routes ---


def _route_configuration(routes: Sequence[Route]) -> str:
    table: Json = {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": _WEIGHTS,
        "vhost_header": _HEADER,
        "request_headers_to_remove": [_HEADER],
        # A cluster that is not there costs the requests for it; refusing the file would cost every route.
        "validate_clusters": False,
    }
    return f'{_json(table)[:-1]},"virtual_hosts":[{",".join(map(_host, routes))}]}}'


@lru_cache(maxsize=_MOST_TEXTS)
def _host(route: Route) -> str:
    """Text of a virtual host that says its version."""
    metadata = {"filter_metadata": {VERSION_METADATA: {"version": version(route)}}}
    return _json({**_virtual_host(route), "metadata": metadata})


def _virtual_host(route: Route) -> Json:
    virtual_host: Json = {"name": route.name, "domains": [route.name]}
    if route.closed:
        closed = {"status": 503, "body": {"inline_string": "the route to this model is being set up\n"}}
        virtual_host["routes"] = [{"match": {"prefix": "/"}, "direct_response": closed}]
    else:
        virtual_host["routes"] = [
            rule for grpc in reversed(protocols(arms(route))) for rule in _rules(route, grpc)
        ]
    return virtual_host


def _rules(route: Route, grpc: bool) -> Iterator[Json]:
    protocol: Json = {"grpc": {}} if grpc else {}
    if route.weight > 0:
        # To infer is to compute: what a canary took down with it may be asked of the stable revision.
        infer = {"safe_regex": {"regex": _INFER_GRPC if grpc else _INFER}}
        yield {"match": {**infer, **protocol}, "route": _action(route, grpc, f"{_UNSENT},reset")}
    yield {"match": {"prefix": "/", **protocol}, "route": _action(route, grpc, _UNSENT)}


def _named(route: str) -> Json:
    return {
        "name": "route",
        "typed_config": {
            "@type": f"{TYPE}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                {
                    "append": {
                        "header": {"key": _HEADER, "value": route},
                        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                    }
                }
            ],
        },
    }


def _action(route: Route, grpc: bool, retry_on: str) -> Json:
    action: Json = {
        **_split(route, grpc),
        "timeout": f"{route.timeout_milliseconds / 1000:.3f}s",
        "retry_policy": {
            "retry_on": retry_on,
            "num_retries": 2,
            # A second try goes to the next arm rather than to another dead pod of the same one.
            "retry_priority": {
                "name": "previous",
                "typed_config": {
                    "@type": _PREVIOUS_PRIORITIES,
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
