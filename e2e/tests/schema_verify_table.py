"""The accept and refuse table of ``spec.model.verify``, and of what status says of it and of decisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from e2e.tests.schema_cases import SIGNATURES, Case, value_at
from e2e.tests.schema_shapes import bounds, choice, items, moment, reference, required, text, unique

_VERIFY = "spec.model.verify"
_KEYS = f"{_VERIFY}.signature.publicKeys"
_CERTIFICATE, _KEYLESS = f"{_VERIFY}.signature.certificate", f"{_VERIFY}.signature.keyless"
_DOMAINS = f"{_VERIFY}.hazards.allowedOperatorDomains"
_PROVENANCE = f"{_VERIFY}.provenance"
_BUILT = {"builder": "https://ci.example.com/release", "source": "github.com/acme/fraud"}
_DECISION = "status.history.*"
_CONVERSION = "status.model.conversion"


def _decision(_index: int) -> dict[str, Any]:
    found: dict[str, Any] = value_at(_DECISION)
    return found


def _keyless(index: int) -> dict[str, Any]:
    return {"issuer": "https://issuer.example.com", "email": f"a{index}@example.com"}


def built(path: str) -> Iterator[Case]:
    """Where a model was built, as status says it."""
    yield from required(path, "builder", "source")
    yield text(f"{path}.builder", 512)
    yield text(f"{path}.source", 256)
    yield text(f"{path}.commit", 64)


VERIFY = [
    *(
        Case(
            f"{_VERIFY}.signature",
            "rule",
            {kind: said},
            {**SIGNATURES, kind: said} if kind != "keyless" else {},
            "give one of publicKeys, certificate and keyless",
        )
        for kind, said in SIGNATURES.items()
    ),
    *required(_CERTIFICATE, "authorities", "identities"),
    *required(f"{_CERTIFICATE}.authorities", "configMapRef"),
    *reference(f"{_CERTIFICATE}.authorities.configMapRef"),
    *required(_KEYLESS, "trustRoot", "identities"),
    *required(f"{_KEYLESS}.trustRoot", "configMapRef"),
    *reference(f"{_KEYLESS}.trustRoot.configMapRef"),
    *items(f"{_CERTIFICATE}.identities", 16, lambda index: {"dns": f"n{index}"}),
    Case(f"{_CERTIFICATE}.identities", "minItems", [{"dns": "a"}], [], "should have at least 1 items"),
    *items(f"{_KEYLESS}.identities", 16, _keyless),
    Case(f"{_KEYLESS}.identities", "minItems", [_keyless(0)], [], "should have at least 1 items"),
    *(
        Case(f"{_CERTIFICATE}.identities.*", "rule", right, wrong, "give one of email, uri and dns")
        for right, wrong in (({"dns": "a"}, {}), ({"uri": "a:b"}, {"uri": "a:b", "dns": "a"}))
    ),
    *(
        Case(
            f"{_KEYLESS}.identities.*",
            "rule",
            {"issuer": "https://a", **right},
            {"issuer": "https://a", **wrong},
            "give either email or uri",
        )
        for right, wrong in (({"uri": "a:b"}, {}), ({"email": "a@b"}, {"email": "a@b", "uri": "a:b"}))
    ),
    *required(f"{_KEYLESS}.identities.*", "issuer"),
    text(f"{_KEYLESS}.identities.*.issuer", 256, head="https://"),
    *(
        Case(
            f"{_KEYLESS}.identities.*.issuer",
            "rule",
            "https://a/b",
            wrong,
            "must be the URL of an OpenID issuer",
        )
        for wrong in ("http://a", "https://", "a", "https://a b")
    ),
    *(
        case
        for kind in (_CERTIFICATE, _KEYLESS)
        for case in (
            text(f"{kind}.identities.*.email", 254, head="a@"),
            text(f"{kind}.identities.*.uri", 256, head="a:"),
            *(
                Case(f"{kind}.identities.*.email", "rule", "a+b@c.d", wrong, "must be an address such as")
                for wrong in ("a", "@a", "a@", "a@b@c", "a b@c")
            ),
            *(
                Case(f"{kind}.identities.*.uri", "rule", "spiffe://a/b@c", wrong, "must be a URI such as")
                for wrong in ("a", ":a", "1:a", "a: b")
            ),
        )
    ),
    text(f"{_CERTIFICATE}.identities.*.dns", 253),
    *(
        Case(f"{_CERTIFICATE}.identities.*.dns", "rule", "A-b.c", wrong, "must be a DNS name such as")
        for wrong in ("", "a..b", "*.a", "a_b", "-a")
    ),
    *required(_KEYS, "configMapRef"),
    *reference(f"{_KEYS}.configMapRef"),
    Case(
        _VERIFY,
        "rule",
        {"signature": {"keyless": SIGNATURES["keyless"]}, "provenance": _BUILT},
        {"provenance": _BUILT},
        "provenance needs signature",
    ),
    *required(_PROVENANCE, "builder", "source"),
    text(f"{_PROVENANCE}.builder", 256, head="a:"),
    text(f"{_PROVENANCE}.source", 256, head="a/"),
    *(
        Case(f"{_PROVENANCE}.builder", "rule", "https://a/b@v1", wrong, "must be the URI of a builder")
        for wrong in ("", "a", "a: b", ":a", "1:a")
    ),
    *(
        Case(f"{_PROVENANCE}.source", "rule", right, wrong, "must be a repository, such as")
        for right, wrong in (
            ("a.b/c", "a.b"),
            ("https://a:8443/b/c.git", "http://a/b"),
            ("a/~b/c-d_e", "a/b/"),
            ("a/b", "git@a:b/c"),
            ("A/b", "a/b@main"),
            ("a/b", "-a/b"),
        )
    ),
    *choice(f"{_VERIFY}.hazards.onFinding", "Block", "Report"),
    *items(_DOMAINS, 16, lambda index: f"example{index}"),
    unique(_DOMAINS),
    text(f"{_DOMAINS}.*", 100),
    *(
        Case(f"{_DOMAINS}.*", "rule", right, wrong, "a domain of operators is letters, digits")
        for right, wrong in (("com.example.ops", "com/example"), ("a", ""), ("a-b_c", "a b"), ("A1", "a."))
    ),
    text("status.model.signedBy", 600),
    text("status.model.verifiedFor", 64),
    *built("status.model.provenance"),
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
