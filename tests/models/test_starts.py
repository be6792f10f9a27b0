"""The start of a pod pays for the clients of its own scheme, and for no other's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from slipway.models.sources import SOURCES
from tests.models.conftest import SlipwayModel
from tests.models.servers import WebServer

#: What takes long to import: clients of stores, and what reads their answers.
COSTLY = {
    "cryptography",
    "dulwich",
    "google.protobuf",
    "httpx",
    "numpy",
    "obstore",
    "slipway.profile",
    "stamina",
    "tarfile",
    "yaml",
}
WEB = {"httpx", "stamina"}
#: What each scheme has imported once a store has said that there is no such model.
NEEDED = {
    "pvc": set(),
    "https": WEB,
    "mlflow": WEB,
    "oci": {*WEB, "tarfile"},
    "s3": {"httpx", "obstore"},
    "gs": {"httpx", "obstore"},
    "az": {"httpx", "obstore"},
    # Of a repository the remote may be any of the stores.
    "dvc": {*WEB, "dulwich", "obstore", "yaml"},
}
URIS = {
    "pvc": "pvc://models/fraud.onnx",
    "https": "https://{host}/fraud.onnx",
    "mlflow": "mlflow://fraud@champion",
    "oci": "oci://{host}/fraud:v1",
    "s3": "s3://models/fraud.onnx",
    "gs": "gs://models/fraud.onnx",
    "az": "az://shop/models/fraud.onnx",
    "dvc": "dvc://{host}/shop/models/fraud.onnx@main",
}
SCRIPT = """
import json, sys
from slipway.models.main import main
main(["resolve"])
print("imported", json.dumps(list(sys.modules)))
"""


@pytest.mark.parametrize("scheme", SOURCES)
def test_no_client_of_another_store_is_imported(
    slipway_model: SlipwayModel, serve: Callable[[], WebServer], ca_certificate: str, scheme: str
) -> None:
    server = serve()
    keys = {
        "CA_CERT": ca_certificate,
        "MLFLOW_TRACKING_URI": server.url,
        "AWS_ENDPOINT_URL": server.url,
        "GOOGLE_ENDPOINT_URL": server.url,
        "AZURE_STORAGE_ENDPOINT": server.url,
    }
    uri = URIS[scheme].format(host=server.url.removeprefix("https://"))
    given = {f"SLIPWAY_CREDENTIAL_{name}": value for name, value in keys.items()}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": "operator", **slipway_model.environment({"uri": uri}, **given)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "ERROR " in done.stdout
    imported = set(json.loads(done.stdout.rpartition("imported ")[2]))
    assert imported & COSTLY == NEEDED[scheme]
    assert bool(server.asked) == (scheme != "pvc")
