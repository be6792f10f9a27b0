"""The accept and refuse table of ``spec.access``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from e2e.tests.schema_cases import GATEWAY, WITH_TLS, Case
from e2e.tests.schema_shapes import bounds, choice, items, reference, required, text, twins

_ACCESS = "spec.access"
_SECRET = f"{_ACCESS}.apiKeys.secretRef"
_RULE = f"{_ACCESS}.allow.*"
_CALLER = f"{_RULE}.callers.*"
_KINDS = "a caller is key:NAME, with NAME a key of the Secret"
_ISSUER = f"{_ACCESS}.issuers.*"
_KEYS = {"secretRef": {"name": "keys"}}
_ROUTED_TLS = "access.tls goes with rollout.strategy RollingUpdate or Recreate"
_RATIO = {
    "rollout": {"strategy": "Canary", "steps": [{"setWeight": 50}]},
    "traffic": {"provider": "ReplicaRatio"},
}
_NO_CERTIFICATES = "allow names a certificate's caller, and no certificate is taken"
_NO_ACCOUNTS = "allow names a ServiceAccount, and no token of any is taken"
_OF_ISSUER = "allow names a caller of an issuer that is not in issuers"


def _issuer(index: int) -> dict[str, Any]:
    return {
        "name": f"i{index}",
        "issuer": f"https://sso.example.com/{index}",
        "audiences": ["fraud"],
        "jwks": {"configMapKeyRef": {"name": "sso", "key": "jwks.json"}},
    }


_REF = {"name": "sso", "key": "jwks.json"}
_URI = {"uri": "https://sso.example.com/jwks"}
_TLS = {"secretRef": {"name": "tls"}, "clientCA": {"secretKeyRef": _REF}}


def _access(*callers: str, **ways: Any) -> dict[str, Any]:
    return {**ways, "allow": [{"callers": list(callers), "actions": ["Infer"]}]}


ACCESS = [
    *(
        Case(_ACCESS, "rule", right, wrong, "say by what callers are known: give apiKeys, issuers,")
        for right, wrong in (
            (_access("*", apiKeys=_KEYS), _access("*")),
            (_access("*", issuers=[_issuer(0)]), _access("*", issuers=[])),
            ({"apiKeys": _KEYS}, _access("anonymous")),
            ({"serviceAccounts": {}}, {}),
        )
    ),
    Case(
        _ACCESS,
        "rule",
        _access("key:*", apiKeys=_KEYS),
        _access("*", "key:batch", issuers=[_issuer(0)]),
        "allow names a caller with a key, and no key is taken: give apiKeys",
    ),
    *(
        Case(_ACCESS, "rule", _access(right, issuers=[_issuer(0)]), wrong, _OF_ISSUER)
        for right, wrong in (
            ("jwt:*", _access("jwt:*", apiKeys=_KEYS)),
            ("jwt:i0:*", _access("*", "jwt:i1:*", issuers=[_issuer(0)])),
            ("jwt:i0:shop", _access("jwt:i:shop", issuers=[_issuer(0)])),
        )
    ),
    Case(
        _ACCESS,
        "rule",
        {"issuers": [_issuer(0), _issuer(1)]},
        {"issuers": [_issuer(0), {**_issuer(0), "name": "again"}]},
        "each issuer is there once",
    ),
    *(
        Case(
            _ACCESS, "rule", _access(who, serviceAccounts={}), _access("*", who, apiKeys=_KEYS), _NO_ACCOUNTS
        )
        for who in ("system:serviceaccount:*", "system:serviceaccount:a:*", "system:serviceaccount:a:b.c")
    ),
    *(
        Case(
            _ACCESS,
            "rule",
            WITH_TLS | {"access": _access(who, tls=_TLS)},
            WITH_TLS | {"access": _access("*", who, apiKeys=_KEYS)},
            _NO_CERTIFICATES,
            "spec",
        )
        for who in ("spiffe://a/*", "spiffe://a/b", "dns:*", "dns:a.b")
    ),
    Case(
        _ACCESS,
        "rule",
        WITH_TLS | {"access": {"tls": _TLS}},
        WITH_TLS | {"access": {"tls": {"secretRef": {"name": "tls"}}}},
        "say by what callers are known: give apiKeys, issuers,",
        "spec",
    ),
    *(
        Case("spec", "rule", WITH_TLS | right, WITH_TLS | wrong, _ROUTED_TLS)
        for right, wrong in (
            ({"rollout": {"strategy": "Recreate"}}, {"rollout": {"strategy": "Canary"}}),
            ({"rollout": {"strategy": "RollingUpdate"}}, {"rollout": {"strategy": "BlueGreen"}}),
            (_RATIO, {"rollout": {"strategy": "Shadow"}}),
            ({"rollout": {}}, {"traffic": GATEWAY}),
        )
    ),
    *required(f"{_ACCESS}.tls", "secretRef"),
    *required(f"{_ACCESS}.tls.secretRef", "name"),
    text(f"{_ACCESS}.tls.secretRef.name", 253),
    Case(f"{_ACCESS}.tls.secretRef.name", "rule", "a.b", "a/b", "must be a name of lower case letters"),
    Case(
        f"{_ACCESS}.tls.clientCA",
        "rule",
        {"secretKeyRef": _REF},
        {"secretKeyRef": _REF, "configMapKeyRef": _REF},
        "give either configMapKeyRef or secretKeyRef",
    ),
    *(
        case
        for kind in ("configMapKeyRef", "secretKeyRef")
        for case in reference(f"{_ACCESS}.tls.clientCA.{kind}")
    ),
    *items(f"{_ACCESS}.issuers", 4, _issuer),
    *(replace(each, also="each issuer is there once") for each in twins(f"{_ACCESS}.issuers", _issuer)),
    *required(_ISSUER, "name", "issuer", "audiences", "jwks"),
    text(f"{_ISSUER}.name", 32),
    *(
        Case(f"{_ISSUER}.name", "rule", right, wrong, "must be a short name of lower case letters")
        for right, wrong in (("a", ""), ("a-1", "-a"), ("1", "A"), ("a1", "a.b"), ("aa", "_cluster"))
    ),
    text(f"{_ISSUER}.issuer", 512),
    Case(f"{_ISSUER}.issuer", "minLength", "a", "", "should be at least 1 chars long"),
    Case(f"{_ISSUER}.audiences", "minItems", ["a"], [], "should have at least 1 items"),
    *items(f"{_ISSUER}.audiences", 8, lambda index: f"a{index}"),
    text(f"{_ISSUER}.audiences.*", 256),
    Case(f"{_ISSUER}.audiences.*", "minLength", "a", "", "should be at least 1 chars long"),
    Case(
        f"{_ISSUER}.jwks",
        "rule",
        {"secretKeyRef": _REF},
        {"secretKeyRef": _REF, "configMapKeyRef": _REF},
        "give one of configMapKeyRef, secretKeyRef and uri",
    ),
    *(
        Case(f"{_ISSUER}.jwks", "rule", right, wrong, "give one of configMapKeyRef, secretKeyRef and uri")
        for right, wrong in (({"configMapKeyRef": _REF}, {}), (_URI, {**_URI, "secretKeyRef": _REF}))
    ),
    text(f"{_ISSUER}.jwks.uri", 500, head="https://a/"),
    *(
        Case(
            f"{_ISSUER}.jwks.uri", "rule", "https://sso.example.com/jwks?v=1", wrong, "must be a URL such as"
        )
        for wrong in (
            "http://sso.example.com/jwks",
            "https://",
            "https://a b",
            "https://me@sso",
            "https://a/#b",
        )
    ),
    *(case for kind in ("configMapKeyRef", "secretKeyRef") for case in reference(f"{_ISSUER}.jwks.{kind}")),
    text(f"{_ISSUER}.callerClaim", 128),
    Case(f"{_ISSUER}.callerClaim", "minLength", "a", "", "should be at least 1 chars long"),
    *items(f"{_ISSUER}.requiredClaims", 8, lambda index: {"name": f"c{index}", "values": ["a"]}),
    *required(f"{_ISSUER}.requiredClaims.*", "name", "values"),
    text(f"{_ISSUER}.requiredClaims.*.name", 128),
    Case(f"{_ISSUER}.requiredClaims.*.name", "minLength", "a", "", "should be at least 1 chars long"),
    Case(f"{_ISSUER}.requiredClaims.*.values", "minItems", ["a"], [], "should have at least 1 items"),
    *items(f"{_ISSUER}.requiredClaims.*.values", 16, lambda index: f"v{index}"),
    text(f"{_ISSUER}.requiredClaims.*.values.*", 256),
    Case(f"{_ISSUER}.requiredClaims.*.values.*", "minLength", "a", "", "should be at least 1 chars long"),
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
    text(_CALLER, 339, head="jwt:sso:"),
    *(
        Case(_CALLER, "rule", right, wrong, _KINDS, also=_OF_ISSUER if wrong[:4] == "jwt:" else "")
        for right, wrong in (
            ("*", ""),
            ("anonymous", "anybody"),
            ("key:*", "key:"),
            ("key:a.b-c_D", "key:a/b"),
            ("key:a", "Key:a"),
            ("key:a", "a"),
            ("jwt:*", "jwt:"),
            ("jwt:sso:*", "jwt:sso"),
            ("jwt:sso:a|b:c", "jwt:sso:a b"),
            ("jwt:sso:a@example.com", "jwt:SSO:a"),
            ("key:a", f"key:{'a' * 65}"),
            ("system:serviceaccount:*", "system:serviceaccount:"),
            ("system:serviceaccount:a:*", "system:serviceaccount:a"),
            ("system:serviceaccount:a-1:b.c", "system:serviceaccount:a.1:b"),
            ("system:serviceaccount:a:b", "system:serviceaccount:*:b"),
            ("system:serviceaccount:a:b", "system:serviceaccount:a:B"),
            ("system:serviceaccount:a:b", "system:node:b"),
        )
    ),
    *(
        Case(
            _CALLER,
            "rule",
            WITH_TLS | {"access": _access(right, tls=_TLS)},
            WITH_TLS | {"access": _access(wrong, tls=_TLS)},
            _KINDS,
            "spec",
        )
        for right, wrong in (
            ("spiffe://a/b", "spiffe://"),
            ("spiffe://a/*", "spiffe://a b"),
            ("dns:*", "dns:"),
            ("dns:a.b-c", "dns:A"),
            ("dns:a", "dns:*.a"),
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
            ("bytesInFlight", 10**12),
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
