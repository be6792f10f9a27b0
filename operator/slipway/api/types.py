"""The ModelDeployment resource, ``slipway.dev/v1alpha1``: the one source of the CRD.

Bounds, patterns and CEL rules written here reach the API server through :mod:`slipway.api.crd`. Reading is
lenient (``extra="ignore"``): a newer CRD must not crash an older operator.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from slipway.api import devices, external
from slipway.api.access import Access
from slipway.api.base import (
    INT32,
    LABEL_KEY,
    MESSAGE_KEY,
    Block,
    DnsSubdomain,
    LabelKey,
    LabelValue,
    SecretRef,
    rule,
    string,
)
from slipway.api.breach import ROLLBACK_RULE
from slipway.api.card import Card
from slipway.api.container import IMAGE, IMAGE_MESSAGE, EnvVar, Resources
from slipway.api.inputs import Inputs
from slipway.api.monitoring import LABELS_RULE, Fairness, Monitoring
from slipway.api.pods import PodOptions
from slipway.api.rollout import Rollout
from slipway.api.status import ModelDeploymentStatus
from slipway.api.traffic import RULES, Traffic
from slipway.api.verify import Verify
from slipway.contract import Digest
from slipway.names import API_VERSION as API_VERSION
from slipway.names import GROUP as GROUP
from slipway.names import KIND as KIND
from slipway.names import PLURAL as PLURAL
from slipway.names import VERSION as VERSION

#: Names of children add at most 18 characters (``-`` and a revision's hash, ``-resolve-`` and a hash), and a
#: Service's name holds 63.
MAX_NAME_LENGTH = 45


class Credentials(Block):
    """Credentials for the model store."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.secretRef) != has(self.serviceAccountName)",
                    "credentials must have exactly one of secretRef and serviceAccountName",
                )
            ]
        }
    )

    secretRef: SecretRef | None = Field(
        default=None,
        description=(
            "Secret whose keys enter the store: MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, "
            "MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, HTTP_USERNAME, HTTP_PASSWORD, HTTP_TOKEN, "
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, "
            "AWS_S3_ADDRESSING_STYLE, GOOGLE_SERVICE_ACCOUNT_KEY, GOOGLE_ENDPOINT_URL, AZURE_STORAGE_KEY, "
            "AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_ENDPOINT, GIT_USERNAME, GIT_PASSWORD, GIT_TOKEN, "
            "DVC_REMOTE_URL, OCI_USERNAME, OCI_PASSWORD, .dockerconfigjson, CA_CERT (certificates, as PEM)."
        ),
    )
    serviceAccountName: DnsSubdomain | None = Field(
        default=None,
        description=(
            "ServiceAccount of the namespace whose identity in a cloud enters buckets (IRSA, EKS Pod "
            "Identity, Azure and Google workload identity). The resolver's and the model's pods run under "
            "it; the container that serves gets no credentials of it."
        ),
    )


_IDENTITY_RULE = rule(
    "!has(self.credentials) || !has(self.credentials.serviceAccountName) || "
    "self.uri.startsWith('s3://') || self.uri.startsWith('gs://') || self.uri.startsWith('az://') || "
    "self.uri.startsWith('mlflow://')",
    "credentials.serviceAccountName enters buckets: s3://, gs://, az://, and those that an mlflow:// model "
    "lies in; give credentials.secretRef for others",
)
#: Of the whole spec: a pod has one ServiceAccount.
_ONE_ACCOUNT_RULE = rule(
    "!has(self.model.credentials) || !has(self.model.credentials.serviceAccountName) || "
    "!has(self.runtime) || !has(self.runtime.pod) || !has(self.runtime.pod.serviceAccountName) || "
    "self.runtime.pod.serviceAccountName == self.model.credentials.serviceAccountName",
    "the model's pods run under model.credentials.serviceAccountName; leave runtime.pod.serviceAccountName "
    "out, or make both the same",
)


class Model(Block):
    """Which model is served."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [_IDENTITY_RULE]})

    uri: str = Field(
        max_length=1024,
        description=(
            "Where the model is: mlflow://NAME@ALIAS, mlflow://NAME/VERSION, https://…, s3://BUCKET/KEY, "
            "gs://BUCKET/KEY, az://ACCOUNT/CONTAINER/KEY, dvc://HOST/ORG/REPO/PATH@REV, "
            "dvc://HOST/ORG/REPO?artifact=NAME&stage=STAGE, oci://REGISTRY/REPO:TAG or pvc://CLAIM/PATH."
        ),
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!self.matches('[[:cntrl:]]')", "uri must not contain line breaks or control characters"
                ),
                rule(
                    "self.startsWith('mlflow://') || self.startsWith('https://') || "
                    "self.startsWith('pvc://') || self.startsWith('s3://') || "
                    "self.startsWith('gs://') || self.startsWith('az://') || self.startsWith('dvc://') || "
                    "self.startsWith('oci://')",
                    "uri must start with mlflow://, https://, pvc://, s3://, gs://, az://, dvc:// or oci://",
                ),
                rule(
                    "!self.startsWith('mlflow://') || "
                    "self.matches('^mlflow://[^/@:?#]+(@[A-Za-z0-9_.-]+|/[1-9][0-9]*)$')",
                    "an MLflow model is mlflow://NAME@ALIAS or mlflow://NAME/VERSION, such as mlflow://fraud@champion",
                ),
                rule(
                    "!self.startsWith('pvc://') || self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+$')",
                    "a model on a volume is pvc://CLAIM/PATH, such as pvc://models/fraud/model.onnx",
                ),
                rule(
                    "!self.startsWith('pvc://') || !self.matches('(^|/)[.][.](/|$)')",
                    "the path on a volume must not contain '..'",
                ),
                rule(
                    "!self.startsWith('s3://') || self.matches("
                    "'^s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]/[^?#]+([?]versionId=[^?&#]+)?$')",
                    "a model in S3 is s3://BUCKET/KEY, such as s3://models/fraud/7/model.onnx, with "
                    "?versionId=… at its end for one version",
                ),
                rule(
                    "!self.startsWith('gs://') || self.matches("
                    "'^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]/[^?#]+(#[1-9][0-9]{0,19})?$')",
                    "a model in Google Cloud Storage is gs://BUCKET/KEY, such as "
                    "gs://models/fraud/7/model.onnx, with #GENERATION at its end for one version",
                ),
                rule(
                    "!self.startsWith('az://') || self.matches("
                    "'^az://[a-z0-9]{3,24}/([$]root|[$]web|[a-z0-9](-?[a-z0-9]){2,62})/[^?#]+$')",
                    "a model in Azure Blob Storage is az://ACCOUNT/CONTAINER/KEY, such as "
                    "az://lake/models/fraud/7/model.onnx",
                ),
                rule(
                    "!self.startsWith('dvc://') || self.matches("
                    "'^dvc://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/[^/@?#]+/[^/@?#]+"
                    "(/[^@?#]+@[^?#]+|(/[^@?#]+[.]git)?[?]artifact=[^?&#]+(&(stage|version)=[^?&#]+)?)$')",
                    "a model that DVC keeps is dvc://HOST/ORG/REPO/PATH@REV, such as "
                    "dvc://github.com/shop/models/fraud.onnx@v1.4, or dvc://HOST/ORG/REPO?artifact=NAME with "
                    "&stage=… or &version=… at its end",
                ),
                rule(
                    "!self.startsWith('oci://') || self.matches("
                    "'^oci://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
                    "(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|@sha256:[0-9a-f]{64})?$')",
                    "a model in a registry is oci://REGISTRY/REPOSITORY with :TAG or @sha256:DIGEST at its "
                    "end, such as oci://ghcr.io/shop/fraud:v7",
                ),
                rule(
                    "!self.startsWith('https://') || self.matches('^https://[^/@?#]+/[^?#]+$')",
                    "an https model is https://HOST/PATH without user, query or fragment; "
                    "give credentials by credentials.secretRef",
                ),
            ]
        },
    )
    digest: Digest | None = Field(
        default=None,
        max_length=71,
        description="SHA-256 the model must have; anything else is refused.",
        json_schema_extra={MESSAGE_KEY: "digest must be sha256: and 64 hexadecimal digits in lower case"},
    )
    refreshSeconds: int | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description=(
            "How often a name that can move is looked up again: an MLflow alias, a branch, tag or stage in "
            "Git, a tag in a registry; 0 means never. An MLflow alias without credentials is looked up by "
            "the operator, and each 60 seconds where this is left out; other looks take a short-lived pod, "
            "each 900 seconds. An object in a bucket without a version in its URI is looked up only where "
            "this is set."
        ),
    )
    credentials: Credentials | None = Field(default=None, description="Credentials for the model store.")
    verify: Verify | None = Field(
        default=None, description="Checks that the model passes before it may run; without it, the defaults."
    )

    @property
    def refresh_interval(self) -> int:
        """Seconds between two looks at a name that can move; 0 for none."""
        if self.refreshSeconds is not None:
            return self.refreshSeconds
        return 900 if self.credentials is not None or not self.uri.startswith("mlflow://") else 60


class Toleration(Block):
    """As in a pod."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                    "a toleration without key needs operator: Exists",
                ),
                rule(
                    "!has(self.operator) || self.operator != 'Exists' || "
                    "!has(self.value) || self.value == ''",
                    "a toleration with operator: Exists must have no value",
                ),
                rule(
                    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                    "tolerationSeconds needs effect: NoExecute",
                ),
            ]
        }
    )

    key: (
        Annotated[
            str,
            string(LABEL_KEY, "key must be a label key, such as gpu or example.com/gpu", max_length=317),
        ]
        | None
    ) = Field(default=None, description="Key of the taint; absent with operator Exists means every key.")
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="How key and value are compared; Equal where it is absent."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; absent means every effect."
    )
    tolerationSeconds: int | None = Field(
        default=None, ge=0, le=INT32, description="How long a pod stays once the taint appears."
    )


_AFFINITY: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Batching(Block):
    """Whether requests share calls of the model."""

    mode: Literal["Auto", "Off"] = Field(
        default="Auto",
        description="Auto: where the model's graph proves that rows are independent, and batches were found "
        "at load to gain time and give the same bits; the model's metadata has what was decided, and why. "
        "Off: never.",
    )
    maxRows: int = Field(
        default=128, ge=1, le=128, description="Rows that requests share a call for at most."
    )


class Runtime(Block):
    """What runs the model. A change here makes a new revision, but for ``pod``."""

    model_config = ConfigDict(
        json_schema_extra={"x-kubernetes-validations": [*external.RUNTIME_RULES, *devices.RULES]}
    )

    server: external.Server = Field(
        default="Slipway",
        description="Slipway: the model server that comes with it. External: any container, which gets the "
        "verified files of the model; what it reads and answers is not watched.",
    )
    image: str = Field(
        default="",
        max_length=512,
        pattern=IMAGE,
        description="Model server image; empty means the one of the installed chart.",
        json_schema_extra={MESSAGE_KEY: IMAGE_MESSAGE},
    )
    device: devices.Device = Field(
        default="CPU",
        description="What Slipway's own server runs the model on. CUDA: an NVIDIA GPU, which "
        "resources.extended asks for, by the installation's CUDA image unless image names another; where "
        "CUDA does not start, the pods do not serve.",
    )
    command: tuple[external.Argument, ...] = Field(
        default=(), max_length=32, description="Instead of the image's entry point, for server: External."
    )
    args: tuple[external.Argument, ...] = Field(
        default=(), max_length=64, description="Arguments, for server: External."
    )
    ports: external.Ports | None = Field(
        default=None, description="Where server: External listens; HTTP on 8080 unless given."
    )
    readiness: external.Readiness | None = Field(
        default=None,
        description="How server: External reports that it is ready; /v2/health/ready unless given.",
    )
    protocol: external.Protocol | None = Field(
        default=None,
        description="What server: External speaks; OpenInference unless given. HTTP: whatever else.",
    )
    resources: Resources = Field(default=Resources(), description="What a pod asks for and may use at most.")
    threads: int = Field(default=1, ge=1, le=256, description="onnxruntime threads per request.")
    processes: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Server processes in a pod, each with the model in its memory; 0 means one for each CPU "
        "of the limit.",
    )
    batching: Batching = Field(
        default=Batching(), description="How requests that arrive together share calls of the model."
    )
    requestTimeoutMilliseconds: int = Field(
        default=2000, ge=1, le=3_600_000, description="A request that takes longer is answered 503."
    )
    nodeSelector: dict[LabelKey, LabelValue] = Field(
        default={}, max_length=32, description="Labels that a node must have to run the pods."
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(), max_length=32, description="Tolerations of the pods."
    )
    affinity: dict[str, Any] = Field(
        default={},
        description="Where the pods go, as in a pod.",
        json_schema_extra={
            "additionalProperties": False,
            "properties": {
                "nodeAffinity": _AFFINITY | {"description": "As in a pod."},
                "podAffinity": _AFFINITY | {"description": "As in a pod."},
                "podAntiAffinity": _AFFINITY | {"description": "As in a pod."},
            },
        },
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        description="Plain environment variables of the model server.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    pod: PodOptions = Field(
        default=PodOptions(),
        description="What else the pods have. A change here makes no new revision: the pods of each one are "
        "replaced in a rolling update.",
    )


class CpuMetric(Block):
    """Scale on the share of the requested CPU that pods use."""

    type: Literal["CPU"] = Field(default="CPU", description="What is measured; CPU unless given.")
    targetPercent: int = Field(
        default=70, ge=1, le=1000, description="Average use, in percent of the request; 70 unless given."
    )


class Scaling(Block):
    """How many pods serve a revision. ``kubectl scale`` sets minReplicas."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.minReplicas <= self.maxReplicas",
                    "minReplicas must not be above maxReplicas; raise maxReplicas first",
                )
            ]
        }
    )

    minReplicas: int = Field(default=1, ge=1, le=1000, description="Minimum number of pods.")
    maxReplicas: int = Field(default=10, ge=1, le=1000, description="Maximum number of pods.")
    metrics: tuple[CpuMetric, ...] = Field(
        default=(CpuMetric(),),
        min_length=1,
        max_length=1,
        description="What the number of pods follows.",
    )


class ModelDeploymentSpec(Block):
    """What should be served, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                *RULES,
                LABELS_RULE,
                ROLLBACK_RULE,
                _ONE_ACCOUNT_RULE,
                *external.SPEC_RULES,
            ]
        }
    )

    model: Model = Field(description="Which model is served.")
    runtime: Runtime = Field(
        default=Runtime(), description="What runs the model. A change here makes a new revision, but for pod."
    )
    scaling: Scaling = Field(
        default=Scaling(), description="How many pods serve a revision. kubectl scale sets minReplicas."
    )
    inputs: Inputs | None = Field(
        default=None,
        description=(
            "What requests may hold. Without it, values that the profile next to the model has not seen are "
            "counted. A change here makes a new revision."
        ),
    )
    monitoring: Monitoring | None = Field(
        default=None,
        description=(
            "What is watched, and when it is bad. Only performance.feedback, freshness and "
            "suspectInputs make a new revision: by the rest the operator judges."
        ),
    )
    fairness: Fairness | None = Field(
        default=None,
        description=(
            "Whose outcomes are compared. A change of attributes, groups or favorableOutcomes makes a new "
            "revision: by the rest the operator judges."
        ),
    )
    rollout: Rollout = Field(default=Rollout(), description="How a new revision takes over.")
    traffic: Traffic = Field(default=Traffic(), description="How requests reach the revisions.")
    access: Access | None = Field(
        default=None,
        description="Who may ask, and what for; without it everybody may do everything. A change here makes "
        "no new revision: the pods of each one are replaced in a rolling update.",
    )
    card: Card | None = Field(
        default=None,
        description="What people have to know of the model; it is shown in the report. Restarts no pod.",
    )


class ModelDeployment(Block):
    """A model, served by autoscaled pods behind a Service."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
                    f"metadata.name must have at most {MAX_NAME_LENGTH} characters, since its children's "
                    "names are longer",
                ),
                rule(
                    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                    "metadata.name must start with a lower case letter, hold only such letters, digits and "
                    "'-', and not end with '-', since a Service carries it",
                ),
            ]
        }
    )

    spec: ModelDeploymentSpec = Field(description="What should be served, and how.")
    status: ModelDeploymentStatus | None = Field(default=None, description="What the operator saw and did.")
