"""The accept and refuse table of ``spec.model.verify``, and of what status says of it and of decisions."""

from __future__ import annotations

from typing import Any

from e2e.tests.schema_cases import Case, value_at
from e2e.tests.schema_shapes import bounds, choice, items, moment, reference, required, text, unique

_VERIFY = "spec.model.verify"
_KEYS = f"{_VERIFY}.signature.publicKeys"
_DOMAINS = f"{_VERIFY}.hazards.allowedOperatorDomains"
_DECISION = "status.history.*"
_CONVERSION = "status.model.conversion"


def _decision(_index: int) -> dict[str, Any]:
    found: dict[str, Any] = value_at(_DECISION)
    return found


VERIFY = [
    *required(f"{_VERIFY}.signature", "publicKeys"),
    *required(_KEYS, "configMapRef"),
    *reference(f"{_KEYS}.configMapRef"),
    *choice(f"{_VERIFY}.hazards.onFinding", "Block", "Report"),
    *items(_DOMAINS, 16, lambda index: f"example{index}"),
    unique(_DOMAINS),
    text(f"{_DOMAINS}.*", 100),
    *(
        Case(f"{_DOMAINS}.*", "rule", right, wrong, "a domain of operators is letters, digits")
        for right, wrong in (("com.example.ops", "com/example"), ("a", ""), ("a-b_c", "a b"), ("A1", "a."))
    ),
    text("status.model.signedBy", 71),
    text("status.model.verifiedFor", 64),
    text(f"{_CONVERSION}.digest", 71),
    text(f"{_CONVERSION}.modelDigest", 71),
    text(f"{_CONVERSION}.problem", 300),
    text(f"{_CONVERSION}.original", 200),
    *moment(f"{_CONVERSION}.convertedAt"),
    text(f"{_CONVERSION}.tolerance", 32),
    *bounds(f"{_CONVERSION}.rows", 0, 2**31 - 1),
    *bounds(f"{_CONVERSION}.labelsDiffer", 0, 2**31 - 1),
    text(f"{_CONVERSION}.largestDifference", 32),
    *bounds(f"{_CONVERSION}.edgeRows", 0, 2**31 - 1),
    *items(f"{_CONVERSION}.accepted", 6, lambda index: f"kind{index}"),
    text(f"{_CONVERSION}.accepted.*", 32),
]
DECISIONS = [
    *items("status.history", 20, _decision),
    *required(_DECISION, "decidedAt", "decision", "revision"),
    *moment(f"{_DECISION}.decidedAt"),
    text(f"{_DECISION}.decision", 32),
    text(f"{_DECISION}.rollout", 96),
    text(f"{_DECISION}.revision", 63),
    text(f"{_DECISION}.version", 256),
    text(f"{_DECISION}.by", 256),
    text(f"{_DECISION}.message", 256),
]
