"""The processor time that the resolver takes from its start to its first request, by scheme."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnx
import trustme
from onnx import TensorProto, helper

from bench.fetch.runs import cpu_seconds
from e2e.cluster.settings import read_settings
from slipway.contract import MODEL_TASK_ENV
from tests.environments import python_with, uv

ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0
_URIS = {
    "https": "https://{host}/fraud/model.onnx",
    "mlflow": "mlflow://fraud@champion",
    "s3": "s3://models/fraud/model.onnx",
    "gs": "gs://models/fraud/model.onnx",
    "az": "az://shop/models/fraud/model.onnx",
    "dvc": "dvc://{host}/shop/models/fraud.onnx@main",
    "oci": "oci://{host}/shop/fraud:v1",
    "pvc": "pvc://models/fraud",
}
_KEYS = {
    "MLFLOW_TRACKING_URI": "https://{host}",
    "AWS_ENDPOINT_URL": "https://{host}",
    "AWS_ACCESS_KEY_ID": "reader",
    "AWS_SECRET_ACCESS_KEY": "reader-secret",
    "GOOGLE_ENDPOINT_URL": "https://{host}",
    "AZURE_STORAGE_ENDPOINT": "https://{host}",
}


@dataclass(frozen=True, slots=True)
class Starts:
    """``slipway-model`` as it is in the image: its packages and no other ones, all of them compiled."""

    python: Path
    code: Path
    folder: Path
    authority: trustme.CA

    def seconds(self, scheme: str) -> float:
        """Processor time until the first request came; of a claim, which has none, until the end."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(_PATIENCE)
            host = f"localhost:{listener.getsockname()[1]}"
            keys = {name: value.format(host=host) for name, value in _KEYS.items()}
            given = {"CA_CERT": self.authority.cert_pem.bytes().decode(), **keys}
            environment = {
                **os.environ,
                **{f"SLIPWAY_CREDENTIAL_{name}": value for name, value in given.items()},
                MODEL_TASK_ENV: json.dumps({"uri": _URIS[scheme].format(host=host)}),
                "SLIPWAY_TERMINATION_PATH": str(self.folder / "termination-log"),
                "SLIPWAY_PVC_MOUNT_DIR": str(self.folder / "claim"),
                "PYTHONPATH": str(self.code),
            }
            command = [str(self.python), "-m", "slipway.models", "resolve"]
            if scheme == "pvc":
                return cpu_seconds(command, environment)
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                return self._until_a_request(process.pid, listener)
            finally:
                process.kill()
                process.wait()

    def _until_a_request(self, process: int, listener: socket.socket) -> float:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost").configure_cert(context)
        client, _ = listener.accept()
        client.settimeout(_PATIENCE)
        with context.wrap_socket(client, server_side=True) as secured:
            assert secured.recv(1)
            return _so_far(process)


def starts(folder: Path) -> Starts:
    """The resolver with the packages of the image, which the first call installs, and a model on a claim."""
    lists = folder / "server.txt"
    export = ["export", "--quiet", "--frozen", "--no-dev", "--extra", "server", "--no-emit-project"]
    subprocess.run(
        [uv(read_settings().cache), *export, "--no-header", "--output-file", lists],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    python = python_with(lists, "resolver", compiled=True)
    code = folder / "code"
    shutil.copytree(ROOT / "operator/slipway", code / "slipway", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([python, "-m", "compileall", "-q", code], env=environment, check=True)
    (folder / "claim/fraud").mkdir(parents=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, folder / "claim/fraud/model.onnx")
    return Starts(python, code, folder, trustme.CA())


def _so_far(process: int) -> float:
    """Seconds that all threads of a process were on a processor."""
    nanoseconds = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


SCHEMES = tuple(_URIS)
