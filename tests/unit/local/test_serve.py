"""A model on this machine by `slipway serve`: the real server, followed and ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import onnx
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slipway.cli.main import main
from slipway.digest import digest_of
from tests.ports import free_port, free_ports
from tests.server import onnx_models
from tests.unit.local.serving import Serve, is_alive, until

ROW = {"name": "X", "datatype": "FP32", "shape": [1, 30], "data": [1.0] * 30}
PORTS = ("port", "grpc-port", "metrics-port")

Start = Callable[..., Serve]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 30 columns."""
    return onnx_models.save(onnx_models.classifier(), tmp_path_factory.mktemp("made")) / "model.onnx"


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """With that model as ``fraud.onnx``."""
    shutil.copy(model, tmp_path / "fraud.onnx")
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    running: list[Serve] = []

    def begin(*words: str) -> Serve:
        running.append(Serve(folder, *words))
        return running[-1]

    yield begin
    for one in running:
        one.end()


def version_of(model: Path, scratch: Path) -> str:
    alone = scratch / "alone"
    shutil.rmtree(alone, ignore_errors=True)
    alone.mkdir()
    shutil.copy(model, alone)
    return digest_of(alone).removeprefix("sha256:")[:12]


def replace(path: Path, words: str) -> None:
    """Another model of the same function, as an export writes it: at once."""
    found = onnx.load(path)
    found.doc_string = words
    new = path.with_suffix(".new")
    onnx.save(found, new)
    new.rename(path)


def manifest(folder: Path, **spec: object) -> Path:
    document = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "credit"},
        "spec": {"model": {"uri": "mlflow://credit/3"}, **spec},
    }
    path = folder / "credit.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class Asking:
    """Asks again and again on one kept connection: what was answered, and by which version."""

    def __init__(self, url: str) -> None:
        self.seen: Counter[object] = Counter()
        self._url, self._ends = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._ends.is_set():
                try:
                    answer = client.post(self._url, json={"inputs": [ROW]})
                    self.seen[answer.status_code, answer.json().get("model_version")] += 1
                except httpx.HTTPError as error:
                    self.seen[repr(error)] += 1
                time.sleep(0.01)


def test_a_model_for_a_gpu_is_served_on_the_cpu_and_that_is_told(start: Start, folder: Path) -> None:
    runtime = {"device": "CUDA", "resources": {"extended": {"nvidia.com/gpu": 1}}}
    serve = start("-f", manifest(folder, runtime=runtime).name, "fraud.onnx")
    typed = serve.curl()
    assert "  spec.runtime.device: CUDA is not used here: the model runs on the CPU" in serve.lines
    assert httpx.get(f"{serve.url}/v2/models/credit").json()["parameters"]["device"] == "CPU"
    assert typed


def test_the_printed_request_is_answered_by_the_models_server(start: Start, folder: Path) -> None:
    serve = start("fraud.onnx")
    typed = serve.curl()
    done = subprocess.run(["bash", "-c", f"{typed} --silent --fail"], capture_output=True, text=True)
    assert done.returncode == 0, done
    answer = json.loads(done.stdout)
    assert answer["model_name"] == "fraud"
    assert answer["model_version"] == version_of(folder / "fraud.onnx", folder)
    assert {one["name"] for one in answer["outputs"]} == {"output_label", "output_probability"}
    figures = httpx.get(f"http://localhost:{serve.metrics_port}/metrics").text
    assert "slipway_inference_requests_total" in figures
    assert httpx.post(f"{serve.url}/invocations", json={"inputs": [ROW["data"]]}).status_code == 200
    with socket.create_connection(("localhost", serve.grpc_port), 5):
        pass


def test_a_changed_file_takes_over_without_a_failed_request_and_a_broken_one_does_not(
    start: Start, folder: Path
) -> None:
    serve, path = start("fraud.onnx"), folder / "fraud.onnx"
    serve.curl()
    first = version_of(path, folder)
    with Asking(f"{serve.url}/v2/models/fraud/infer") as asking:
        until(lambda: asking.seen[200, first] > 20)
        replace(path, "the second")
        second = version_of(path, folder)
        serve.line(f"version {second} .* serves from now on")
        until(lambda: asking.seen[200, second] > 20)
        path.write_bytes(b"no model")
        serve.line("not served: .*fraud.onnx is not an ONNX model.*; the model before goes on")
        before = asking.seen[200, second]
        until(lambda: asking.seen[200, second] > before + 20)
    assert set(asking.seen) == {(200, first), (200, second)}
    until(lambda: len([one for one in serve.processes() if is_alive(one)]) == 3, words=lambda: serve.output)


def test_a_modeldeployments_contract_and_feedback_hold_for_a_model_that_is_given(
    start: Start, folder: Path
) -> None:
    columns = [{"name": f"c{number}", "minimum": 5, "maximum": 9} for number in range(30)]
    manifest(
        folder,
        inputs={"tensors": [{"name": "X", "columns": columns}]},
        monitoring={"performance": {"feedback": {"secretRef": {"name": "keys"}}}},
    )
    serve = start("-f", "credit.yaml", "fraud.onnx")
    typed = serve.curl()
    assert '"data": [7.0,' in typed, "a row that the contract allows"
    url = f"{serve.url}/v2/models/credit"
    refused = httpx.post(f"{url}/infer", json={"inputs": [ROW]})
    assert (refused.status_code, "c0" in refused.text) == (400, True), refused.text
    answer = httpx.post(f"{url}/infer", json={"inputs": [{**ROW, "data": [6.0] * 30}]}).json()
    token = answer["parameters"]["feedback_token"]
    assert httpx.post(f"{url}/feedback", json={"token": token, "label": 1}).json() == {"accepted": 1}

    columns[0]["maximum"] = 5
    manifest(folder, inputs={"tensors": [{"name": "X", "columns": columns}]})
    serve.line("serves from now on")
    until(lambda: "c0" in httpx.post(f"{url}/infer", json={"inputs": [{**ROW, "data": [6.0] * 30}]}).text)


def test_a_folder_stands_for_a_volume_of_a_cluster(start: Start, folder: Path) -> None:
    volume = folder / "volume/fraud/7"
    volume.mkdir(parents=True)
    (folder / "fraud.onnx").rename(volume / "model.onnx")
    serve = start("pvc://models/fraud/7", "--volume", "models=volume")
    done = subprocess.run(["bash", "-c", f"{serve.curl()} --silent --fail"], capture_output=True, text=True)
    assert json.loads(done.stdout)["model_name"] == "fraud"
    assert "of pvc://models/fraud/7" in serve.lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_and_leaves_nothing(start: Start, number: signal.Signals) -> None:
    serve = start("fraud.onnx")
    serve.curl()
    processes = serve.processes()
    assert len(processes) == 3
    assert serve.end(number) == 0
    assert [one for one in processes if is_alive(one)] == []
    assert list(serve.scratch.iterdir()) == []
    assert "Traceback" not in serve.output
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{serve.url}/v2/health/live")


def test_a_server_does_not_outlive_the_command_that_started_it(start: Start) -> None:
    serve = start("fraud.onnx")
    serve.curl()
    processes = serve.processes()
    os.kill(serve.process.pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, processes)), 30)


def test_a_port_that_is_taken_is_said_before_anything_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        number = taken.getsockname()[1]
        assert (
            main(["serve", str(folder / "fraud.onnx"), f"--grpc-port={number}", f"--port={free_port()}"]) == 1
        )
    assert capsys.readouterr().err == (
        f"error: cannot listen on 127.0.0.1:{number}: Address already in use; choose another by --grpc-port\n"
    )


def signed_by(folder: Path, name: str = "release") -> None:
    """Sign the folder's ``fraud.onnx`` with a key of that name, made where it is not there."""
    key = folder / f"{name}.key"
    if not key.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key.write_bytes(made.private_bytes(*kinds))
        public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        (folder / f"{name}.pub").write_bytes(made.public_key().public_bytes(*public))
    assert main(["sign", str(folder / "fraud.onnx"), "--key", str(key)]) == 0


SIGNERS = {"publicKeys": {"configMapRef": {"name": "signers", "key": "keys.pem"}}}
VERIFIED = {"uri": "mlflow://credit/3", "verify": {"signature": SIGNERS}}


def test_what_the_resource_wants_signed_is_served_signed_alone(start: Start, folder: Path) -> None:
    manifest(folder, model=VERIFIED)
    signed_by(folder)
    words = ("-f", "credit.yaml", "fraud.onnx", "--config-map", "signers/keys.pem=release.pub")
    serve = start(*words)
    serve.curl()
    before = version_of(folder / "fraud.onnx", folder)
    with Asking(f"{serve.url}/v2/models/credit/infer") as asking:
        replace(folder / "fraud.onnx", "another, which nobody signed")
        serve.line(
            " not served: .*model.sig does not count: it is for another fraud.onnx.*; the model before"
        )
        assert {version for _, version in asking.seen} == {before}
        signed_by(folder)
        after = version_of(folder / "fraud.onnx", folder)
        until(lambda: (200, after) in asking.seen, words=lambda: serve.output)
    assert set(asking.seen) == {(200, before), (200, after)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            [],
            "say which file stands for its key keys.pem, by --config-map signers/keys.pem=FILE",
        ),
        (
            ["--config-map", "signers=release.pub"],
            "--config-map signers=release.pub: write NAME/KEY=FILE, with a file that is there",
        ),
        (
            ["--config-map", "signers/keys.pem=missing.pub"],
            "--config-map signers/keys.pem=missing.pub: write NAME/KEY=FILE, with a file that is there",
        ),
        (
            ["--config-map", "signers/keys.pem=other.pub"],
            "other.pub made it: sign with one of them",
        ),
        (["--config-map", "signers/keys.pem=fraud.onnx"], "fraud.onnx cannot be read as text"),
        (["--config-map", "signers/keys.pem=unsigned.yaml"], "unsigned.yaml has no usable key"),
    ],
)
def test_what_is_not_signed_as_the_resource_wants_it_is_not_served(
    words: list[str],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    signed_by(folder, "other")
    signed_by(folder)
    manifest(folder, model=VERIFIED)
    (folder / "unsigned.yaml").write_text("not a key")
    monkeypatch.chdir(folder)
    capsys.readouterr()
    ports = [f"--{name}={number}" for name, number in zip(PORTS, free_ports(3), strict=True)]
    assert main(["serve", "-f", "credit.yaml", "fraud.onnx", *words, *ports]) == 1
    assert said in capsys.readouterr().err


def test_a_model_without_provenance_is_not_served_where_the_resource_wants_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_by(folder)
    built = {"builder": "https://ci.example.com", "source": "github.com/acme/credit"}
    manifest(folder, model={**VERIFIED, "verify": {"signature": SIGNERS, "provenance": built}})
    monkeypatch.chdir(folder)
    capsys.readouterr()
    ports = [f"--{name}={number}" for name, number in zip(PORTS, free_ports(3), strict=True)]
    words = ["-f", "credit.yaml", "fraud.onnx", "--config-map", "signers/keys.pem=release.pub"]
    assert main(["serve", *words, *ports]) == 1
    assert "provenance.sigstore.json, and spec.model.verify.provenance asks for it" in (
        capsys.readouterr().err
    )


def test_an_unsigned_model_is_not_served_where_the_resource_wants_it_signed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signed_by(folder)
    (folder / "model.sig").unlink()
    manifest(folder, model=VERIFIED)
    monkeypatch.chdir(folder)
    capsys.readouterr()
    ports = [f"--{name}={number}" for name, number in zip(PORTS, free_ports(3), strict=True)]
    words = ["-f", "credit.yaml", "fraud.onnx", "--config-map", "signers/keys.pem=release.pub"]
    assert main(["serve", *words, *ports]) == 1
    assert "model.sig, and spec.model.verify.signature asks for it: sign the model with slipway sign" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to serve: name a model, such as model.onnx, or a file, such as -f fraud.yaml"),
        (["nothing.onnx"], "there is no file nothing.onnx: name an ONNX model or a folder with one"),
        (["notes.onnx"], "notes.onnx is not an ONNX model"),
        (["."], "has 2 .onnx files (fraud.onnx, notes.onnx): name the one to serve"),
        (["empty"], "empty has no .onnx files (none): name the one to serve"),
        (["mlflow://fraud@champion"], "set MLFLOW_TRACKING_URI to the address of its tracking server"),
        (["pvc://models/fraud.onnx"], "say which folder stands for it, by --volume models=FOLDER"),
        (["pvc://models/fraud.onnx", "--volume", "models"], "--volume models: write CLAIM=FOLDER"),
        (["ftp://models/fraud.onnx"], "a model URI is one of mlflow://NAME@ALIAS"),
        (["-f", "missing.yaml"], "missing.yaml cannot be read"),
        (["-f", "credit.yaml"], 'unknown field "spec.scalling"'),
        (["-f", "-"], "standard input cannot be followed"),
        (["fraud.onnx", "notes.onnx"], "two models need --split, such as --split 90/10"),
        (["fraud.onnx", "--split", "90/10"], "--split compares two"),
        (["fraud.onnx", "fraud.onnx", "--split", "90/20"], "write the shares of stable and canary"),
        (["fraud.onnx", "fraud.onnx", "--split", "100/0"], "write the shares of stable and canary"),
    ],
)
def test_what_cannot_be_served_is_one_line_that_says_how_to_fix_it(
    words: list[str],
    said: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "notes.onnx").write_text("not one")
    (folder / "empty").mkdir()
    manifest(folder, scalling={"minReplicas": 1})
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ports = [f"--{name}={number}" for name, number in zip(PORTS, free_ports(3), strict=True)]
    assert main(["serve", *words, *ports]) == 1
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
