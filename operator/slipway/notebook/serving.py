"""A conversation with the model behind a Service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from slipway.cli.cluster import Cluster
from slipway.cli.errors import CommandError
from slipway.notebook.errors import PredictionError


def ask(there: Cluster, name: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The model's answer: in the cluster from its Service, elsewhere by way of the API server.

    Args:
        there: the cluster, in the model's namespace.
        path: below ``/v2/models/NAME``.
        body: of a POST; None for a GET.

    Raises:
        PredictionError: where the model server answers 4xx or 5xx.
        CommandError: where no model server answers.
    """
    whole, method = f"/v2/models/{name}{path}", "GET" if body is None else "POST"
    sent = None if body is None else dict(body)
    if there.is_inside:
        status, answer = _direct(there, name, method, whole, sent)
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
    there: Cluster, name: str, method: str, path: str, body: dict[str, Any] | None
) -> tuple[int, bytes]:
    try:
        answer = urllib3.request(
            method,
            f"http://{name}.{there.namespace}.svc{path}",
            json=body,
            timeout=there.timeout,
            retries=1,
        )
    except HTTPError as error:
        raise CommandError(f"the Service {there.namespace}/{name} does not answer: {error}") from error
    return answer.status, answer.data
