from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import stamina
import trustme

from slipway.contract import (
    MLFLOW_TRACKING_URI_ENV,
    MODEL_TASK_ENV,
    Failed,
    Failure,
    Fetched,
    Resolution,
    Resolved,
    TerminationMessage,
)
from slipway.models.main import main
from tests.models import registry, repositories
from tests.models.examples import onnx_classifier, save_wide
from tests.models.registries import RegistryFront, crane_registry, registry_front
from tests.models.repositories import Dvc, GitServer, git_server
from tests.models.servers import Mlflow, Reply, WebServer, mlflow_server, web_server
from tests.models.stores import S3, Azure, Gs, azurite, gcs, seaweedfs

COMMAND = [sys.executable, "-m", "slipway.models"]


@dataclass(frozen=True)
class SlipwayModel:
    """``slipway-model`` in this process, with files where the contract has paths of a container."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def model_dir(self) -> Path:
        return self.folder / "model"

    @property
    def claim(self) -> Path:
        return self.folder / "claim"

    @property
    def last_words(self) -> Path:
        return self.folder / "termination-log"

    def __call__(self, command: str, task: dict[str, object], **environment: str) -> TerminationMessage:
        self.last_words.unlink(missing_ok=True)
        with self.monkeypatch.context() as patch:
            for name, value in self.environment(task, **environment).items():
                patch.setenv(name, value)
            before = signal.getsignal(signal.SIGTERM)
            try:
                code = main([command])
            finally:
                signal.signal(signal.SIGTERM, before)
        outcome = TerminationMessage.model_validate_json(self.last_words.read_bytes())
        assert code == (1 if isinstance(outcome.outcome, Failed) else 0)
        return outcome

    def environment(self, task: dict[str, object], **more: str) -> dict[str, str]:
        return {
            MODEL_TASK_ENV: json.dumps(task),
            "SLIPWAY_MODEL_DIR": str(self.model_dir),
            "SLIPWAY_TERMINATION_PATH": str(self.last_words),
            "SLIPWAY_PVC_MOUNT_DIR": str(self.claim),
            **{name.replace("ca_crt", "ca.crt"): value for name, value in more.items()},
        }

    def resolved(self, uri: str, digest: str | None = None, **environment: str) -> Resolution:
        outcome = self("resolve", {"uri": uri, "digest": digest}, **environment).outcome
        assert isinstance(outcome, Resolved), outcome
        return outcome.resolution

    def not_resolved(self, uri: str, digest: str | None = None, **environment: str) -> Failure:
        outcome = self("resolve", {"uri": uri, "digest": digest}, **environment).outcome
        assert isinstance(outcome, Failed), outcome
        return outcome.failure

    def fetched(self, uri: str, digest: str, **environment: str) -> Fetched:
        outcome = self("fetch", {"uri": uri, "digest": digest}, **environment).outcome
        assert isinstance(outcome, Fetched), outcome
        return outcome

    def not_fetched(self, uri: str, digest: str, **environment: str) -> Failure:
        outcome = self("fetch", {"uri": uri, "digest": digest}, **environment).outcome
        assert isinstance(outcome, Failed), outcome
        return outcome.failure


@pytest.fixture
def slipway_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlipwayModel:
    for name in ("model", "claim"):
        (tmp_path / name).mkdir()
    monkeypatch.delenv(MLFLOW_TRACKING_URI_ENV, raising=False)
    return SlipwayModel(tmp_path, monkeypatch)


@pytest.fixture
def started(slipway_model: SlipwayModel) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``slipway-model`` as a process of its own, below another command where one is given."""

    def start(
        command: str, task: dict[str, object], below: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        variables = {**os.environ, "PYTHONPATH": "operator", **slipway_model.environment(task, **environment)}
        return subprocess.Popen(
            [*below, *COMMAND, command],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture
def without_retries() -> Iterator[None]:
    """For tests of what is said in the end, not of how often it is tried before."""
    with stamina.set_testing(True, attempts=1):
        yield


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """An MLflow server with basic authentication and models."""
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, ["--app-name", "basic-auth"], registry.authentication(folder)) as server:
        server.wait()
        registry.fill(server)
        yield server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_certificate(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[S3]:
    with seaweedfs(tmp_path_factory.mktemp("s3"), authority) as store:
        yield store


@pytest.fixture(scope="session")
def gs(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Gs]:
    with gcs(tmp_path_factory.mktemp("gs"), authority) as store:
        yield store


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Azure]:
    with azurite(tmp_path_factory.mktemp("azure"), authority) as store:
        yield store


@dataclass(frozen=True)
class DvcWork:
    """A repository that DVC made, and the web server that is its remote."""

    dvc: Dvc
    folder: Path
    remote: WebServer

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def objects(self) -> dict[str, bytes]:
        """What DVC pushed, by key."""
        disk = self.folder / "disk"
        return {
            path.relative_to(disk).as_posix(): path.read_bytes() for path in disk.rglob("*") if path.is_file()
        }


@pytest.fixture(scope="session")
def dvc_work(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[DvcWork]:
    folder = tmp_path_factory.mktemp("dvc")
    (folder / "made").mkdir()
    (folder / "made/first.onnx").write_bytes(onnx_classifier().SerializeToString())
    (folder / "made/second.onnx").write_bytes(onnx_classifier(0.1).SerializeToString())
    save_wide(folder / "made/wide")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with web_server(context) as remote:
        made = DvcWork(repositories.dvc(), folder, remote)
        made.dvc("repository", folder, f"{remote.url}/store")
        yield made


@pytest.fixture
def dvc(dvc_work: DvcWork) -> DvcWork:
    """The same for each test, with everything in its remote that was pushed there."""
    dvc_work.remote.replies.clear()
    dvc_work.remote.asked.clear()
    for key, content in dvc_work.objects.items():
        dvc_work.remote.replies[f"/store/{key}"] = Reply(content)
    return dvc_work


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with weights next to it, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "fraud"
    save_wide(folder)
    return folder


@pytest.fixture(scope="session")
def crane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry that is everybody's."""
    with crane_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def referring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry that is everybody's, and lists what refers to a manifest."""
    with crane_registry(tmp_path_factory.mktemp("referring"), refers=True) as address:
        yield address


@pytest.fixture
def registry_host(crane: str, authority: trustme.CA) -> Iterator[RegistryFront]:
    """The same over TLS, for whom it is told to let in."""
    with registry_front(crane, authority) as front:
        yield front


@pytest.fixture
def host(tmp_path: Path, authority: trustme.CA) -> Iterator[GitServer]:
    """A server of Git's without repositories."""
    (tmp_path / "repositories").mkdir()
    with git_server(tmp_path / "repositories", authority) as server:
        yield server


@pytest.fixture
def serve(authority: trustme.CA) -> Iterator[Callable[[], WebServer]]:
    """Makes web servers with certificates of the tests' own authority."""
    with ExitStack() as stack:

        def start() -> WebServer:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(context)
            return stack.enter_context(web_server(context))

        yield start
