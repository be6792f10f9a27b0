"""MLServer and a FastAPI server, from their examples: they serve the verified folder of MLflow's own flavor.

They run as processes here, with the command and the environment that the operator gives the container.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from slipway.api.types import ModelDeploymentSpec
from slipway.contract import MODEL_DIR
from slipway.core.objects.external import external_server
from slipway.core.objects.metadata import Owner
from slipway.core.resolution import model_status
from slipway.core.revision import Settings, revision_of
from tests.environments import python_with
from tests.models.conftest import SlipwayModel
from tests.models.examples import classifier
from tests.models.folders import content, fetched, resolved, tracking
from tests.models.registry import log_scikit_learn
from tests.models.servers import Mlflow
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
START_SECONDS = 120
#: Three flowers, one of each species.
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.7, 4.5, 1.5], [6.5, 3.0, 5.8, 2.2]]
SPECIES = ["setosa", "versicolor", "virginica"]


def narrow() -> LogisticRegression:
    """A model of three columns, where requests have four."""
    data = load_iris()
    return LogisticRegression(max_iter=500).fit(data.data[:, :3], data.target)


@pytest.fixture(scope="module")
def registered(mlflow: Mlflow) -> Mlflow:
    """``iris-sklearn`` with a good version and one that no request fits, as the examples say to log them."""
    log_scikit_learn(mlflow, classifier(), "iris-sklearn", "champion")
    log_scikit_learn(mlflow, narrow(), "iris-sklearn")
    return mlflow


@dataclass(frozen=True)
class Served:
    """A server that is up, and what it can write to."""

    url: str
    top: Path


@contextmanager
def serving(slipway_model: SlipwayModel, mlflow: Mlflow, example: str, version: str = "") -> Iterator[Served]:
    """Run an example's container as a process, with the files that a pod's fetch container brought."""
    manifest = yaml.safe_load((ROOT / "examples" / example).read_text())
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    own = manifest["spec"]["runtime"]["ports"]
    own.update({name: port for name, port in ports.items() if name in own})
    uri = manifest["spec"]["model"]["uri"]
    if version:
        uri = manifest["spec"]["model"]["uri"] = f"{uri.partition('@')[0]}/{version}"
    spec = ModelDeploymentSpec.model_validate(manifest["spec"])
    found = resolved(slipway_model, uri, **tracking(mlflow))
    fetched(slipway_model, found, **tracking(mlflow))
    assert {"MLmodel", "model.pkl"} <= set(content(slipway_model.model_dir))
    owner = Owner(manifest["metadata"]["name"], "payments", "0c7f5f0e-5c5c-4d6c-9a57-1f7f7d8b1a11")
    settings = Settings("slipway.dev/server:dev", "IfNotPresent", mlflow.url)
    container = external_server(owner, revision_of(spec, model_status(uri, found)), settings, 100)
    top = slipway_model.folder / "container"
    (top / "tmp").mkdir(parents=True)
    (top / "work").mkdir()
    command, environment = as_process(container, slipway_model.model_dir, top / "tmp")
    # A pod has all ports to itself.
    environment.update({"MLSERVER_METRICS_PORT": str(ports["metrics"]), "MLSERVER_HOST": "127.0.0.1"})
    with (top / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=top / "work", env=environment, stdout=log, stderr=log)
    probe = container["readinessProbe"]["httpGet"]
    try:
        wait_for(f"http://127.0.0.1:{ports['http']}{probe['path']}", process, top / "log")
        yield Served(f"http://127.0.0.1:{ports['http']}", top)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def as_process(container: Mapping[str, Any], model: Path, tmp: Path) -> tuple[list[str], dict[str, str]]:
    """Its command and environment as a kubelet makes them, with the folders that this machine has for it."""
    python = python_with(ROOT / "e2e/images/own-servers/requirements.txt", "own-servers")
    here = {MODEL_DIR: str(model), "/srv": str(ROOT / "examples"), "/tmp": str(tmp), "0.0.0.0": "127.0.0.1"}
    values: dict[str, str] = {}

    def named(text: str) -> str:
        return re.sub(r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), text)

    def there(text: str) -> str:
        return re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], text)

    for each in container["env"]:
        values[each["name"]] = named(each.get("value", ""))
    program, *words = [
        there(named(word)) for word in (*container.get("command", ()), *container.get("args", ()))
    ]
    environment = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: there(value) for name, value in values.items()},
    }
    return [str(python.parent / program), *words], environment


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=5, trust_env=False) as client:
        while time.monotonic() < end and process.poll() is None:
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise AssertionError(f"{url} is not ready:\n{log.read_text()[-3000:]}")


def infer(served: Served) -> httpx.Response:
    """What the Open Inference Protocol answers."""
    flat = [value for row in ROWS for value in row]
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [3, 4], "data": flat}]}
    return httpx.post(f"{served.url}/v2/models/iris/infer", json=body, timeout=30, trust_env=False)


def ask(served: Served) -> httpx.Response:
    """What the example's own API answers."""
    flowers = [{"sepal": row[:2], "petal": row[2:]} for row in ROWS]
    return httpx.post(f"{served.url}/species", json={"flowers": flowers}, timeout=30, trust_env=False)


def test_mlserver_serves_the_folder_of_a_scikit_learn_model(
    slipway_model: SlipwayModel, registered: Mlflow
) -> None:
    with serving(slipway_model, registered, "mlserver.yaml") as served:
        answer = infer(served).raise_for_status().json()
        assert answer["outputs"][0]["data"] == classifier().predict(ROWS).tolist()
        ready = httpx.get(f"{served.url}/v2/models/iris/ready", timeout=30, trust_env=False)
        assert ready.status_code == 200
        # A pod has a read-only file system.
        assert content(served.top / "work") == {}


def test_a_fastapi_server_serves_the_same_folder_with_an_api_of_its_own(
    slipway_model: SlipwayModel, registered: Mlflow
) -> None:
    with serving(slipway_model, registered, "fastapi.yaml") as served:
        assert ask(served).raise_for_status().json() == {"species": SPECIES, "version": "1"}
        wrong = httpx.post(f"{served.url}/species", json={"flowers": [{}]}, timeout=30, trust_env=False)
        assert wrong.status_code == 422
        assert content(served.top / "work") == {}


@pytest.mark.parametrize(("example", "asking"), [("mlserver.yaml", infer), ("fastapi.yaml", ask)])
def test_a_version_that_fails_answers_so_that_routers_count_it(
    slipway_model: SlipwayModel, registered: Mlflow, example: str, asking: Any
) -> None:
    with serving(slipway_model, registered, example, "2") as served:
        assert asking(served).status_code >= 500
