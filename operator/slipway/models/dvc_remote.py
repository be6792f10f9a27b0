"""Where DVC keeps bytes: its remotes in S3, Google Cloud Storage, Azure Blob Storage and on web servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from urllib.parse import quote

import httpx

from slipway.contract import ModelFault
from slipway.models.az import AzSource
from slipway.models.buckets import Bucket
from slipway.models.credentials import Credentials
from slipway.models.dvc_project import Remote
from slipway.models.faults import ModelError, shortened
from slipway.models.gs import GsSource
from slipway.models.s3 import S3Source
from slipway.models.web import Web

_HINT = (
    "give HTTP_USERNAME and HTTP_PASSWORD, or HTTP_TOKEN, in the Secret that "
    "spec.model.credentials.secretRef names, together with DVC_REMOTE_URL, the address that they are for: "
    "they are sent to no other, whatever the repository says"
)
#: Seconds to wait for the next bytes.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Objects:
    """The objects of one remote by their key, and what messages call them."""

    called: Callable[[str], str]
    open: Callable[[str, str], AbstractContextManager[Iterator[bytes]]]


def objects_of(remote: Remote, credentials: Credentials, home: str) -> Objects:
    """A remote by what the repository says of it; ``home`` is the host of the repository.

    Raises :class:`ModelError` for one that cannot be read.
    """
    url = credentials.dvc_remote or remote.options["url"]
    scheme, found, rest = url.partition("://")
    place, _, below = rest.partition("/")
    below = below.strip("/")
    if any(_is_on(remote.options.get(option)) for option in ("version_aware", "worktree")):
        raise _unsupported(remote, "keeps files by the store's versions (version_aware), and")
    if not found:
        raise _unsupported(remote, "is a folder on somebody's machine, and")
    if scheme == "s3":
        login = credentials.s3
        own = replace(
            credentials,
            s3=replace(
                login,
                endpoint=login.endpoint or remote.options.get("endpointurl", ""),
                region=login.region or remote.options.get("region", ""),
            ),
        )
        return _in_bucket(S3Source(own).bucket(place), below)
    if scheme in ("gs", "gcs"):
        # Its own endpointurl would be sent a token that opens more than this bucket.
        return _in_bucket(GsSource(credentials).bucket(place), below)
    if scheme == "azure":
        account = remote.options.get("account_name") or _account(remote.options.get("connection_string", ""))
        if not account:
            raise ModelError(
                ModelFault.UNSUPPORTED_ARTIFACT_STORE,
                f"the DVC remote {remote.name!r} does not say which account of Azure's {place!r} is in: "
                f"'dvc remote modify {remote.name} account_name NAME', without --local, and commit",
            )
        return _in_bucket(AzSource(credentials).container(account, place), below)
    if scheme in ("http", "https"):
        return _on_web(url, remote, credentials, home)
    raise _unsupported(remote, f"is of the type {shortened(scheme, 20)}, and")


def _in_bucket(bucket: Bucket, below: str) -> Objects:
    def at(key: str) -> str:
        return f"{below}/{key}" if below else key

    return Objects(
        called=lambda key: bucket.called(at(key)),
        open=lambda key, missing: bucket.open(at(key), {}, missing),
    )


def _on_web(url: str, remote: Remote, credentials: Credentials, home: str) -> Objects:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL:
        base = httpx.URL()
    if not base.host or base.userinfo or base.query or base.fragment:
        raise ModelError(
            ModelFault.UNSUPPORTED_ARTIFACT_STORE,
            f"the url of the DVC remote {remote.name!r} must be the address of a folder, without user, query "
            "and fragment: put HTTP_USERNAME and HTTP_PASSWORD into the Secret",
        )
    # Whoever may commit may name a remote: they are not to be sent the Secret.
    trusted = bool(credentials.dvc_remote) or base.netloc.decode() == home
    authorization = credentials.http.authorization() if trusted and base.scheme == "https" else None
    web = Web(url, authorization, credentials.trust(), _HINT)

    def at(key: str) -> str:
        return f"{str(base).rstrip('/')}/{quote(key)}"

    return Objects(called=at, open=lambda key, missing: web.open(at(key), missing, _PATIENCE))


def _unsupported(remote: Remote, what: str) -> ModelError:
    return ModelError(
        ModelFault.UNSUPPORTED_ARTIFACT_STORE,
        f"the DVC remote {remote.name!r} {what} is not read: add one in S3, Google Cloud Storage, Azure Blob "
        "Storage or on a web server with 'dvc remote add -d NAME URL', then 'dvc push' and commit; or, where "
        "the same files are there too, give that address under DVC_REMOTE_URL in the Secret",
    )


def _account(connection: str) -> str:
    pairs = (part.partition("=") for part in connection.split(";"))
    return next((value for name, _, value in pairs if name == "AccountName"), "")


def _is_on(value: str | None) -> bool:
    return (value or "").lower() in ("true", "1", "yes", "on")
