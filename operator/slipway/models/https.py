"""``https://HOST/PATH/model.onnx``: a file on a web server, and what it keeps beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from urllib.parse import quote, unquote

import httpx

from slipway.contract import ModelFault, Resolution
from slipway.models.credentials import Credentials
from slipway.models.faults import ModelError
from slipway.models.folder import Listing, Whole, one_by_one
from slipway.models.source import Located
from slipway.models.web import Web, shown

_HINT = (
    "give HTTP_USERNAME and HTTP_PASSWORD, or HTTP_TOKEN, in the Secret that "
    "spec.model.credentials.secretRef names, for somebody who may read the file"
)


class HttpsSource:
    """Web servers, and buckets that are reached as web servers. There is no source for unencrypted ``http://``."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def locate(self, uri: str) -> Located:
        url = _read(uri)
        web = Web(uri, self._credentials.http.authorization(), self._credentials.trust(), _HINT)
        return Located(uri=uri, version=None, files=_WebFiles(url, web))

    def whole(self, uri: str) -> Whole | None:
        """One file: web servers list nothing."""
        url = _read(uri)
        name = url.path.rpartition("/")[2] or "model"
        if name.endswith(".onnx"):
            return None
        listing = Listing(shown(url))
        listing.add(name)
        web = Web(uri, self._credentials.http.authorization(), self._credentials.trust(), _HINT)
        files = _WebFiles(url, web, name)
        return Whole(uri, None, listing.sizes(), files.describe, one_by_one(files.open), is_file=True)

    def still(self, uri: str, known: Resolution) -> Resolution | None:
        """An address is not followed."""
        del uri, known
        return None


class _WebFiles:
    def __init__(self, url: httpx.URL, web: Web, main: str = "") -> None:
        """``main``: what the file is called, if not as an ONNX model is."""
        self._url = url
        self._web = web
        self._main = main

    @property
    def main(self) -> str:
        if self._main:
            return self._main
        name = unquote(self._url.path.rpartition("/")[2])
        return name if name.endswith(".onnx") and name.isprintable() and "/" not in name else "model.onnx"

    def describe(self, path: str) -> str:
        return shown(self._address(path))

    def open(self, path: str) -> AbstractContextManager[Iterator[bytes]]:
        address = self._address(path)
        if path == self.main:
            missing = f"{shown(address)} does not exist (HTTP 404): upload the file, or fix spec.model.uri"
        else:
            missing = (
                f"{shown(self._url)} keeps weights in {path!r}, but {shown(address)} does not exist "
                "(HTTP 404): upload that file beside it, or save the model as one file"
            )
        return self._web.open(str(address), missing)

    def _address(self, path: str) -> httpx.URL:
        if path == self.main:
            return self._url
        # A query is part of one file's address, and may be a signature of it: not of its neighbours.
        return self._url.copy_with(query=None).join(quote(path))


def _read(uri: str) -> httpx.URL:
    try:
        url = httpx.URL(uri)
    except httpx.InvalidURL as error:
        raise _invalid(f"is not an address ({error})") from None
    if url.scheme != "https" or not url.host or url.path in ("", "/"):
        raise _invalid("must name a file on a server")
    if url.userinfo:
        raise _invalid("must not hold a password: put HTTP_USERNAME and HTTP_PASSWORD into a Secret")
    if url.fragment:
        raise _invalid("must not have a part after '#'")
    return url


def _invalid(why: str) -> ModelError:
    return ModelError(
        ModelFault.INVALID_MODEL_URI,
        f"an https:// model URI {why}; for example https://models.example.com/fraud/7/model.onnx",
    )
