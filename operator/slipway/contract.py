"""What the operator and the model server agree on, and all that they share.

The operator renders a pod from these names; the server image reads them. Changing one is a change of both.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: The port of the Open Inference Protocol, on pods and Services alike.
HTTP_PORT = 8080
#: The port of ``/metrics`` and ``/drain``; never behind a client's Service.
ADMIN_PORT = 8081

LIVE_PATH = "/v2/health/live"
READY_PATH = "/v2/health/ready"
METRICS_PATH = "/metrics"
#: Called by the preStop hook: answers once clients have been asked to leave, after ``drainSeconds`` at most.
DRAIN_PATH = "/drain"

#: Where ``slipway-model fetch`` puts the model's files and the server reads them.
MODEL_DIR = "/var/run/slipway/model"
#: Scratch space of a pod whose root file system is read-only.
TMP_DIR = "/tmp"
#: Kubernetes reads a container's last words from here; they are a :class:`Outcome` as JSON.
TERMINATION_PATH = "/dev/termination-log"

#: Holds a :class:`ServingConfig` as JSON.
SERVING_CONFIG_ENV = "SLIPWAY_SERVING_CONFIG"
#: Holds a :class:`ResolveTask` or a :class:`FetchTask` as JSON.
MODEL_TASK_ENV = "SLIPWAY_MODEL_TASK"
#: Keys of the credentials Secret reach ``slipway-model`` with this prefix (``envFrom`` with ``prefix``).
CREDENTIAL_ENV_PREFIX = "SLIPWAY_CREDENTIAL_"
#: Installation-wide default of the MLflow tracking server, given by the chart.
MLFLOW_TRACKING_URI_ENV = "SLIPWAY_MLFLOW_TRACKING_URI"
#: Where a ``pvc://CLAIM/path`` claim is mounted in the resolver pod and the ``fetch`` container.
PVC_MOUNT_DIR = "/mnt/slipway/pvc"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class ModelFault(StrEnum):
    """Why a model cannot be resolved, fetched or loaded; each is also a reason of a status condition."""

    INVALID_MODEL_URI = "InvalidModelURI"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_ACCESS_DENIED = "ModelAccessDenied"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    UNSUPPORTED_FLAVOR = "UnsupportedFlavor"
    UNSUPPORTED_ARTIFACT_STORE = "UnsupportedArtifactStore"
    DIGEST_MISMATCH = "DigestMismatch"
    MODEL_TRUNCATED = "ModelTruncated"
    NO_SPACE = "NoSpaceForModel"
    NOT_AN_ONNX_MODEL = "NotAnOnnxModel"
    UNSUPPORTED_OPSET = "UnsupportedOpset"
    MODEL_LOAD_FAILED = "ModelLoadFailed"


class Message(BaseModel):
    """Base of what crosses between operator and server; unknown fields are a bug on either side."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServingConfig(Message):
    """What one model server serves, and within which limits."""

    modelName: str
    modelVersion: str
    digest: Digest
    threads: int = Field(default=1, ge=1, le=256, description="onnxruntime intra-op threads")
    requestTimeoutMilliseconds: int = Field(default=2000, ge=1)
    maxBodyBytes: int = Field(default=64 * 1024 * 1024, ge=1024, description="of these, 8 MiB of JSON")
    drainSeconds: int = Field(default=15, ge=0, le=600)


class ResolveTask(Message):
    """Find what a model URI means now: which version, which bytes."""

    uri: str
    digest: Digest | None = None
    maxBytes: int | None = Field(default=None, ge=1, description="room that the pods will have for the model")


class FetchTask(Message):
    """Bring exactly the files with this digest into :data:`MODEL_DIR`."""

    uri: str
    digest: Digest
    maxBytes: int | None = Field(default=None, ge=1, description="size limit of the volume, if it has one")


class Resolution(Message):
    """The answer of the resolver.

    ``uri`` is pinned: it names the same bytes whenever it is asked (``mlflow://fraud@champion`` becomes
    ``mlflow://fraud/3``). ``digest`` is the SHA-256 of the model's one file or, where it has several, of the
    lines ``<sha256>  <relative path>\\n`` sorted by path, as ``sha256sum`` prints them.
    """

    uri: str
    version: str
    digest: Digest
    bytes: int = Field(ge=0)


class Failure(Message):
    """Why it did not work, and what to do about it."""

    reason: ModelFault
    message: str = Field(max_length=1024)


class Resolved(Message):
    kind: Literal["Resolved"] = "Resolved"
    resolution: Resolution


class Fetched(Message):
    """The files with this digest are in :data:`MODEL_DIR`."""

    kind: Literal["Fetched"] = "Fetched"
    digest: Digest
    bytes: int = Field(ge=0)


class Failed(Message):
    kind: Literal["Failed"] = "Failed"
    failure: Failure


class Outcome(Message):
    """A container's last words, written to :data:`TERMINATION_PATH` (4,096 bytes at most)."""

    outcome: Annotated[Resolved | Fetched | Failed, Field(discriminator="kind")]


class Metric(StrEnum):
    """Names of the metrics that a model server exports."""

    REQUESTS = "slipway_inference_requests_total"
    DURATION = "slipway_inference_duration_seconds"
    ROWS = "slipway_inference_rows_total"
    IN_FLIGHT = "slipway_inference_in_flight"
    REJECTED = "slipway_inference_rejected_total"
    MODEL_INFO = "slipway_model_info"
    LOAD_SECONDS = "slipway_model_load_seconds"
