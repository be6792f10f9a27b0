"""The accept and refuse table of ``spec.model.verify``, and of what status says of it and of decisions."""

from __future__ import annotations

from typing import Any

from e2e.tests.schema_cases import Case, value_at
from e2e.tests.schema_shapes import choice, items, moment, reference, required, text, unique

_VERIFY = "spec.model.verify"
_KEYS = f"{_VERIFY}.signature.publicKeys"
_DOMAINS = f"{_VERIFY}.hazards.allowedOperatorDomains"
_DECISION = "status.history.*"


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
