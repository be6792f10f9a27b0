"""The accept and refuse table of ``spec.traffic``."""

from __future__ import annotations

from typing import Any

from e2e.tests.schema_cases import EXAMPLE, Case
from e2e.tests.schema_shapes import choice, required, text

SPEC = "spec.traffic"
HEADER = f"{SPEC}.sessionAffinity.header"


def _spec(strategy: str, traffic: dict[str, Any]) -> dict[str, Any]:
    return {"model": EXAMPLE["spec"]["model"], "rollout": {"strategy": strategy}, "traffic": traffic}


def _strategies(
    traffic: dict[str, Any], says: str, right: tuple[str, ...], wrong: tuple[str, ...]
) -> list[Case]:
    """``traffic`` goes with the right strategies, and with none of the wrong ones."""
    pairs = [(right[0], found) for found in wrong] + [(found, wrong[0]) for found in right[1:]]
    return [Case("spec", "rule", _spec(one, traffic), _spec(other, traffic), says) for one, other in pairs]


TRAFFIC = [
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
