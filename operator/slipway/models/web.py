"""HTTP for model sources: credentials for one origin only, short retries, and faults with reasons."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
import stamina
import stamina.instrumentation

from slipway.contract import ModelFault
from slipway.models.faults import ModelError, shortened

_log = logging.getLogger(__name__)

#: Together these give up on a silent or absent host within about 17 seconds.
_ATTEMPTS = 4
_ATTEMPTS_SECONDS = 12.0
_CONNECT_SECONDS = 4.0
_ANSWER_SECONDS = 8.0
_REDIRECTS = 5
#: Largest answer that is read into memory, in bytes.
_LARGEST_DOCUMENT = 8 * 1024 * 1024
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Answer:
    """What a server said, read whole."""

    status: int
    text: str

    def json(self) -> dict[str, Any]:
        """The JSON object it holds; empty where it holds anything else."""
        try:
            value = json.loads(self.text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Web:
    """Requests to one origin, which alone ever sees the credentials; GET unless they have a body.

    ``hint`` says which keys of the credentials Secret would open the door.
    """

    def __init__(
        self,
        home: str,
        authorization: str | None,
        trust: ssl.SSLContext,
        hint: str,
        challenge: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """``challenge``: the ``Authorization`` for a ``WWW-Authenticate``, where one is to be found out."""
        self._home = httpx.URL(home)
        self._authorization = authorization
        self._hint = hint
        self._challenge = challenge
        stamina.instrumentation.set_on_retry_hooks([_log_retry])
        self._client = httpx.Client(verify=trust, headers={"Accept-Encoding": "identity"})

    def document(self, url: str, query: Mapping[str, str] | None = None) -> Answer:
        """A small answer, whatever its status, but for those that :meth:`open` raises for."""
        target = _address(url).copy_merge_params(query or {})
        with self._following(target, _ANSWER_SECONDS) as response:
            return Answer(response.status_code, _text(response))

    @contextmanager
    def open(self, url: str, missing: str, patience: float = 30.0) -> Iterator[Iterator[bytes]]:
        """The bytes of a file, in pieces. ``patience``: seconds to wait for the next piece.

        Raises :class:`ModelError`: ``MODEL_NOT_FOUND`` with the message ``missing``, ``MODEL_ACCESS_DENIED``,
        ``REGISTRY_UNREACHABLE``, and ``MODEL_TRUNCATED`` where fewer bytes come than were announced.
        """
        with self._following(_address(url), patience) as response:
            if response.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise ModelError(ModelFault.MODEL_NOT_FOUND, missing)
            if not response.is_success:
                raise unexpected(url, Answer(response.status_code, _text(response)))
            yield _pieces(response, ModelFault.MODEL_TRUNCATED)

    @contextmanager
    def exchange(self, url: str, headers: Mapping[str, str], body: bytes | None) -> Iterator[httpx.Response]:
        """An answer of any status but those that :meth:`open` raises for, its body still to be read."""
        with self._following(_address(url), _ANSWER_SECONDS, headers, body) as response:
            yield response

    def put(self, url: str, content: bytes) -> Answer:
        """The answer to an upload, whatever its status, but for those that :meth:`open` raises for."""
        with self._following(_address(url), _ANSWER_SECONDS, None, content, "PUT") as response:
            return Answer(response.status_code, _text(response))

    @contextmanager
    def _following(
        self,
        url: httpx.URL,
        patience: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        method: str | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer after redirects. They may lead to other hosts, but not from TLS to plain HTTP."""
        for _ in range(_REDIRECTS + 1):
            response = self._persistent(url, patience, headers or {}, body, method)
            try:
                if not response.has_redirect_location:
                    yield response
                    return
                # It can be joined: httpx takes an answer with any other location for a broken one.
                after = url.join(response.headers["Location"])
            finally:
                response.close()
            if after.scheme != "https" and (after.scheme != "http" or url.scheme == "https"):
                raise ModelError(
                    ModelFault.REGISTRY_UNREACHABLE,
                    f"{shown(url)} redirects to {shown(after)}, which is not encrypted: "
                    "give an address that stays on https://",
                )
            url = after
        raise ModelError(
            ModelFault.REGISTRY_UNREACHABLE,
            f"{shown(url)} is the end of more than {_REDIRECTS} redirects: give the address they lead to",
        )

    def _persistent(
        self,
        url: httpx.URL,
        patience: float,
        headers: Mapping[str, str],
        body: bytes | None,
        method: str | None,
    ) -> httpx.Response:
        try:
            for attempt in stamina.retry_context(
                on=_PassingError,
                attempts=_ATTEMPTS,
                timeout=_ATTEMPTS_SECONDS,
                wait_initial=0.5,
                wait_max=3.0,
            ):
                with attempt:
                    return self._once(url, patience, headers, body, method)
        except _PassingError as passing:
            raise passing.error from None
        raise AssertionError("retry_context either returns or raises")

    def _once(
        self,
        url: httpx.URL,
        patience: float,
        more: Mapping[str, str],
        body: bytes | None,
        method: str | None = None,
        may_ask: bool = True,
    ) -> httpx.Response:
        own = (url.scheme, url.host, url.port) == (self._home.scheme, self._home.host, self._home.port)
        headers = {**more, **({"Authorization": self._authorization} if own and self._authorization else {})}
        timeout = httpx.Timeout(patience, connect=_CONNECT_SECONDS)
        try:
            usual = "GET" if body is None else "POST"
            request = self._client.build_request(
                method or usual, url, headers=headers, content=body, timeout=timeout
            )
            response = self._client.send(request, stream=True)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ModelError(
                ModelFault.INVALID_MODEL_URI, f"{shown(url)} cannot be asked: {error}; check the address"
            ) from None
        except httpx.TransportError as error:
            raise _unreachable(url, error) from None
        if response.status_code == HTTPStatus.UNAUTHORIZED and own and may_ask:
            found = self._challenge(response.headers.get("WWW-Authenticate", ""))
            if found is not None:
                response.close()
                self._authorization = found
                return self._once(url, patience, more, body, method, may_ask=False)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            response.close()
            raise ModelError(
                ModelFault.MODEL_ACCESS_DENIED,
                f"{shown(url)} {self._did(own)} (HTTP {response.status_code}): {self._hint}",
            )
        if response.status_code in _WORTH_RETRYING:
            try:
                raise _PassingError(unexpected(url, Answer(response.status_code, _text(response))))
            finally:
                response.close()
        return response

    def _did(self, own: bool) -> str:
        if not self._authorization:
            return "wants credentials, and none were sent"
        if own:
            return "refused the credentials"
        return f"wants credentials, but those of {self._home.host} do not follow its redirect"


class _PassingError(Exception):
    """A fault that may pass by itself in a moment."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(str(error))
        self.error = error


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    _log.warning("trying again in %.1f s: %s", details.wait_for, details.caused_by)


def _address(text: str) -> httpx.URL:
    try:
        return httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ModelError(
            ModelFault.REGISTRY_UNREACHABLE, f"the registry gave something that is no address ({error})"
        ) from None


def shown(url: httpx.URL | str) -> str:
    """An address as messages show it: without user, password, query and fragment, which may be secrets."""
    url = httpx.URL(url)
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def unexpected(url: httpx.URL | str, answer: Answer) -> ModelError:
    """A fault for an answer that nothing else explains."""
    said = answer.json().get("message") or answer.text
    return ModelError(
        ModelFault.REGISTRY_UNREACHABLE,
        f"{shown(url)} answered HTTP {answer.status}: {shortened(str(said), 200) or 'nothing more'}; "
        "see its log, it is tried again by itself",
    )


def _unreachable(url: httpx.URL, error: httpx.TransportError) -> ModelError | _PassingError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ModelError(
                ModelFault.REGISTRY_UNREACHABLE,
                f"the certificate of {url.host} is not trusted ({cause.verify_message}): put the certificate "
                "of its authority under the key CA_CERT into the Secret that spec.model.credentials names",
            )
        cause = cause.__cause__ or cause.__context__
    late = isinstance(error, httpx.TimeoutException)
    why = "no answer in time" if late else str(error) or type(error).__name__
    return _PassingError(
        ModelError(
            ModelFault.REGISTRY_UNREACHABLE,
            f"{shown(url)} cannot be reached ({shortened(why, 200)}): check the address, that the server "
            "runs and that network policies let pods of this namespace reach it; it is tried again by itself",
        )
    )


def _text(response: httpx.Response) -> str:
    document = bytearray()
    for piece in _pieces(response, ModelFault.REGISTRY_UNREACHABLE):
        document += piece
        if len(document) > _LARGEST_DOCUMENT:
            break
    return document.decode("utf-8", "replace")


def _pieces(response: httpx.Response, truncated: ModelFault) -> Iterator[bytes]:
    """The body; ``truncated`` is the reason where the server ends it too early."""
    try:
        yield from response.iter_bytes()
    except httpx.DecodingError as error:
        raise ModelError(
            truncated,
            f"{shown(response.url)} sent bytes that cannot be decompressed ({error}): upload the file again",
        ) from None
    except httpx.TransportError as error:
        # The server ended the answer, or else the network did.
        ended = isinstance(error, httpx.RemoteProtocolError)
        announced = response.headers.get("Content-Length")
        raise ModelError(
            truncated if ended else ModelFault.REGISTRY_UNREACHABLE,
            f"{shown(response.url)} broke off after {response.num_bytes_downloaded} bytes"
            + (f" of the {announced} it announced" if announced else "")
            + f" ({type(error).__name__}): check the stored file and any proxy in between",
        ) from None
