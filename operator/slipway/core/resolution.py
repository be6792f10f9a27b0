"""From a model URI to its version and digest, by way of a resolver pod."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import unquote

from pydantic import ValidationError

from slipway.api.reasons import ConditionType, Reason
from slipway.api.status import ConversionStatus, ModelDeploymentStatus, ModelStatus, ProvenanceStatus
from slipway.api.types import Model, ModelDeploymentSpec
from slipway.contract import Built, ModelFault, Proved, Resolution, Resolved, TerminationMessage
from slipway.core import naming
from slipway.core.diagnosis import diagnose_pod, termination_outcome
from slipway.core.observed import Fault, Manifest, is_ready, rfc3339, timestamp
from slipway.core.revision import revision_of
from slipway.core.signers import built_by, verified_for

#: A failed resolution is tried again after as long as it has failed for, within these bounds.
LEAST_RETRY = timedelta(seconds=10)
MOST_RETRY = timedelta(seconds=60)
#: Schemes whose URIs name an object, or a folder with one, in a bucket.
_BUCKETS = ("s3", "gs", "az")
_COMMIT = re.compile("[0-9a-f]{40}")
#: Version and digest of a model that nobody has looked up.
UNKNOWN_VERSION = "?"
UNKNOWN_DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class ResolutionState:
    """What is known of the model.

    Attributes:
        model: what the URI means, or None while that is not known.
        fault: why it is not known, or None while it is being found out.
        retry_at: when a failed resolver pod makes room for another try.
        asking: whether a resolver pod is to be there.
    """

    model: ModelStatus | None = None
    fault: Fault | None = None
    retry_at: datetime | None = None
    asking: bool = False


def resolve(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    pod: Manifest | None,
    now: datetime,
    refresh_token: str | None = None,
) -> ResolutionState:
    """Read the answer from status, where it is kept, or else from the resolver pod.

    While a name that moved is looked up again, what it meant before stands.
    """
    known = _known(spec, status)
    if known is None:
        return _from_pod(spec, status, pod, now)
    if refresh_token is None:
        return ResolutionState(model=known)
    again = _from_pod(spec, status, pod, now)
    return again if again.model is not None else replace(again, model=known)


def is_asked(
    spec: ModelDeploymentSpec, status: ModelDeploymentStatus, refresh_token: str | None = None
) -> bool:
    """Whether the model, or what its name means now, is to be found out."""
    return refresh_token is not None or _known(spec, status) is None


def question(
    spec: ModelDeploymentSpec, status: ModelDeploymentStatus, refresh_token: str | None = None
) -> str | None:
    """What a resolver pod is to find out, and as whom; None where nothing is, or nobody else may know.

    Two ModelDeployments of a namespace with the same question would make pods that differ by name alone.
    Without a Secret, whether a bucket may be read is a matter of who a pod runs as, and each runs as itself.
    """
    model, runtime = spec.model, spec.runtime
    if not is_asked(spec, status, refresh_token):
        return None
    if model.credentials is None and model.uri.partition("://")[0] in _BUCKETS:
        return None
    looks = {"resources", "nodeSelector", "tolerations", "affinity", "pod"}
    # Periodic looks differ by the time at which each is due.
    what = "time" if refresh_token is not None and refresh_token.startswith("time ") else refresh_token
    asked = model.model_dump(mode="json", include={"uri", "digest", "credentials"})
    if _wants_folder(spec):
        asked["folder"] = True
    if model.verify is not None:
        asked["verify"] = model.verify.model_dump(mode="json", exclude_none=True)
    known = last_look(spec, status, refresh_token)
    seen = known.model_dump(mode="json", exclude={"createdAt"}) if known is not None else None
    return naming.content_hash([asked, seen, runtime.model_dump(mode="json", include=looks), what])


def moves(model: Model) -> bool:
    """Whether what a model's URI means can change, and is to be followed; a digest pins whatever it is."""
    scheme, _, rest = model.uri.partition("://")
    if model.digest is not None:
        return False
    if scheme == "mlflow":
        return "@" in rest
    if scheme == "oci":
        return "@" not in rest
    if scheme == "dvc":
        path, _, rev = rest.partition("@")
        return "version=" not in path.partition("?")[2] and _COMMIT.fullmatch(rev) is None
    # Whoever uploads to a bucket over what is served may not mean that: it is followed where people say so.
    return scheme in _BUCKETS and bool(model.refreshSeconds) and not re.search("[?#]", rest)


def is_pinned(uri: str) -> bool:
    """Whether a URI has the form by which its scheme names bytes for good, as far as the scheme has one."""
    scheme, _, rest = uri.partition("://")
    if scheme == "mlflow":
        return "@" not in rest
    if scheme == "oci":
        return "@" in rest
    if scheme == "dvc":
        return _COMMIT.fullmatch(rest.partition("@")[2]) is not None
    return scheme not in ("s3", "gs") or re.search("[?#]", rest) is not None


def last_look(
    spec: ModelDeploymentSpec, status: ModelDeploymentStatus, refresh_token: str | None
) -> Resolution | None:
    """What the last look found, for a look again; None where there was none."""
    known = _known(spec, status)
    if refresh_token is None or known is None:
        return None
    try:
        return Resolution(
            uri=known.resolvedURI,
            version=known.version,
            digest=known.digest,
            bytes=known.bytes,
            createdAt=known.createdAt,
            mark=known.mark,
            profile=known.profile,
            signedBy=known.signedBy,
            conversion=None if known.conversion is None else Proved(**known.conversion.model_dump()),
            provenance=None if known.provenance is None else Built(**known.provenance.model_dump()),
            folder=known.folder if _wants_folder(spec) else None,
        )
    except ValidationError:
        return None


def _known(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> ModelStatus | None:
    """What status remembers of the model that is asked for."""
    known = status.model
    if known is None or known.uri != spec.model.uri or spec.model.digest not in (None, known.digest):
        return None
    signature = verified_for(spec)
    if signature is not None and known.verifiedFor != signature:
        return None
    if not _is_of_server(spec, status, known):
        return None
    return known


def _wants_folder(spec: ModelDeploymentSpec) -> bool:
    """Whether the model is whatever files there are, and not ONNX."""
    return spec.runtime.server == "External"


def _is_of_server(spec: ModelDeploymentSpec, status: ModelDeploymentStatus, known: ModelStatus) -> bool:
    """Whether what is known is what the spec's server wants: a folder's files, or those of an ONNX model.

    What an operator of before resolved for a server of one's own stays what that serves, or what a rollout
    rejected: to bring more files would be another revision, which nobody asked for.
    """
    if not _wants_folder(spec):
        return not known.folder
    if known.folder is not None:
        return True
    served = (found for found in (status.stable, status.canary) if found is not None and found.server)
    if any(found.digest == known.digest for found in served):
        return True
    judged = revision_of(spec, known).judged
    return any(found.identity == judged for found in status.rejected)


def model_status(uri: str, found: Resolution, verified: str | None = None) -> ModelStatus:
    """A resolver's answer for a URI of a spec, as status remembers it; ``verified`` for which signature."""
    proof, built = found.conversion, found.provenance
    return ModelStatus(
        uri=uri,
        resolvedURI=found.uri,
        version=found.version,
        digest=found.digest,
        bytes=found.bytes,
        createdAt=found.createdAt,
        mark=found.mark,
        profile=found.profile,
        signedBy=found.signedBy,
        verifiedFor=verified,
        conversion=None if proof is None else ConversionStatus(**proof.model_dump()),
        provenance=None if built is None else ProvenanceStatus(**built.model_dump()),
        folder=found.folder,
    )


def unresolved(spec: ModelDeploymentSpec) -> ModelStatus:
    """What stands for a spec's model in a plan before anybody has looked it up."""
    uri = spec.model.uri
    return ModelStatus(
        uri=uri,
        resolvedURI=uri,
        version=UNKNOWN_VERSION,
        digest=spec.model.digest or UNKNOWN_DIGEST,
        bytes=0,
        verifiedFor=verified_for(spec),
        folder=True if _wants_folder(spec) else None,
    )


def looked_up(spec: ModelDeploymentSpec, found: Resolution) -> ModelStatus:
    """What status would remember of a spec's model, were a signature that the spec asks for verified, too."""
    return model_status(spec.model.uri, found, verified_for(spec))


def _from_pod(
    spec: ModelDeploymentSpec, status: ModelDeploymentStatus, pod: Manifest | None, now: datetime
) -> ResolutionState:
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return ResolutionState(asking=True)
    phase = (pod.get("status") or {}).get("phase")
    if phase not in ("Succeeded", "Failed"):
        # A resolver has no readiness probe: while it works it is ready, however long a large model takes.
        return ResolutionState(fault=None if is_ready(pod) else diagnose_pod(pod, now), asking=True)
    answer = answer_of(pod)
    if answer is not None and not _is_meant(spec.model.uri, answer.resolution.uri):
        # None of Slipway's says so: somebody forged the pod or its answer.
        ended = _ended_at(pod, now)
        words = (
            f"the resolver pod answered for another model than {spec.model.uri}; its answer is not believed"
        )
        forged = Fault(Reason.RESOLVER_FAILED, words)
        return ResolutionState(fault=forged, retry_at=ended + _patience(status, ended), asking=True)
    if answer is not None and not _is_verified(spec, answer.resolution):
        # One that was asked before the spec wanted a signature, or provenance.
        return ResolutionState(asking=True)
    if answer is not None and not _is_of_server(
        spec, status, model_status(spec.model.uri, answer.resolution)
    ):
        # One that was asked for another server, or by an operator of before.
        return ResolutionState(asking=True)
    if answer is not None:
        found, known = answer.resolution, status.model
        seen = known.createdAt if known is not None and known.digest == found.digest else None
        created = found.createdAt or seen or rfc3339(_ended_at(pod, now))
        known_since = found.model_copy(update={"createdAt": created})
        return ResolutionState(model=model_status(spec.model.uri, known_since, verified_for(spec)))
    fault = diagnose_pod(pod, now)
    if fault is None or fault.reason in (Reason.CONTAINER_CRASHING, Reason.PODS_LOST):
        fault = Fault(
            Reason.RESOLVER_FAILED,
            f"the resolver pod ended without an answer{f': {fault.message}' if fault else ''}",
        )
    ended = _ended_at(pod, now)
    return ResolutionState(fault=fault, retry_at=ended + _patience(status, ended), asking=True)


def _is_verified(spec: ModelDeploymentSpec, found: Resolution) -> bool:
    if verified_for(spec) is not None and found.signedBy is None:
        return False
    return built_by(spec) is None or found.provenance is not None


def answer_of(pod: Manifest) -> Resolved | None:
    """What a resolver pod found out, or None."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if container["name"] != naming.RESOLVE_CONTAINER:
            continue
        try:
            outcome = TerminationMessage.model_validate_json(ended.get("message") or "").outcome
        except ValidationError:
            return None
        return outcome if isinstance(outcome, Resolved) else None
    return None


def believed(uri: str, pod: Manifest) -> Resolution | None:
    """What a resolver pod found out of a URI; None where it is nothing, or nothing that Slipway says."""
    answer = answer_of(pod)
    return answer.resolution if answer is not None and _is_meant(uri, answer.resolution.uri) else None


def is_of_store(pod: Manifest) -> bool:
    """Whether a resolver pod failed by what the store has, and no other would find more."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        if container["name"] == naming.RESOLVE_CONTAINER:
            failed = termination_outcome(container)
            return failed is not None and failed.failure.reason is not ModelFault.REGISTRY_UNREACHABLE
    return False


def preferred(own: Manifest | None, neighbours: Manifest | None, uri: str) -> Manifest | None:
    """Whose word counts: an answer does, and else a pod of one's own while it is at work."""
    if own is None or neighbours is None or believed(uri, own) is not None:
        return own or neighbours
    has_ended = (own.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return neighbours if has_ended or believed(uri, neighbours) is not None else own


def _is_meant(uri: str, pinned: str) -> bool:
    """Whether a pinned URI is of what a URI names: the same registered model, claim, address or key."""
    scheme, _, rest = uri.partition("://")
    if scheme in ("http", "https"):
        return pinned == uri
    if scheme in _BUCKETS:
        asked, found = unquote(uri), unquote(re.split("[?#]", pinned, maxsplit=1)[0])
        return asked in (found, unquote(pinned)) or found.startswith(f"{asked.rstrip('/')}/")
    if scheme == "oci":
        if "@" in uri:
            return pinned == uri
        repository = re.sub(":[^/:]*$", "", uri)
        return re.fullmatch("@sha256:[0-9a-f]{64}", pinned.removeprefix(repository)) is not None
    if scheme == "dvc":
        asked = unquote(re.split("[?@]", uri, maxsplit=1)[0]).rstrip("/")
        place, _, commit = pinned.partition("@")
        same = unquote(place) == asked or unquote(place).startswith(f"{asked}/")
        return same and _COMMIT.fullmatch(commit) is not None
    name = re.split("[/@]", rest, maxsplit=1)[0]
    other_scheme, _, other_rest = pinned.partition("://")
    return other_scheme == scheme and unquote(other_rest.partition("/")[0]) == unquote(name)


def _ended_at(pod: Manifest, now: datetime) -> datetime:
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = timestamp(((container.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        if ended is not None:
            return ended
    return timestamp(pod["metadata"].get("creationTimestamp")) or now


def _patience(status: ModelDeploymentStatus, ended: datetime) -> timedelta:
    """Doubles from one try to the next, and needs no counter to do so."""
    # Of a model that is known the condition stays True.
    since = status.refreshFailingSince or next(
        (
            condition.lastTransitionTime
            for condition in status.conditions
            if condition.type == ConditionType.MODEL_RESOLVED and condition.status == "False"
        ),
        None,
    )
    failed_for = ended - datetime.fromisoformat(since) if since is not None else LEAST_RETRY
    return max(LEAST_RETRY, min(MOST_RETRY, failed_for))
