"""A real server process on loopback, and what it takes to talk to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from slipway.contract import ServingConfig, TerminationMessage
from slipway.digest import digest_of
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


def descendants(pid: int) -> list[int]:
    """A process, and all that it started or that those started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in descendants(int(child)))]


class Server:
    """``slipway-server`` on a directory; its log and its last words are kept beside the directory."""

    def __init__(
        self,
        directory: Path,
        stack: str = "own",
        /,
        environment: Mapping[str, str] | None = None,
        **config: Any,
    ) -> None:
        self.stack = stack
        self.name = config.setdefault("modelName", "fraud")
        self.version = config.setdefault("modelVersion", "3")
        if "digest" not in config:
            config["digest"] = digest_of(directory)
        config.setdefault("drainSeconds", 1)
        self.config = ServingConfig(**config)
        self.http_port, self.grpc_port, self.admin_port = free_port(), free_port(), free_port()
        # Not named by the port, which the system may give out again.
        directory.parent.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="server-", dir=directory.parent))
        self.termination, self.log, self.home = own / "termination", own / "log", own / "home"
        self.home.mkdir()
        environment = {
            **(environment or {}),
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'server'}",
            "SLIPWAY_SERVING_CONFIG": self.config.model_dump_json(),
            "SLIPWAY_MODEL_DIR": str(directory),
            "SLIPWAY_TERMINATION_PATH": str(self.termination),
            "SLIPWAY_HOST": "127.0.0.1",
            "SLIPWAY_HTTP_PORT": str(self.http_port),
            "SLIPWAY_GRPC_PORT": str(self.grpc_port),
            "SLIPWAY_ADMIN_PORT": str(self.admin_port),
            "SLIPWAY_HTTP_STACK": stack,
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slipway_server.main"], env=environment, stdout=log, stderr=log
            )
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self.infer_path = f"/v2/models/{self.name}/infer"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def wait_until_ready(self, seconds: float = 30) -> Server:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.get("/v2/health/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not ready; exit code {self.process.poll()}; log:\n{self.log.read_text()}")

    def infer(self, *inputs: dict[str, Any], **members: Any) -> httpx.Response:
        return self.client.post(self.infer_path, json={"inputs": list(inputs), **members})

    def infer_binary(self, document: dict[str, Any], *blobs: bytes) -> httpx.Response:
        head = json.dumps(document).encode()
        headers = {
            "Inference-Header-Content-Length": str(len(head)),
            "Content-Type": "application/octet-stream",
        }
        return self.client.post(self.infer_path, content=b"".join([head, *blobs]), headers=headers)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample by name and labels."""
        text = httpx.get(f"{self.admin}/metrics").text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def processes(self) -> list[int]:
        """The server's processes: the one that was started, its workers, and what runs the model for them."""
        return descendants(self.process.pid)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        return self.process.wait(seconds)

    def last_words(self) -> TerminationMessage:
        return TerminationMessage.model_validate_json(self.termination.read_bytes())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(10)


def tensor(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """A tensor of a request, with ``data`` or, without it, parameters alone."""
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        made["data"] = data
    if parameters:
        made["parameters"] = parameters
    return made


def split(response: httpx.Response) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON of a response and the bytes of its binary outputs, by name."""
    size = int(response.headers["inference-header-content-length"])
    document = json.loads(response.content[:size])
    rest, blobs = response.content[size:], {}
    for output in document["outputs"]:
        length = output.get("parameters", {}).get("binary_data_size")
        if length is not None:
            blobs[output["name"]], rest = rest[:length], rest[length:]
    assert rest == b""
    return document, blobs
