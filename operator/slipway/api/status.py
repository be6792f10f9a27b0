"""``status``: what the operator saw and did, and what it has to remember."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.audits import MAX_AUDIT_RESULTS, AuditResult
from slipway.api.base import INT32, Block
from slipway.api.rollout import MAX_PREVIOUS
from slipway.api.rollout_status import MAX_HISTORY, MAX_REJECTED, DecisionStatus, Rejection, RolloutStatus
from slipway.api.verdicts import MonitoringStatus
from slipway.contract import ProfileDigest


class Condition(Block):
    """As ``metav1.Condition``."""

    type: str = Field(max_length=316, description="What the condition is about, such as Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Why, in one word; docs/reasons.md explains each.",
    )
    message: str = Field(max_length=32768, description="The fact and the next step.")
    observedGeneration: int = Field(ge=0, description="metadata.generation that this was seen for.")
    lastTransitionTime: str = Field(
        max_length=64, description="When status last changed.", json_schema_extra={"format": "date-time"}
    )


class ConversionStatus(Block):
    """The proof of a conversion, conversion.json next to the model, in short."""

    digest: str | None = Field(default=None, max_length=71, description="SHA-256 of conversion.json.")
    modelDigest: str | None = Field(
        default=None, max_length=71, description="SHA-256 of the model that it is of."
    )
    problem: str | None = Field(
        default=None,
        max_length=300,
        description="Why it proves nothing of this model; absent where it does.",
    )
    original: str | None = Field(
        default=None,
        max_length=200,
        description="Class of what was converted, such as sklearn.pipeline.Pipeline.",
    )
    convertedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When it was converted.",
        json_schema_extra={"format": "date-time"},
    )
    tolerance: str | None = Field(
        default=None, max_length=32, description="Largest difference of answers that was allowed."
    )
    rows: int | None = Field(
        default=None, ge=0, le=INT32, description="Rows of data that the original and the model answered."
    )
    labelsDiffer: int | None = Field(
        default=None, ge=0, le=INT32, description="Of these, rows with another label."
    )
    largestDifference: str | None = Field(
        default=None, max_length=32, description="Of numbers in the answers to these rows."
    )
    edgeRows: int | None = Field(
        default=None,
        ge=0,
        le=INT32,
        description="Rows at edges that both answered, such as close to thresholds.",
    )
    accepted: tuple[Annotated[str, Field(max_length=32, description="Kind of rows.")], ...] | None = Field(
        default=None,
        max_length=6,
        description="Kinds of rows where answers differ by more than the tolerance, which was accepted.",
    )


class ProvenanceStatus(Block):
    """Where a model was built, and from what, as the provenance says that was verified."""

    builder: str = Field(max_length=512, description="The builder's id.")
    source: str = Field(max_length=256, description="The repository, without scheme.")
    commit: str | None = Field(default=None, max_length=64, description="Its commit, where that is said.")


class ModelStatus(Block):
    """What the model URI was resolved to."""

    uri: str = Field(max_length=1024, description="The URI as asked.")
    resolvedURI: str = Field(max_length=1024, description="The URI that names these bytes for good.")
    version: str = Field(max_length=256, description="The store's own name of the version.")
    digest: str = Field(max_length=71, description="SHA-256 of the model's files.")
    bytes: int = Field(ge=0, description="Size of the model's files.")
    createdAt: str | None = Field(
        default=None,
        max_length=64,
        description="When MLflow or the bucket got the version; elsewhere, when it was first seen.",
        json_schema_extra={"format": "date-time"},
    )
    mark: str | None = Field(
        default=None,
        max_length=128,
        description="The store's own mark of these bytes, by which a later look finds them unchanged.",
    )
    profile: ProfileDigest | None = Field(
        default=None,
        max_length=71,
        description="SHA-256 of the profile next to the model, or none; absent where it was resolved by an "
        "operator that pinned no profile.",
    )
    signedBy: str | None = Field(
        default=None,
        max_length=600,
        description="Who signed model and profile: the SHA-256 of the public key, or the identity that the "
        "certificate names.",
    )
    verifiedFor: str | None = Field(
        default=None,
        max_length=64,
        description="Hash of the spec.model.verify.signature and provenance that it passed.",
    )
    provenance: ProvenanceStatus | None = Field(
        default=None, description="Where it was built, if spec.model.verify.provenance asks for that."
    )
    conversion: ConversionStatus | None = Field(
        default=None, description="The proof of its conversion in short, where there is one."
    )
    folder: bool | None = Field(
        default=None,
        description="Whether its files are all those of a folder, rather than an ONNX model and what it "
        "refers to; absent where runtime.server was not External.",
    )


class ServerStatus(Block):
    """Where a server of one's own is reached in its pods."""

    httpPort: int = Field(ge=1, le=65535, description="Port of HTTP.")
    grpcPort: int | None = Field(default=None, ge=1, le=65535, description="Port of gRPC, if it has one.")
    readyPath: str = Field(max_length=256, description="Path that answers whether it is ready.")


class CrashStatus(Block):
    """Processes of a revision's model servers that died while their pods served on."""

    since: str = Field(
        max_length=64,
        description="When the first one was seen; with none for 15 minutes it is over.",
        json_schema_extra={"format": "date-time"},
    )
    runs: int = Field(
        ge=0,
        le=INT32,
        description="At least so many runs of the model ended their process: 1, 2, 5, 10, 20 and so on.",
    )
    servers: int = Field(ge=0, le=INT32, description="Likewise, server processes that were started again.")


class RevisionStatus(Block):
    """One revision and its pods."""

    revision: str = Field(max_length=63, description="Hash of what its pods would differ in.")
    version: str = Field(max_length=256, description="Version of the model.")
    digest: str = Field(max_length=71, description="SHA-256 of the model's files.")
    replicas: int = Field(default=0, ge=0, le=INT32, description="Pods.")
    readyReplicas: int = Field(default=0, ge=0, le=INT32, description="Pods that are ready.")
    modelCreatedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When its model was made, as far as is known.",
        json_schema_extra={"format": "date-time"},
    )
    profile: ProfileDigest | None = Field(
        default=None, max_length=71, description="SHA-256 of its profile, or none; as far as is known."
    )
    resolvedURI: str | None = Field(
        default=None, max_length=1024, description="The URI that names the model's bytes for good, if known."
    )
    bytes: int | None = Field(default=None, ge=0, description="Size of the model's files, if known.")
    provenance: ProvenanceStatus | None = Field(
        default=None, description="Where its model was built, if that was verified."
    )
    server: ServerStatus | None = Field(
        default=None, description="Where its pods are reached, if runtime.server is External."
    )
    device: Literal["CUDA"] | None = Field(
        default=None, description="CUDA: its pods run the model on GPUs; absent where they run it on the CPU."
    )
    crashes: CrashStatus | None = Field(
        default=None, description="Processes that died lately, as the condition Crashing explains."
    )


class UpgradeStatus(Block):
    """How far pods are replaced since the installation, spec.runtime.pod or spec.access changed, which is no
    rollout."""

    phase: Literal["Waiting", "Upgrading", "Stuck"] = Field(description="What goes on.")
    startedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When its turn began.",
        json_schema_extra={"format": "date-time"},
    )
    progressedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When the number of new pods last grew.",
        json_schema_extra={"format": "date-time"},
    )
    readyReplicas: int = Field(default=0, ge=0, le=INT32, description="Pods that were ready when it began.")
    updatedReplicas: int = Field(default=0, ge=0, le=INT32, description="New pods.")
    message: str = Field(default="", max_length=1024, description="What it waits for.")
    cause: Literal["Spec"] | None = Field(
        default=None,
        description="Spec: it is for a change of spec.runtime.pod or spec.access, which takes none of the "
        "installation's turns; otherwise the installation changed.",
    )


class ModelDeploymentStatus(Block):
    """What the operator saw and did."""

    observedGeneration: int = Field(
        default=0,
        ge=0,
        description="metadata.generation that the status was written for; 0 until the operator has seen it.",
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        description="Ready sums up; the others say what it stands on.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    model: ModelStatus | None = Field(default=None, description="What the model URI was resolved to.")
    refreshRequestedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When the operator's webhook was last asked to look the model up again.",
        json_schema_extra={"format": "date-time"},
    )
    operator: str | None = Field(
        default=None,
        max_length=317,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
        description="The installation that looks after the resource, by NAMESPACE/NAME of its Lease; others "
        "leave it alone.",
    )
    refreshFailingSince: str | None = Field(
        default=None,
        max_length=64,
        description="Since when the name that the spec follows cannot be looked up again.",
        json_schema_extra={"format": "date-time"},
    )
    stable: RevisionStatus | None = Field(default=None, description="The revision that clients reach.")
    canary: RevisionStatus | None = Field(default=None, description="The revision that is to replace it.")
    canaryWeight: int | None = Field(
        default=None, ge=0, le=100, description="Percent of traffic on the canary."
    )
    promotedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When the stable revision took over; the old one is kept until its clients left.",
        json_schema_extra={"format": "date-time"},
    )
    rollout: RolloutStatus | None = Field(default=None, description="The rollout that is under way.")
    upgrade: UpgradeStatus | None = Field(
        default=None, description="The upgrade of its pods that waits or is under way."
    )
    rejected: tuple[Rejection, ...] = Field(
        default=(),
        max_length=MAX_REJECTED,
        description="Revisions that are not tried again by themselves.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["revision"]},
    )
    previous: tuple[Annotated[str, Field(max_length=63, description="Name of a revision.")], ...] = Field(
        default=(), max_length=MAX_PREVIOUS, description="Earlier stable revisions, the newest first."
    )
    history: tuple[DecisionStatus, ...] | None = Field(
        default=None,
        max_length=MAX_HISTORY,
        description="Decisions about rollouts, the newest last; kubectl slipway history prints them.",
    )
    monitoring: MonitoringStatus | None = Field(
        default=None, description="What was found of the stable revision's inputs and answers."
    )
    audits: tuple[AuditResult, ...] | None = Field(
        default=None,
        max_length=MAX_AUDIT_RESULTS,
        description="What audits found of versions, the newest first.",
    )
    routerPort: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the namespace's router that is this resource's."
    )
    replicas: int = Field(default=0, ge=0, le=INT32, description="Pods of all revisions.")
    readyReplicas: int = Field(default=0, ge=0, le=INT32, description="Of these, those that are ready.")
    settledGeneration: int | None = Field(
        default=None,
        ge=0,
        description=(
            "metadata.generation whose revision was stable last; a rollout at the same one was begun by a "
            "name that moved."
        ),
    )
    selector: str = Field(
        default="", max_length=1024, description="Label selector of the pods, for the scale subresource."
    )
    url: str = Field(
        default="", max_length=1024, description="Where clients inside the cluster reach the model."
    )
