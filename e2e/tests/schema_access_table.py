"""The accept and refuse table of ``spec.access``."""

from __future__ import annotations

from dataclasses import replace

from e2e.tests.schema_cases import Case
from e2e.tests.schema_shapes import bounds, choice, items, required, text

_ACCESS = "spec.access"
_SECRET = f"{_ACCESS}.apiKeys.secretRef"
_RULE = f"{_ACCESS}.allow.*"
_CALLER = f"{_RULE}.callers.*"
_KINDS = "a caller is key:NAME, with NAME a key of the Secret"

ACCESS = [
    *required(_ACCESS, "apiKeys"),
    *required(f"{_ACCESS}.apiKeys", "secretRef"),
    *required(_SECRET, "name"),
    text(f"{_SECRET}.name", 253),
    *(
        Case(f"{_SECRET}.name", "rule", right, wrong, "must be a name of lower case letters")
        for right, wrong in (("a", ""), ("a.b", "a..b"), ("1", "a/b"))
    ),
    *items(f"{_ACCESS}.allow", 16, lambda _: {"callers": ["*"], "actions": ["Infer"]}),
    *required(_RULE, "callers", "actions"),
    *items(f"{_RULE}.callers", 32, lambda index: f"key:k{index}"),
    Case(f"{_RULE}.callers", "minItems", ["*"], [], "should have at least 1 items"),
    replace(text(_CALLER, 68, head="key:"), also=_KINDS),
    *(
        Case(_CALLER, "rule", right, wrong, _KINDS)
        for right, wrong in (
            ("*", ""),
            ("anonymous", "anybody"),
            ("key:*", "key:"),
            ("key:a.b-c_D", "key:a/b"),
            ("key:a", "Key:a"),
            ("key:a", "a"),
        )
    ),
    Case(f"{_RULE}.actions", "minItems", ["Infer"], [], "should have at least 1 items"),
    *items(f"{_RULE}.actions", 3, lambda _: "Infer"),
    *choice(f"{_RULE}.actions.*", "Infer", "Feedback", "Metadata"),
    *(
        case
        for whose in ("perCaller", "anonymous")
        for name, most in (
            ("requestsPerSecond", 1_000_000),
            ("burst", 1_000_000),
            ("rowsPerDay", 10**12),
            ("concurrent", 1_000_000),
        )
        for case in bounds(f"{_ACCESS}.limits.{whose}.{name}", 1, most)
    ),
    *(
        Case(
            f"{_ACCESS}.limits.{whose}",
            "rule",
            {"burst": 5, "requestsPerSecond": 1},
            {"burst": 5},
            "burst goes with requestsPerSecond",
        )
        for whose in ("perCaller", "anonymous")
    ),
]
