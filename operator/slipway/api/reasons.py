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
    #: Present and False while an autoscaler of Slipway does nothing.
    SCALING_ACTIVE = "ScalingActive"
    #: True once the revision that the spec asks for is the stable one.
    ROLLOUT_COMPLETE = "RolloutComplete"
    #: Present and True while a rollout waits for a person.
    SUSPENDED = "Suspended"
    #: What monitoring says of the stable revision. Drift is bad when True, the others when False.
    DRIFT = "Drift"
    DATA_QUALITY = "DataQuality"
    PERFORMANCE = "Performance"
    FAIRNESS = "Fairness"
    #: What audits say of the stable revision, or before there is one of the wanted one.
    AUDITS_PASSED = "AuditsPassed"
    #: Whether the pods check who asks.
    ACCESS_CONTROLLED = "AccessControlled"
    #: Present and False while a server of one's own serves, whose requests and answers nobody counts.
    WATCHED = "Watched"
    #: Present and True while processes of model servers died lately, and their pods serve on.
    CRASHING = "Crashing"
    #: kstatus: present and True while work is under way.
    RECONCILING = "Reconciling"
    #: kstatus: present and True when only a person can go on.
    STALLED = "Stalled"


class Reason(StrEnum):
    """CamelCase reasons; those of models stand in :class:`slipway.contract.ModelFault` too."""

    # Going well
    SERVING = "Serving"
    RESOLVED = "Resolved"
    REFRESH_FAILED = "RefreshFailed"
    AVAILABLE = "Available"
    ROUTED = "Routed"
    APPROXIMATE = "ApproximateSplit"
    ROLLED_OUT = "RolledOut"
    # Under way
    RESOLVING = "Resolving"
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    FOLLOWING = "FollowingName"
    SUSPENDED = "Suspended"
    WAITING_FOR_MODEL = "WaitingForModel"
    WAITING_FOR_REVISION = "WaitingForRevision"
    NO_READY_ENDPOINTS = "NoReadyEndpoints"
    RESTORED = "Restored"
    STABLE_FORGOTTEN = "StableRevisionForgotten"
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
    MODEL_CRASHED = "ModelCrashed"
    PROCESSES_ENDED = "ProcessesEnded"
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
    EXTERNAL_SERVER = "ExternalServer"
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
    PODS_LOST = "PodsLost"
    LATE = "ProgressDeadlineExceeded"
    # The rollout
    REJECTED = "Rejected"
    ROUTER_FULL = "RouterFull"
    ROUTER_UNAVAILABLE = "RouterUnavailable"
    SPLIT_MISMATCH = "SplitMismatch"
    # Audits
    AUDITING = "Auditing"
    AUDITS_PASSED = "AuditsPassed"
    AUDIT_FAILED = "AuditFailed"
    AUDIT_INCONCLUSIVE = "AuditInconclusive"
    AUDIT_ERROR = "AuditError"
    # What monitoring finds
    FEATURES_DRIFTED = "FeaturesDrifted"
    NO_DRIFT = "NoDrift"
    DATA_IS_GOOD = "DataIsGood"
    TOO_MUCH_MISSING = "TooMuchMissing"
    TOO_MANY_VIOLATIONS = "TooManyViolations"
    DATA_IS_STALE = "DataIsStale"
    MODEL_IS_STALE = "ModelIsStale"
    OBJECTIVES_MET = "ObjectivesMet"
    OBJECTIVE_MISSED = "ObjectiveMissed"
    FAIR = "WithinLimits"
    UNFAIR = "LimitExceeded"
    NO_REFERENCE = "NoReference"
    TOO_FEW_ROWS = "TooFewRows"
    TOO_FEW_LABELS = "TooFewLabels"
    TOO_SMALL_GROUPS = "TooSmallGroups"
    INCONCLUSIVE = "Inconclusive"
    ONE_CALLER_DECIDES = "OneCallerDecides"
    COUNTERS_UNAVAILABLE = "CountersUnavailable"
    JOB_CREATED = "JobCreated"
    GATEWAY_API_MISSING = "GatewayAPIMissing"
    WAITING_FOR_GATEWAY = "WaitingForGateway"
    ROUTE_REFUSED = "RouteRefusedByGateway"
    GATEWAY_NOT_ALLOWED = "GatewayNotAllowed"
    PROMETHEUS_NOT_ALLOWED = "PrometheusNotAllowed"
    # Who may ask
    ACCESS_OPEN = "AccessOpen"
    ACCESS_PENDING = "AccessPending"
    CALLERS_CHECKED = "CallersChecked"
    ACCESS_REQUIRED = "AccessRequired"
    CLUSTER_KEYS_UNREAD = "ClusterKeysUnread"
    ISSUER_KEYS_UNREAD = "IssuerKeysUnread"
    ISSUER_NOT_ALLOWED = "IssuerNotAllowed"
    # The installation
    CUDA_IMAGE_MISSING = "CUDAImageMissing"
    UPGRADING = "Upgrading"
    UPGRADE_STUCK = "UpgradeStuck"
    # The resource and its children
    CLAIMED_ELSEWHERE = "ClaimedElsewhere"
    NAME_TAKEN = "NameTaken"
    FOREIGN_CHANGE = "ForeignChange"
    SCALING_INACTIVE = "ScalingInactive"
    INVALID_RESOURCE = "InvalidResource"
    STATUS_FROM_ANOTHER_VERSION = "StatusFromAnotherVersion"
    ROUTES_FROM_ANOTHER_VERSION = "RoutesFromAnotherVersion"
    REFUSED_BY_API_SERVER = "RefusedByAPIServer"


@dataclass(frozen=True)
class Explanation:
    """What a reason means, and what a person can do about it."""

    meaning: str
    next_step: str


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.SERVING: Explanation("The stable revision has ready endpoints behind the Service.", "None."),
    Reason.RESOLVED: Explanation("The model URI was resolved to a version and a digest.", "None."),
    Reason.REFRESH_FAILED: Explanation(
        "The version is known and serves, but the name that the spec follows cannot be looked up any more.",
        "Set the alias again, see that the registry answers, or change spec.model.uri.",
    ),
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
    Reason.ROLLED_OUT: Explanation("The wanted revision is the stable one.", "None."),
    Reason.FOLLOWING: Explanation(
        "The spec did not change: a name that it follows means another version now, which is to take over.",
        "None; the stable revision serves. Read the message for what it waits for.",
    ),
    Reason.SUSPENDED: Explanation(
        "The wanted revision waits for a person; the stable one serves meanwhile.",
        "Do what the message proposes: kubectl slipway promote, resume or abort, or set spec.rollout.paused: "
        "false.",
    ),
    Reason.WAITING_FOR_MODEL: Explanation(
        "Nothing can start before the model is resolved.", "Read ModelResolved."
    ),
    Reason.WAITING_FOR_REVISION: Explanation("No revision is ready to be routed to.", "Read RevisionReady."),
    Reason.NO_READY_ENDPOINTS: Explanation(
        "No pod of the stable revision is ready.", "Look at the pods: kubectl describe pods."
    ),
    Reason.RESTORED: Explanation(
        "The resource was brought here with its status, and pods of its stable revision are not ready yet. "
        "Until they are, no other revision takes over that was still being judged or waited for approval.",
        "Wait; where its pods do not become ready, look at them: kubectl describe pods.",
    ),
    Reason.STABLE_FORGOTTEN: Explanation(
        "Neither the ControllerRevision nor the Deployment of the stable revision is there, as after a "
        "restore without ControllerRevisions, and the spec differs from it in more than the model.",
        "Apply the ControllerRevision that the message names from the backup, without ownerReferences, or "
        "set the spec back to what it was. Or let the wanted revision take over: kubectl slipway "
        "promote-full, after kubectl slipway retry where it was rejected.",
    ),
    Reason.NAMESPACE_TERMINATING: Explanation(
        "The namespace is being deleted.", "None; nothing new is created."
    ),
    Reason.INVALID_MODEL_URI: Explanation("The model URI cannot be read.", "Fix spec.model.uri."),
    Reason.MODEL_NOT_FOUND: Explanation(
        "The store has no such model, version, alias or file.", "Register it, or fix spec.model.uri."
    ),
    Reason.MODEL_ACCESS_DENIED: Explanation(
        "The store refused the credentials (401 or 403).",
        "Fix the Secret that spec.model.credentials names.",
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
        "The bytes are not those that were requested or resolved.",
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
    Reason.MODEL_HAZARD: Explanation(
        "Something in the model's graph could take a server down, such as a loop that runs as often as a "
        "request decides, or an operator that is not onnxruntime's; the message names the node.",
        "Export the model without it, or take it on with spec.model.verify.hazards.onFinding: Report.",
    ),
    Reason.SIGNATURE_MISSING: Explanation(
        "There is no model.sig next to the model and, of oci://, no signature by cosign of its manifest, and "
        "spec.model.verify.signature wants a signature.",
        "Sign the model's folder with slipway sign and put model.sig next to the model, or sign the manifest "
        "with cosign sign.",
    ),
    Reason.SIGNATURE_INVALID: Explanation(
        "The signature of the model is by nobody who is trusted, or for other files, another profile or "
        "another manifest.",
        "Read the message; sign what is to be served, or restore what was signed.",
    ),
    Reason.PROVENANCE_MISSING: Explanation(
        "There is no provenance.sigstore.json next to the model and, of oci://, no provenance is attached to "
        "its manifest, and spec.model.verify.provenance wants it.",
        "Put the attestation that the build made next to the model under that name, or attach it to the "
        "manifest, as cosign attest and GitHub's attest-build-provenance do.",
    ),
    Reason.PROVENANCE_INVALID: Explanation(
        "The provenance of the model is signed by nobody who is trusted, is about other files, or "
        "names another builder or another source than spec.model.verify.provenance.",
        "Read the message; build the model where it has to be built, or fix spec.model.verify.provenance.",
    ),
    Reason.DEVICE_UNAVAILABLE: Explanation(
        "CUDA, which spec.runtime.device asks for, does not start in the pod, for want of its libraries, the "
        "node's driver or a device. Nothing is served on the CPU instead.",
        "Read the message, which names what is missing; docs/pods.md.",
    ),
    Reason.UNSUPPORTED_OPSET: Explanation(
        "The model uses an opset or IR version that this onnxruntime lacks.",
        "Export with a lower target opset.",
    ),
    Reason.MODEL_LOAD_FAILED: Explanation(
        "The runtime, onnxruntime, refused the model.", "Read the message."
    ),
    Reason.MODEL_CRASHED: Explanation(
        "The model ends the process that runs it, again and again.",
        "Read the message, which names the operator where it can be known; export the model without it.",
    ),
    Reason.PROCESSES_ENDED: Explanation(
        "Processes that run the model died within the last 15 minutes; the pods started others and serve on. "
        "A request that ended a run is refused (422) from then on.",
        "Read the log by the command in the message: it tells who sent such requests and which operators are "
        "in doubt. Export the model without these, or keep the sender away; docs/model-server.md.",
    ),
    Reason.BUCKET_NOT_FOUND: Explanation(
        "The store has no such bucket or container.", "Create it, or fix spec.model.uri or the endpoint."
    ),
    Reason.CREDENTIALS_EXPIRED: Explanation(
        "The credentials for the store were good once and are no more.",
        "Put new ones into the Secret that spec.model.credentials names.",
    ),
    Reason.WRONG_REGION: Explanation(
        "The bucket is in another region than the one that got the request.",
        "Give AWS_REGION in the Secret that spec.model.credentials names.",
    ),
    Reason.MODEL_CHANGED: Explanation(
        "Somebody replaced the object while it was being read.",
        "None, it is tried again by itself; give each version a key of its own.",
    ),
    Reason.STORE_THROTTLED: Explanation(
        "The store asks to slow down, after several tries too.",
        "None, it is tried again by itself; or raise the store's limit.",
    ),
    Reason.ACCESS_KEYS_MISSING: Explanation(
        "What spec.access names, the Secret of API keys or the public keys of issuers, is not there, or has "
        "no usable key; pods that ran before answer 503, and new ones do not start.",
        "Make a key with kubectl slipway key new, or put the issuers' keys where spec.access names "
        "them; the pod's log shows what is wrong with those there are.",
    ),
    Reason.ACCESS_OPEN: Explanation(
        "Everybody who reaches the model's pods may use it.",
        "Give spec.access, or keep others away by a NetworkPolicy; docs/access.md.",
    ),
    Reason.ACCESS_PENDING: Explanation(
        "Pods that do not check callers, or check them by other rules, are there still.",
        "Wait; if it stays so, read Reconciling, Stalled and status.upgrade.",
    ),
    Reason.CALLERS_CHECKED: Explanation("Every pod checks callers as spec.access requires.", "None."),
    Reason.ACCESS_REQUIRED: Explanation(
        "This installation takes no ModelDeployment without spec.access (access.required of the chart's "
        "values). Nothing is changed; what serves already goes on as it is.",
        "Give spec.access; docs/access.md.",
    ),
    Reason.CUDA_IMAGE_MISSING: Explanation(
        "This installation has no image for CUDA, which spec.runtime.device, or a revision that served "
        "before, needs. Nothing is changed; what serves already goes on as it is.",
        "Have server.cudaImage of the chart's values set, or name an image in spec.runtime.image; "
        "docs/pods.md.",
    ),
    Reason.CLUSTER_KEYS_UNREAD: Explanation(
        "The API server does not show the keys by which it signs tokens of ServiceAccounts, which "
        "spec.access.serviceAccounts needs. Nothing is changed; what serves already goes on as it is.",
        "Read the message; the ClusterRole system:service-account-issuer-discovery lets the operator read "
        "them.",
    ),
    Reason.ISSUER_KEYS_UNREAD: Explanation(
        "An address that spec.access.issuers names does not show the issuer's public keys, and never did. "
        "Nothing is changed; what serves already goes on as it is.",
        "Read the message; the operator has to reach the address, and asks again by itself.",
    ),
    Reason.ISSUER_NOT_ALLOWED: Explanation(
        "This installation does not let the operator read an address that spec.access.issuers names. Nothing "
        "is changed; what serves already goes on as it is.",
        "Have it added to the chart's value access.issuers, or give the keys by reference.",
    ),
    Reason.REPOSITORY_UNREADABLE: Explanation(
        "The Git repository answers, but what it holds is too large, or not as Git and DVC write it.",
        "Read the message, which names the file or the bound.",
    ),
    Reason.CREDENTIALS_INJECTED: Explanation(
        "Something put credentials of model.credentials.serviceAccountName into the container that serves, "
        "which refuses to start with them.",
        "Keep the webhook that the message names away from the container server, or use secretRef.",
    ),
    Reason.EXTERNAL_SERVER: Explanation(
        "A server of your own serves (runtime.server: External): what it reads and answers is not counted.",
        "None; the message lists what is counted all the same. docs/servers-of-your-own.md.",
    ),
    Reason.RESOLVER_FAILED: Explanation(
        "The resolver pod ended without an answer.", "Look at its log; it is tried again by itself."
    ),
    Reason.SECRET_NOT_FOUND: Explanation("A Secret or a key that pods need is missing.", "Create it."),
    Reason.VOLUME_NOT_FOUND: Explanation(
        "A volume cannot be mounted.", "Create the claim that the URI names."
    ),
    Reason.IMAGE_PULL_FAILED: Explanation(
        "The image cannot be pulled.",
        "Fix spec.runtime.image or the node's access to the registry; a private one needs "
        "spec.runtime.pod.imagePullSecrets.",
    ),
    Reason.UNSCHEDULABLE: Explanation(
        "No node fits the pod. For five minutes an autoscaler may add one, as Reconciling reports; "
        "then Stalled.",
        "Lower the requests, fix nodeSelector or tolerations, or add nodes.",
    ),
    Reason.QUOTA_EXCEEDED: Explanation(
        "A ResourceQuota leaves no room. For five minutes other pods may leave, as Reconciling reports; "
        "then Stalled.",
        "Raise the quota or lower the requests.",
    ),
    Reason.POD_REFUSED: Explanation(
        "Admission refused the pod.",
        "Read the message; fix the policy, spec.runtime.resources or spec.runtime.pod.",
    ),
    Reason.OUT_OF_MEMORY: Explanation(
        "The server was killed at its memory limit.", "Raise spec.runtime.resources.limits.memory."
    ),
    Reason.PROBE_FAILING: Explanation("The server runs but does not become ready.", "Look at the pod's log."),
    Reason.CONTAINER_CRASHING: Explanation("The server keeps exiting.", "Look at the pod's log."),
    Reason.PODS_LOST: Explanation(
        "The cluster took a pod away: it was evicted, preempted or ended, or its node is gone.",
        "None; another pod takes its place, and the model is not judged by it.",
    ),
    Reason.LATE: Explanation(
        "The revision's pods have not become ready in time, for no known reason.",
        "Look at the pods: kubectl describe pods.",
    ),
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
        "Look at the pods of Deployment slipway-router, slipway-router-2 and so on or, with "
        "spec.traffic.router Dedicated, slipway-router-NAME.",
    ),
    Reason.SPLIT_MISMATCH: Explanation(
        "The canary gets another share of the requests than its weight; they are no evidence.",
        "Look for whoever else writes the routers' ConfigMaps or sends requests to their pods.",
    ),
    Reason.AUDITING: Explanation(
        "A Job audits the revision, which has no pods before it passes; the stable one serves meanwhile.",
        "Wait; the message names what the Job waits for.",
    ),
    Reason.AUDITS_PASSED: Explanation("Every audit of rollout.audits was passed.", "None."),
    Reason.AUDIT_FAILED: Explanation(
        "An audit found the revision beyond a limit of rollout.audits; one that serves goes on serving.",
        "Train the model again, or change the limit; docs/audits.md explains the figures.",
    ),
    Reason.AUDIT_INCONCLUSIVE: Explanation(
        "The audit's table has too few rows, of all or of a group, to tell.",
        "Give the table more rows, or set onInconclusive: Continue.",
    ),
    Reason.AUDIT_ERROR: Explanation(
        "An audit could not be done, or its answer is not believed; it is tried again every 5 minutes.",
        "Fix what the message names: the ConfigMap, its columns, the digest, or spec.runtime.resources.",
    ),
    Reason.FEATURES_DRIFTED: Explanation(
        "Inputs are spread otherwise than the reference; the message names the features and by how much.",
        "Retrain if the world has changed, fix the source if it has not.",
    ),
    Reason.NO_DRIFT: Explanation("No feature moved by more than chance and the limit allow.", "None."),
    Reason.DATA_IS_GOOD: Explanation("Missing and invalid values are within their limits.", "None."),
    Reason.TOO_MUCH_MISSING: Explanation(
        "More values of a feature are missing than spec.monitoring.dataQuality allows.",
        "Fix the source of the feature that the message names.",
    ),
    Reason.TOO_MANY_VIOLATIONS: Explanation(
        "More values break a rule, or are of an unknown category, than spec.monitoring.dataQuality allows.",
        "Fix the source, or the rule in spec.inputs.",
    ),
    Reason.DATA_IS_STALE: Explanation(
        "Half of the data is older than it may be.", "Fix the pipeline that brings it."
    ),
    Reason.MODEL_IS_STALE: Explanation("The model is older than it may be.", "Retrain it."),
    Reason.OBJECTIVES_MET: Explanation("The model is right as often as its objectives ask.", "None."),
    Reason.OBJECTIVE_MISSED: Explanation(
        "By the labels that came, the model is right less often than an objective asks.",
        "Retrain, or go back to an earlier version.",
    ),
    Reason.FAIR: Explanation("Groups are no further apart than the limits allow.", "None."),
    Reason.UNFAIR: Explanation(
        "Groups are further apart than a limit allows, and that is not chance.",
        "Look at the report's groups; fix the model or its threshold.",
    ),
    Reason.NO_REFERENCE: Explanation(
        "There is nothing to compare inputs with.",
        "Log a profile next to the model with slipway profile, or wait for a day of counts.",
    ),
    Reason.TOO_FEW_ROWS: Explanation("Too few rows came within the window to say anything.", "Wait."),
    Reason.TOO_FEW_LABELS: Explanation(
        "Too few labels came within the window to say anything.", "Send labels, or wait."
    ),
    Reason.TOO_SMALL_GROUPS: Explanation(
        "Too few rows or labels of the groups came within the window to say anything.", "Wait."
    ),
    Reason.ONE_CALLER_DECIDES: Explanation(
        "It would be a breach, but not without the rows or labels of one of the cohorts that callers are "
        "divided into: one caller alone may have brought it about. onBreach does nothing.",
        "Look at what the callers send, slipway_cohort_* by cohort; roll back by hand if it is true.",
    ),
    Reason.INCONCLUSIVE: Explanation(
        "A figure is beyond its limit, but chance could have done that.", "Wait for more rows or labels."
    ),
    Reason.COUNTERS_UNAVAILABLE: Explanation(
        "No pod of the stable version could be read for a while, so that nothing is known of it.",
        "Look at the pods, and at NetworkPolicies that keep the operator from their port 8081.",
    ),
    Reason.JOB_CREATED: Explanation(
        "Something is bad, and spec.monitoring.onBreach has a Job do something about it.",
        "Look at the Job that the message names.",
    ),
    Reason.GATEWAY_API_MISSING: Explanation(
        "The cluster does not know HTTPRoutes, so that no Gateway can lead to the model; its Service does.",
        "Install the Gateway API's CRDs and a controller, or set spec.traffic.provider to Router.",
    ),
    Reason.WAITING_FOR_GATEWAY: Explanation(
        "No Gateway has answered for the HTTPRoute yet.",
        "Wait; if it stays so, see that the Gateways of spec.traffic.gatewayAPI have a controller.",
    ),
    Reason.ROUTE_REFUSED: Explanation(
        "A Gateway does not accept the HTTPRoute, or cannot resolve what it leads to.",
        "Read the message; fix spec.traffic.gatewayAPI or the Gateway's listeners.",
    ),
    Reason.GATEWAY_NOT_ALLOWED: Explanation(
        "The installation does not allow the namespace this Gateway, or this host name on it; there is no "
        "HTTPRoute, and the model's Service leads to it.",
        "Have the Gateway and the host name added to the chart's value gatewayAPI.allow, or use a Gateway of "
        "the ModelDeployment's own namespace.",
    ),
    Reason.PROMETHEUS_NOT_ALLOWED: Explanation(
        "The installation does not allow the Prometheus that the rollout names; it is not asked, so that "
        "rollouts hold.",
        "Have its address added to the chart's value rollouts.prometheus.addresses, or remove "
        "spec.rollout.analysis.prometheus: the routers' own counts are used then.",
    ),
    Reason.CLAIMED_ELSEWHERE: Explanation(
        "Another installation of Slipway looks after the ModelDeployments of the namespace; the one that "
        "reports this leaves them alone.",
        "Have one installation watch the namespace; the message explains how it is handed over.",
    ),
    Reason.SCALING_INACTIVE: Explanation(
        "An autoscaler of Slipway does nothing: it cannot read the pods, or another one counts them too.",
        "Read the message; delete the other autoscaler, or see that the cluster has a metrics server.",
    ),
    Reason.FOREIGN_CHANGE: Explanation(
        "Somebody changed a child object: a variable, a container, a volume or a port was added.",
        "Change the ModelDeployment or the chart's values instead; where a webhook does it, it stays.",
    ),
    Reason.UPGRADING: Explanation(
        "The installation, spec.runtime.pod or spec.access changed; pods are replaced by the same ones with "
        "the newest template.",
        "None.",
    ),
    Reason.UPGRADE_STUCK: Explanation(
        "New pods of a changed installation, or of a changed spec.runtime.pod or spec.access, do not become "
        "ready; the old ones serve on.",
        "Read status.upgrade; fix what it names, or set back what changed: the spec, or the chart's values "
        "by helm rollback.",
    ),
    Reason.NAME_TAKEN: Explanation(
        "An object of somebody else has a name that Slipway needs.",
        "Delete or rename it, or rename this resource.",
    ),
    Reason.INVALID_RESOURCE: Explanation(
        "The resource does not fit the schema this operator knows.",
        "Upgrade the operator or the CRD, or fix the field.",
    ),
    Reason.STATUS_FROM_ANOTHER_VERSION: Explanation(
        "Status holds what this operator cannot read, as after going back to an older one. Nothing is "
        "decided, nothing of status is lost, and what serves goes on.",
        "Run the operator's newer version again. Where somebody wrote status by hand, take out the field "
        "that the message names: kubectl edit --subresource=status.",
    ),
    Reason.ROUTES_FROM_ANOTHER_VERSION: Explanation(
        "The routers' ConfigMap holds routes that this operator cannot read. Routers go on as they are, and "
        "take up nothing new.",
        "Run the operator's newer version again, or delete the ConfigMap that the message names: its routes "
        "are written again from status, and none that serves is closed.",
    ),
    Reason.REFUSED_BY_API_SERVER: Explanation("The API server refused a child object.", "Read the message."),
}
