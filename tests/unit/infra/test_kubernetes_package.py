"""What the operator imports of the kubernetes package: the client that it uses, and nothing else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

FOR_PROVIDERS = {"requests", "requests_oauthlib", "oauthlib", "google.auth"}


def _in_a_process_of_its_own(code: str, *words: str, **environment: str) -> Any:
    ran = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_operator_imports_no_library_that_only_other_clients_need() -> None:
    names = _in_a_process_of_its_own("import json, sys, slipway.main; print(json.dumps(sorted(sys.modules)))")
    assert "kubernetes.aio.client.api_client" in names
    roots = {name.partition(".")[0] for name in names}
    assert roots.isdisjoint({"requests", "requests_oauthlib", "oauthlib", "google", "websocket"})


@pytest.mark.parametrize("expression", ["client.CoreV1Api", "config.load_kube_config", "watch.Watch"])
def test_the_package_is_whole_to_everyone_else(expression: str) -> None:
    module, name = expression.rsplit(".", 1)
    code = (
        "import json, slipway.infra, kubernetes\n"
        f"from kubernetes import {module}\n"
        f"names = [kubernetes.{expression}.__name__, {expression}.__name__]\n"
        "print(json.dumps([*names, kubernetes.__version__]))"
    )
    seen = _in_a_process_of_its_own(code)
    assert seen[:2] == [name, name]
    assert seen[2] == _in_a_process_of_its_own(
        "import json, kubernetes; print(json.dumps(kubernetes.__version__))"
    )


def test_a_part_that_is_not_there_is_missed_as_ever() -> None:
    code = "import json, slipway.infra, kubernetes; print(json.dumps(hasattr(kubernetes, 'nonsense')))"
    assert _in_a_process_of_its_own(code) is False


def test_a_package_that_was_imported_before_stays() -> None:
    code = (
        "import json, kubernetes\nfound = id(kubernetes)\nimport slipway.infra, sys\n"
        "print(json.dumps(id(sys.modules['kubernetes']) == found))"
    )
    assert _in_a_process_of_its_own(code) is True


def kubeconfig(folder: Path, user: dict[str, Any]) -> str:
    path = folder / "kubeconfig"
    contexts = [{"name": "one", "context": {"cluster": "one", "user": "one"}}]
    clusters = [{"name": "one", "cluster": {"server": "https://cluster.example"}}]
    known = {"current-context": "one", "contexts": contexts, "clusters": clusters}
    path.write_text(yaml.safe_dump({**known, "users": [{"name": "one", "user": user}]}))
    return str(path)


#: Reads a kubeconfig as everybody does, and tells by which token its user is known and what was imported.
READ = """
import json, sys, slipway.infra
from kubernetes import client, config
config.load_kube_config(sys.argv[1])
token = client.Configuration.get_default_copy().get_api_key_with_prefix("BearerToken")
imported = sorted(sys.modules)
api = config.new_client_from_config(sys.argv[1])
print(json.dumps([token, imported, [type(api).__name__, api.configuration.host]]))
"""


def test_a_user_with_a_token_needs_no_library_of_providers(tmp_path: Path) -> None:
    token, imported, api = _in_a_process_of_its_own(READ, kubeconfig(tmp_path, {"token": "mine"}))
    assert token == "Bearer mine"
    assert FOR_PROVIDERS.isdisjoint(imported)
    assert api == ["ApiClient", "https://cluster.example"]


def token_until(second: int) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": second}).encode()).decode().rstrip("=")
    return f"e30.{claims}.sig"


#: In the year 3000.
NEW = token_until(32503680000)


@contextmanager
def issuer(asked: list[dict[str, list[str]]]) -> Iterator[str]:
    """Gives out tokens, and keeps by which forms they were asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({"token_endpoint": f"http://{self.headers['host']}/token"})

        def do_POST(self) -> None:
            asked.append(parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()))
            given = {"token_type": "Bearer", "expires_in": 3600, "refresh_token": "next"}
            self._reply(given | {"access_token": "new-access", "id_token": NEW})

        def _reply(self, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_user_of_openid_connect_gets_a_new_token_as_ever(tmp_path: Path) -> None:
    asked: list[dict[str, list[str]]] = []
    with issuer(asked) as address:
        known = {"client-id": "me", "client-secret": "secret", "refresh-token": "last"}
        provider = {**known, "id-token": token_until(1), "idp-issuer-url": address}
        path = kubeconfig(tmp_path, {"auth-provider": {"name": "oidc", "config": provider}})
        token, imported, _ = _in_a_process_of_its_own(READ, path, OAUTHLIB_INSECURE_TRANSPORT="1")
    assert token == f"Bearer {NEW}"
    assert (asked[0]["grant_type"], asked[0]["refresh_token"]) == (["refresh_token"], ["last"])
    assert {"requests_oauthlib", "oauthlib.oauth2"} <= set(imported)


def test_a_user_of_google_gets_a_token_as_ever(tmp_path: Path) -> None:
    asked: list[dict[str, list[str]]] = []
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = tmp_path / "account.json"
    with issuer(asked) as address:
        known = {"client_email": "me@example.com", "private_key": pem, "token_uri": f"{address}/token"}
        account.write_text(json.dumps({"type": "service_account", "project_id": "one", **known}))
        path = kubeconfig(tmp_path, {"auth-provider": {"name": "gcp", "config": {}}})
        found = _in_a_process_of_its_own(READ, path, GOOGLE_APPLICATION_CREDENTIALS=str(account))
    token, imported, _ = found
    assert token == "Bearer new-access"
    assert "google.auth" in imported
    assert "requests_oauthlib" not in imported
