"""A real OCI registry, and what keeps its door: TLS, a password, or tokens for one."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import trustme

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import COSIGN, CRANE, ORAS, Tools
from tests.models.servers import listening
from tests.ports import free_port

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TITLE, FILEPATH = "org.opencontainers.image.title", "org.cncf.model.filepath"
_LENT = ("Content-Type", "Content-Length", "Docker-Content-Digest")


def oras_program() -> Path:
    return Tools(read_settings().cache).install(ORAS)


def cosign_program() -> Path:
    return Tools(read_settings().cache).install(COSIGN)


def crane_program() -> Path:
    return Tools(read_settings().cache).install(CRANE)


@contextmanager
def crane_registry(folder: Path, *, refers: bool = False) -> Iterator[str]:
    """go-containerregistry's registry; gives ``host:port``. ``refers``: it lists what refers to something."""
    address = f"127.0.0.1:{free_port()}"
    command = [crane_program(), "registry", "serve", "--address", address, "--disk", folder]
    if refers:
        command = [Tools(read_settings().cache).registry(), address, folder]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
    try:
        for _ in range(200):
            try:
                if httpx.get(f"http://{address}/v2/").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


@dataclass
class RegistryFront:
    """A registry over TLS.

    ``password``: ``user:password`` that it wants, at once (``basic``) or for a token (``bearer``).
    ``damage``: with what a blob begins in place of its own bytes. ``denies``: a part of paths that are
    nobody's. ``realm``: where it sends for a token, if not to itself. ``others``: by digest, what is answered
    in place of a blob the next times. ``asked``: the path of each request.
    """

    host: str
    behind: str
    authority: str
    password: str = ""
    kind: str = "basic"
    damage: bytes = b""
    denies: str = ""
    realm: str = ""
    others: dict[str, list[bytes]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    #: One for all requests: each of its own would read the system's authorities again.
    client: httpx.Client = field(default_factory=lambda: httpx.Client(verify=False), repr=False)

    def keys(self, **more: str) -> dict[str, str]:
        """The environment that a Secret becomes."""
        given = {"CA_CERT": self.authority, **more}
        return {
            f"SLIPWAY_CREDENTIAL_{name.replace('dockerconfigjson', '.dockerconfigjson')}": value
            for name, value in given.items()
        }

    def blob(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a blob; gives its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self.client.post(f"http://{self.behind}/v2/{name}/blobs/uploads/").raise_for_status()
        place = httpx.URL(f"http://{self.behind}").join(begun.headers["Location"])
        self.client.put(place.copy_merge_params({"digest": digest}), content=content).raise_for_status()
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}

    def push(self, name: str, tag: str, layers: list[dict[str, Any]], **more: Any) -> str:
        """Upload a manifest of layers; gives its digest."""
        config = {**self.blob(name, b"{}"), "mediaType": "application/vnd.oci.empty.v1+json"}
        return self.put(
            name, tag, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}
        )

    def put(self, name: str, tag: str, manifest: dict[str, Any]) -> str:
        text = json.dumps(manifest).encode()
        kind = {"Content-Type": manifest["mediaType"]}
        self.client.put(
            f"http://{self.behind}/v2/{name}/manifests/{tag}", content=text, headers=kind
        ).raise_for_status()
        return f"sha256:{hashlib.sha256(text).hexdigest()}"

    def file(self, name: str, path: str, content: bytes, note: str = TITLE) -> dict[str, Any]:
        """A layer that is a file, as ``oras push`` makes it; for ModelPack with another note."""
        return {**self.blob(name, content), "annotations": {note: path}}


@contextmanager
def registry_front(behind: str, authority: trustme.CA) -> Iterator[RegistryFront]:
    port = free_port()
    front = RegistryFront(f"localhost:{port}", behind, authority.cert_pem.bytes().decode())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            front.asked.append(self.path.partition("?")[0])
            given = self.headers.get("Authorization", "")
            basic = "Basic " + base64.b64encode(front.password.encode()).decode()
            if self.path.startswith("/token"):
                if front.password and given != basic:
                    self._reply(401, {}, b"")
                    return
                token = secrets.token_hex(8)
                front.tokens.add(token)
                self._reply(200, {"Content-Type": "application/json"}, json.dumps({"token": token}).encode())
                return
            let_in = {
                "none": True,
                "basic": not front.password or given == basic,
                "bearer": given.removeprefix("Bearer ") in front.tokens,
            }[front.kind]
            if front.denies and front.denies in self.path:
                self._reply(403, {}, b"")
                return
            if not let_in:
                place = front.realm or f"https://{front.host}/token"
                realm = f'Bearer realm="{place}",service="tests",scope="repository:x:pull"'
                challenge = realm if front.kind == "bearer" else 'Basic realm="tests"'
                self._reply(401, {"WWW-Authenticate": challenge}, b"")
                return
            accept = {"Accept": self.headers.get("Accept", "*/*")}
            answer = front.client.get(
                f"http://{front.behind}{self.path}", headers=accept, follow_redirects=False
            )
            content = answer.content
            if "/blobs/" in self.path and front.damage:
                content = front.damage + content[len(front.damage) :]
            if others := front.others.get(self.path.rpartition("/")[2]):
                content = others.pop(0)
            self._reply(
                answer.status_code, {n: answer.headers[n] for n in _LENT if n in answer.headers}, content
            )

        def _reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name != "Content-Length":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with listening(port, Handler, authority):
        yield front
