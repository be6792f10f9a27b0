"""The fake cluster of the engine's tests over HTTP, for whoever comes with a kubeconfig."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from slipway.api.crd import crd
from slipway.cli.cluster import MANAGER
from slipway.cli.schema import complaints
from slipway.engine.kube import RESOURCES
from slipway.names import API_VERSION, GROUP, KIND, PLURAL, VERSION
from tests.unit.cli.listening import listening
from tests.unit.world import NAME, NAMESPACE, World

CONFIG = """\
apiVersion: v1
kind: Config
current-context: one
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{}}}}]
contexts: [{{name: one, context: {{cluster: here, user: me, namespace: {namespace}}}}}]
"""
PLACE = (KIND, NAMESPACE, NAME)
RESOURCE = RESOURCES[KIND].path(NAMESPACE, NAME)
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


class Served:
    """What a test may set and see of it.

    Attributes:
        asked: every request, as method and path.
        sent: the body of every request that has one.
        headers: of every request.
        openapi: the schema of ModelDeployments in the API server's OpenAPI document.
        after_get: called with the number of reads of the ModelDeployment so far, once each is read and before
            it is answered.
        answer: answers a request before the cluster does, as status, content type and body; None leaves it.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.asked: list[tuple[str, str]] = []
        self.sent: list[dict[str, Any]] = []
        self.headers: list[list[tuple[str, str]]] = []
        kind = {"group": GROUP, "version": VERSION, "kind": KIND}
        schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        self.openapi: dict[str, Any] = {**schema, "x-kubernetes-group-version-kind": [kind]}
        #: By what name the API server knows who asks; empty where it does not say.
        self.user = ""
        self.after_get: Callable[[int], None] = lambda _: None
        self.answer: Callable[[str, str], tuple[int, str, bytes] | None] = lambda *_: None
        #: Secrets by name.
        self.secrets: dict[str, dict[str, Any]] = {}


@contextmanager
def served(world: World, folder: Path) -> Iterator[Served]:
    """Serve a world: one ModelDeployment to read and to merge-patch, and lists of the rest."""
    found = Served(folder / "kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            found.asked.append(("GET", url.path))
            if url.path.startswith(f"{SECRETS}/"):
                secret = found.secrets.get(url.path.removeprefix(f"{SECRETS}/"))
                found.after_get(found.asked.count(("GET", url.path)))
                if secret is None:
                    self._reply({"kind": "Status", "reason": "NotFound", "message": "not found"}, 404)
                else:
                    self._reply(secret)
                return
            if url.path == RESOURCE:
                if not world.kube.has(*PLACE):
                    self._missing()
                    return
                answer = json.loads(json.dumps(world.kube.find(*PLACE)))
                found.after_get(found.asked.count(("GET", RESOURCE)))
                self._reply(answer)
                return
            if url.path.startswith(RESOURCE.removesuffix(NAME)):
                self._missing()
                return
            if url.path == f"/openapi/v3/apis/{API_VERSION}":
                self._reply({"components": {"schemas": {"one": found.openapi}}})
                return
            kinds = [
                kind
                for kind, resource in RESOURCES.items()
                if url.path in (resource.path(NAMESPACE), resource.path())
            ]
            wanted = dict(
                pair.split("=")
                for pair in parse_qs(url.query).get("labelSelector", [""])[0].split(",")
                if pair
            )
            items = [
                one
                for kind in kinds
                for one in world.kube.all(kind)
                if wanted.items() <= one["metadata"].get("labels", {}).items()
            ]
            self._reply({"kind": "List", "metadata": {}, "items": items})

        def do_POST(self) -> None:
            if self.path.startswith(f"{SECRETS}?"):
                body = self._body()
                found.asked.append(("POST", SECRETS))
                name = body["metadata"]["name"]
                if name in found.secrets:
                    self._refuse(409, "AlreadyExists")
                    return
                body["metadata"]["resourceVersion"] = "1"
                found.secrets[name] = body
                self._reply(body, 201)
                return
            if self.path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
                body = self._body()
                self._reply({**body, "status": {"userInfo": {"username": found.user}}}, 201)
                return
            self._check("POST")

        def do_PUT(self) -> None:
            self._check("PUT")

        def _check(self, method: str) -> None:
            """A dry run, by the schema and rules that a real API server is held to by the same table."""
            url, body = urlsplit(self.path), self._body()
            found.asked.append((method, url.path))
            found.sent.append(body)
            assert parse_qs(url.query)["dryRun"] == ["All"], "a plan writes nothing"
            assert parse_qs(url.query)["fieldValidation"] == ["Strict"]
            if (wrong := complaints(body)) and wrong[0].startswith("unknown field"):
                said = "cannot be handled as a ModelDeployment: strict decoding error: " + ", ".join(wrong)
                self._reply({"kind": "Status", "reason": "BadRequest", "message": said}, 400)
                return
            if wrong:
                causes = [dict(zip(("field", "message"), one.split(": ", 1), strict=True)) for one in wrong]
                status = {"kind": "Status", "message": "; ".join(wrong), "details": {"causes": causes}}
                self._reply(status, 422)
                return
            self._reply(body)

        def _body(self) -> dict[str, Any]:
            read: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
            return read

        def do_PATCH(self) -> None:
            found.asked.append(("PATCH", urlsplit(self.path).path))
            body = self._body()
            if urlsplit(self.path).path.startswith(f"{SECRETS}/"):
                secret = found.secrets[urlsplit(self.path).path.removeprefix(f"{SECRETS}/")]
                meta = secret["metadata"]
                if body["metadata"].pop("resourceVersion") != meta["resourceVersion"]:
                    self._refuse(409, "Conflict")
                    return
                _merge(secret, body)
                meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
                self._reply(secret)
                return
            found.sent.append(json.loads(json.dumps(body)))
            asked = body.get("metadata", {}).pop("resourceVersion", None)
            live = world.kube.find(*PLACE)["metadata"]["resourceVersion"]
            if asked not in (None, live):  # a patch that names no version hits whatever is there
                self._refuse(409, "Conflict")
                return
            if "dryRun" in parse_qs(urlsplit(self.path).query):
                tried = json.loads(json.dumps(world.kube.find(*PLACE)))
                _merge(tried, body)
                self._reply(tried)
                return
            world.kube.edit(PLACE, lambda one: _merge(one, body), MANAGER)
            self._reply(world.kube.find(*PLACE))

        def _missing(self) -> None:
            details = {"name": NAME, "group": GROUP, "kind": PLURAL}
            message = f'{PLURAL}.{GROUP} "{NAME}" not found'
            self._reply({"kind": "Status", "reason": "NotFound", "message": message, "details": details}, 404)

        def _refuse(self, code: int, reason: str) -> None:
            self._reply({"kind": "Status", "reason": reason, "code": code}, code)

        def _reply(self, document: Any, code: int = 200) -> None:
            found.headers.append(list(self.headers.items()))
            given = found.answer(self.command, urlsplit(self.path).path)
            code, kind, body = given or (code, "application/json", json.dumps(document).encode())
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with listening(Handler) as port:
        found.kubeconfig.write_text(CONFIG.format(port=port, namespace=NAMESPACE))
        yield found


def _merge(live: dict[str, Any], patch: dict[str, Any]) -> None:
    """A JSON merge patch: null takes a field away."""
    for name, value in patch.items():
        if value is None:
            live.pop(name, None)
        elif isinstance(value, dict):
            _merge(live.setdefault(name, {}), value)
        else:
            live[name] = value
