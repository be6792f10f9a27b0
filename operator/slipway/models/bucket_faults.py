"""What a store's errors mean: the client's own messages are pages of debugging, with whole addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from slipway.contract import ModelFault
from slipway.models.faults import ModelError, shortened

#: Where the client's message ends and its debugging begins.
_DEBUG = "Debug source"
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
_REGION = re.compile(r"<Region>\s*([a-z0-9-]{1,32})\s*</Region>")
_SAID = re.compile(r"<Message>([^<]{1,400})</Message>")
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
#: What the client says of a listing with a key that it cannot make a path of.
_ODD_KEY = re.compile("whilst parsing path segment|contained empty path segment")
_CAUSE = re.compile(r'(failed to lookup address information: [^"]+|(?<=message: ")[^"]+|operation timed out)')
_TIMED_OUT = re.compile(r"TimedOut|timed out")

_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "AccountNotFound", "ResourceNotFound"})
#: What Azure says of a container that is not for everybody to who shows no credentials.
_NOT_PUBLIC = frozenset({"NoAuthenticationInformation", "PublicAccessNotPermitted", "ResourceNotFound"})
_EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException"})
_WRONG_REGION = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "TemporaryRedirect",
        "IllegalLocationConstraintException",
    }
)
_THROTTLED = frozenset(
    {"SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException", "ServerBusy"}
)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AuthenticationFailed",
        "AuthorizationFailure",
        "InvalidAccessKeyId",
        "InvalidAuthenticationInfo",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)
_CHANGED = frozenset({"PreconditionFailed", "ConditionNotMet"})
_FAULTY_CREDENTIALS = (400, 401, 403)


@dataclass(frozen=True)
class Words:
    """How one scheme speaks of its store.

    Attributes:
        bucket: the bucket with its kind, such as ``the bucket 'models'``.
        host: the address of the store, without secrets.
        sent: whether requests carried credentials.
        keys: the keys of the Secret that enter the store, as a phrase.
        endpoint: which key of the Secret names another address.
        account: the ServiceAccount whose identity is used instead of a Secret.
        refused: why that one has no credentials of the store, or None.
    """

    bucket: str
    host: str
    sent: bool
    keys: str
    endpoint: str
    account: str = ""
    refused: Callable[[], ModelError | None] = lambda: None

    def has_status(self, error: Exception) -> bool:
        """Whether the store answered at all."""
        return _STATUS.search(_told(error)) is not None

    def broken(self, error: Exception, called: str, come: int, size: int) -> ModelError:
        """A body that ended early and could not be continued."""
        if _status(error) == 412:
            return _changed(called)
        return ModelError(
            ModelFault.REGISTRY_UNREACHABLE,
            f"{called} broke off after {come} bytes of {size}, and could not be continued "
            f"({_cause(error)}): check {self.host} and any proxy in between; it is tried again by itself",
        )

    def misconfigured(self, error: Exception) -> ModelError:
        """A value of the Secret that the client cannot use."""
        return ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            f"the credentials Secret cannot be used for {self.bucket} ({_cause(error)}): fix {self.keys}",
        )


def bucket_fault(error: Exception, words: Words, called: str, missing: str = "") -> ModelError:
    """The reason for an error of the client, and what to do.

    ``missing`` is said of an object that is not there.
    """
    refused = words.refused()
    if refused is not None:
        return refused
    text = str(error)
    said, _, debug = text.partition(_DEBUG)
    status, code = _status(error), _first(_CODE, said)
    reply = f"HTTP {status}{f', {code}' if code else ''}"
    if code in _NO_BUCKET and not (code in _NOT_PUBLIC and not words.sent):
        return ModelError(
            ModelFault.BUCKET_NOT_FOUND,
            f"{words.bucket} does not exist at {words.host} ({reply}): create it, fix spec.model.uri, "
            f"or give the store's address under the key {words.endpoint}",
        )
    if code in _EXPIRED:
        return expired(words, reply)
    if code in _WRONG_REGION or "redirect without LOCATION" in said:
        region = _first(_REGION, said)
        return ModelError(
            ModelFault.WRONG_REGION,
            f"{words.bucket} is not in the region that was asked at {words.host}: give "
            f"{f'AWS_REGION: {region}' if region else 'its region under the key AWS_REGION'} "
            "in the Secret that spec.model.credentials.secretRef names",
        )
    if words.account and status in _FAULTY_CREDENTIALS:
        why = shortened(_first(_SAID, said), 200)
        return ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            f"{called} is not for the identity of the ServiceAccount {words.account!r} ({reply}"
            f"{f': {why}' if why else ''}): let its role read the object, and list its folder where the URI "
            "names a folder, and let the ServiceAccount take that role; a store may deny what does not exist "
            "in the same way",
        )
    closed = code in _NOT_PUBLIC and not words.sent
    if closed or status in (401, 403) or (status in _FAULTY_CREDENTIALS and code in _DENIED):
        did = "refused the credentials" if words.sent else "wants credentials, and none were sent"
        return ModelError(
            ModelFault.MODEL_ACCESS_DENIED,
            f"{words.host} {did} for {called} ({reply}): give {words.keys} in the Secret that "
            "spec.model.credentials.secretRef names, for somebody who may read the object, and list its "
            "folder where the URI names a folder; a store may deny what does not exist in the same way",
        )
    if status == 412 or code in _CHANGED:
        return _changed(called)
    if status == 404 or isinstance(error, FileNotFoundError):
        gone = " in that version" if code in ("NoSuchVersion",) else ""
        return ModelError(
            ModelFault.MODEL_NOT_FOUND,
            missing or f"{called} does not exist{gone} ({reply}): upload the model, or fix spec.model.uri",
        )
    if status == 429 or code in _THROTTLED:
        return ModelError(
            ModelFault.STORE_THROTTLED,
            f"{words.host} still asks to slow down after several tries ({reply}): it is tried again by "
            "itself; raise the store's limit, or refreshSeconds",
        )
    certificate = _first(_CERTIFICATE, debug)
    if certificate:
        return ModelError(
            ModelFault.REGISTRY_UNREACHABLE,
            f"the certificate of {words.host} is not trusted ({certificate}): put the certificate of its "
            "authority under the key CA_CERT into the Secret that spec.model.credentials names",
        )
    if not status and _ODD_KEY.search(said):
        return ModelError(
            ModelFault.INVALID_MODEL_URI,
            f"{called} has an object whose key is no path of a file ({_cause(error)}): let spec.model.uri "
            "name a folder with the files of one model and nothing else, or the object itself",
        )
    if status:
        what = f"answered {reply}: {shortened(_first(_SAID, said) or 'nothing more', 200)}"
        fix = f"see its log, and check {words.endpoint}"
    else:
        what = f"cannot be reached ({_cause(error)})"
        fix = (
            f"check the address ({words.endpoint}), that the store runs and that network policies let pods "
            "of this namespace reach it"
        )
    return ModelError(
        ModelFault.REGISTRY_UNREACHABLE, f"{words.host} {what}: {fix}; it is tried again by itself"
    )


def expired(words: Words, reply: str) -> ModelError:
    """Credentials that were good once."""
    return ModelError(
        ModelFault.CREDENTIALS_EXPIRED,
        f"the credentials for {words.bucket} have expired ({reply}): put new ones ({words.keys}) into the "
        "Secret that spec.model.credentials.secretRef names",
    )


def _changed(called: str) -> ModelError:
    return ModelError(
        ModelFault.MODEL_CHANGED,
        f"{called} was replaced while it was being read: it is tried again by itself; upload each version "
        "under a key of its own, or turn on the bucket's versions",
    )


def _status(error: Exception) -> int:
    found = _first(_STATUS, _told(error))
    return int(found) if found else 0


def _told(error: Exception) -> str:
    return str(error).partition(_DEBUG)[0]


def _cause(error: Exception) -> str:
    text = str(error)
    said, _, debug = text.partition(_DEBUG)
    if _TIMED_OUT.search(debug):
        return "no answer in time"
    found = _first(_CAUSE, debug)
    if found:
        return shortened(found, 200)
    # The last part is the cause; before it are addresses, which may be signed.
    return shortened(said.strip().rpartition(": ")[2], 200)


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1) if found else ""
