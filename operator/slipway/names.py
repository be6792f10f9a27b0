"""The contract's plain half: ports, paths, variables and enums, for whoever cannot wait for pydantic.

The model server starts in less time than importing pydantic takes, so it reads these and nothing else unless
something went wrong. Everyone else imports them from :mod:`slipway.contract`.
"""

from __future__ import annotations

from enum import StrEnum

#: The port of the Open Inference Protocol, on pods and Services alike.
HTTP_PORT = 8080
#: The port of the same protocol over gRPC.
GRPC_PORT = 9000
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


class Metric(StrEnum):
    """Names of the metrics that a model server exports."""

    REQUESTS = "slipway_inference_requests_total"
    DURATION = "slipway_inference_duration_seconds"
    ROWS = "slipway_inference_rows_total"
    IN_FLIGHT = "slipway_inference_in_flight"
    REJECTED = "slipway_inference_rejected_total"
    MODEL_INFO = "slipway_model_info"
    LOAD_SECONDS = "slipway_model_load_seconds"
