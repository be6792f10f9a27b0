"""Every reason that a condition or an Event can carry, with its meaning and the next step.

The table in ``docs/reasons.md`` is generated from this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConditionType(StrEnum):
    """Types of the conditions of a ModelDeployment."""

    READY = "Ready"
    MODEL_RESOLVED = "ModelResolved"
    REVISION_READY = "RevisionReady"
    ROUTE_READY = "RouteReady"
    TRAFFIC_SYNCED = "TrafficSynced"
    #: kstatus: present and True while work is under way.
    RECONCILING = "Reconciling"
    #: kstatus: present and True when only a person can go on.
    STALLED = "Stalled"


class Reason(StrEnum):
    """CamelCase reasons; those of models stand in :class:`slipway.contract.ModelFault` too."""

    # Going well
    SERVING = "Serving"
    RESOLVED = "Resolved"
    AVAILABLE = "Available"
    ROUTED = "Routed"
    APPROXIMATE = "ApproximateSplit"
    # Under way
    RESOLVING = "Resolving"
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    WAITING_FOR_MODEL = "WaitingForModel"
    WAITING_FOR_REVISION = "WaitingForRevision"
    NO_READY_ENDPOINTS = "NoReadyEndpoints"
    NAMESPACE_TERMINATING = "NamespaceTerminating"
    # The model
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
    RESOLVER_FAILED = "ResolverFailed"
    # The pods
    SECRET_NOT_FOUND = "SecretNotFound"
    VOLUME_NOT_FOUND = "VolumeNotFound"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_REFUSED = "PodRefused"
    OUT_OF_MEMORY = "OutOfMemory"
    PROBE_FAILING = "ProbeFailing"
    CONTAINER_CRASHING = "ContainerCrashing"
    # The rollout
    REJECTED = "Rejected"
    ROUTER_FULL = "RouterFull"
    ROUTER_UNAVAILABLE = "RouterUnavailable"
    SPLIT_MISMATCH = "SplitMismatch"
    # The resource and its children
    NAME_TAKEN = "NameTaken"
    INVALID_RESOURCE = "InvalidResource"
    REFUSED_BY_API_SERVER = "RefusedByAPIServer"


@dataclass(frozen=True)
class Explanation:
    """What a reason means, and what a person can do about it."""

    meaning: str
    next_step: str


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.SERVING: Explanation("The stable revision has ready endpoints behind the Service.", "None."),
    Reason.RESOLVED: Explanation("The model URI was resolved to a version and a digest.", "None."),
    Reason.AVAILABLE: Explanation("The wanted revision's pods are ready.", "None."),
    Reason.ROUTED: Explanation("The Service leads to ready pods of the stable revision.", "None."),
    Reason.APPROXIMATE: Explanation(
        "Traffic is split by numbers of pods, one new connection at a time; shares come in steps of one pod.",
        "None; spec.traffic.provider Router splits requests exactly.",
    ),
    Reason.RESOLVING: Explanation("A pod is finding the model's version and digest.", "Wait."),
    Reason.STARTING: Explanation("The revision's pods are starting.", "Wait."),
    Reason.ROLLING_OUT: Explanation(
        "A new revision is starting; the stable one serves meanwhile.", "Wait, or read RevisionReady."
    ),
    Reason.WAITING_FOR_MODEL: Explanation(
        "Nothing can start before the model is resolved.", "Read ModelResolved."
    ),
    Reason.WAITING_FOR_REVISION: Explanation("No revision is ready to be routed to.", "Read RevisionReady."),
    Reason.NO_READY_ENDPOINTS: Explanation(
        "No pod of the stable revision is ready.", "Look at the pods: kubectl describe pods."
    ),
    Reason.NAMESPACE_TERMINATING: Explanation(
        "The namespace is being deleted.", "None; nothing new is created."
    ),
    Reason.INVALID_MODEL_URI: Explanation("The model URI cannot be read.", "Mend spec.model.uri."),
    Reason.MODEL_NOT_FOUND: Explanation(
        "The store has no such model, version, alias or file.", "Register it, or mend spec.model.uri."
    ),
    Reason.MODEL_ACCESS_DENIED: Explanation(
        "The store refused the credentials (401 or 403).",
        "Mend the Secret that spec.model.credentials names.",
    ),
    Reason.REGISTRY_UNREACHABLE: Explanation(
        "The model store does not answer.",
        "Check its address and NetworkPolicy; it is tried again by itself.",
    ),
    Reason.UNSUPPORTED_FLAVOR: Explanation(
        "The MLflow model has no ONNX flavor.", "Log one with mlflow.onnx.log_model."
    ),
    Reason.UNSUPPORTED_ARTIFACT_STORE: Explanation(
        "MLflow does not proxy the artifacts.", "Run the tracking server with --serve-artifacts."
    ),
    Reason.DIGEST_MISMATCH: Explanation(
        "The bytes are not those that were asked for or resolved.",
        "Find out who changed them; then set spec.model.digest to what is right.",
    ),
    Reason.MODEL_TRUNCATED: Explanation(
        "The file ended early.", "Upload it again; it is tried again by itself."
    ),
    Reason.NO_SPACE: Explanation(
        "The model does not fit the pod's scratch space.", "Raise the node's ephemeral storage."
    ),
    Reason.NOT_AN_ONNX_MODEL: Explanation(
        "The file is not an ONNX model, or is damaged.", "Export the model as ONNX."
    ),
    Reason.UNSUPPORTED_OPSET: Explanation(
        "The model uses an opset or IR version that this onnxruntime lacks.",
        "Export with a lower target opset.",
    ),
    Reason.MODEL_LOAD_FAILED: Explanation(
        "The runtime, onnxruntime, refused the model.", "Read the message."
    ),
    Reason.RESOLVER_FAILED: Explanation(
        "The resolver pod ended without an answer.", "Look at its log; it is tried again by itself."
    ),
    Reason.SECRET_NOT_FOUND: Explanation("A Secret or a key that pods need is missing.", "Create it."),
    Reason.VOLUME_NOT_FOUND: Explanation(
        "A volume cannot be mounted.", "Create the claim that the URI names."
    ),
    Reason.IMAGE_PULL_FAILED: Explanation(
        "The image cannot be pulled.", "Mend spec.runtime.image or the node's access to the registry."
    ),
    Reason.UNSCHEDULABLE: Explanation(
        "No node fits the pod.", "Lower the requests, mend nodeSelector or tolerations, or add nodes."
    ),
    Reason.QUOTA_EXCEEDED: Explanation(
        "A ResourceQuota leaves no room.", "Raise the quota or lower the requests."
    ),
    Reason.POD_REFUSED: Explanation(
        "Admission refused the pod.", "Read the message; mend the policy or the spec."
    ),
    Reason.OUT_OF_MEMORY: Explanation(
        "The server was killed at its memory limit.", "Raise spec.runtime.resources.limits.memory."
    ),
    Reason.PROBE_FAILING: Explanation("The server runs but does not become ready.", "Look at the pod's log."),
    Reason.CONTAINER_CRASHING: Explanation("The server keeps exiting.", "Look at the pod's log."),
    Reason.REJECTED: Explanation(
        "The wanted revision was found bad and is not tried again by itself; the stable one serves.",
        "Register a better model, or kubectl slipway retry.",
    ),
    Reason.ROUTER_FULL: Explanation(
        "The routers of the namespace have no room for this model.",
        "Set spec.traffic.router to Dedicated.",
    ),
    Reason.ROUTER_UNAVAILABLE: Explanation(
        "No router is ready; the model is reached without them, or by those that it had before.",
        "Look at the pods of Deployment slipway-router or, with spec.traffic.router Dedicated, "
        "slipway-router-NAME.",
    ),
    Reason.SPLIT_MISMATCH: Explanation(
        "The canary gets another share of the requests than its weight says; they are no evidence.",
        "Look for whoever else writes the routers' ConfigMaps or sends requests to their pods.",
    ),
    Reason.NAME_TAKEN: Explanation(
        "An object of somebody else has a name that Slipway needs.",
        "Delete or rename it, or rename this resource.",
    ),
    Reason.INVALID_RESOURCE: Explanation(
        "The resource does not fit the schema this operator knows.",
        "Upgrade the operator or the CRD, or mend the field.",
    ),
    Reason.REFUSED_BY_API_SERVER: Explanation("The API server refused a child object.", "Read the message."),
}
