"""The command as a process of its own, as containers run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.contract import MODEL_TASK_ENV, Failed, Failure, Fetched, ModelFault, TerminationMessage
from slipway.digest import digest_of
from slipway.models.main import TERMINATION_LIMIT, last_words, main
from tests.models.conftest import SlipwayModel
from tests.models.examples import onnx_classifier
from tests.models.servers import Reply, WebServer


@pytest.fixture
def slow(serve: Callable[[], WebServer]) -> WebServer:
    """A server that takes a minute for the second half of its model."""
    server = serve()
    model = onnx_classifier()
    model.doc_string = "x" * 100_000
    server.replies["/model.onnx"] = Reply(model.SerializeToString(), pause=60)
    return server


def test_both_commands_work_as_processes(
    slipway_model: SlipwayModel, started: Callable[..., subprocess.Popen[str]]
) -> None:
    (slipway_model.claim / "model.onnx").write_bytes(onnx_classifier().SerializeToString())
    process = started("resolve", {"uri": "pvc://models/model.onnx"})
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    answer = json.loads(slipway_model.last_words.read_bytes())
    digest = answer["outcome"]["resolution"]["digest"]
    assert digest == digest_of(slipway_model.claim)
    assert digest in output

    process = started("fetch", {"uri": "pvc://models/model.onnx", "digest": digest})
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    outcome = TerminationMessage.model_validate_json(slipway_model.last_words.read_bytes()).outcome
    assert isinstance(outcome, Fetched)
    assert digest_of(slipway_model.model_dir) == digest


def test_who_is_killed_in_between_leaves_nothing_that_could_be_served(
    slipway_model: SlipwayModel,
    started: Callable[..., subprocess.Popen[str]],
    slow: WebServer,
    ca_certificate: str,
) -> None:
    task = {"uri": f"{slow.url}/model.onnx", "digest": "sha256:" + "0" * 64}
    process = started("fetch", task, SLIPWAY_CREDENTIAL_CA_CERT=ca_certificate)
    _until(lambda: any(file.stat().st_size for file in slipway_model.model_dir.rglob("*.onnx")))
    process.kill()
    process.communicate()
    assert list(slipway_model.model_dir.glob("*.onnx")) == []
    assert not slipway_model.last_words.exists()

    (slipway_model.claim / "model.onnx").write_bytes(onnx_classifier().SerializeToString())
    digest = digest_of(slipway_model.claim)
    slipway_model.fetched("pvc://models/model.onnx", digest)
    assert digest_of(slipway_model.model_dir) == digest
    assert [file.name for file in slipway_model.model_dir.iterdir()] == ["model.onnx"]


def test_it_stops_when_it_is_asked_to(
    started: Callable[..., subprocess.Popen[str]],
    slow: WebServer,
    ca_certificate: str,
) -> None:
    task = {"uri": f"{slow.url}/model.onnx"}
    process = started("resolve", task, SLIPWAY_CREDENTIAL_CA_CERT=ca_certificate)
    _until(lambda: len(slow.asked) > 0)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_full_disk_is_reported(
    slipway_model: SlipwayModel, started: Callable[..., subprocess.Popen[str]]
) -> None:
    """On a file system of its own with 64 kB, in a mount namespace that ends with the command."""
    model = onnx_classifier()
    model.doc_string = "x" * 200_000
    (slipway_model.claim / "model.onnx").write_bytes(model.SerializeToString())
    digest = digest_of(slipway_model.claim)
    script = 'mount -t tmpfs -o size=64k tmpfs "$SLIPWAY_MODEL_DIR" && exec "$@"'
    isolated = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    process = started("fetch", {"uri": "pvc://models/model.onnx", "digest": digest}, below=isolated)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    failure = TerminationMessage.model_validate_json(slipway_model.last_words.read_bytes()).outcome
    assert isinstance(failure, Failed)
    assert failure.failure.reason == ModelFault.NO_SPACE
    assert "does not fit" in failure.failure.message


@pytest.mark.parametrize("command", ["resolve", "fetch"])
def test_a_model_above_the_limit_is_refused_before_it_fills_the_disk(
    slipway_model: SlipwayModel, command: str
) -> None:
    (slipway_model.claim / "model.onnx").write_bytes(onnx_classifier().SerializeToString())
    task: dict[str, object] = {"uri": "pvc://models/model.onnx", "maxBytes": 500}
    if command == "fetch":
        task["digest"] = digest_of(slipway_model.claim)
    outcome = slipway_model(command, task).outcome
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == ModelFault.NO_SPACE
    assert "500 bytes" in outcome.failure.message
    assert list(slipway_model.model_dir.glob("*.onnx")) == []


@pytest.mark.parametrize("task", ["", "{}", '{"uri": "pvc://a/b", "colour": "red"}', "[1"])
def test_a_task_that_cannot_be_read_is_an_error_of_the_operator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    monkeypatch.setenv(MODEL_TASK_ENV, task)
    with pytest.raises(SystemExit) as caught:
        main(["resolve"])
    assert caught.value.code == 2
    assert MODEL_TASK_ENV in capsys.readouterr().err


def test_last_words_fit_what_kubernetes_keeps() -> None:
    failure = Failure(reason=ModelFault.MODEL_NOT_FOUND, message="\x01\N{PILE OF POO}" * 512)
    encoded = last_words(TerminationMessage(outcome=Failed(failure=failure)))
    assert len(encoded) <= TERMINATION_LIMIT
    outcome = TerminationMessage.model_validate_json(encoded).outcome
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == ModelFault.MODEL_NOT_FOUND


def _until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_nothing_of_the_cluster_is_imported() -> None:
    code = "import slipway.models.main, sys; print({'kopf', 'kubernetes', 'numpy'} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path("operator").resolve())},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.strip() == "set()"
