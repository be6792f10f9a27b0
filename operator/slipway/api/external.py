"""A server of one's own: ``spec.runtime.server: External`` and what goes with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from slipway.api.base import MESSAGE_KEY, Block, rule
from slipway.contract import READY_PATH

Argument = Annotated[str, Field(max_length=4096, description="A word; $(NAME) is a variable's value.")]
Server = Literal["Slipway", "External"]
Protocol = Literal["OpenInference", "HTTP"]


class Ports(Block):
    """Where a server of one's own listens."""

    http: int = Field(default=8080, ge=1024, le=65535, description="Port of HTTP; 8080 unless given.")
    grpc: int | None = Field(
        default=None, ge=1024, le=65535, description="Port of the Open Inference Protocol over gRPC."
    )


class Readiness(Block):
    """How it is known that a server of one's own may get requests."""

    path: str = Field(
        max_length=256,
        pattern=r"^/[A-Za-z0-9/._~%-]*$",
        description="Answers GET on the HTTP port with 200 once the model is loaded; routers ask it too.",
        json_schema_extra={MESSAGE_KEY: "path must be a path without query, such as /healthz"},
    )


#: Of the runtime.
RUNTIME_RULES: list[Any] = [
    rule(
        "self.server != 'External' || (has(self.image) && self.image != '')",
        "server: External needs the image of that server",
    ),
    rule(
        "self.server == 'External' || !(has(self.command) || has(self.args) || has(self.ports) || "
        "has(self.readiness) || has(self.protocol))",
        "command, args, ports, readiness and protocol go with server: External; Slipway's own server has its "
        "own",
    ),
    rule(
        "self.server != 'External' || (self.threads == 1 && self.processes == 1 && "
        "self.batching.mode == 'Auto' && self.batching.maxRows == 128)",
        "threads, processes and batching are of Slipway's own server; tell a server of your own by command, "
        "args or env",
    ),
    rule(
        "!has(self.protocol) || self.protocol != 'HTTP' || has(self.readiness)",
        "protocol: HTTP needs readiness.path, which answers 200 once the model is loaded",
    ),
    rule(
        "!has(self.ports) || !has(self.ports.grpc) || (self.ports.grpc != self.ports.http && "
        "(!has(self.protocol) || self.protocol == 'OpenInference'))",
        "ports.grpc is another port than ports.http, and goes with protocol: OpenInference",
    ),
]
_OWN = "self.runtime.server != 'External' || "
#: Of the whole spec: what Slipway's own server counts or checks.
SPEC_RULES: list[Any] = [
    rule(
        f"{_OWN}(!has(self.monitoring) && !has(self.fairness) && !has(self.inputs) && "
        "(!has(self.card) || !has(self.card.maxAgeDays)))",
        "monitoring, fairness, inputs and card.maxAgeDays need what Slipway's own server counts; leave them "
        "out with runtime.server: External, or serve by Slipway's own server",
    ),
    rule(
        f"{_OWN}!has(self.rollout.audits) || self.rollout.audits.size() == 0",
        "rollout.audits run ONNX models; leave them out with runtime.server: External",
    ),
    rule(
        f"{_OWN}!has(self.access)",
        "access is checked by Slipway's own server; leave it out with runtime.server: External, and let that "
        "server or a Gateway check who asks",
    ),
    rule(
        f"{_OWN}!has(self.rollout.analysis.gates) || self.rollout.analysis.gates.all(gate, "
        "gate.type in ['ErrorRate', 'SlowRequests'])",
        "gates of type Violations, PredictionShift and ShadowAgreement need what Slipway's own server "
        "counts; with runtime.server: External take ErrorRate and SlowRequests, which routers count",
    ),
    rule(
        f"{_OWN}self.traffic.provider != 'GatewayAPI'",
        "traffic.provider GatewayAPI sends requests to the ports of Slipway's own server; with "
        "runtime.server: External take Router or ReplicaRatio",
    ),
    rule(
        f"{_OWN}!has(self.model.credentials) || !has(self.model.credentials.serviceAccountName)",
        "model.credentials.serviceAccountName goes with Slipway's own server, which refuses what a webhook "
        "gives it; with runtime.server: External give secretRef",
    ),
]

#: The path of readiness where none is given.
DEFAULT_PATH = READY_PATH
