"""The contract's plain half: ports, paths, variables and enums, for whoever cannot wait for pydantic.

The model server starts in less time than importing pydantic takes, so it reads these and nothing else unless
something went wrong. Everyone else imports them from :mod:`slipway.contract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

#: What pip installs; ``slipway`` on PyPI is somebody else's.
DISTRIBUTION = "slipway-serving"

#: The resource.
GROUP = "slipway.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"

#: The port of the Open Inference Protocol, on pods and Services alike.
HTTP_PORT = 8080
#: The port of the same protocol over gRPC.
GRPC_PORT = 9000
#: The port of ``/metrics``; never behind a client's Service.
ADMIN_PORT = 8081

LIVE_PATH = "/v2/health/live"
READY_PATH = "/v2/health/ready"
METRICS_PATH = "/metrics"
#: What is judged, by cohort of callers; a page of its own, since nobody but the operator needs it.
COHORTS_PATH = "/metrics/cohorts"
#: ``POST /answers/SECONDS``: what was answered to which request since a mark; it goes on being remembered for
#: so long; see :mod:`slipway_server.monitoring.answers`.
ANSWERS_PATH = "/answers"
#: A header of that request: the mark of the answer before, or ``now`` for none. Nobody takes anything away
#: from whoever sends it.
ANSWERS_SINCE = "slipway-answers-since"
#: A header of the answer: up to where it goes.
ANSWERS_MARK = "slipway-answers-mark"

#: Where ``slipway-model fetch`` puts the model's files and the server reads them.
MODEL_DIR = "/var/run/slipway/model"
#: Tells ``slipway-model fetch`` of another directory.
MODEL_DIR_ENV = "SLIPWAY_MODEL_DIR"
#: What is known of the training data, beside the model; no part of the model, nor of its digest.
PROFILE_FILE = "profile.json"
#: The proof of its conversion, beside it in the same way.
PROOF_FILE = "conversion.json"
#: A larger profile is not read, in bytes: one of 200 features has 91 kB.
LARGEST_PROFILE = 4 * 1024 * 1024
#: Instead of a profile's digest, where a model was resolved without a profile.
NO_PROFILE = "none"
#: Where the Secret with the keys of feedback tokens is mounted: a file a key, the newest last by name.
FEEDBACK_KEYS_DIR = "/var/run/slipway/feedback-keys"
#: Where the Secret with the hashes of API keys is mounted: a file a caller.
ACCESS_KEYS_DIR = "/var/run/slipway/access-keys"
#: Where the public keys of issuers are mounted: a file ``NAME.json`` an issuer, a JSON Web Key Set in it.
ACCESS_ISSUERS_DIR = "/var/run/slipway/access-issuers"
#: The name there of the cluster itself, which issues ServiceAccounts' tokens; no issuer of a spec has it. Its
#: file has the member ``issuer`` as well.
CLUSTER_ISSUER = "_cluster"
#: A file there as well: certificates (PEM) of the authorities whose clients' certificates name callers.
CLIENT_CA_FILE = "_clients.pem"
#: Where the Secret with the server's own certificate is mounted, as ``tls.crt`` and ``tls.key``.
TLS_DIR = "/var/run/slipway/tls"
#: A caller's name among the hashes, a line of its file, and how many lines it may have.
CALLER_NAME = r"[-._a-zA-Z0-9]{1,64}"
KEY_HASH = r"sha256:[0-9a-f]{64}"
MOST_KEY_HASHES = 16
#: Where an audit finds the model to compare with, and the ConfigMap with its table.
BASELINE_DIR = "/var/run/slipway/baseline"
AUDIT_DATA_DIR = "/var/run/slipway/audit-data"
#: Holds an :class:`AuditTask` as JSON.
AUDIT_TASK_ENV = "SLIPWAY_AUDIT_TASK"
#: The most that an audit reads: bytes of a table once unpacked, and rows.
LARGEST_TABLE, MOST_AUDITED_ROWS = 64 * 1024 * 1024, 1_000_000
#: Scratch space of a pod whose root file system is read-only.
TMP_DIR = "/tmp"
#: Kubernetes reads a container's last words from here; they are a :class:`Outcome` as JSON.
TERMINATION_PATH = "/dev/termination-log"

#: Holds a :class:`ServingConfig` as JSON.
SERVING_CONFIG_ENV = "SLIPWAY_SERVING_CONFIG"
#: File descriptors that a server is started with, where another one answers on its ports until it is ready:
#: those that listen for REST, gRPC and metrics, and one to write to once it is ready.
INHERITED_ENV = "SLIPWAY_INHERITED"
#: Holds a :class:`ResolveTask` or a :class:`FetchTask` as JSON.
MODEL_TASK_ENV = "SLIPWAY_MODEL_TASK"
#: Keys of the credentials Secret reach ``slipway-model`` with this prefix (``envFrom`` with ``prefix``).
CREDENTIAL_ENV_PREFIX = "SLIPWAY_CREDENTIAL_"
#: Names the ServiceAccount by which ``slipway-model`` enters stores: a cloud's webhook gives it an identity.
STORE_IDENTITY_ENV = "SLIPWAY_STORE_IDENTITY"
#: Whatever its value: a model server that finds credentials of its pod's ServiceAccount does not serve.
WITHOUT_CREDENTIALS_ENV = "SLIPWAY_WITHOUT_CREDENTIALS"
#: Installation-wide default of the MLflow tracking server, given by the chart.
MLFLOW_TRACKING_URI_ENV = "SLIPWAY_MLFLOW_TRACKING_URI"
#: Public keys in PEM, one of which has to have signed the model.
PUBLIC_KEYS_ENV = "SLIPWAY_PUBLIC_KEYS"
#: Certificates in PEM of the authorities that a signer's certificate has to lead to.
AUTHORITIES_ENV = "SLIPWAY_AUTHORITIES"
#: Sigstore's ``trusted_root.json``, by which a keyless signature is verified.
TRUST_ROOT_ENV = "SLIPWAY_TRUST_ROOT"
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
    MODEL_CRASHED = "ModelCrashed"
    BUCKET_NOT_FOUND = "BucketNotFound"
    CREDENTIALS_EXPIRED = "CredentialsExpired"
    WRONG_REGION = "WrongRegion"
    MODEL_CHANGED = "ModelChangedWhileRead"
    STORE_THROTTLED = "StoreThrottled"
    ACCESS_KEYS_MISSING = "AccessKeysMissing"
    REPOSITORY_UNREADABLE = "RepositoryUnreadable"
    CREDENTIALS_INJECTED = "CredentialsInjected"
    MODEL_HAZARD = "ModelHazard"
    SIGNATURE_MISSING = "SignatureMissing"
    SIGNATURE_INVALID = "SignatureInvalid"
    PROVENANCE_MISSING = "ProvenanceMissing"
    PROVENANCE_INVALID = "ProvenanceInvalid"
    DEVICE_UNAVAILABLE = "DeviceUnavailable"


class Metric(StrEnum):
    """Names of the metrics that a model server exports."""

    REQUESTS = "slipway_inference_requests_total"
    DURATION = "slipway_inference_duration_seconds"
    ROWS = "slipway_inference_rows_total"
    IN_FLIGHT = "slipway_inference_in_flight"
    REJECTED = "slipway_inference_rejected_total"
    CRASHES = "slipway_model_crashes_total"
    MODEL_INFO = "slipway_model_info"
    LOAD_SECONDS = "slipway_model_load_seconds"
    FEATURE_VALUES = "slipway_feature_values_total"
    FEATURE_REFERENCE_RATIO = "slipway_feature_reference_ratio"
    FEATURE_REFERENCE_ROWS = "slipway_feature_reference_rows"
    VIOLATIONS = "slipway_input_violations_total"
    REPORTED = "slipway_reported_requests_total"
    PREDICTION_VALUES = "slipway_prediction_values_total"
    CONFIDENCE = "slipway_prediction_confidence_total"
    REFERENCE_ACCURACY = "slipway_reference_confidence_accuracy_ratio"
    GROUP_PREDICTIONS = "slipway_group_predictions_total"
    GROUP_FEEDBACK = "slipway_group_feedback_total"
    FEEDBACK = "slipway_feedback_total"
    FEEDBACK_LABELS = "slipway_feedback_labels_total"
    FEEDBACK_ERROR = "slipway_feedback_absolute_error"
    FEEDBACK_DELAY = "slipway_feedback_delay_seconds"
    DATA_AGE = "slipway_data_age_seconds"
    DATA_AGE_UNKNOWN = "slipway_data_age_unknown_rows_total"
    DATA_AGE_LIMIT = "slipway_data_age_limit_seconds"
    SUSPECT_INPUTS = "slipway_suspect_inputs_total"
    COMPARED_ROWS = "slipway_compared_rows_total"
    MONITORING_DROPPED = "slipway_monitoring_dropped_rows_total"
    MONITORED_FEATURES = "slipway_monitored_features"
    #: Of these the same by ``cohort``, which is one of few that callers are divided into.
    COHORT_FEATURE_VALUES = "slipway_cohort_feature_values_total"
    COHORT_VIOLATIONS = "slipway_cohort_input_violations_total"
    COHORT_DATA_AGE = "slipway_cohort_data_age_rows_total"
    COHORT_GROUP_PREDICTIONS = "slipway_cohort_group_predictions_total"
    COHORT_GROUP_FEEDBACK = "slipway_cohort_group_feedback_total"
    COHORT_FEEDBACK_LABELS = "slipway_cohort_feedback_labels_total"


#: What is judged, and what counts the same by cohort; the age of data by its buckets.
BY_COHORT: Mapping[str, Metric] = {
    Metric.FEATURE_VALUES: Metric.COHORT_FEATURE_VALUES,
    Metric.VIOLATIONS: Metric.COHORT_VIOLATIONS,
    f"{Metric.DATA_AGE}_bucket": Metric.COHORT_DATA_AGE,
    Metric.GROUP_PREDICTIONS: Metric.COHORT_GROUP_PREDICTIONS,
    Metric.GROUP_FEEDBACK: Metric.COHORT_GROUP_FEEDBACK,
    Metric.FEEDBACK_LABELS: Metric.COHORT_FEEDBACK_LABELS,
}
#: A cohort is of those who asked, or of those who labelled: its name begins so, and a number follows.
ASKED, LABELLED = "asked-", "labelled-"


class OperatorMetric(StrEnum):
    """Names of the operator's own metrics about ModelDeployments, their limits and their rollouts.

    Labels ``model`` and ``model_version`` are the model servers', so that their series can be joined; others
    carry ``namespace`` and ``name``.
    """

    INFO = "slipway_modeldeployment_info"
    READY = "slipway_modeldeployment_ready"
    #: ``namespace``, ``name``: since when the name that is followed cannot be looked up, since the epoch.
    REFRESH_FAILING_SINCE = "slipway_modeldeployment_refresh_failing_since_timestamp_seconds"
    REPLICAS = "slipway_modeldeployment_replicas"
    REVISION_READY_REPLICAS = "slipway_modeldeployment_revision_ready_replicas"
    LEADER = "leader_election_master_status"
    LOOP_LAG = "slipway_operator_loop_lag_seconds"
    #: ``observer``: what is due and waits for a place, and what could not be read last.
    OBSERVER_WAITING = "slipway_operator_observer_waiting"
    OBSERVER_FAILING = "slipway_operator_observer_failing"
    #: ``observer``, ``result``: ``read`` or ``unread``.
    OBSERVER_LOOKS = "slipway_operator_observer_looks_total"
    #: ``observer``: seconds that it waited for its place.
    OBSERVER_WAITED = "slipway_operator_observer_wait_seconds_total"
    CRD_MISSING_FIELDS = "slipway_operator_crd_missing_fields"
    #: ``namespace``: 1 for one that may not be listed.
    NAMESPACE_UNSEEN = "slipway_operator_namespace_unseen"
    #: ``namespace``, ``model``, ``limit``: of the spec; see :class:`slipway.core.monitoring.limits.Limit`.
    LIMIT = "slipway_monitoring_limit"
    #: ``namespace``, ``model``, ``model_version``, ``feature``: chi-square value that chance does not exceed.
    DRIFT_CRITICAL = "slipway_drift_critical_chi_square"
    #: ``namespace``, ``model``, ``with``: 1 for what windows are compared with.
    DRIFT_COMPARED_WITH = "slipway_drift_compared_with"
    #: ``namespace``, ``model``, ``attribute``, ``group``: 1 for the group that ratios are to.
    FAIRNESS_REFERENCE = "slipway_fairness_reference_group"
    #: ``namespace``, ``model``, ``model_version``: when the model that serves was made, since the epoch.
    MODEL_CREATED = "slipway_model_created_timestamp_seconds"
    #: ``namespace``, ``model``: of ``spec.card.maxAgeDays``.
    MODEL_MAX_AGE = "slipway_model_max_age_seconds"
    #: ``namespace``, ``model``, ``le``: 1 for the bound of the latency histogram that is fast enough.
    LATENCY_BOUND = "slipway_slo_latency_bound"
    #: ``namespace``, ``name``, ``condition``, ``status``: 1 for what monitoring says.
    VERDICT = "slipway_monitoring_verdict"
    ROLLOUT_WEIGHT = "slipway_rollout_weight"
    ROLLOUT_STEP = "slipway_rollout_step"
    ROLLOUT_PHASE = "slipway_rollout_phase"
    ROLLOUT_MIRROR = "slipway_rollout_mirror_percent"
    ROLLOUT_GATE_VERDICT = "slipway_rollout_gate_verdict"
    ROLLOUT_REJECTED = "slipway_rollout_rejected_revisions"
    #: ``namespace``, ``name``, ``status``: 1 for what the condition AuditsPassed is.
    AUDITS_PASSED = "slipway_audits_passed"
    #: ``namespace``, ``name``, ``audit``, ``revision``, and ``verdict``; or ``metric``, ``of``, ``bound``.
    AUDIT_VERDICT = "slipway_audit_verdict"
    AUDIT_VALUE = "slipway_audit_value"
    AUDIT_FINISHED = "slipway_audit_finished_timestamp_seconds"
    ROLLOUT_TRAFFIC = "slipway_rollout_traffic_seconds"
    #: ``phase``: ModelDeployments and groups of routers that wait for an upgrade, or are being upgraded.
    UPGRADES = "slipway_upgrades"
    #: ``namespace``, ``name``, ``kind``, ``phase``: 1 for each that is under way or stuck.
    UPGRADE = "slipway_modeldeployment_upgrade"
    UPGRADES_HALTED = "slipway_upgrades_halted"


#: Operators of onnxruntime-extensions by domain: the server has these, and the resolver lets them through.
#: Each was tried with hostile bytes and strings; others die of such, as CLIPTokenizer of a text that holds
#: one of its own marks.
EXTENSION_OPERATORS: Mapping[str, frozenset[str]] = {
    "com.microsoft.extensions": frozenset({"DecodeImage"}),
    "ai.onnx.contrib": frozenset(
        {
            "BertTokenizer",
            "GPT2Tokenizer",
            "RobertaTokenizer",
            "SentencepieceTokenizer",
            "StringConcat",
            "StringEqual",
            "StringLength",
            "StringLower",
            "StringRegexReplace",
            "StringSplit",
            "StringStrip",
            "StringToHashBucketFast",
            "StringUpper",
        }
    ),
}
