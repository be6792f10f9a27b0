"""The accept and refuse table of ``spec.traffic``."""

from __future__ import annotations

from typing import Any

from e2e.tests.schema_cases import EXAMPLE, GATEWAY, REMOVED, Case
from e2e.tests.schema_shapes import choice, items, required, text

SPEC = "spec.traffic"
API = f"{SPEC}.gatewayAPI"
PARENT = f"{API}.parentRefs.*"
HEADER = f"{SPEC}.sessionAffinity.header"


def _spec(strategy: str, traffic: dict[str, Any]) -> dict[str, Any]:
    return {"model": EXAMPLE["spec"]["model"], "rollout": {"strategy": strategy}, "traffic": traffic}


def _strategies(
    traffic: dict[str, Any], says: str, right: tuple[str, ...], wrong: tuple[str, ...]
) -> list[Case]:
    """``traffic`` goes with the right strategies, and with none of the wrong ones."""
    pairs = [(right[0], found) for found in wrong] + [(found, wrong[0]) for found in right[1:]]
    return [Case("spec", "rule", _spec(one, traffic), _spec(other, traffic), says) for one, other in pairs]


def _ratio(**rollout: Any) -> dict[str, Any]:
    plain = {"strategy": "Canary", "steps": [{"setWeight": 10}, {"pause": {"seconds": 1}}]}
    return {
        "model": EXAMPLE["spec"]["model"],
        "rollout": {name: value for name, value in (plain | rollout).items() if value is not REMOVED},
        "traffic": {"provider": "ReplicaRatio"},
    }


_ALONE = (
    "traffic.provider ReplicaRatio goes with rollout.strategy Canary and with rollout.steps of setWeight and"
)
_GATE: dict[str, Any] = {"name": "error-rate", "type": "ErrorRate"}

_OF_THE_ROUTER: tuple[tuple[dict[str, Any], str], ...] = (
    ({"router": "Dedicated"}, "router: Dedicated goes with provider Router; no other has routers"),
    ({"sessionAffinity": {"header": "x-user"}}, "sessionAffinity goes with provider Router; no other"),
)
_NO_ANALYSIS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({}, {"intervalSeconds": 10}),
    ({"gates": [_GATE]}, {"gates": [_GATE | {"dryRun": True}]}),
    ({"onInconclusive": "Pause"}, {"gates": [_GATE, _GATE | {"name": "more"}]}),
)

_OTHER_STEPS: tuple[dict[str, Any], ...] = (
    {"strategy": "RollingUpdate", "steps": REMOVED},
    {"steps": REMOVED},
    {"strategy": "Shadow", "steps": [{"pause": {"untilApproved": True}}]},
    {"steps": [{"analysis": {}}]},
    {"steps": [{"setWeight": 10}, {"setMirror": {"percent": 100}}]},
    {"steps": [{"setCanaryScale": {"replicas": 2}}]},
)

TRAFFIC = [
    Case(f"{SPEC}.provider", "enum", "Router", "router", 'supported values: "Router", "GatewayAPI", "Repl'),
    *(
        Case(SPEC, "rule", GATEWAY, wrong, "gatewayAPI goes with provider GatewayAPI, which needs it")
        for wrong in (GATEWAY | {"provider": "Router"}, {"provider": "GatewayAPI"})
    ),
    *required(API, "parentRefs"),
    *items(f"{API}.parentRefs", 8, lambda index: {"name": f"gateway-{index}"}),
    Case(f"{API}.parentRefs", "minItems", [{"name": "a"}], [], "should have at least 1 items"),
    *required(f"{PARENT}", "name"),
    *(
        case
        for name, longest, good, bad, says in (
            ("name", 253, "a.b", "A", "must be a name of lower case letters, digits, '-' and '.'"),
            ("sectionName", 253, "a.b", "a..b", "must be a name of lower case letters, digits, '-' and '.'"),
            ("namespace", 63, "a-b", "a.b", "must be a name of lower case letters, digits and '-', such as"),
        )
        for case in (text(f"{PARENT}.{name}", longest), Case(f"{PARENT}.{name}", "rule", good, bad, says))
    ),
    *items(f"{API}.hostnames", 16, lambda index: f"host-{index}.example.com"),
    text(f"{API}.hostnames.*", 253),
    *(
        Case(f"{API}.hostnames.*", "rule", good, bad, "must be a host name such as fraud.example.com")
        for good, bad in (("*.a", "a.*"), ("a.b", "A.b"), ("a-1", "a_1"))
    ),
    *(
        Case(
            SPEC,
            "rule",
            _ratio(),
            _ratio() | {"traffic": {"provider": "ReplicaRatio", **wrong}},
            says,
            at="spec",
        )
        for wrong, says in _OF_THE_ROUTER
    ),
    *(Case("spec", "rule", _ratio(), _ratio(**wrong), _ALONE) for wrong in _OTHER_STEPS),
    *(
        Case("spec", "rule", _ratio(analysis=right), _ratio(analysis=wrong), "gives no evidence; leave")
        for right, wrong in _NO_ANALYSIS
    ),
    *choice(f"{SPEC}.router", "Shared", "Dedicated"),
    *_strategies(
        {"router": "Dedicated"},
        "traffic.router: Dedicated goes with rollout.strategy Canary, BlueGreen or Shadow",
        ("Canary", "BlueGreen", "Shadow"),
        ("RollingUpdate", "Recreate"),
    ),
    *_strategies(
        {"sessionAffinity": {"header": "x-user-id"}},
        "traffic.sessionAffinity goes with rollout.strategy Canary; no other splits traffic",
        ("Canary",),
        ("RollingUpdate", "Recreate", "BlueGreen", "Shadow"),
    ),
    *required(f"{SPEC}.sessionAffinity", "header"),
    text(HEADER, 63),
    *(
        Case(HEADER, "rule", right, wrong, "header must be lower case letters, digits, '-', '_' and '.'")
        for right, wrong in (
            ("x-user-id", "X-User-Id"),
            ("a.b_c", ":path"),
            ("a", ""),
            ("1", "a-"),
            ("a", "a b"),
        )
    ),
    *(
        Case(HEADER, "rule", right, wrong, "host, x-request-id and x-slipway-… name no client")
        for right, wrong in (("x-user", "x-slipway-route"), ("hosts", "host"), ("x-request", "x-request-id"))
    ),
]
