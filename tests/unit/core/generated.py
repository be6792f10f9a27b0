"""Specs, statuses and traffic made up from the CRD itself: every field of every block.

What the schema says of one field (type, bounds, enum, pattern) is followed; what its CEL rules say of
several is made true afterwards by :func:`_cohere`. All comes from one seed that hypothesis draws, since so
many fields would take it minutes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from slipway.api.crd import crd
from slipway.api.reasons import ConditionType, Reason
from slipway.core.observed import AnswerAgreement, ArmCount, Fault, ObservedTraffic, ServedCount
from tests.unit.core.tables import digest

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
seeds = st.integers(0, 2**32 - 1)
times = st.integers(-7200, 60).map(
    lambda seconds: (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
)
text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40)

#: Of these each text takes one that its pattern and its length allow.
_TEXTS = (
    *(
        "a",
        "fraud-1",
        "x-user-id",
        "store.v2",
        "fraud.example.com",
        "*.example.com",
        "A_B",
        "key:batch",
        "zone",
        "",
        "Übergröße 1",
    ),
    *(
        "0",
        "1",
        "100m",
        "512Mi",
        "-3",
        "7.5",
        "1.25",
        "2",
        "0.05",
        "0.001",
        "0.2",
        "0.5%",
        "1%",
        "80%",
        "98%",
        "99.9%",
    ),
    *(
        "slipway-system/slipway-operator",
        "https://example.com/x",
        "http://prometheus.monitoring:9090",
        "example.com/train:1",
        f"a/b@{digest(1)}",
    ),
    *(digest(1), digest(2), "x" * 60),
)
#: Where the meaning of a text matters more than its form, by the end of its path, the longest first.
_KNOWN: dict[str, tuple[Any, ...]] = {
    "conditions[].type": tuple(type_.value for type_ in ConditionType),
    "columns[].minimum": (-1, 0, "0.5"),
    "columns[].maximum": (1, "7.5"),
    "gates[].name": ("errors", "slow", "other"),
    "psi.critical": ("0.25", "0.9"),
    "psi.warning": ("0.01", "0.05"),
    "groups[]": ("a", "b", "c"),
    "memory": ("512Mi", "2Gi", 1),
    "readiness.path": ("/ready", "/v1/models/fraud"),
    "reason": (*(reason.value for reason in Reason), "FromTheFuture"),
    "digest": (digest(1), digest(2)),
    "cpu": ("100m", "0.5", 1),
    "uri": (
        "mlflow://fraud/1",
        "mlflow://fraud/2",
        "mlflow://fraud@champion",
        "https://host/m.onnx",
        "pvc://c/m.onnx",
        "s3://models/m.onnx",
        "gs://models/m.onnx",
        "az://account/models/m.onnx",
        "dvc://git/a/b/m.onnx@main",
        "oci://hub/a/b:v1",
    ),
}


@dataclass(frozen=True)
class Maker:
    """Makes what fits a schema; each optional field is there by a chance that is given."""

    random: Random
    revisions: tuple[str, ...] = ()

    def follow(self, node: Mapping[str, Any], path: str, chance: float) -> Any:
        """A value for one node of the schema."""
        if path.endswith((".revision", ".previous[]")):
            return self.random.choice(self.revisions)
        for end, known in _KNOWN.items():
            if path.endswith(f".{end}"):
                return self.random.choice(known)
        if "enum" in node:
            return self.random.choice(node["enum"])
        if node.get("x-kubernetes-int-or-string"):
            return self.random.choice(("100m", "0.5", 1, "2Gi", "1e2"))
        match node["type"]:
            case "boolean":
                return self.random.random() < 0.5
            case "integer":
                least, most = node.get("minimum", -1000), node.get("maximum", 100_000)
                return self.random.choice((least, most, self.random.randint(least, min(most, least + 100))))
            case "string":
                return self._text(node, path)
            case "array":
                return self._list(node, path, chance)
        return self._object(node, path, chance)

    def _text(self, node: Mapping[str, Any], path: str) -> str:
        if node.get("format") == "date-time":
            moment = NOW + timedelta(seconds=self.random.randint(-7200, 60))
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        least, most = node.get("minLength", 0), node.get("maxLength", 10_000)
        fitting = [
            one
            for one in _TEXTS
            if least <= len(one) <= most and all(re.search(rx, one) for rx in _patterns(node))
        ]
        assert fitting, f"no text of _TEXTS fits {path}: add one"
        return self.random.choice(fitting)

    def _list(self, node: Mapping[str, Any], path: str, chance: float) -> list[Any]:
        least = max(node.get("minItems", 0), 1 if self.random.random() < chance else 0)
        size = self.random.randint(least, max(min(node.get("maxItems", 3), 3), least))
        told_apart = _told_apart(node)
        found: dict[str, Any] = {}
        for number in range(size):
            item = self.follow(node["items"], f"{path}[]", chance)
            found[str(number) if told_apart is None else told_apart(item)] = item
        return list(found.values())

    def _object(self, node: Mapping[str, Any], path: str, chance: float) -> dict[str, Any]:
        if "properties" not in node:
            if node.get("x-kubernetes-preserve-unknown-fields"):
                return {self.random.choice(_TEXTS): self.random.choice(_TEXTS)}
            if "additionalProperties" not in node:
                return {}
            if node["additionalProperties"].get("type") == "integer":
                return {"example.com/gpu": 1} if self.random.random() < 0.5 else {}
            names = ("zone", "example.com/disk")
            return {name: "ssd" for name in names if self.random.random() < 0.5}
        required = node.get("required", ())
        return {
            name: self.follow(child, f"{path}.{name}", chance)
            for name, child in node["properties"].items()
            if name in required or self.random.random() < chance
        }


def _patterns(node: Mapping[str, Any]) -> list[str]:
    rules = [rule["rule"] for rule in node.get("x-kubernetes-validations", ())]
    matched = [re.search(r"^(?:.*\|\| )?self\.matches\((\".*\")\)$", rule) for rule in rules]
    own = [node["pattern"]] if "pattern" in node else []
    return own + [json.loads(found[1]) for found in matched if found]


def make_spec(seed: int, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A spec that the API server would take, without some blocks; one block has most of its fields."""
    maker = Maker(Random(seed))
    blocks = {name: child for name, child in SCHEMA["spec"]["properties"].items() if name not in left_out}
    # Most of what is planned hangs on these two.
    full = maker.random.choice([*blocks, *(name for name in ("rollout", "traffic") * 3 if name in blocks)])
    return _cohere(
        {
            name: maker.follow(child, f"spec.{name}", 0.8 if name == full else 0.3)
            for name, child in blocks.items()
            if name in ("model", full) or maker.random.random() < 0.4
        }
    )


def make_status(seed: int, revisions: tuple[str, ...]) -> dict[str, Any]:
    """A status as an operator could have left it, with these names of revisions."""
    maker = Maker(Random(seed), revisions)
    found: dict[str, Any] = maker.follow(SCHEMA["status"], "status", maker.random.choice((0.3, 0.7)))
    return found


def specs(*left_out: str) -> st.SearchStrategy[dict[str, Any]]:
    """As :func:`make_spec`."""
    return seeds.map(lambda seed: make_spec(seed, left_out))


def _cohere(spec: dict[str, Any]) -> dict[str, Any]:
    """The same where fields that go together do, as the CRD's rules over several of them say."""
    scaling = spec.get("scaling", {})
    if scaling.get("minReplicas", 1) > scaling.get("maxReplicas", 10):
        scaling["maxReplicas"] = scaling["minReplicas"]
    runtime = spec.get("runtime", {})
    for toleration in runtime.get("tolerations", ()):
        _cohere_toleration(toleration)
    _cohere_credentials(spec["model"], runtime)
    _cohere_signature(spec["model"].get("verify", {}))
    for resources in _resources(spec):
        _cohere_resources(resources)
    for tensor in spec.get("inputs", {}).get("tensors", ()):
        for column in tensor["columns"]:
            if column.get("type") == "String":
                _without(column, "minimum", "maximum")
    _cohere_server(spec, runtime)
    for limits in spec.get("access", {}).get("limits", {}).values():
        if "requestsPerSecond" not in limits:
            _without(limits, "burst")
    rollout, traffic = spec.setdefault("rollout", {}), spec.setdefault("traffic", {})
    _cohere_rollout(rollout)
    _cohere_traffic(traffic, rollout)
    _cohere_monitoring(spec, rollout)
    if "access" in spec:
        _cohere_access(spec["access"], rollout, traffic)
    return {name: block for name, block in spec.items() if block or name in ("model", "card")}


def _cohere_credentials(model: dict[str, Any], runtime: dict[str, Any]) -> None:
    credentials = model.get("credentials", {})
    if model["uri"].startswith(("s3:", "gs:", "az:", "mlflow:")):
        if "serviceAccountName" in credentials:
            _without(credentials, "secretRef")
    else:
        _without(credentials, "serviceAccountName")
    if not credentials:
        _without(model, "credentials")
    elif "serviceAccountName" in credentials:
        _without(runtime.get("pod", {}), "serviceAccountName")


def _cohere_signature(verify: dict[str, Any]) -> None:
    signature = verify.get("signature", {})
    ways = [way for way in ("keyless", "certificate", "publicKeys") if way in signature]
    _without(signature, *ways[1:])
    if not ways:
        _without(verify, "signature", "provenance")
    for identity in signature.get("keyless", {}).get("identities", ()):
        _name_once(identity, "email", "uri")
    for identity in signature.get("certificate", {}).get("identities", ()):
        _name_once(identity, "dns", "email", "uri")


def _name_once(identity: dict[str, Any], *kinds: str) -> None:
    given = [kind for kind in kinds if kind in identity]
    _without(identity, *given[1:])
    if not given:
        identity["email"] = "release@example.com"


def _cohere_server(spec: dict[str, Any], runtime: dict[str, Any]) -> None:
    own = ("command", "args", "ports", "readiness", "protocol")
    if runtime.get("server") == "External" or not runtime.get("resources", {}).get("extended"):
        _without(runtime, "device")
    if runtime.get("server") != "External":
        _without(runtime, *own)
        return
    runtime["image"] = runtime.get("image") or "example.com/train:1"
    _without(runtime, "threads", "processes", "batching")
    if runtime.get("protocol") == "HTTP":
        runtime["readiness"], runtime["ports"] = {"path": "/ready"}, {"http": 8000}
    elif "grpc" in runtime.get("ports", {}):
        runtime["ports"] |= {"http": 8000, "grpc": 9000}
    _without(spec, "monitoring", "fairness", "inputs", "access")
    _without(spec.get("card", {}), "maxAgeDays")
    _without(spec.get("rollout", {}), "audits")
    _without(spec["model"].get("credentials", {}), "serviceAccountName")
    if not spec["model"].get("credentials", {"": ""}):
        _without(spec["model"], "credentials")
    analysis = spec.get("rollout", {}).get("analysis", {})
    gates = [gate for gate in analysis.get("gates", ()) if gate["type"] in ("ErrorRate", "SlowRequests")]
    if gates:
        analysis["gates"] = gates
    else:
        _without(analysis, "gates")
    if spec.get("traffic", {}).get("provider") == "GatewayAPI":
        spec["traffic"]["provider"] = "Router"


def _cohere_access(access: dict[str, Any], rollout: dict[str, Any], traffic: dict[str, Any]) -> None:
    is_plain = rollout.get("strategy", "RollingUpdate") in ("RollingUpdate", "Recreate")
    provider = traffic.get("provider", "Router")
    if provider != "ReplicaRatio" and not (is_plain and provider == "Router"):
        _without(access, "tls")
    issuers = access.get("issuers", [])
    for number, issuer in enumerate(issuers):
        issuer["issuer"] = f"https://{number}.example.com"
    has_certificates = "clientCA" in access.get("tls", {})
    sources = [issuer["jwks"] for issuer in issuers]
    for source in [*sources, access["tls"]["clientCA"]] if has_certificates else sources:
        if "uri" in source:
            source.clear()
            source["uri"] = "https://sso.example.com/jwks.json"
            continue
        kind = "configMapKeyRef" if "secretKeyRef" not in source else "secretKeyRef"
        ref = source.get(kind, {"name": "a", "key": "b"})
        source.clear()
        source[kind] = ref
    if not issuers and not has_certificates and "serviceAccounts" not in access:
        access.setdefault("apiKeys", {"secretRef": {"name": "keys"}})
    taken = (
        "*",
        "anonymous",
        *(("key:",) if "apiKeys" in access else ()),
        *(f"jwt:{issuer['name']}:" for issuer in issuers),
        *(("system:",) if "serviceAccounts" in access else ()),
        *(("spiffe:", "dns:") if has_certificates else ()),
    )
    for rule in access.get("allow", ()):
        rule["callers"] = [each for each in rule["callers"] if each.startswith(taken)] or ["*"]


def _resources(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    job = spec.get("monitoring", {}).get("onBreach", {}).get("job", {})
    yield from (found["resources"] for found in (spec.get("runtime", {}), job) if "resources" in found)


def _cohere_toleration(toleration: dict[str, Any]) -> None:
    if "key" not in toleration:
        toleration["operator"] = "Exists"
    if toleration.get("operator") == "Exists":
        _without(toleration, "value")
    if toleration.get("effect") != "NoExecute":
        _without(toleration, "tolerationSeconds")


def _cohere_resources(resources: dict[str, Any]) -> None:
    asked, limits = resources.get("requests", {}), resources.get("limits", {})
    for name in ("cpu", "memory"):
        if name in limits or name in asked:
            # Equal, so that no request is above its limit whichever was drawn.
            limits[name] = asked[name] = limits.get(name, asked.get(name))
    resources |= {"requests": asked, "limits": limits}


def _enough_rows(robustness: dict[str, Any]) -> dict[str, int]:
    return {"rows": max(robustness["rows"], 100)} if "rows" in robustness else {}


def _cohere_audit(audit: dict[str, Any]) -> None:
    for attribute in audit.get("attributes", ()):
        attribute["groups"] = sorted({*attribute["groups"], "a", "b"})[:10]
        if "metrics" in audit or attribute.get("referenceGroup") not in attribute["groups"]:
            attribute["referenceGroup"] = attribute["groups"][0]
    for metric in audit.get("metrics", ()):
        _cohere_limit(metric)
    if audit["type"] == "Subgroups":
        _without(audit, "robustness")
    else:
        _without(audit, "attributes", "favorableOutcomes", "metrics", "minimumGroupRows", "minimumRows")
        audit["robustness"] = {"radius": "0.1", "noise": "0.5", **audit.get("robustness", {})}
        others = ("attack", "queries") if audit["type"] == "CertifiedSmoothing" else ("noise", "samples")
        _without(audit["robustness"], *others)
        audit["robustness"] |= _enough_rows(audit["robustness"])
    if "attributes" not in audit or "favorableOutcomes" not in audit:
        _without(audit, "metrics")
    if not {"metrics", "minimumAccuracy", "maxAccuracyLoss"} & audit.keys():
        audit["minimumAccuracy"] = "80%"


def _cohere_rollout(rollout: dict[str, Any]) -> None:
    for audit in rollout.get("audits", ()):
        _cohere_audit(audit)
    strategy = rollout.get("strategy", "RollingUpdate")
    if strategy not in ("Canary", "BlueGreen", "Shadow"):
        _without(rollout, "steps")
    for step in rollout.get("steps", ()):
        fields = list(step) or ["analysis"]
        kept = fields[len(json.dumps(step)) % len(fields)]
        _without(step, *(name for name in fields if name != kept))
        step.setdefault(kept, {})
        if kept == "setWeight" and strategy != "Canary":
            step["setWeight"] = 0
        if kept == "pause":
            step["pause"] = (
                {"seconds": step["pause"].get("seconds", 1)}
                if "seconds" in step["pause"]
                else {"untilApproved": True}
            )
    copies = (
        any("setMirror" in step for step in rollout["steps"])
        if "steps" in rollout
        else strategy in ("BlueGreen", "Shadow")
    )
    for gate in rollout.get("analysis", {}).get("gates", ()):
        _cohere_gate(gate, copies)


def _cohere_gate(gate: dict[str, Any], copies: bool) -> None:
    if gate["type"] == "ShadowAgreement" and not copies:
        gate["type"] = "ErrorRate"
    if gate["type"] == "SlowRequests":
        gate.setdefault("thresholdMilliseconds", 100)
    else:
        _without(gate, "thresholdMilliseconds")
    if gate["type"] not in ("ErrorRate", "SlowRequests", "Violations"):
        _without(gate, "objective", "toleratedRatio", "ruledOutRatio")
    if gate["type"] != "PredictionShift":
        _without(gate, "maxPSI")
    if gate["type"] != "ShadowAgreement":
        _without(gate, "minAgreement", "tolerance")


def _cohere_traffic(traffic: dict[str, Any], rollout: dict[str, Any]) -> None:
    provider, strategy = traffic.get("provider", "Router"), rollout.get("strategy", "RollingUpdate")
    if provider != "Router" or strategy != "Canary":
        _without(traffic, "sessionAffinity")
    if provider != "Router" or strategy not in ("Canary", "BlueGreen", "Shadow"):
        _without(traffic, "router")
    if provider == "GatewayAPI":
        traffic.setdefault("gatewayAPI", {"parentRefs": [{"name": "public"}]})
    else:
        _without(traffic, "gatewayAPI")
    if provider == "ReplicaRatio":
        rollout["strategy"] = "Canary"
        _without(rollout, "analysis")
        weights = [step for step in rollout.get("steps", ()) if "setWeight" in step or "pause" in step]
        rollout["steps"] = weights or [{"setWeight": 20}, {"pause": {"untilApproved": True}}]


def _cohere_monitoring(spec: dict[str, Any], rollout: dict[str, Any]) -> None:
    monitoring = spec.get("monitoring", {})
    performance = monitoring.get("performance", {})
    told = {}
    for objective in performance.get("objectives", ()):
        if objective["metric"] == "Accuracy":
            _without(objective, "outcome")
        else:
            objective.setdefault("outcome", "1")
        told[objective["metric"], objective.get("outcome")] = objective
    if "feedback" not in performance:
        _without(performance, "objectives")
    elif "objectives" in performance:
        performance["objectives"] = list(told.values())
    freshness = monitoring.get("freshness", {})
    if freshness.get("source") == "Header":
        freshness["name"] = "x-data-time"
    if freshness.get("source") != "Tensor":
        _without(freshness, "column")
    _cohere_breach(monitoring.get("onBreach", {}), rollout)
    if "fairness" in spec:
        _cohere_fairness(spec["fairness"], has_feedback="feedback" in performance)


def _cohere_breach(breach: dict[str, Any], rollout: dict[str, Any]) -> None:
    if breach.get("action") == "Rollback" and rollout.get("strategy") == "Recreate":
        breach["action"] = "Alert"
    if breach.get("action") == "Job":
        breach.setdefault("job", {"image": "example.com/train:1"})
    else:
        _without(breach, "job")
    if breach.get("action", "Alert") == "Alert":
        _without(breach, "conditions")


def _cohere_fairness(fairness: dict[str, Any], has_feedback: bool) -> None:
    for attribute in fairness["sensitiveAttributes"]:
        sources = [name for name in ("parameter", "tensor", "header") if name in attribute] or ["parameter"]
        kept = sources[len(json.dumps(attribute)) % len(sources)]
        _without(attribute, *(name for name in sources if name != kept))
        attribute.setdefault(kept, "sex")
        attribute["groups"] = sorted({*attribute["groups"], "a", "b"})
        attribute["referenceGroup"] = attribute["groups"][0]
    for metric in fairness.get("metrics", ()):
        _cohere_limit(metric)
    if not has_feedback and "metrics" in fairness:
        of_labels = ("EqualOpportunityDifference", "EqualizedOddsDifference")
        fairness["metrics"] = [one for one in fairness["metrics"] if one["name"] not in of_labels]


def _cohere_limit(metric: dict[str, Any]) -> None:
    if metric["name"] == "DisparateImpactRatio":
        metric.setdefault("minimum", "80%")
        _without(metric, "maximum")
    else:
        metric.setdefault("maximum", "20%")
        _without(metric, "minimum")


def _without(block: dict[str, Any], *names: str) -> None:
    for name in names:
        block.pop(name, None)


_counts = st.integers(0, 5000)
_arms = st.builds(
    ArmCount,
    requests=_counts,
    errors=_counts,
    slow=st.dictionaries(st.sampled_from([1, 100, 10000]), _counts, max_size=2),
    meant=_counts,
)
_served = st.builds(
    ServedCount,
    requests=_counts,
    violations=_counts,
    predictions=st.dictionaries(
        st.sampled_from(["label", "score"]), st.dictionaries(text, _counts, max_size=3), max_size=2
    ),
)


def traffic(revisions: st.SearchStrategy[str]) -> st.SearchStrategy[ObservedTraffic]:
    """What routers could be seen to do."""
    return st.builds(
        ObservedTraffic,
        routers=st.integers(0, 3),
        synced_routers=st.integers(0, 3),
        weights=st.frozensets(st.integers(0, 100), max_size=2),
        receiving=st.frozensets(revisions, max_size=2),
        canary_pods=st.integers(0, 5),
        canary=st.none() | _arms,
        stable=st.none() | _arms,
        canary_served=st.none() | _served,
        stable_served=st.none() | _served,
        agreement=st.none()
        | st.builds(
            AnswerAgreement,
            pairs=_counts,
            unlike=st.dictionaries(st.sampled_from(["errors", "slow", "other"]), _counts, max_size=2),
        ),
        evidence_error=st.none() | text,
        fault=st.none() | st.builds(Fault, st.sampled_from(list(Reason)), text),
        arrived=st.booleans(),
        approximate=st.booleans(),
        obstacle=st.none() | text,
        wait=st.none() | st.floats(0.1, 3600),
    )


def _told_apart(node: Mapping[str, Any]) -> Callable[[Any], str] | None:
    """What no two items of a list may share, by its type or by a rule; None where they may be alike."""
    rules = " ".join(each["rule"] for each in node.get("x-kubernetes-validations", ()))
    keys = node.get("x-kubernetes-list-map-keys") or re.findall(r"other[.](\w+) == one[.]\1\b", rules)
    if keys:
        return lambda item: json.dumps([item.get(key) for key in keys])
    is_set = node.get("x-kubernetes-list-type") == "set" or "other == one)" in rules
    return json.dumps if is_set else None


def leaves(node: Mapping[str, Any], path: str) -> Iterator[str]:
    """Every field of a schema that has no fields of its own."""
    if "properties" in node:
        for name, child in node["properties"].items():
            yield from leaves(child, f"{path}.{name}")
    elif "items" in node:
        yield from leaves(node["items"], f"{path}[]")
    else:
        yield path


def given_leaves(value: Any, path: str, known: frozenset[str]) -> Iterator[str]:
    """Of these fields, those that a value has."""
    if path in known:
        yield path
    elif isinstance(value, Mapping):
        for name, child in value.items():
            yield from given_leaves(child, f"{path}.{name}", known)
    elif isinstance(value, list):
        for child in value:
            yield from given_leaves(child, f"{path}[]", known)
