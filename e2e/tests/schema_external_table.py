"""What the API server takes and refuses of ``spec.runtime.server: External`` and what goes with it."""

from __future__ import annotations

from typing import Any

from e2e.tests.schema_audits_table import an_audit
from e2e.tests.schema_cases import EXAMPLE, EXTERNAL, REMOVED, Case
from e2e.tests.schema_shapes import bounds, choice, items, required, text

R = "spec.runtime"
_COUNTS = "monitoring, fairness, inputs and card.maxAgeDays need what Slipway's own server counts"


def _spec(runtime: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": EXAMPLE["spec"]["model"], "runtime": runtime, **more}


def _runtime(says: str, *wrong: dict[str, Any]) -> list[Case]:
    """A runtime is refused that differs in these fields from one that is taken."""
    made = [
        {name: value for name, value in {**EXTERNAL, **each}.items() if value is not REMOVED}
        for each in wrong
    ]
    return [Case(R, "rule", _spec(EXTERNAL), _spec(each), says, at="spec") for each in made]


def _whole(says: str, *wrong: dict[str, Any]) -> list[Case]:
    """A spec is refused that has these blocks next to such a server."""
    return [Case("spec", "rule", _spec(EXTERNAL), _spec(EXTERNAL, **each), says) for each in wrong]


def _gate(**fields: Any) -> dict[str, Any]:
    gate = {"name": "a", "type": "ErrorRate", **fields}
    steps = [{"setMirror": {"percent": 100}}]
    return {"rollout": {"strategy": "Canary", "steps": steps, "analysis": {"gates": [gate]}}}


OWN_SERVER = [
    choice_case
    for cases in (
        [Case(f"{R}.server", "enum", "Slipway", "Triton", 'supported values: "Slipway", "External"')],
        items(f"{R}.command", 32, lambda index: f"w{index}"),
        items(f"{R}.args", 64, lambda index: f"w{index}"),
        [text(f"{R}.command.*", 4096), text(f"{R}.args.*", 4096)],
        bounds(f"{R}.ports.http", 1024, 65535),
        bounds(f"{R}.ports.grpc", 1024, 65535),
        required(f"{R}.readiness", "path"),
        [text(f"{R}.readiness.path", 256, head="/")],
        [
            Case(f"{R}.readiness.path", "rule", "/v1/models/a~b", wrong, "path must be a path without query")
            for wrong in ("ready", "/ready?a=b", "/a b", "")
        ],
        choice(f"{R}.protocol", "OpenInference", "HTTP"),
        _runtime("server: External needs the image of that server", {"image": REMOVED}),
        _runtime(
            "command, args, ports, readiness and protocol go with server: External",
            {"server": REMOVED},
            {
                "server": "Slipway",
                "command": REMOVED,
                "args": REMOVED,
                "ports": REMOVED,
                "readiness": REMOVED,
            },
        ),
        _runtime(
            "threads, processes and batching are of Slipway's own server",
            {"threads": 2},
            {"processes": 0},
            {"batching": {"mode": "Off"}},
            {"batching": {"maxRows": 1}},
        ),
        _runtime(
            "device is of Slipway's own server; with server: External leave it out",
            {"device": "CUDA", "resources": {"extended": {"nvidia.com/gpu": 1}}},
        ),
        _runtime(
            "protocol: HTTP needs readiness.path",
            {"protocol": "HTTP", "readiness": REMOVED, "ports": REMOVED},
        ),
        _runtime(
            "ports.grpc is another port than ports.http, and goes with protocol: OpenInference",
            {"ports": {"http": 9000, "grpc": 9000}},
            {"ports": {"grpc": 8080}},
            {"protocol": "HTTP"},
        ),
        _whole(
            "rollout.audits run ONNX models; leave them out with runtime.server: External",
            {"rollout": {"audits": [an_audit(0)]}},
        ),
        _whole(
            _COUNTS,
            {"monitoring": {"slos": {"availability": "99%"}}},
            {"monitoring": {"drift": {}}},
            {
                "fairness": {
                    **EXAMPLE["spec"]["fairness"],
                    "metrics": [{"name": "DisparateImpactRatio", "minimum": "80%"}],
                }
            },
            {"inputs": EXAMPLE["spec"]["inputs"]},
            {"card": {"maxAgeDays": 1}},
        ),
        _whole(
            "access is checked by Slipway's own server", {"access": {"apiKeys": {"secretRef": {"name": "a"}}}}
        ),
        _whole(
            "gates of type Violations, PredictionShift and ShadowAgreement need",
            _gate(type="Violations"),
            _gate(type="PredictionShift"),
            _gate(type="ShadowAgreement"),
        ),
        _whole(
            "traffic.provider GatewayAPI sends requests to the ports of Slipway's own server",
            {
                "rollout": {"strategy": "Canary"},
                "traffic": {"provider": "GatewayAPI", "gatewayAPI": {"parentRefs": [{"name": "a"}]}},
            },
        ),
        [
            Case(
                "spec",
                "rule",
                _spec(EXTERNAL),
                {
                    "model": {"uri": "s3://a-b/c", "credentials": {"serviceAccountName": "reader"}},
                    "runtime": EXTERNAL,
                },
                "model.credentials.serviceAccountName goes with Slipway's own server",
            ),
            # What routers count, and what people have to know.
            Case(
                "spec",
                "rule",
                _spec(EXTERNAL, **_gate(type="SlowRequests", thresholdMilliseconds=250), card={"owner": "a"}),
                _spec(EXTERNAL, **_gate(type="Violations")),
                "which routers count",
            ),
        ],
    )
    for choice_case in cases
]
