"""What a case of the accept and refuse table is, and the walk that finds every constraint of the CRD."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

REMOVED = object()
#: Where a model was built, as status says it.
BUILT = {"builder": "https://ci.example.com/release@1", "source": "github.com/acme/fraud", "commit": "0" * 40}
DIGEST = "sha256:" + "0123456789abcdef" * 4

#: Holds every field that the schema knows, once and valid.
EXAMPLE: dict[str, Any] = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "example"},
    "spec": {
        "model": {
            "uri": "mlflow://fraud@champion",
            "digest": DIGEST,
            "refreshSeconds": 30,
            "credentials": {"secretRef": {"name": "store"}},
            "verify": {
                "signature": {"publicKeys": {"configMapRef": {"name": "signers", "key": "keys.pem"}}},
                "provenance": {
                    "builder": "https://ci.example.com/release",
                    "source": "github.com/acme/fraud",
                },
                "hazards": {"onFinding": "Report", "allowedOperatorDomains": ["com.example.ops"]},
            },
        },
        "runtime": {
            "server": "Slipway",
            "image": "registry.example.com:5000/team/server:1.0@" + DIGEST,
            "device": "CPU",
            "resources": {
                "requests": {"cpu": "500m", "memory": "512Mi"},
                "limits": {"cpu": 2, "memory": "1Gi"},
                "extended": {"nvidia.com/gpu": 1},
            },
            "threads": 2,
            "processes": 2,
            "batching": {"mode": "Off", "maxRows": 32},
            "requestTimeoutMilliseconds": 1000,
            "nodeSelector": {"disktype": "ssd"},
            "tolerations": [
                {
                    "key": "example.com/gpu",
                    "operator": "Equal",
                    "value": "small",
                    "effect": "NoExecute",
                    "tolerationSeconds": 30,
                }
            ],
            "affinity": {"nodeAffinity": {}, "podAffinity": {}, "podAntiAffinity": {}},
            "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
            "pod": {
                "imagePullSecrets": [{"name": "pull"}],
                "serviceAccountName": "reader",
                "labels": {"team": "risk"},
                "annotations": {"example.com/why": "fraud"},
                "priorityClassName": "high",
                "runtimeClassName": "gvisor",
                "topologySpread": [
                    {
                        "topologyKey": "topology.kubernetes.io/zone",
                        "maxSkew": 1,
                        "whenUnsatisfiable": "DoNotSchedule",
                    }
                ],
            },
        },
        "inputs": {
            "tensors": [
                {
                    "name": "input",
                    "columns": [
                        {
                            "name": "age",
                            "type": "Integer",
                            "minimum": "-999999999999999.5",
                            "maximum": 110,
                            "nullable": False,
                            "enum": ["18", "19"],
                        }
                    ],
                }
            ],
            "onViolation": "Report",
        },
        "monitoring": {
            "drift": {
                "windowSeconds": 1800,
                "minimumRows": 500,
                "compareWith": "SameHourYesterday",
                "psi": {"warning": "0.1", "critical": "0.3"},
                "significance": "0.01",
            },
            "dataQuality": {"maxMissingRatio": "2%", "maxViolationRatio": "0.5%"},
            "performance": {
                "feedback": {"secretRef": {"name": "feedback"}, "maxAgeDays": 30},
                "objectives": [
                    {"metric": "Recall", "outcome": "1", "minimum": "70%", "minimumLabels": 100},
                    {"metric": "Accuracy", "minimum": "82%", "minimumLabels": 500},
                ],
            },
            "freshness": {"source": "Tensor", "name": "x", "column": 1, "maxAgeSeconds": 3600},
            "suspectInputs": {"detectors": ["Turned"]},
            "onBreach": {
                "action": "Job",
                "conditions": ["Drift", "Performance"],
                "job": {
                    "image": "registry.example.com/team/train:1.0",
                    "command": ["train"],
                    "args": ["--register"],
                    "env": [{"name": "EPOCHS", "value": "3"}],
                    "secretRefs": [{"name": "mlflow"}],
                    "resources": {
                        "requests": {"cpu": "500m", "memory": "512Mi"},
                        "limits": {"cpu": 2, "memory": "1Gi"},
                        "extended": {"nvidia.com/gpu": 1},
                    },
                    "activeDeadlineSeconds": 600,
                    "backoffLimit": 1,
                    "ttlSecondsAfterFinished": 3600,
                },
            },
            "slos": {
                "availability": "99.5%",
                "latency": {"thresholdMilliseconds": 250, "objective": "95%"},
            },
        },
        "fairness": {
            "sensitiveAttributes": [
                {
                    "name": "sex",
                    "parameter": "sex",
                    "column": 0,
                    "groups": ["a", "b"],
                    "referenceGroup": "b",
                },
                {
                    "name": "young",
                    "tensor": "x",
                    "column": 1,
                    "groups": ["0", "1"],
                    "referenceGroup": "0",
                },
                {
                    "name": "region",
                    "header": "x-region",
                    "column": 0,
                    "groups": ["north", "south"],
                    "referenceGroup": "north",
                },
            ],
            "favorableOutcomes": ["1"],
            "metrics": [
                {"name": "EqualizedOddsDifference", "maximum": "10%"},
                {"name": "DisparateImpactRatio", "minimum": "80%"},
            ],
            "windowSeconds": 3600,
            "confidence": "99%",
            "minimumGroupRows": 50,
        },
        "access": {
            "apiKeys": {"secretRef": {"name": "keys"}},
            "issuers": [
                {
                    "name": "sso",
                    "issuer": "https://sso.example.com",
                    "audiences": ["fraud"],
                    "jwks": {"configMapKeyRef": {"name": "sso", "key": "jwks.json"}},
                    "callerClaim": "email",
                    "requiredClaims": [{"name": "groups", "values": ["risk"]}],
                },
                {
                    "name": "other",
                    "issuer": "https://other.example.com",
                    "audiences": ["fraud"],
                    "jwks": {"secretKeyRef": {"name": "other", "key": "jwks.json"}},
                },
                {
                    "name": "third",
                    "issuer": "https://third.example.com",
                    "audiences": ["fraud"],
                    "jwks": {"uri": "https://third.example.com/jwks.json"},
                },
            ],
            "serviceAccounts": {},
            "allow": [{"callers": ["key:batch"], "actions": ["Infer"]}],
            "limits": {
                name: {
                    "requestsPerSecond": 10,
                    "burst": 20,
                    "rowsPerDay": 1000,
                    "concurrent": 4,
                    "bytesInFlight": 65536,
                }
                for name in ("perCaller", "anonymous")
            },
        },
        "card": {
            "owner": "risk-team",
            "intendedUse": "card payments",
            "limitations": "no transfers",
            "links": ["https://wiki.example.com/fraud"],
            "maxAgeDays": 90,
        },
        "rollout": {
            "strategy": "Canary",
            "paused": True,
            "progressDeadlineSeconds": 300,
            "rollbackWindowRevisions": 3,
            "historyLimit": 5,
            "surgePercent": 50,
            "scaleDownDelaySeconds": 20,
            "abortScaleDownDelaySeconds": 10,
            "audits": [
                {
                    "name": "groups",
                    "type": "Subgroups",
                    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}, "digest": DIGEST},
                    "labelColumn": "repaid",
                    "attributes": [{"column": "sex", "groups": ["a", "b"], "referenceGroup": "b"}],
                    "favorableOutcomes": ["1"],
                    "metrics": [
                        {"name": "EqualizedOddsDifference", "maximum": "10%"},
                        {"name": "DisparateImpactRatio", "minimum": "80%"},
                    ],
                    "minimumAccuracy": "80%",
                    "maxAccuracyLoss": "1%",
                    "confidence": "99%",
                    "minimumGroupRows": 50,
                    "minimumRows": 500,
                    "onFail": "Report",
                    "onInconclusive": "Continue",
                    "repeatSeconds": 86_400,
                    "timeoutSeconds": 300,
                },
                {
                    "name": "noise",
                    "type": "CertifiedSmoothing",
                    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}},
                    "labelColumn": "repaid",
                    "robustness": {
                        "radius": "0.25",
                        "noise": "0.5",
                        "samples": 1000,
                        "rows": 200,
                        "fixedColumns": ["age"],
                    },
                    "maxAccuracyLoss": "5%",
                },
                {
                    "name": "evasion",
                    "type": "Evasion",
                    "data": {"configMapRef": {"name": "held-out", "key": "rows.csv"}},
                    "labelColumn": "repaid",
                    "robustness": {"radius": "0.25", "attack": "Boundary", "queries": 500},
                    "maxAccuracyLoss": "5%",
                },
            ],
            "steps": [
                {"setWeight": 10},
                {"setMirror": {"percent": 100}},
                {"setCanaryScale": {"replicas": 2}},
                {"pause": {"seconds": 10}},
                {"pause": {"untilApproved": True}},
                {"analysis": {}},
            ],
            "analysis": {
                "intervalSeconds": 10,
                "maxDurationSeconds": 600,
                "onInconclusive": "Abort",
                "gates": [
                    {
                        "name": "slow",
                        "type": "SlowRequests",
                        "thresholdMilliseconds": 250,
                        "objective": "5%",
                        "toleratedRatio": "1.5",
                        "ruledOutRatio": "3",
                        "dryRun": True,
                    },
                    {"name": "answers", "type": "PredictionShift", "maxPSI": "0.1", "dryRun": False},
                    {
                        "name": "alike",
                        "type": "ShadowAgreement",
                        "minAgreement": "99%",
                        "tolerance": "0.1%",
                    },
                ],
                "prometheus": {"address": "http://prometheus.monitoring:9090", "consecutiveErrorLimit": 2},
            },
        },
        "traffic": {
            "provider": "Router",
            "router": "Dedicated",
            "sessionAffinity": {"header": "x-user-id"},
        },
        "scaling": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [{"type": "CPU", "targetPercent": 60}],
        },
    },
    "status": {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Serving",
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }
        ],
        "model": {
            "uri": "mlflow://fraud@champion",
            "resolvedURI": "mlflow://fraud/3",
            "version": "3",
            "digest": DIGEST,
            "bytes": 1234,
            "createdAt": "2026-01-02T03:04:05Z",
            "mark": "an ETag",
            "profile": DIGEST,
            "signedBy": DIGEST,
            "verifiedFor": "0123abcd",
            "provenance": dict(BUILT),
            "conversion": {
                "digest": DIGEST,
                "modelDigest": DIGEST,
                "problem": "it is of another model",
                "original": "sklearn.pipeline.Pipeline",
                "convertedAt": "2026-01-02T03:04:05Z",
                "tolerance": "0.0001",
                "rows": 150,
                "labelsDiffer": 0,
                "largestDifference": "1.2e-07",
                "edgeRows": 812,
                "accepted": ["extremes"],
            },
            "folder": True,
        },
        "stable": {
            "revision": "a1",
            "version": "3",
            "digest": DIGEST,
            "replicas": 1,
            "readyReplicas": 1,
            "modelCreatedAt": "2026-01-02T03:04:05Z",
            "profile": DIGEST,
            "resolvedURI": "mlflow://fraud/3",
            "bytes": 1234,
            "provenance": dict(BUILT),
            "server": {"httpPort": 8000, "grpcPort": 9000, "readyPath": "/ready"},
            "device": "CUDA",
            "crashes": {"since": "2026-01-03T03:04:05Z", "runs": 2, "servers": 0},
        },
        "canary": {
            "revision": "b2",
            "version": "4",
            "digest": DIGEST,
            "replicas": 1,
            "readyReplicas": 0,
            "modelCreatedAt": "2026-01-03T03:04:05Z",
            "profile": "none",
            "resolvedURI": "mlflow://fraud/4",
            "bytes": 1234,
            "provenance": dict(BUILT),
            "server": {"httpPort": 8000, "grpcPort": 9000, "readyPath": "/ready"},
            "device": "CUDA",
            "crashes": {"since": "2026-01-03T03:04:05Z", "runs": 2, "servers": 0},
        },
        "canaryWeight": 10,
        "promotedAt": "2026-01-02T03:04:05Z",
        "refreshRequestedAt": "2026-01-02T03:04:05Z",
        "refreshFailingSince": "2026-01-02T03:04:05Z",
        "readyReplicas": 1,
        "settledGeneration": 1,
        "operator": "slipway-system/slipway-operator",
        "upgrade": {
            "phase": "Upgrading",
            "startedAt": "2026-01-02T03:04:05Z",
            "progressedAt": "2026-01-02T03:04:05Z",
            "readyReplicas": 1,
            "updatedReplicas": 0,
            "message": "",
            "cause": "Spec",
        },
        "rollout": {
            "phase": "Progressing",
            "revision": "b2",
            "id": "b2.1",
            "step": 1,
            "steps": ["setWeight/0123456789"],
            "startedAt": "2026-01-02T03:04:05Z",
            "stepStartedAt": "2026-01-02T03:04:05Z",
            "weight": 10,
            "mirrorPercent": 0,
            "canaryReplicas": 1,
            "stableReplicas": 1,
            "waitingSince": "2026-01-02T03:04:05Z",
            "stableLostAt": "2026-01-02T03:04:05Z",
            "heldWeight": 10,
            "lookedAt": "2026-01-02T03:04:05Z",
            "countedAt": "2026-01-02T03:04:05Z",
            "evidenceErrors": 0,
            "looks": [
                {
                    "canaryRequests": 1,
                    "canaryEvents": [0],
                    "stableRequests": 9,
                    "stableEvents": [0],
                    "canaryServed": 1,
                    "stableServed": 9,
                    "pairs": 1,
                    "predictions": [
                        {"output": "label", "bins": "0123456789", "canary": [1, 0], "stable": [5, 4]}
                    ],
                    "apart": "",
                    "looks": 2,
                    "gates": [
                        {
                            "gate": "slow/0123456789",
                            "looks": 2,
                            "canaryRequests": 1,
                            "canaryEvents": 0,
                            "stableRequests": 9,
                            "stableEvents": 0,
                            "expected": "0.100000",
                            "spread": "0.000000",
                        }
                    ],
                },
            ],
            "gates": [{"name": "slow", "verdict": "Inconclusive", "message": "", "asked": "0123456789"}],
            "mismatch": "",
            "message": "",
        },
        "rejected": [
            {
                "revision": "c3",
                "digest": DIGEST,
                "content": "d4",
                "identity": "f6",
                "profile": DIGEST,
                "id": "c3.1",
                "rejectedAt": "2026-01-02T03:04:05Z",
                "message": "",
            }
        ],
        "previous": ["e5"],
        "history": [
            {
                "decidedAt": "2026-01-02T03:04:05Z",
                "decision": "Approved",
                "rollout": "b2.1",
                "revision": "b2",
                "version": "4",
                "person": True,
                "by": "alice",
                "message": "step 1",
            }
        ],
        "monitoring": {
            "version": "3",
            "observedGeneration": 1,
            "verdicts": [
                {
                    "type": "Drift",
                    "status": "True",
                    "reason": "FeaturesDrifted",
                    "message": "",
                    "judgedAt": "2026-01-02T03:04:05Z",
                    "countedSince": "2026-01-02T03:04:05Z",
                    "percentOfLimit": 120,
                    "episode": {
                        "startedAt": "2026-01-02T03:04:05Z",
                        "endedAt": "2026-01-02T03:04:05Z",
                        "job": "example-breach-01234567",
                        "fault": "",
                    },
                    "features": [{"name": "age", "severity": "Warning", "psi": "0.06", "rows": 1000}],
                }
            ],
        },
        "audits": [
            {
                "name": "groups",
                "revision": "a1",
                "version": "3",
                "key": "0123456789",
                "baseline": DIGEST,
                "verdict": "Pass",
                "message": "",
                "finishedAt": "2026-01-02T03:04:05Z",
                "dataDigest": DIGEST,
                "rows": 1000,
                "figures": [
                    {
                        "metric": "Accuracy",
                        "of": "sex: a",
                        "value": "0.9",
                        "low": "0.88",
                        "high": "0.92",
                        "limit": "0.8",
                    }
                ],
            }
        ],
        "routerPort": 10000,
        "replicas": 2,
        "selector": "slipway.dev/name=example",
        "url": "http://example.default.svc:8080",
    },
}


#: What goes with no router, so that the example cannot hold it.
GATEWAY: dict[str, Any] = {
    "provider": "GatewayAPI",
    "router": "Shared",
    "gatewayAPI": {
        "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
        "hostnames": ["fraud.example.com"],
    },
}


#: What goes with no other server than one's own.
EXTERNAL: dict[str, Any] = {
    "server": "External",
    "image": "registry.example.com/team/server:1.0",
    "command": ["serve"],
    "args": ["--model", "$(SLIPWAY_MODEL_DIR)"],
    "ports": {"http": 8000, "grpc": 9000},
    "readiness": {"path": "/ready"},
    "protocol": "OpenInference",
}
_EXTERNALS = tuple(f"spec.runtime.{name}" for name in ("command", "args", "ports", "readiness", "protocol"))


#: TLS goes with nothing that routes.
WITH_TLS: dict[str, Any] = {
    **EXAMPLE["spec"],
    "access": {
        **EXAMPLE["spec"]["access"],
        "tls": {
            "secretRef": {"name": "tls"},
            "clientCA": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
        },
    },
    "rollout": {"strategy": "RollingUpdate"},
    "traffic": {},
}


_ROOT = {"configMapRef": {"name": "trust", "key": "root"}}
#: Other ways to say who has to have signed a model.
SIGNATURES: dict[str, Any] = {
    "certificate": {
        "authorities": _ROOT,
        "identities": [{"email": "a@example.com"}, {"uri": "spiffe://a/b"}, {"dns": "a.example.com"}],
    },
    "keyless": {
        "trustRoot": _ROOT,
        "identities": [
            {"issuer": "https://issuer.example.com", "email": "a@example.com"},
            {"issuer": "https://issuer.example.com", "uri": "https://example.com/workflow"},
        ],
    },
}


def example(path: str) -> dict[str, Any]:
    """The example that has what stands at ``path``."""
    if path.startswith(_EXTERNALS):
        # HTTP has no port of gRPC.
        left_out = "ports" if path == "spec.runtime.protocol" else ""
        runtime = {name: value for name, value in EXTERNAL.items() if name != left_out}
        return EXAMPLE | {"spec": {"model": EXAMPLE["spec"]["model"], "runtime": runtime}}
    if path.startswith("spec.model.credentials.serviceAccountName"):
        model = EXAMPLE["spec"]["model"] | {"credentials": {"serviceAccountName": "reader"}}
        free = {name: value for name, value in EXAMPLE["spec"]["runtime"].items() if name != "pod"}
        return EXAMPLE | {"spec": EXAMPLE["spec"] | {"model": model, "runtime": free}}
    for kind, signature in SIGNATURES.items():
        if path.startswith(f"spec.model.verify.signature.{kind}"):
            model = EXAMPLE["spec"]["model"] | {"verify": {"signature": {kind: signature}}}
            return EXAMPLE | {"spec": EXAMPLE["spec"] | {"model": model}}
    if path.startswith("spec.access.tls.clientCA.secretKeyRef"):
        source = {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}
        tls = {**WITH_TLS["access"]["tls"], "clientCA": source}
        return EXAMPLE | {"spec": WITH_TLS | {"access": {**WITH_TLS["access"], "tls": tls}}}
    if path.startswith("spec.access.tls"):
        return EXAMPLE | {"spec": WITH_TLS}
    if path.startswith("spec.traffic.gatewayAPI"):
        return EXAMPLE | {"spec": EXAMPLE["spec"] | {"traffic": GATEWAY}}
    return EXAMPLE


@dataclass(frozen=True)
class Case:
    """The schema's node at ``path`` takes ``accepts``, and refuses ``refuses`` in words that hold ``says``.

    ``constraint`` is the keyword of the schema, ``required NAME``, or ``rule`` for the CEL rule whose message
    holds ``says``. The value stands at ``at`` in the example, which is ``path`` unless given; ``also`` is in
    the words of a second complaint that cannot be avoided.
    """

    path: str
    constraint: str
    accepts: Any
    refuses: Any
    says: str
    at: str = ""
    also: str = ""

    @property
    def place(self) -> str:
        return self.at or self.path

    @property
    def field(self) -> str:
        """The path as the API server writes it."""
        place = self.place if self.constraint.startswith("required ") else self.path
        twin = "[1]" if self.constraint == "x-kubernetes-list-type" else ""
        keys = concrete(example(place), place.split(".") if place else [])
        words = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
        return (words.lstrip(".") or "<nil>") + twin

    def __str__(self) -> str:
        return f"{self.path} {self.constraint}" + f": {self.says[:40]}" * (self.constraint == "rule")


def with_value(path: str, value: Any, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a copy of ``base``, or of the example, with ``value`` at ``path``."""
    made = copy.deepcopy(example(path) if base is None else base)
    *parents, last = concrete(made, path.split("."))
    node: Any = made
    for key in parents:
        node = node[key]
    if value is REMOVED:
        del node[last]
    else:
        node[last] = copy.deepcopy(value)
    return made


def value_at(path: str, base: dict[str, Any] | None = None) -> Any:
    """What ``base``, or the example, holds at ``path``."""
    node: Any = example(path) if base is None else base
    for key in concrete(node, path.split(".") if path else []):
        node = node[key]
    return node


def has_path(path: str) -> bool:
    """Whether the example holds something at ``path``."""
    node: Any = example(path)
    for key in concrete(node, path.split(".")):
        if isinstance(key, str) and key not in node:
            return False
        node = node[key]
    return True


def concrete(node: Any, steps: list[str]) -> list[Any]:
    """Keys and indexes for a path: ``*`` is a map's key, or the first item that has what comes next."""
    if not steps:
        return []
    step, *rest = steps
    if step != "*":
        return [step, *concrete(node.get(step, {}) if isinstance(node, dict) else {}, rest)]
    places = range(len(node)) if isinstance(node, list) else list(node)
    ways = [[place, *concrete(node[place], rest)] for place in places]
    return next((way for way in ways if _holds(node, way)), ways[0] if ways else [0, *rest])


def _holds(node: Any, keys: list[Any]) -> bool:
    for key in keys:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each node of a structural schema below ``path`` with its own path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".lstrip("."))
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}.*")


#: Keywords that refuse nothing by themselves; ``type`` is tried on every node in a test of its own.
_SILENT = {
    "description",
    "default",
    "properties",
    "items",
    "additionalProperties",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
}


def constraints(schema: dict[str, Any]) -> set[tuple[str, str]]:
    """Return (path, constraint) for all that the schema refuses, types aside."""
    found = set()
    for path, node in nodes(schema):
        for key, value in node.items():
            if key in _SILENT or (key, value) == ("x-kubernetes-list-type", "atomic"):
                continue
            if key == "format" and node["type"] == "integer":
                continue  # the bounds beside it are tighter
            if key == "x-kubernetes-list-type" and node["maxItems"] == 1:
                continue  # one item has no twin
            if key == "required":
                found |= {(path, f"required {name}") for name in value}
            elif key == "x-kubernetes-validations":
                found |= {(path, f"rule {rule['message']}") for rule in value}
            else:
                found.add((path, key))
    return found
