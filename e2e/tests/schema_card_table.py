"""The accept and refuse table of ``spec.card``."""

from __future__ import annotations

from e2e.tests.schema_cases import Case
from e2e.tests.schema_shapes import bounds, items, text

_LINK = "spec.card.links.*"
_ADDRESS = "must be an address that starts with https:// or http://"

CARD = [
    text("spec.card.owner", 200),
    text("spec.card.intendedUse", 2000),
    text("spec.card.limitations", 2000),
    *items("spec.card.links", 10, lambda index: f"https://example.com/{index}"),
    Case(
        "spec.card.links",
        "x-kubernetes-list-type",
        ["https://a", "https://b"],
        ["https://a", "https://a"],
        "Duplicate value",
    ),
    text(_LINK, 500, head="https://"),
    *(
        Case(_LINK, "rule", "http://wiki/fraud", wrong, _ADDRESS)
        for wrong in ("", "wiki/fraud", "javascript:x", "https://a b")
    ),
    *bounds("spec.card.maxAgeDays", 1, 3650),
]
