"""The first hour of a data scientist, as the pages print it, on a real MLflow, resolver and model server.

Only addresses are replaced, as a reader would, and tokens by those that were answered.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from google.protobuf import json_format
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from e2e import snippets
from e2e.snippets import Command
from slipway.contract import Resolution
from slipway.digest import digest_of
from slipway.names import PROFILE_FILE
from slipway.profile import Profile, read_profile
from slipway_server.rpc import open_inference_pb2 as oip
from tests.docs.notes import notes
from tests.models.conftest import SlipwayModel
from tests.models.servers import Mlflow, mlflow_server
from tests.server.running import Server
from tests.unit.local.serving import Serve

#: Where a reader's `slipway` and `python` are.
BIN = Path(sys.executable).parent
KEY = b"0123456789abcdef0123456789abcdef"
#: MLflow says nothing of itself, and takes its usual requirements rather than half a minute to find them out.
QUIETLY = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1"}
#: Where the pages say that the model answers: from a machine with a port-forward, and inside the cluster.
FORWARDED, INSIDE = "http://localhost:8080", ("http://fraud.payments", "http://fraud.default", "http://fraud")


def shell(command: str, folder: Path, **variables: str) -> str:
    """What a command prints in a folder; AssertionError with its last words where it fails."""
    environment = {**os.environ, **variables, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def python(page: str, folder: Path, replaced: tuple[str, str] = ("", ""), **variables: str) -> str:
    """What the Python of a page prints, all of its blocks one after the other."""
    blocks = [block.text for block in snippets.blocks(page) if block.language == "python"]
    assert blocks, page
    script = folder / "snippet.py"
    script.write_text("\n".join(blocks).replace(*replaced) if replaced[0] else "\n".join(blocks))
    return shell("python snippet.py", folder, **variables)


def typed(page: str, *programs: str) -> list[Command]:
    """The commands of a page by these programs; there are some."""
    found = [command for command in snippets.commands(page) if command.program in programs]
    assert found, f"{page} has no {programs}"
    return found


@dataclass(frozen=True)
class Registered:
    """A model that the pages' own Python registered, as resolved by the real resolver."""

    mlflow: Mlflow
    folder: Path
    resolver: SlipwayModel
    resolution: Resolution

    @property
    def environment(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.mlflow.url, **QUIETLY}


def resolve(mlflow: Mlflow, folder: Path) -> tuple[SlipwayModel, Resolution]:
    """As the pods of a ModelDeployment do: what `mlflow://fraud@champion` is, and its files."""
    with pytest.MonkeyPatch.context() as patch:
        model = SlipwayModel(folder, patch)
        model.model_dir.mkdir(parents=True)
        found = model.resolved("mlflow://fraud@champion", SLIPWAY_MLFLOW_TRACKING_URI=mlflow.url)
        model.fetched(found.uri, found.digest, SLIPWAY_MLFLOW_TRACKING_URI=mlflow.url)
    return model, found


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, []) as mlflow:
        mlflow.wait()
        work = tmp_path_factory.mktemp("notebook")
        variables = {"MLFLOW_TRACKING_URI": mlflow.url, **QUIETLY}
        python("docs/model-sources.md", work, **variables)
        yield Registered(mlflow, work, *resolve(mlflow, tmp_path_factory.mktemp("pod")))


@pytest.fixture(scope="module")
def server(registered: Registered) -> Iterator[Server]:
    """The model server as a pod runs it, with the model's name and version, and keys for tokens."""
    keys = registered.resolver.folder / "keys"
    keys.mkdir()
    (keys / "2026-11").write_bytes(KEY)
    with Server(
        registered.resolver.model_dir,
        environment={"SLIPWAY_FEEDBACK_KEYS_DIR": str(keys)},
        modelName="fraud",
        modelVersion=registered.resolution.version,
        digest=registered.resolution.digest,
        feedbackMaxAgeDays=90,
    ) as running:
        yield running.wait_until_ready(120)


def test_the_registered_model_is_served_without_a_cluster(registered: Registered) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", registered.mlflow.url)
        serve = Serve(registered.folder, "mlflow://fraud@champion")
    try:
        answer = json.loads(shell(f"{serve.curl()} --silent --fail", registered.folder))
    finally:
        assert serve.end() == 0
    assert (answer["model_name"], answer["model_version"]) == ("fraud", registered.resolution.version)
    assert {one["name"] for one in answer["outputs"]} == set(expected(registered))


def to(server: Server, text: str) -> str:
    """The same with the address of the server."""
    for address in (FORWARDED, *INSIDE):
        text = text.replace(f"{address}/", f"{server.url}/")
    assert server.url in text, text
    return text


def expected(registered: Registered) -> dict[str, Any]:
    """What onnxruntime itself answers to the question that all pages ask."""
    [path] = registered.resolver.model_dir.glob("*.onnx")
    session = onnxruntime.InferenceSession(path)
    asked = np.array([[0.3, 1.2, -0.7, 2.0]], np.float32)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": asked}), strict=True))


def assert_answered(outputs: list[dict[str, Any]], wanted: dict[str, Any]) -> None:
    assert {one["name"] for one in outputs} == set(wanted)
    for one in outputs:
        np.testing.assert_allclose(one["data"], wanted[one["name"]].reshape(-1), rtol=1e-6)


def test_the_alias_leads_to_the_version_that_the_page_registered(registered: Registered) -> None:
    assert registered.resolution.uri == f"mlflow://fraud/{registered.resolution.version}"
    assert registered.resolution.version == "1"


def test_the_readmes_curl_is_answered(server: Server, registered: Registered) -> None:
    [command] = typed("README.md", "curl")
    answer = json.loads(shell(to(server, f"{command.text} -sS --fail-with-body"), registered.folder))
    assert (answer["model_name"], answer["model_version"]) == ("fraud", "1")
    assert_answered(answer["outputs"], expected(registered))


def test_the_readmes_python_is_answered(server: Server, registered: Registered) -> None:
    said = python("README.md", registered.folder, ("http://fraud.payments", server.url))
    found = [line.partition(" ") for line in said.splitlines()]
    outputs = [{"name": name, "data": json.loads(data)} for name, _, data in found]
    assert_answered(outputs, expected(registered))


def test_the_notes_requests_are_answered(server: Server, registered: Registered) -> None:
    found = notes()
    describe, ask = [command.text for command in found.commands if command.program == "curl"]
    about = json.loads(shell(to(server, f"{describe} -sS --fail-with-body"), registered.folder))
    assert [(one["name"], one["datatype"], one["shape"]) for one in about["inputs"]] == [
        ("X", "FP32", [-1, 4])
    ]
    answer = json.loads(shell(to(server, f"{ask} -sS --fail-with-body"), registered.folder))
    assert_answered(answer["outputs"], expected(registered))
    [text] = found.python
    (registered.folder / "notes.py").write_text(to(server, text))
    said = ast.literal_eval(shell("python notes.py", registered.folder))
    assert_answered(said["outputs"], expected(registered))


def test_labels_come_back_by_the_commands_that_are_printed(server: Server, registered: Registered) -> None:
    commands = [one for one in typed("docs/model-server.md", "curl") if "/feedback " in one.text]
    assert len(commands) == 2
    for command in commands:
        text = to(server, command.text)
        for placeholder in ("TOKEN", "ANOTHER"):
            text = text.replace(f'"{placeholder}"', f'"{token(server)}"')
        assert "TOKEN" not in text
        said = shell(f"{text} -sS --fail-with-body", registered.folder)
        assert json.loads(said) == json.loads(command.output)


def token(server: Server) -> str:
    question = {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [0.3, 1.2, -0.7, 2.0]}
    return str(server.infer(question).json()["parameters"]["feedback_token"])


def test_grpcurl_would_be_answered(server: Server) -> None:
    """What grpcurl does with these words: reflection, and JSON as protobuf maps it."""
    listing, asking = [shlex.split(one.text) for one in typed("docs/model-server.md", "grpcurl")]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        assert listing == ["grpcurl", "-plaintext", "fraud:9000", "list"]
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        service, method = asking[-1].split("/")
        assert service in services
        described = oip.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[method]
        request = json_format.Parse(asking[asking.index("-d") + 1], oip.ModelMetadataRequest())
        assert described.input_type.name == type(request).DESCRIPTOR.name
        call = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=oip.ModelMetadataRequest.SerializeToString,
            response_deserializer=oip.ModelMetadataResponse.FromString,
        )
        assert call(request, timeout=30).name == "fraud"


def test_the_digest_is_what_the_page_tells_to_compute(registered: Registered, tmp_path: Path) -> None:
    one_file, several = [command.text for command in typed("docs/model-sources.md", "sha256sum", "find")]
    folder = registered.resolver.model_dir
    [path] = folder.glob("*.onnx")
    said = shell(one_file.replace("model.onnx", path.name), folder)
    assert f"sha256:{said.split()[0]}" == registered.resolution.digest
    for name in ("model.onnx", "weights.bin", "more/other.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert f"sha256:{shell(several, tmp_path).split()[0]}" == digest_of(tmp_path)


@pytest.fixture(scope="module")
def profiled(registered: Registered) -> Registered:
    """Training data and a model in files, and then the page's two ways to profile them."""
    made = (
        "import onnx, pandas as pd, skl2onnx\n"
        "from sklearn.datasets import make_classification\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "X, y = make_classification(n_samples=2000, n_features=4, random_state=2)\n"
        "frame = pd.DataFrame(X.astype('float32'), columns=['a', 'b', 'c', 'd']).assign(target=y)\n"
        "frame[:1500].to_parquet('train.parquet'); frame[1500:].to_parquet('eval.parquet')\n"
        "model = LogisticRegression().fit(X.astype('float32'), y)\n"
        "converted = skl2onnx.to_onnx(model, X[:1].astype('float32'), options={'zipmap': False})\n"
        "onnx.save(converted, 'model.onnx')\n"
    )
    (registered.folder / "made.py").write_text(made)
    shell("python made.py", registered.folder)
    return registered


def test_the_profile_command_of_the_page_makes_a_profile_of_that_model(profiled: Registered) -> None:
    [command] = [
        one for one in snippets.inline_commands("docs/monitoring.md", "slipway") if " --data " in one.text
    ]
    shell(command.text, profiled.folder)
    alone = profiled.folder / "alone"
    alone.mkdir()
    (alone / "model.onnx").write_bytes((profiled.folder / "model.onnx").read_bytes())
    found = read_profile((profiled.folder / PROFILE_FILE).read_bytes(), digest_of(alone))
    assert [feature.name for feature in found.features] == ["a", "b", "c", "d"]


def test_a_profile_that_is_logged_as_the_page_shows_comes_along_with_the_model(
    profiled: Registered, tmp_path: Path
) -> None:
    python("docs/monitoring.md", profiled.folder, **profiled.environment)
    alias = (
        "import mlflow\n"
        "client = mlflow.MlflowClient()\n"
        "newest = max(int(one.version) for one in client.search_model_versions(\"name='fraud'\"))\n"
        "client.set_registered_model_alias('fraud', 'champion', newest)\n"
    )
    (profiled.folder / "alias.py").write_text(alias)
    shell("python alias.py", profiled.folder, **profiled.environment)
    model, resolution = resolve(profiled.mlflow, tmp_path / "pod")
    assert int(resolution.version) > int(profiled.resolution.version)
    [path] = model.model_dir.rglob(PROFILE_FILE)
    assert isinstance(read_profile(path.read_bytes(), resolution.digest), Profile)


def test_every_address_that_a_page_asks_is_one_that_readers_have() -> None:
    """Inside the cluster by the Service's name, outside by the port that is forwarded."""
    for page in ("README.md", "docs/model-server.md"):
        for command in typed(page, "curl"):
            [address] = re.findall(r"http://[^/\s]+", command.text)
            assert address in (FORWARDED, *INSIDE)
    [forward] = [one.text for one in typed("README.md", "kubectl") if "port-forward" in one.text]
    assert " 8080:80 " in forward
