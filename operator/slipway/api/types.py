"""The ModelDeployment resource, ``slipway.dev/v1alpha1``: the one source of the CRD.

Bounds, patterns and CEL rules written here reach the API server through :mod:`slipway.api.crd`. Reading is
lenient (``extra="ignore"``): a newer CRD must not crash an older operator.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.contract import Digest

GROUP = "slipway.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"

#: Names of children add at most 18 characters (``-`` and a revision's hash, ``-resolve-`` and a hash), and a
#: Service's name holds 63.
MAX_NAME_LENGTH = 45


def _rule(rule: str, message: str) -> dict[str, Any]:
    """A CEL rule with the message a person reads when it refuses."""
    return {"rule": rule, "message": message}


class Block(BaseModel):
    """Base of every part of the resource."""

    model_config = ConfigDict(extra="ignore", frozen=True)


DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
DnsSubdomain = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
LabelKey = Annotated[str, Field(max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]
Quantity = Annotated[
    int | str,
    Field(
        pattern=r"^\d{1,15}(\.\d{1,9})?(m|[kMGTPE]i?|Ki|e\d{1,2})?$",
        json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 32},
    ),
]


class SecretRef(Block):
    """A Secret in the namespace of the ModelDeployment."""

    name: DnsSubdomain


class Credentials(Block):
    """How the model's store is entered."""

    secretRef: SecretRef = Field(
        description=(
            "Secret whose keys enter the store: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, "
            "MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, HTTP_USERNAME, HTTP_PASSWORD, HTTP_TOKEN, "
            "ca.crt."
        )
    )


class Model(Block):
    """Which model is served."""

    uri: str = Field(
        min_length=1,
        max_length=1024,
        description="Where the model is: mlflow://NAME@ALIAS, mlflow://NAME/VERSION, https://… or pvc://CLAIM/PATH.",
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "self.startsWith('mlflow://') || self.startsWith('https://') || self.startsWith('pvc://')",
                    "uri must start with mlflow://, https:// or pvc://",
                ),
                _rule(
                    "!self.startsWith('mlflow://') || "
                    "self.matches('^mlflow://[^/@:]+(@[A-Za-z0-9_.-]+|/[1-9][0-9]*)$')",
                    "an MLflow model is mlflow://NAME@ALIAS or mlflow://NAME/VERSION, such as mlflow://fraud@champion",
                ),
                _rule(
                    "!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+$')",
                    "a model on a volume is pvc://CLAIM/PATH, such as pvc://models/fraud/model.onnx",
                ),
                _rule(
                    "!self.startsWith('pvc://') || !self.matches('(^|/)[.][.](/|$)')",
                    "the path on a volume must not contain '..'",
                ),
                _rule(
                    "!self.startsWith('https://') || self.matches('^https://[^/@?#]+/[^?#]+$')",
                    "an https model is https://HOST/PATH without user, query or fragment; "
                    "give credentials by credentials.secretRef",
                ),
            ]
        },
    )
    digest: Digest | None = Field(
        default=None, max_length=71, description="SHA-256 the model must have; anything else is refused."
    )
    credentials: Credentials | None = Field(default=None, description="How the model's store is entered.")


class ResourceList(Block):
    """Amounts of CPU and memory."""

    cpu: Quantity | None = Field(default=None, description="CPU, such as 500m or 2.")
    memory: Quantity | None = Field(default=None, description="Memory, such as 512Mi.")


class Resources(Block):
    """What a pod asks for and may use at most."""

    requests: ResourceList = Field(default=ResourceList(cpu="100m", memory="256Mi"))
    limits: ResourceList = Field(default=ResourceList(memory="1Gi"))


class Toleration(Block):
    """As in a pod."""

    key: str | None = Field(default=None, max_length=317)
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = Field(default=None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    tolerationSeconds: int | None = Field(default=None, ge=0, le=2**31 - 1)


class EnvVar(Block):
    """A plain environment variable of the model server."""

    name: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "!self.startsWith('SLIPWAY_')", "names that start with SLIPWAY_ are set by the operator"
                )
            ]
        },
    )
    value: str = Field(default="", max_length=4096)


class Runtime(Block):
    """What runs the model. A change here makes a new revision."""

    image: str = Field(
        default="",
        max_length=512,
        pattern=r"^([a-zA-Z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?)?$",
        description="Model server image; empty means the one of the installed chart.",
    )
    resources: Resources = Field(default=Resources())
    threads: int = Field(default=1, ge=1, le=256, description="onnxruntime threads per request.")
    requestTimeoutMilliseconds: int = Field(
        default=2000, ge=1, le=3_600_000, description="A request that takes longer is answered 503."
    )
    nodeSelector: dict[LabelKey, LabelValue] = Field(default={}, max_length=32)
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    affinity: dict[str, Any] = Field(
        default={},
        description="As in a pod.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class CpuMetric(Block):
    """Scale on the share of the requested CPU that pods use."""

    type: Literal["CPU"] = "CPU"
    targetPercent: int = Field(
        default=70, ge=1, le=1000, description="Average use, in percent of the request."
    )


class Scaling(Block):
    """How many pods serve a revision. ``kubectl scale`` sets minReplicas."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "self.minReplicas <= self.maxReplicas",
                    "minReplicas must not be above maxReplicas; raise maxReplicas first",
                )
            ]
        }
    )

    minReplicas: int = Field(default=1, ge=1, le=1000)
    maxReplicas: int = Field(default=10, ge=1, le=1000)
    metrics: tuple[CpuMetric, ...] = Field(
        default=(CpuMetric(),),
        min_length=1,
        max_length=1,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class ModelDeploymentSpec(Block):
    """What should be served, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule(
                    "!(has(self.runtime.resources.limits) && has(self.runtime.resources.limits.cpu) && "
                    "has(self.runtime.resources.requests) && has(self.runtime.resources.requests.cpu)) || "
                    "quantity(string(self.runtime.resources.requests.cpu))"
                    ".compareTo(quantity(string(self.runtime.resources.limits.cpu))) <= 0",
                    "runtime.resources.requests.cpu must not be above limits.cpu",
                ),
                _rule(
                    "!(has(self.runtime.resources.limits) && has(self.runtime.resources.limits.memory) && "
                    "has(self.runtime.resources.requests) && has(self.runtime.resources.requests.memory)) || "
                    "quantity(string(self.runtime.resources.requests.memory))"
                    ".compareTo(quantity(string(self.runtime.resources.limits.memory))) <= 0",
                    "runtime.resources.requests.memory must not be above limits.memory",
                ),
            ]
        }
    )

    model: Model
    runtime: Runtime = Field(default=Runtime())
    scaling: Scaling = Field(default=Scaling())


class Condition(Block):
    """As ``metav1.Condition``."""

    type: str = Field(max_length=316)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(min_length=1, max_length=1024)
    message: str = Field(max_length=32768)
    observedGeneration: int = Field(ge=0)
    lastTransitionTime: str = Field(max_length=64, json_schema_extra={"format": "date-time"})


class ModelStatus(Block):
    """What the model URI was resolved to."""

    uri: str = Field(max_length=1024, description="The URI as asked.")
    resolvedURI: str = Field(max_length=1024, description="The URI that names these bytes for good.")
    version: str = Field(max_length=256)
    digest: str = Field(max_length=71)
    bytes: int = Field(ge=0, json_schema_extra={"format": "int64"})


class RevisionStatus(Block):
    """One revision and its pods."""

    revision: str = Field(max_length=63)
    version: str = Field(max_length=256)
    digest: str = Field(max_length=71)
    replicas: int = Field(default=0, ge=0)
    readyReplicas: int = Field(default=0, ge=0)


class ModelDeploymentStatus(Block):
    """What the operator saw and did."""

    observedGeneration: int = Field(default=0, ge=0)
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    model: ModelStatus | None = None
    stable: RevisionStatus | None = Field(default=None, description="The revision that clients reach.")
    canary: RevisionStatus | None = Field(default=None, description="The revision that is to replace it.")
    canaryWeight: int | None = Field(
        default=None, ge=0, le=100, description="Percent of traffic on the canary."
    )
    retiredAt: str | None = Field(
        default=None,
        max_length=64,
        description="When the stable revision took over; the old one is kept until its clients left.",
        json_schema_extra={"format": "date-time"},
    )
    replicas: int = Field(default=0, ge=0, description="Pods of all revisions.")
    selector: str = Field(
        default="", max_length=1024, description="Label selector of the pods, for the scale subresource."
    )
    url: str = Field(
        default="", max_length=1024, description="Where clients inside the cluster reach the model."
    )
