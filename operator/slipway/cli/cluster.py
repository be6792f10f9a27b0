"""What the commands ask of a cluster, as kubectl would: the same kubeconfig, context and namespace."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from typing import Any
from urllib.parse import quote, urlsplit

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError, MaxRetryError

from slipway.cli.connection import connect
from slipway.cli.errors import (
    ChangedError,
    CommandError,
    ForbiddenError,
    InvalidError,
    MissingError,
    NotInstalledError,
)
from slipway.names import ADMIN_PORT, GROUP, KIND, METRICS_PATH, PLURAL, VERSION

Manifest = dict[str, Any]

#: Of a pod's metrics, as the operator reads them.
MOST_BYTES = 3 * 1024 * 1024
#: ModelDeployments on one page of a list.
PAGE = 500
#: Whose changes these are, in managedFields. Flux takes back what those did whose names begin with kubectl.
MANAGER = f"{GROUP}/command"
_ROOT = f"/apis/{GROUP}/{VERSION}"
_MERGE = "application/merge-patch+json"


class Cluster:
    """ModelDeployments of one namespace, and what is around them.

    Attributes:
        namespace: that of the arguments, or of the context, or of the pod that this runs in.
    """

    def __init__(self, arguments: Namespace) -> None:
        """
        Raises:
            CommandError: where there is no cluster to use.
        """
        connection = connect(arguments)
        self.namespace: str = getattr(arguments, "namespace", None) or connection.namespace
        self.timeout: float | None = arguments.request_timeout or None
        #: Whether this process is a pod of the cluster, so that it reaches Services by their names.
        self.is_inside = connection.is_inside
        self._connection = connection

    def within(self, namespace: str) -> Cluster:
        """The same cluster, in another namespace."""
        found = copy(self)
        found.namespace = namespace
        return found

    def get(self, name: str) -> Manifest:
        """One ModelDeployment.

        Raises:
            CommandError: where it cannot be had.
        """
        return self._one("GET", name)

    def find(self, name: str) -> Manifest | None:
        """One ModelDeployment, or None where there is none of that name.

        Raises:
            CommandError: where that cannot be told.
        """
        try:
            return self.get(name)
        except MissingError:
            return None

    def select(self, selector: str = "", *, everywhere: bool = False) -> list[Manifest]:
        """ModelDeployments with these labels, of the namespace or of all namespaces.

        Raises:
            CommandError: where they cannot be had.
        """
        where = "all namespaces" if everywhere else self.namespace
        path = f"{_ROOT}/{PLURAL}" if everywhere else self._collection()
        return self.pages(f"{KIND}s in {where}", path, selector)

    def children(self, resource: Manifest) -> list[Manifest]:
        """What Slipway and others made for a ModelDeployment, as it is now.

        Raises:
            ForbiddenError: where a kind may not be listed.
            CommandError: where it cannot be told for another reason.
        """
        from slipway.core import naming
        from slipway.core.observed import ObjectKind
        from slipway.engine.kube import RESOURCES, typed
        from slipway.engine.ownership import is_child

        meta = resource["metadata"]
        found: list[Manifest] = []
        for kind in ObjectKind:
            path = RESOURCES[kind].path(self.namespace)
            with suppress(MissingError):  # a kind that this cluster does not have
                items = self.pages(
                    f"{kind}s in {self.namespace}", path, f"{naming.MODEL_LABEL}={meta['name']}"
                )
                found += [dict(typed(item, kind)) for item in items]
        return [child for child in found if is_child(child, meta["uid"])]

    def patch(self, name: str, change: Manifest, *, dry_run: bool = False) -> Manifest:
        """Merge a change into a ModelDeployment; gives it as it is then.

        Raises:
            ChangedError: where ``change`` names a resourceVersion that it has no more.
            InvalidError: where the API server refuses what would come out.
            CommandError: where it cannot be done for another reason.
        """
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"} | (
            {"dryRun": "All"} if dry_run else {}
        )
        return self._one("PATCH", name, query, change, _MERGE)

    def annotate(self, resource: Manifest, annotations: Mapping[str, str | None]) -> Manifest:
        """Set annotations, or take them away (None), unless the resource has changed since it was read.

        Raises:
            ChangedError: where it has.
            CommandError: where the API server refuses.
        """
        meta = resource["metadata"]
        changed = {"resourceVersion": meta["resourceVersion"], "annotations": dict(annotations)}
        return self.patch(meta["name"], {"metadata": changed})

    def user(self) -> str:
        """By what name the API server knows who asks; empty where it does not tell.

        Raises:
            CommandError: where it does not answer.
        """
        path, kind = "/apis/authentication.k8s.io/v1/selfsubjectreviews", "SelfSubjectReview"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": kind}
        try:
            found = self._request("who you are", "POST", path, body=asked)
        except (MissingError, ForbiddenError):
            return ""
        return str(((found.get("status") or {}).get("userInfo") or {}).get("username") or "")

    def check(self, manifest: Manifest, live: Manifest | None) -> None:
        """Let the API server check a ModelDeployment by a dry run: nothing is stored.

        Raises:
            InvalidError: where it would refuse it.
            ForbiddenError: where the user has no right to create or to update it.
            CommandError: where that cannot be told.
        """
        query = {"dryRun": "All", "fieldManager": MANAGER, "fieldValidation": "Strict"}
        meta = {**manifest["metadata"], "namespace": self.namespace}
        if live is None:
            self._request(
                f"{KIND} {self.namespace}/{meta['name']}",
                "POST",
                self._collection(),
                query,
                {**manifest, "metadata": meta},
            )
            return
        meta["resourceVersion"] = live["metadata"]["resourceVersion"]
        self._one("PUT", meta["name"], query, {**manifest, "metadata": meta})

    def pods(self, name: str) -> list[Manifest]:
        """Pods that serve a ModelDeployment, of all its revisions.

        Raises:
            CommandError: where they cannot be had.
        """
        from slipway.core import naming

        selector = ",".join(f"{label}={value}" for label, value in naming.pod_selector(name).items())
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        return self.pages(f"pods of {name} in {self.namespace}", path, selector)

    def revisions(self, name: str) -> list[Manifest]:
        """ControllerRevisions of a ModelDeployment.

        Raises:
            CommandError: where they cannot be had.
        """
        from slipway.core import naming

        path = f"/apis/apps/v1/namespaces/{self.namespace}/controllerrevisions"
        what = f"ControllerRevisions of {name} in {self.namespace}"
        return self.pages(what, path, f"{naming.MODEL_LABEL}={name}")

    def namespaces(self) -> list[str]:
        """Names of the cluster's namespaces.

        Raises:
            CommandError: where they cannot be had.
        """
        return [str(one["metadata"]["name"]) for one in self.pages("namespaces", "/api/v1/namespaces", "")]

    def operators(self) -> list[Manifest]:
        """Deployments of operators, of all namespaces.

        Raises:
            CommandError: where they cannot be had.
        """
        labels = "app.kubernetes.io/part-of=slipway,app.kubernetes.io/component=operator"
        return self.pages("Deployments in all namespaces", "/apis/apps/v1/deployments", labels)

    def openapi(self) -> Manifest:
        """The API server's OpenAPI document of ModelDeployments; every user who is known may read it.

        Raises:
            MissingError: where the cluster has none.
            CommandError: where it cannot be had.
        """
        return self._request("ModelDeployments", "GET", f"/openapi/v3/apis/{GROUP}/{VERSION}")

    def metrics(self, pod: str) -> str:
        """What a pod's metrics page says, by way of the API server; takes ``get`` on ``pods/proxy``.

        Raises:
            CommandError: where the pod does not answer.
        """
        what = f"metrics of pod {self.namespace}/{pod}"
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{ADMIN_PORT}/proxy{METRICS_PATH}"
        # A model server's image may be anybody's.
        body = self._bytes(what, "GET", path, accept="*/*", most=MOST_BYTES)
        if len(body) > MOST_BYTES:
            raise CommandError(f"{what}: more than {MOST_BYTES} bytes, which no model server says")
        return body.decode("utf-8", "replace")

    def secret(self, name: str) -> Manifest:
        """A Secret of the namespace.

        Raises:
            MissingError: where there is none.
            CommandError: where it cannot be had.
        """
        where, path = self._secret(name)
        return self._request(where, "GET", path)

    def write_secret(self, name: str, live: Manifest | None, data: Mapping[str, str | None]) -> None:
        """Write keys of a Secret, or take those away that are None, unless it has changed since it was read.

        Args:
            name: of the Secret.
            live: as it was read; None makes one.
            data: values in base64.

        Raises:
            ChangedError: where it has changed, or somebody else has made one.
            CommandError: where the API server refuses.
        """
        where, path = self._secret(name)
        query = {"fieldManager": MANAGER}
        if live is not None:
            change = {"metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}, "data": data}
            self._request(where, "PATCH", path, query, change, _MERGE)
            return
        made = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name}}
        self._request(where, "POST", path.rpartition("/")[0], query, {**made, "data": data})

    def _secret(self, name: str) -> tuple[str, str]:
        path = f"/api/v1/namespaces/{quote(self.namespace, safe='')}/secrets/{quote(name, safe='')}"
        return f"Secret {self.namespace}/{name}", path

    def proxied(self, service: str, method: str, path: str, body: Manifest | None) -> tuple[int, bytes]:
        """What a Service answers by way of the API server: the status and the body.

        Takes ``get`` or ``create`` on ``services/proxy``, which the role edit has.

        Raises:
            CommandError: where the API server answers itself, that it does not let the user or finds no pod.
        """
        where = f"Service {self.namespace}/{service}"
        place = f"/api/v1/namespaces/{self.namespace}/services/{quote(service, safe='')}:http/proxy{path}"
        status, reason, found = self._answer(method, place, None, body, "application/json", "*/*", None)
        if status >= 400 and b'"kind":"Status"' in found.replace(b" ", b""):
            raise _refusal(where, status, reason, found)
        return status, found

    def _collection(self) -> str:
        return f"{_ROOT}/namespaces/{quote(self.namespace, safe='')}/{PLURAL}"

    def _one(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        kind: str = "application/json",
    ) -> Manifest:
        where, path = f"{KIND} {self.namespace}/{name}", f"{self._collection()}/{quote(name, safe='')}"
        found = self._request(where, method, path, query, body, kind)
        if not isinstance(found.get("metadata"), dict):
            raise _stranger(where, found)
        return found

    def read(self, what: str, path: str) -> Manifest:
        """What the API server has at a path; ``what`` names it in errors.

        Raises:
            MissingError: where it has nothing there.
            CommandError: where it cannot be had.
        """
        return self._request(what, "GET", path)

    def labels(self, namespace: str) -> dict[str, str]:
        """Labels of a namespace.

        Raises:
            CommandError: where they cannot be had.
        """
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}"
        return dict((self.read(f"namespace {namespace}", path).get("metadata") or {}).get("labels") or {})

    def network_policies(self, namespace: str) -> list[Manifest]:
        """NetworkPolicies of a namespace.

        Raises:
            CommandError: where they cannot be had.
        """
        path = f"/apis/networking.k8s.io/v1/namespaces/{quote(namespace, safe='')}/networkpolicies"
        return self.pages(f"NetworkPolicies in {namespace}", path, "")

    def pages(self, what: str, path: str, selector: str) -> list[Manifest]:
        """All objects of a list with these labels.

        Raises:
            MissingError: where the cluster has no such kind.
            CommandError: where they cannot be had.
        """
        query, found = {"limit": str(PAGE)}, list[Manifest]()
        if selector:
            query["labelSelector"] = selector
        while True:
            page = self._request(what, "GET", path, query)
            if not isinstance(page.get("items"), list):
                raise _stranger(what, page)
            found += page["items"]
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return found
            query["continue"] = more

    def _request(
        self,
        where: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        kind: str = "application/json",
    ) -> Manifest:
        text = self._bytes(where, method, path, query, body, kind)
        try:
            found = json.loads(text)
        except ValueError:
            found = text
        if not isinstance(found, dict):
            raise _stranger(where, text)
        return found

    def _bytes(
        self,
        where: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        kind: str = "application/json",
        accept: str = "application/json",
        most: int | None = None,
    ) -> bytes:
        status, reason, found = self._answer(method, path, query, body, kind, accept, most)
        if status < 400:
            return found
        raise _refusal(where, status, reason, found)

    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        kind: str,
        accept: str,
        most: int | None,
    ) -> tuple[int, str, bytes]:
        """Status, reason and body of whatever answers."""
        headers = {"Accept": accept, "Content-Type": kind}
        try:
            response = self._connection.ask(method, path, query or {}, headers, body, self.timeout)
            return response.status, str(response.reason), _read(response, self.timeout, most)
        except (HTTPError, OSError) as error:
            raise CommandError(self._silence(error)) from error
        except ApiException as error:  # a certificate that is not trusted
            server = self._connection.server
            raise CommandError(f"the API server at {server} does not answer: {error.reason}") from error

    def _silence(self, error: Exception) -> str:
        """In one line what urllib3 says in many."""
        inner: object = error
        while isinstance(inner, HTTPError):
            reason = inner.reason if isinstance(inner, MaxRetryError) else inner.args[-1]
            if not isinstance(reason, Exception):
                break
            inner = reason
        # Of "HTTPConnection(host='…', port=…): Failed to …: [Errno 111] Connection refused" the last part.
        said = str(inner).rpartition(": ")[2]
        server = self._connection.server
        return (
            f"the API server at {urlsplit(server).netloc or server} does not answer: {said}; "
            "is the context the right one (kubectl config current-context)?"
        )


def _read(response: Any, timeout: float | None, most: int | None) -> bytes:
    """The whole body, or as much as is needed to know that it is too much."""
    raw = response.response
    try:
        end, body = time.monotonic() + (timeout or float("inf")), b""
        while (most is None or len(body) <= most) and (piece := raw.read1(64 * 1024)):
            body += piece
            if time.monotonic() > end:
                raise TimeoutError(f"no end after {timeout:g} s")
        return body
    finally:
        raw.release_conn()


def _refusal(where: str, code: int, reason: str, body: bytes) -> CommandError:
    """What an answer of 4xx or 5xx means, in the API server's own sentence where it has one."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        status = {}
    said, details = str(status.get("message") or ""), status.get("details") or {}
    if code == 404:
        if not status and KIND in where:  # the resource itself is unknown: that is told in plain text
            return NotInstalledError(
                "this cluster knows no ModelDeployments: Slipway, or its CRD, is not installed in it"
            )
        if details.get("kind") == "namespaces":
            return CommandError(f"{where}: {said}")
        return MissingError(f"there is no {where}")
    if code == 409:
        return ChangedError(f"{where} has just changed; look at it again, then repeat")
    if code in (400, 422):
        causes = [cause for cause in details.get("causes") or () if isinstance(cause, dict)]
        complaints = tuple(f"{cause.get('field')}: {cause.get('message')}" for cause in causes)
        return InvalidError(f"{where}: {said or reason}", complaints or (said or reason,))
    told = f"{where}: {said}" if said else f"{where}: the API server answered {code} {reason}"
    return ForbiddenError(told) if code == 403 else CommandError(told)


def _stranger(where: str, answer: object) -> CommandError:
    shown = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
    return CommandError(
        f"{where}: what answered is no API server: {shown[:60]!r}; does a proxy ask for a login?"
    )
