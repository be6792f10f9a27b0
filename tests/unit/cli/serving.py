"""The fake cluster of the engine's tests over HTTP, for whoever comes with a kubeconfig."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from slipway.api.types import KIND
from slipway.engine.kube import RESOURCES
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


class Served:
    """What a test may set and see of it.

    Attributes:
        asked: every request, as method and path.
        after_get: called with the number of reads of the ModelDeployment so far, after each.
        answer: answers a request before the cluster does, as status, content type and body; None leaves it.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.asked: list[tuple[str, str]] = []
        self.after_get: Callable[[int], None] = lambda _: None
        self.answer: Callable[[str, str], tuple[int, str, bytes] | None] = lambda *_: None


@contextmanager
def served(world: World, folder: Path) -> Iterator[Served]:
    """Serve a world: one ModelDeployment to read and to merge-patch, and lists of the rest."""
    found = Served(folder / "kubeconfig")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            found.asked.append(("GET", url.path))
            if url.path == RESOURCE:
                if not world.kube.has(*PLACE):
                    self._refuse(404, "NotFound")
                    return
                self._reply(world.kube.find(*PLACE))
                found.after_get(found.asked.count(("GET", RESOURCE)))
                return
            kinds = [kind for kind, resource in RESOURCES.items() if resource.path(NAMESPACE) == url.path]
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
            self._reply({"kind": "List", "items": items})

        def do_PATCH(self) -> None:
            found.asked.append(("PATCH", self.path))
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked = body["metadata"].pop("resourceVersion", None)
            live = world.kube.find(*PLACE)["metadata"]["resourceVersion"]
            if asked not in (None, live):  # a patch that names no version hits whatever is there
                self._refuse(409, "Conflict")
                return
            world.kube.edit(PLACE, lambda one: _merge(one, body), "kubectl-slipway")
            self._reply(world.kube.find(*PLACE))

        def _refuse(self, code: int, reason: str) -> None:
            self._reply({"kind": "Status", "reason": reason, "code": code}, code)

        def _reply(self, document: Any, code: int = 200) -> None:
            given = found.answer(self.command, urlsplit(self.path).path)
            code, kind, body = given or (code, "application/json", json.dumps(document).encode())
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.kubeconfig.write_text(CONFIG.format(port=server.server_address[1], namespace=NAMESPACE))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _merge(live: dict[str, Any], patch: dict[str, Any]) -> None:
    """A JSON merge patch: null takes a field away."""
    for name, value in patch.items():
        if value is None:
            live.pop(name, None)
        elif isinstance(value, dict):
            _merge(live.setdefault(name, {}), value)
        else:
            live[name] = value
