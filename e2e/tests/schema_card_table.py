"""The accept and refuse table of ``spec.card``, ``spec.monitoring.freshness`` and its ``suspectInputs``."""

from __future__ import annotations

from e2e.tests.schema_cases import Case
from e2e.tests.schema_shapes import bounds, choice, items, required, some, text

_LINK = "spec.card.links.*"
_ADDRESS = "must be an address that starts with https:// or http://"

_FRESHNESS = "spec.monitoring.freshness"
_DETECTORS = "spec.monitoring.suspectInputs.detectors"


def _freshness(source: str, name: str, **more: int) -> dict[str, object]:
    return {"source": source, "name": name, "maxAgeSeconds": 60, **more}


FRESHNESS = [
    *required(_FRESHNESS, "source", "name", "maxAgeSeconds"),
    *choice(f"{_FRESHNESS}.source", "Header", "Parameter", "Tensor"),
    text(f"{_FRESHNESS}.name", 200),
    Case(f"{_FRESHNESS}.name", "minLength", "a", "", "should be at least 1 chars long"),
    *bounds(f"{_FRESHNESS}.column", 0, 9999),
    *bounds(f"{_FRESHNESS}.maxAgeSeconds", 1, 31_536_000),
    *(
        Case(
            _FRESHNESS,
            "rule",
            _freshness("Header", "X-Data-Time"),
            _freshness("Header", wrong),
            "the name of a header has letters, digits and '-', such as x-data-time",
        )
        for wrong in ("x time", "-x", "x_time", "x:")
    ),
    *(
        Case(
            _FRESHNESS,
            "rule",
            _freshness(source, "taken", column=0),
            _freshness(source, "taken", column=1),
            "column goes with source Tensor",
        )
        for source in ("Header", "Parameter")
    ),
]
SUSPECTS = [
    some(_DETECTORS, "Nearby"),
    Case(
        _DETECTORS,
        "maxItems",
        ["Nearby", "Turned"],
        ["Nearby", "Turned", "Nearby"],
        "Too many: 3: must have at most 2 items",
    ),
    Case(_DETECTORS, "rule", ["Turned", "Nearby"], ["Turned", "Turned"], "name each detector once"),
    *choice(f"{_DETECTORS}.*", "Nearby", "Turned"),
]
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
