"""What the operator and the model server agree on, and all that they share.

The operator renders a pod from these names; the server image reads them. Changing one is a change of both.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.names import (
    ACCESS_ISSUERS_DIR,
    ACCESS_KEYS_DIR,
    ADMIN_PORT,
    ANSWERS_MARK,
    ANSWERS_PATH,
    ANSWERS_SINCE,
    AUDIT_DATA_DIR,
    AUDIT_TASK_ENV,
    AUTHORITIES_ENV,
    BASELINE_DIR,
    CLIENT_CA_FILE,
    CLUSTER_ISSUER,
    CREDENTIAL_ENV_PREFIX,
    FEEDBACK_KEYS_DIR,
    GRPC_PORT,
    HTTP_PORT,
    LIVE_PATH,
    METRICS_PATH,
    MLFLOW_TRACKING_URI_ENV,
    MODEL_DIR,
    MODEL_DIR_ENV,
    MODEL_TASK_ENV,
    PUBLIC_KEYS_ENV,
    PVC_MOUNT_DIR,
    READY_PATH,
    SERVING_CONFIG_ENV,
    STORE_IDENTITY_ENV,
    TERMINATION_PATH,
    TLS_DIR,
    TMP_DIR,
    TRUST_ROOT_ENV,
    WITHOUT_CREDENTIALS_ENV,
    Metric,
    ModelFault,
)

__all__ = [
    "ACCESS_ISSUERS_DIR",
    "ACCESS_KEYS_DIR",
    "ADMIN_PORT",
    "ANSWERS_MARK",
    "ANSWERS_PATH",
    "ANSWERS_SINCE",
    "AUDIT_DATA_DIR",
    "AUDIT_TASK_ENV",
    "AUTHORITIES_ENV",
    "BASELINE_DIR",
    "CLIENT_CA_FILE",
    "CLUSTER_ISSUER",
    "CREDENTIAL_ENV_PREFIX",
    "FEEDBACK_KEYS_DIR",
    "GRPC_PORT",
    "HTTP_PORT",
    "LIVE_PATH",
    "LONGEST_BUILDER",
    "LONGEST_SIGNER",
    "LONGEST_URI",
    "LONGEST_VERSION",
    "METRICS_PATH",
    "MLFLOW_TRACKING_URI_ENV",
    "MODEL_DIR",
    "MODEL_DIR_ENV",
    "MODEL_TASK_ENV",
    "MOST_MOVED_ROWS",
    "NOT_EVADED",
    "PUBLIC_KEYS_ENV",
    "PVC_MOUNT_DIR",
    "READY_PATH",
    "SERVING_CONFIG_ENV",
    "STORE_IDENTITY_ENV",
    "TERMINATION_PATH",
    "TLS_DIR",
    "TMP_DIR",
    "TRUST_ROOT_ENV",
    "WITHOUT_CREDENTIALS_ENV",
    "Access",
    "AccessLimits",
    "AccessRule",
    "Attack",
    "AuditTask",
    "Audited",
    "AuditedAttribute",
    "Built",
    "BuiltBy",
    "CallerLimits",
    "Digest",
    "Evaded",
    "Failed",
    "Failure",
    "FetchTask",
    "Fetched",
    "Freshness",
    "Hazards",
    "InputColumn",
    "Inputs",
    "Issuer",
    "Message",
    "Metric",
    "ModelFault",
    "ProfileDigest",
    "Proved",
    "RequiredClaim",
    "Resolution",
    "ResolveTask",
    "Resolved",
    "SensitiveAttribute",
    "ServingConfig",
    "Smoothing",
    "Tally",
    "TerminationMessage",
    "Unaudited",
    "Withstood",
]

#: Characters that a status holds.
LONGEST_URI, LONGEST_VERSION = 1024, 256
#: Characters of who signed a model: an identity and its issuer.
LONGEST_SIGNER = 600
#: Characters of who built a model, with its ref.
LONGEST_BUILDER = 512
#: Rows that an audit moves: counts of two models have to go into a termination message.
MOST_MOVED_ROWS = 300
#: A distance, in thousandths of a deviation: no point was found where the model is wrong.
NOT_EVADED = 65_535

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
#: SHA-256 of a profile's bytes, or :data:`slipway.names.NO_PROFILE`.
ProfileDigest = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|none)$")]


class Message(BaseModel):
    """Base of what crosses between operator and server; unknown fields are a bug on either side."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputColumn(Message):
    """What one column of one input may hold; ``column`` is its place in a row, from 0."""

    name: str = Field(min_length=1, max_length=200)
    tensor: str
    column: int = Field(ge=0)
    type: Literal["Number", "Integer", "String"] = "Number"
    minimum: float | None = None
    maximum: float | None = None
    nullable: bool = True
    enum: tuple[str, ...] = ()


class Inputs(Message):
    """What requests may hold, and what is done where one does not keep to it."""

    columns: tuple[InputColumn, ...]
    onViolation: Literal["Reject", "Report"] = "Reject"


class SensitiveAttribute(Message):
    """Rows are told apart by the value in a column of an input, or by a parameter or a header of the request.

    A value that is none of ``groups`` counts as the group ``other``.
    """

    name: str = Field(min_length=1, max_length=63)
    groups: tuple[Annotated[str, Field(min_length=1, max_length=63)], ...] = Field(
        min_length=1, max_length=10
    )
    tensor: str = ""
    column: int = Field(default=0, ge=0)
    parameter: str = ""
    header: str = ""


class Freshness(Message):
    """Where the time of a request's data is: in a header, a parameter, or a column of an input."""

    source: Literal["Header", "Parameter", "Tensor"]
    name: str = Field(min_length=1, max_length=200)
    maxAgeSeconds: int = Field(ge=1)
    column: int = Field(default=0, ge=0)


class AccessRule(Message):
    """These callers may do these things.

    A caller is ``key:NAME``, ``jwt:ISSUER:SUBJECT``, ``system:serviceaccount:NAMESPACE:NAME``,
    ``spiffe://DOMAIN/PATH``, ``dns:NAME`` or ``anonymous``. What ends with ``:*`` or ``/*`` stands for all
    that begin so, ``*`` for all but ``anonymous``.
    """

    callers: tuple[str, ...]
    actions: tuple[Literal["Infer", "Feedback", "Metadata"], ...]


class CallerLimits(Message):
    """What a caller may ask of all pods of a revision together; 0 for no limit."""

    requestsPerSecond: int = Field(default=0, ge=0)
    burst: int = Field(default=0, ge=0, description="requests at once; 0: requestsPerSecond")
    rowsPerDay: int = Field(default=0, ge=0)
    concurrent: int = Field(default=0, ge=0)
    bytesInFlight: int = Field(default=0, ge=0, description="of bodies")


class AccessLimits(Message):
    """Of each caller with a key, and of all strangers together."""

    perCaller: CallerLimits | None = None
    anonymous: CallerLimits | None = None


class RequiredClaim(Message):
    """A claim that a token has to have: one of these values, or a list with one of them."""

    name: str
    values: tuple[str, ...]


class Issuer(Message):
    """Whose signed tokens are taken. Its keys are in :data:`ACCESS_ISSUERS_DIR`, in ``NAME.json``."""

    name: str
    issuer: str
    audiences: tuple[str, ...]
    callerClaim: str = "sub"
    requiredClaims: tuple[RequiredClaim, ...] = ()


class Access(Message):
    """Who may ask; whom no rule allows may not. Hashes of API keys are in :data:`ACCESS_KEYS_DIR`."""

    allow: tuple[AccessRule, ...]
    limits: AccessLimits | None = None
    peers: str = Field(default="", description="host name with the addresses of the revision's ready pods")
    apiKeys: bool = Field(default=True, description="whether API keys are taken")
    issuers: tuple[Issuer, ...] = ()
    serviceAccountAudience: str = Field(
        default="", description="of ServiceAccounts' tokens that are taken; without it, none is"
    )
    tls: bool = Field(default=False, description="whether it serves by TLS, with the files of TLS_DIR")
    clientCertificates: bool = Field(
        default=False, description="whether certificates of clients name callers; CLIENT_CA_FILE has whose"
    )


class ServingConfig(Message):
    """What one model server serves, and within which limits."""

    modelName: str
    modelVersion: str
    digest: Digest
    threads: int = Field(default=1, ge=1, le=256, description="onnxruntime intra-op threads")
    requestTimeoutMilliseconds: int = Field(default=2000, ge=1)
    maxBodyBytes: int = Field(default=64 * 1024 * 1024, ge=1024, description="of these, 8 MiB of JSON")
    drainSeconds: int = Field(default=15, ge=0, le=600)
    processes: int = Field(
        default=1, ge=0, le=64, description="server processes on one port; 0: one for each CPU of the limit"
    )
    batching: Literal["Auto", "Off"] = Field(
        default="Auto", description="whether requests may share a call of the model, where it gains by that"
    )
    maxBatchRows: int = Field(default=128, ge=1, le=128, description="rows that requests share a call for")
    device: Literal["CPU", "CUDA"] = Field(
        default="CPU", description="what the model has to run on; with CUDA, the CPU has what that cannot do"
    )
    monitoredFeatures: int = Field(
        default=20, ge=0, le=200, description="features whose values are counted, the most important ones"
    )
    inputs: Inputs | None = Field(
        default=None, description="without it, what the profile beside the model has seen is reported"
    )
    feedbackMaxAgeDays: int = Field(
        default=0,
        ge=0,
        le=3650,
        description="how long labels are taken for an answer; 0: answers have no tokens",
    )
    sensitiveAttributes: tuple[SensitiveAttribute, ...] = Field(default=(), max_length=3)
    favorableOutcomes: tuple[str, ...] = Field(default=(), max_length=20)
    freshness: Freshness | None = Field(default=None, description="without it, no age of data is counted")
    access: Access | None = Field(default=None, description="without it, everybody may do everything")
    suspectInputs: tuple[Literal["Nearby", "Turned"], ...] = Field(
        default=(), max_length=2, description="which rows count as suspect; without any, none is looked at"
    )


class Proved(Message):
    """What ``conversion.json`` next to a model says; where it proves nothing, ``problem`` says why.

    Differences and tolerance are text, since a float differs between clients.
    """

    digest: Digest | None = Field(default=None, description="of the file, where it could be read")
    modelDigest: Digest | None = Field(default=None, description="of the model that it is of")
    problem: str | None = Field(default=None, max_length=300)
    original: str | None = Field(default=None, max_length=200, description="class that was converted")
    convertedAt: str | None = Field(default=None, max_length=64)
    tolerance: str | None = Field(default=None, max_length=32)
    rows: int | None = Field(default=None, ge=0, le=2**31 - 1, description="of data that both answered")
    labelsDiffer: int | None = Field(default=None, ge=0, le=2**31 - 1, description="of these rows")
    largestDifference: str | None = Field(default=None, max_length=32, description="of these rows")
    edgeRows: int | None = Field(default=None, ge=0, le=2**31 - 1, description="at edges, that both answered")
    accepted: tuple[Annotated[str, Field(max_length=32)], ...] | None = Field(
        default=None, max_length=6, description="kinds of rows that differ by more than the tolerance"
    )


class BuiltBy(Message):
    """Where a model has to have been built, and from what repository."""

    builder: str
    source: str


class Built(Message):
    """Where a model was built, and from what, as its provenance says."""

    builder: str = Field(max_length=LONGEST_BUILDER)
    source: str = Field(max_length=256, description="the repository, without scheme")
    commit: str | None = Field(default=None, max_length=64, description="of the repository, where it is said")


class Resolution(Message):
    """The answer of the resolver.

    ``uri`` is pinned: it names the same bytes whenever it is asked (``mlflow://fraud@champion`` becomes
    ``mlflow://fraud/3``). ``digest`` is the SHA-256 of the model's one file or, where it has several, of the
    lines ``<sha256>  <relative path>\\n`` sorted by path, as ``sha256sum`` prints them. A
    profile beside the model does not count. ``createdAt`` (RFC 3339) is when the source registered the
    version, where it knows that. ``mark`` is the store's own mark of all these bytes, such as an ETag: by
    it a later look finds them unchanged without reading them. ``profile`` is of the profile that was found
    and is of this model; None where a resolver of before did not say. ``folder``: whether the files are all
    those of a folder, with the digest of :func:`slipway.digest.digest_of_listing`; None where that was not
    asked.
    """

    uri: str = Field(max_length=LONGEST_URI)
    version: str = Field(max_length=LONGEST_VERSION)
    digest: Digest
    bytes: int = Field(ge=0)
    createdAt: str | None = Field(default=None, max_length=64)
    mark: str | None = Field(default=None, max_length=128)
    profile: ProfileDigest | None = None
    signedBy: str | None = Field(
        default=None,
        max_length=LONGEST_SIGNER,
        description="SHA-256 of the public key that signed it, or the identity that a certificate names",
    )
    conversion: Proved | None = Field(default=None, description="what the proof of its conversion says")
    provenance: Built | None = Field(default=None, description="where that was asked for")
    folder: bool | None = None


class Hazards(Message):
    """How a model's graph is looked at before it may run."""

    onFinding: Literal["Block", "Report"] = "Block"
    allowedOperatorDomains: tuple[str, ...] = ()
    memoryBytes: int | None = Field(default=None, ge=1, description="what the server may use at most")


class Identity(Message):
    """Whom a certificate names, as its subject alternative name has it."""

    kind: Literal["email", "uri", "dns"]
    value: str
    issuer: str | None = Field(default=None, description="of OpenID; absent where an authority is enough")


class ResolveTask(Message):
    """Find what a model URI means now: which version, which bytes."""

    uri: str
    digest: Digest | None = None
    maxBytes: int | None = Field(default=None, ge=1, description="room that the pods will have for the model")
    known: Resolution | None = Field(default=None, description="what it meant at the last look")
    isSigned: bool | None = Field(
        default=None,
        description="whether it has to be signed as PUBLIC_KEYS_ENV, AUTHORITIES_ENV or TRUST_ROOT_ENV says",
    )
    identities: tuple[Identity, ...] | None = Field(
        default=None, description="whom the signer's certificate may name; without it, keys count"
    )
    provenance: BuiltBy | None = Field(
        default=None, description="where it has to have been built, by the word of whoever may sign it"
    )
    hazards: Hazards | None = Field(default=None, description="without it, as by default")
    folder: bool | None = Field(
        default=None,
        description="whether all files are wanted, of whatever format, rather than an ONNX model's",
    )


class FetchTask(Message):
    """Bring exactly the files with this digest into :data:`MODEL_DIR`."""

    uri: str
    digest: Digest
    maxBytes: int | None = Field(default=None, ge=1, description="size limit of the volume, if it has one")
    profile: ProfileDigest | None = Field(default=None, description="without it, any that is of the model")
    folder: bool | None = Field(default=None, description="whether it is a whole folder's digest")


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


class AuditedAttribute(Message):
    """A column of an audit's table, and the groups that are told apart by it; others are counted in none."""

    column: str = Field(min_length=1, max_length=200)
    groups: tuple[Annotated[str, Field(min_length=1, max_length=63)], ...] = Field(
        min_length=2, max_length=10
    )


class Smoothing(Message):
    """Have rows answered as copies with normal noise, and count how many are given the row's true class.

    Noise goes to columns of numbers that differ between rows, in deviations of the column over the table;
    what ``inputs`` says of a column holds for copies too: its bounds, and that its values are whole.
    """

    noise: float = Field(gt=0.0, le=100.0)
    samples: int = Field(ge=100, le=10_000, description="copies of each row")
    rows: int = Field(ge=10, le=MOST_MOVED_ROWS, description="of the table, drawn by chance, always the same")
    fixedColumns: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=50
    )


class Attack(Message):
    """Have an attack look for the point nearest to each row where the model is wrong about it.

    Points keep to ``inputs`` as copies of :class:`Smoothing` do; a column without bounds stays within what
    the table has.
    """

    attack: Literal["HopSkipJump", "Boundary"] = "HopSkipJump"
    queries: int = Field(ge=100, le=10_000, description="answers for each row that it may ask for")
    rows: int = Field(ge=10, le=MOST_MOVED_ROWS, description="of the table, as with Smoothing")
    fixedColumns: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=50
    )


class AuditTask(Message):
    """Have a model answer the rows of a table, and count how it treats groups, or move the rows.

    The model is in :data:`MODEL_DIR`, the table in :data:`AUDIT_DATA_DIR`. With ``baseline``, the digest of
    the model in :data:`BASELINE_DIR`, both answer the same rows.
    """

    digest: Digest
    baseline: Digest | None = None
    file: str = Field(min_length=1, max_length=253)
    dataDigest: Digest | None = Field(default=None, description="of the file; any where there is none")
    label: str = Field(min_length=1, max_length=200, description="column with the true class")
    attributes: tuple[AuditedAttribute, ...] = Field(default=(), max_length=3)
    favorableOutcomes: tuple[str, ...] = Field(default=(), max_length=20)
    inputs: Inputs | None = Field(default=None, description="which column goes where, without a profile")
    threads: int = Field(default=1, ge=1, le=256)
    smoothing: Smoothing | None = Field(default=None, description="without it and attack, groups are counted")
    attack: Attack | None = None


#: Of a group's rows, or of all: those by what the model said and what is true (favorable and favorable,
#: favorable and not, unfavorable but favorable in truth, unfavorable and so in truth), those that it was
#: right about, those that it alone was right about, those that the baseline alone was right about, and the
#: first four for the baseline. Plain lists: a termination message has room for 30 groups of a million rows.
Tally = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=11, max_length=11)]


class Audited(Message):
    """What was counted: of all rows, and of each attribute's groups in the task's order."""

    kind: Literal["Audited"] = "Audited"
    digest: Digest
    baseline: Digest | None = None
    dataDigest: Digest
    rows: Tally
    groups: tuple[tuple[Tally, ...], ...] = ()


_Hits = tuple[Annotated[int, Field(ge=0, le=10_000)], ...]


class Withstood(Message):
    """Of each row that was moved, how many of its copies were given its true class.

    Rows of both models are the same in the same order. A termination message has room for
    :data:`MOST_MOVED_ROWS`.
    """

    kind: Literal["Withstood"] = "Withstood"
    digest: Digest
    baseline: Digest | None = None
    dataDigest: Digest
    hits: _Hits = Field(min_length=1, max_length=MOST_MOVED_ROWS)
    baselineHits: _Hits | None = Field(default=None, max_length=MOST_MOVED_ROWS)


_Distances = tuple[Annotated[int, Field(ge=0, le=NOT_EVADED)], ...]


class Evaded(Message):
    """Of each row that was attacked, how near the attack got while the model was wrong.

    In thousandths of a deviation, of all columns together (L2): 0 where it is wrong about the row as it is,
    :data:`NOT_EVADED` where no such point was found. Rows of both models are the same in the same order.
    """

    kind: Literal["Evaded"] = "Evaded"
    digest: Digest
    baseline: Digest | None = None
    dataDigest: Digest
    distances: _Distances = Field(min_length=1, max_length=MOST_MOVED_ROWS)
    baselineDistances: _Distances | None = Field(default=None, max_length=MOST_MOVED_ROWS)


class Unaudited(Message):
    """Why nothing could be counted, and what to do about it."""

    kind: Literal["Unaudited"] = "Unaudited"
    message: str = Field(max_length=1024)


class Failed(Message):
    kind: Literal["Failed"] = "Failed"
    failure: Failure


class TerminationMessage(Message):
    """A container's last words, written to :data:`TERMINATION_PATH` (4,096 bytes at most)."""

    outcome: Annotated[
        Resolved | Fetched | Audited | Withstood | Evaded | Unaudited | Failed, Field(discriminator="kind")
    ]
