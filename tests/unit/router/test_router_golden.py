"""Everything that is written for routers, Envoy's own files within it, as golden files.

``SLIPWAY_REGENERATE=1 pytest tests/unit/router/test_router_golden.py`` writes the files anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.api.pods import PodOptions
from slipway.core.traffic.envoy.config import admit
from slipway.core.traffic.envoy.objects import RouterSettings, router_objects, told
from slipway.core.traffic.envoy.routes import MAX_TIMEOUT_MILLISECONDS, Arm, Route, refusal

GOLDEN = Path(__file__).parent / "golden"
STABLE = Arm("aaaaaaaaaa", "fraud-aaaaaaaaaa.payments.svc", 8080, 9000)
CANARY = Arm("bbbbbbbbbb", "fraud-bbbbbbbbbb.payments.svc", 8080, 9000, "/healthz")
OWNERS: list[dict[str, Any]] = [
    {"apiVersion": "slipway.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud", "uid": "u"}
]
IMAGE = "docker.io/envoyproxy/envoy@sha256:" + "0" * 64
ROUTES = (
    Route("fraud", 10000, STABLE, CANARY, weight=10, affinity_header="x-user-id", timeout_milliseconds=500),
    Route("copied", 10001, STABLE, CANARY, mirror_percent=50),
    Route("plain", 10002, Arm("cccccccccc", "plain-cccccccccc.payments.svc", 8000)),
    Route("closed", 10003, STABLE, closed=True),
    Route("leaving", 10004, STABLE, leaving=True),
)
OWN = RouterSettings(
    IMAGE,
    "Always",
    least_replicas=1,
    most_replicas=3,
    drain_seconds=45,
    memory_mebibytes=1024,
    address="::",
    requests={"cpu": "1", "memory": "256Mi"},
    limits={"cpu": "2"},
    image_pull_secrets=("pull",),
    pods=PodOptions.model_validate({"priorityClassName": "high", "labels": {"team": "risk"}}),
)
POD = PodOptions.model_validate({"annotations": {"a": "b"}, "serviceAccountName": "reader"})
WRITTEN = {
    "shared": router_objects("payments", ROUTES, RouterSettings(IMAGE), OWNERS),
    "dedicated": router_objects("payments", ROUTES[:1], OWN, OWNERS, "fraud", POD),
}


def readable(found: dict[str, Any]) -> dict[str, Any]:
    """With what a ConfigMap holds as JSON told as what it says."""
    if found["kind"] != "ConfigMap":
        return found
    return {**found, "data": {name: json.loads(text) for name, text in found["data"].items()}}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    found = [readable(one) for one in WRITTEN[name]]
    if os.environ.get("SLIPWAY_REGENERATE"):
        path.write_text(yaml.safe_dump_all(json.loads(json.dumps(found)), sort_keys=False, width=110))
    assert found == list(yaml.safe_load_all(path.read_text()))


def test_what_was_written_is_read_as_the_same_routes() -> None:
    [written] = [one for one in WRITTEN["shared"] if "routes.json" in one.get("data", {})]
    assert set(told(written)) == set(ROUTES)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "Fraud"}, "'Fraud' is no DNS label"),
        ({"listener": 0}, "listener 0 is no free port"),
        ({"stable": replace(STABLE, revision="a_b")}, "a revision's name is no DNS label, or holds '-else-'"),
        (
            {"stable": replace(STABLE, revision="a-else-b")},
            "a revision's name is no DNS label, or holds '-else-'",
        ),
        ({"canary": replace(CANARY, host="a/b")}, "a revision's host is no DNS name"),
        ({"stable": replace(STABLE, port=0)}, "a revision's port is not between 1 and 65535"),
        ({"stable": replace(STABLE, port=65536)}, "a revision's port is not between 1 and 65535"),
        ({"canary": replace(CANARY, grpc_port=65536)}, "a revision's port is not between 1 and 65535"),
        ({"canary": STABLE}, "stable and canary are the same revision"),
        ({"canary": None}, "there is no canary to send traffic to"),
        ({"canary": None, "weight": 0, "mirror_percent": 1}, "there is no canary to send traffic to"),
        ({"weight": 101}, "weight 101 is not between 0 and 100"),
        ({"weight": -1}, "weight -1 is not between 0 and 100"),
        ({"mirror_percent": 101}, "mirror 101 is not between 0 and 100"),
        ({"mirror_percent": -1}, "mirror -1 is not between 0 and 100"),
        ({"affinity_header": "a b"}, "'a b' is no name of a header"),
        ({"timeout_milliseconds": 0}, "timeout of 0 ms is not between 1 ms and 1 h"),
        (
            {"timeout_milliseconds": MAX_TIMEOUT_MILLISECONDS + 1},
            "timeout of 3600001 ms is not between 1 ms and 1 h",
        ),
        ({"weight": 0, "mirror_percent": 0}, None),
        ({"weight": 100, "mirror_percent": 100}, None),
        ({"stable": replace(STABLE, port=1, grpc_port=65535)}, None),
        ({"timeout_milliseconds": 1}, None),
        ({"timeout_milliseconds": MAX_TIMEOUT_MILLISECONDS}, None),
    ],
)
def test_what_no_router_can_be_told_is_refused_in_full_words(
    changed: dict[str, Any], why: str | None
) -> None:
    assert refusal(replace(ROUTES[0], **changed)) == why


def test_of_two_routes_that_exclude_each_other_the_first_is_admitted() -> None:
    first, twin = ROUTES[2], replace(ROUTES[2], listener=10009)
    other = replace(ROUTES[3], listener=10002)
    admitted, refused = admit([twin, other, first])
    assert [(one.name, one.listener) for one in admitted] == [("closed", 10002), ("plain", 10009)]
    assert refused == {"plain": "listener 10002 belongs to closed"}
    assert admit([twin, first])[1] == {"plain": "there is another route plain"}
