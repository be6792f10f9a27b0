"""What the commands ask of a cluster, as kubectl would: the same kubeconfig, context and namespace."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from yaml import YAMLError

from slipway.api.types import GROUP, PLURAL, VERSION
from slipway.cli.errors import ChangedError, CommandError
from slipway.contract import ADMIN_PORT, METRICS_PATH
from slipway.core import naming
from slipway.core.observed import Manifest, ObjectKind
from slipway.engine.kube import RESOURCES, typed
from slipway.engine.store import is_child

#: Seconds until the API server counts as silent.
TIMEOUT = 15
#: Of a pod's metrics, as the operator reads them.
MOST_BYTES = 3 * 1024 * 1024


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments that every command for one ModelDeployment has, named as kubectl names them."""
    parser.add_argument("name", help="the ModelDeployment")
    add_connection(parser)


def add_connection(parser: ArgumentParser) -> None:
    """Arguments that say which cluster, named as kubectl names them."""
    parser.add_argument("-n", "--namespace", help="its namespace; the context's own unless given")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--kubeconfig", help="path of the kubeconfig; KUBECONFIG unless given")


class MissingError(CommandError):
    """There is nothing of that name."""


class ForbiddenError(CommandError):
    """Whoever asks may not know."""


class Cluster:
    """ModelDeployments of one namespace."""

    def __init__(self, arguments: Namespace) -> None:
        """
        Raises:
            CommandError: where there is no kubeconfig that can be used.
        """
        try:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                arguments.kubeconfig, arguments.context
            )
            contexts, active = config.list_kube_config_contexts(  # type: ignore[no-untyped-call]
                arguments.kubeconfig
            )
        # A file that is no kubeconfig fails in as many ways as there are such files.
        except (ConfigException, OSError, ValueError, TypeError, AttributeError, YAMLError) as error:
            raise CommandError(f"no cluster to ask: the kubeconfig cannot be read: {error}") from error
        if arguments.context:
            active = next(found for found in contexts if found["name"] == arguments.context)
        self.namespace: str = (
            arguments.namespace or (active or {}).get("context", {}).get("namespace") or "default"
        )
        self._api = client.CustomObjectsApi()
        self._core = client.CoreV1Api()
        self._apps = client.AppsV1Api()

    def get(self, name: str) -> Manifest:
        """One ModelDeployment.

        Raises:
            CommandError: where it cannot be had.
        """
        return self._call(self._api.get_namespaced_custom_object, name)

    def find(self, name: str) -> Manifest | None:
        """One ModelDeployment, or None where there is none of that name.

        Raises:
            CommandError: where that cannot be told.
        """
        try:
            return self.get(name)
        except MissingError:
            return None

    def children(self, resource: Manifest) -> list[Manifest]:
        """What Slipway and others made for a ModelDeployment, as it is now.

        Raises:
            ForbiddenError: where a kind may not be listed.
            CommandError: where it cannot be told for another reason.
        """
        meta = resource["metadata"]
        found: list[Manifest] = []
        for kind in ObjectKind:
            path = RESOURCES[kind].path(self.namespace)
            with suppress(MissingError):  # a kind that this cluster does not have
                page = self._ask(f"{kind}s in {self.namespace}", self._get, path, meta["name"])
                found += [typed(item, kind) for item in page["items"]]
        return [child for child in found if is_child(child, meta["uid"])]

    def annotate(self, resource: Manifest, annotation: str, value: str | None) -> None:
        """Set an annotation, or take it away, unless the resource has changed since it was read.

        Raises:
            ChangedError: where it has.
            CommandError: where the API server refuses.
        """
        meta = resource["metadata"]
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"], "annotations": {annotation: value}},
        }
        self._call(self._api.patch_namespaced_custom_object, meta["name"], patch)

    def pods(self, name: str) -> list[Manifest]:
        """Pods that serve a ModelDeployment, of all its revisions.

        Raises:
            CommandError: where they cannot be had.
        """
        return self._list(self._core.list_namespaced_pod, f"pods of {name}", naming.pod_selector(name))

    def revisions(self, name: str) -> list[Manifest]:
        """ControllerRevisions of a ModelDeployment.

        Raises:
            CommandError: where they cannot be had.
        """
        labels = {naming.MODEL_LABEL: name}
        return self._list(
            self._apps.list_namespaced_controller_revision, f"ControllerRevisions of {name}", labels
        )

    def metrics(self, pod: str) -> str:
        """What a pod's metrics page says, by way of the API server; takes ``get`` on ``pods/proxy``.

        Raises:
            CommandError: where the pod does not answer.
        """
        what = f"metrics of pod {self.namespace}/{pod}"
        response = self._ask(
            what,
            self._core.connect_get_namespaced_pod_proxy_with_path,
            f"{pod}:{ADMIN_PORT}",
            self.namespace,
            METRICS_PATH.removeprefix("/"),
            _preload_content=False,
        )
        # A model server's image may be anybody's.
        body: bytes = self._ask(what, _read, response)
        if len(body) > MOST_BYTES:
            raise CommandError(f"{what}: more than {MOST_BYTES} bytes, which no model server says")
        return body.decode("utf-8", "replace")

    def _list(self, method: Any, what: str, labels: Mapping[str, str]) -> list[Manifest]:
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        where = f"{what} in {self.namespace}"
        found = self._ask(where, method, self.namespace, label_selector=selector)
        plain = client.ApiClient().sanitize_for_serialization(found.items)  # type: ignore[no-untyped-call]
        return list(plain)

    def _get(self, path: str, name: str, _request_timeout: float) -> Any:
        """A list as it comes: typed models drop fields that they do not know."""
        api = self._core.api_client
        selector = [("labelSelector", f"{naming.MODEL_LABEL}={name}")]
        headers = {"Accept": "application/json"}
        request = api.param_serialize(
            "GET", path, query_params=selector, header_params=headers, auth_settings=["BearerToken"]
        )
        response = api.call_api(*request, _request_timeout=_request_timeout)
        if response.status >= 400:
            raise ApiException(status=response.status, reason=response.reason)
        return json.loads(response.read())

    def _call(self, method: Any, name: str, *more: Any) -> Manifest:
        where = f"ModelDeployment {self.namespace}/{name}"
        found = self._ask(where, method, GROUP, VERSION, self.namespace, PLURAL, name, *more)
        if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
            raise CommandError(
                f"{where}: what answered is no API server: {str(found)[:60]!r}; does a proxy ask for a login?"
            )
        return found

    def _ask(self, where: str, method: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return method(*arguments, **options, _request_timeout=TIMEOUT)
        except ApiException as error:
            if error.status == 404:
                raise MissingError(f"there is no {where}") from error
            if error.status == 409:
                raise ChangedError(f"{where} has just changed; look at it again, then repeat") from error
            refused = ForbiddenError if error.status == 403 else CommandError
            raise refused(f"{where}: the API server answered {error.status} {error.reason}") from error
        except Exception as error:  # urllib3's own, of many kinds
            raise CommandError(f"the API server does not answer: {error}") from error


def _read(response: Any, _request_timeout: float) -> bytes:
    """As much as is needed to know that it is too much."""
    try:
        deadline, body = time.monotonic() + _request_timeout, b""
        while len(body) <= MOST_BYTES and (piece := response.read1(64 * 1024)):
            body += piece
            if time.monotonic() > deadline:
                raise TimeoutError(f"no end after {_request_timeout} s")
        return body
    finally:
        response.close()
