"""A conversation with the model behind a Service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError
from slipway.notebook.errors import PredictionError


@dataclass(frozen=True)
class Way:
    """How a model is reached.

    Attributes:
        url: of the model's Service, where it can be reached; without one, it is the Service itself in the
            cluster, and the API server elsewhere.
        key: an API key of ``spec.access``.
    """

    url: str | None = None
    key: str | None = None


def ask(
    there: Cluster, way: Way, name: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The model's answer.

    Args:
        there: the cluster, in the model's namespace.
        way: how the model is reached.
        path: below ``/v2/models/NAME``.
        body: of a POST; None for a GET.

    Raises:
        PredictionError: where the model server answers 4xx or 5xx.
        CommandError: where no model server answers.
    """
    whole, method = f"/v2/models/{name}{path}", "GET" if body is None else "POST"
    sent = None if body is None else dict(body)
    url = way.url or (f"http://{name}.{there.namespace}.svc" if there.is_inside else None)
    if url is not None:
        status, answer = _direct(url.rstrip("/") + whole, way.key, method, sent, there.timeout)
    elif way.key is not None:
        raise CommandError(
            "the API server keeps an API key for itself: give the url at which the model's Service is reached"
        )
    else:
        status, answer = there.proxied(name, method, whole, sent)
    where = f"model {there.namespace}/{name}"
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        shown = answer[:200].decode("utf-8", "replace").strip()
        raise CommandError(f"{where}: no model server answered, but {status}: {shown!r}")
    if status >= 400:
        raise PredictionError(f"{where}: {found.get('error', found)}", status)
    return found


def _direct(
    url: str, key: str | None, method: str, body: dict[str, Any] | None, timeout: float | None
) -> tuple[int, bytes]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    try:
        # A key goes to nobody else: redirects are not followed.
        answer = urllib3.request(
            method, url, json=body, headers=headers, timeout=timeout, retries=1, redirect=False
        )
    except HTTPError as error:
        raise CommandError(f"{url} does not answer: {error}") from error
    return answer.status, answer.data
