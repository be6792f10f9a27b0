"""A real API server of its own, on loopback: etcd and kube-apiserver, and nothing that runs a pod."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import trustme
import urllib3

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import Tools
from tests.ports import free_ports

Manifest = dict[str, Any]

#: Seconds until an API server answers at most; it takes about six on an idle core.
START = 120.0
#: Seconds until a policy that was written is in force at most.
IN_FORCE = 60.0
ADMIN_TOKEN = "admin"
JSON, MERGE, STRATEGIC, PATCH, APPLY = (
    "application/json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
)


@dataclass(frozen=True)
class Answer:
    """What the API server says.

    Attributes:
        code: of HTTP.
        body: an object, or a Status.
    """

    code: int
    body: Manifest

    @property
    def message(self) -> str:
        """Why it was refused."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Api:
    """The API server, asked as somebody.

    Attributes:
        http: that knows its certificate.
        address: where it is.
        user: who is impersonated; the administrator himself where it is empty.
        groups: that the user is in, beside those of everybody.
    """

    http: urllib3.PoolManager
    address: str
    user: str = ""
    groups: tuple[str, ...] = ()

    def by(self, user: str, *groups: str) -> Api:
        """The same one, asked by a user, or by a ServiceAccount with the groups that its token has."""
        if user.startswith("system:serviceaccount:"):
            namespace = user.split(":")[2]
            groups = (*groups, "system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return replace(self, user=user, groups=groups)

    def ask(self, method: str, path: str, body: Any = None, kind: str = JSON, **query: str) -> Answer:
        """One request."""
        headers = urllib3.HTTPHeaderDict({"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": kind})
        if self.user:
            headers.add("Impersonate-User", self.user)
            for group in (*self.groups, "system:authenticated"):
                headers.add("Impersonate-Group", group)
        where = f"{self.address}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body)
        found = self.http.request(method, where, body=data, headers=headers, timeout=30.0)
        return Answer(found.status, json.loads(found.data or b"{}"))

    def apply(self, path: str, manifest: Manifest, manager: str = "tests", **query: str) -> Answer:
        """Server-side apply."""
        return self.ask("PATCH", path, manifest, APPLY, fieldManager=manager, force="true", **query)

    def must(self, method: str, path: str, body: Any = None, kind: str = JSON, **query: str) -> Manifest:
        """The same, where anything but success is the test's own fault."""
        answer = self.ask(method, path, body, kind, **query)
        assert answer.code < 300, (method, path, answer.code, answer.message)
        return answer.body


@contextmanager
def control_plane(folder: Path) -> Iterator[Api]:
    """Start it, and end it; everything that it keeps is in the folder."""
    programs = Tools(read_settings().cache).kubernetes()
    client, peer, port = free_ports(3)
    authority = trustme.CA()
    served = authority.issue_cert("127.0.0.1")
    for name, blobs in (
        ("server.crt", served.cert_chain_pems),
        ("server.key", (served.private_key_pem,)),
        ("accounts.key", (authority.issue_cert("accounts").private_key_pem,)),
    ):
        (folder / name).write_bytes(b"".join(blob.bytes() for blob in blobs))
    (folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
    etcd = [
        str(programs / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--log-level=error",
    ]
    server = [
        str(programs / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={folder / 'server.crt'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={folder / 'accounts.key'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=none",
        "--profiling=false",
        "--watch-cache=true",
    ]
    pem = authority.cert_pem.bytes().decode()
    http = urllib3.PoolManager(ca_cert_data=pem, retries=False)
    api = Api(http, f"https://127.0.0.1:{port}")
    with _running(etcd, folder / "etcd.log"), _running(server, folder / "server.log") as process:
        _await(api, process, folder / "server.log")
        yield api


def wait_until(holds: Any, seconds: float, what: str) -> None:
    """Ask again and again; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not after {seconds:.0f} s"
        time.sleep(0.1)


def _await(api: Api, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, f"kube-apiserver ended:\n{log.read_text()[-2000:]}"
        with suppress(urllib3.exceptions.HTTPError):
            return (
                api.http.request(
                    "GET", f"{api.address}/readyz", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
                ).status
                == 200
            )
        return False

    wait_until(answers, START, "kube-apiserver answers")


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
