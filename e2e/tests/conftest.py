"""What tests on the cluster share: the cluster itself, Slipway on it, and namespaces of their own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from e2e.cluster.command import exclusive
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings, read_settings
from e2e.helm import IMAGES, Helm
from e2e.kube import Kube
from e2e.tests.installation import (
    MLFLOW_ADDRESS,
    RELEASE,
    SYSTEM_NAMESPACE,
    Installation,
    install,
    temporary_namespace,
)
from e2e.tests.registry import Registry

# What they share with the tests without a cluster says as much where it fails.
pytest.register_assert_rewrite("tests.contract.api_server")

__all__ = ["MLFLOW_ADDRESS", "RELEASE", "SYSTEM_NAMESPACE", "Installation", "temporary_namespace"]


#: Files whose tests take longest, so that they begin first.
LONGEST = (
    "test_operator_bad_cases.py",
    "test_alerts_and_dashboards.py",
    "test_cluster_lifecycle.py",
    "test_schema.py",
    "test_figures_rolling.py",
    "test_replica_ratio.py",
)


#: Files whose tests share no fixture of their module: each test may go to another worker.
SINGLE = frozenset({"test_control_plane_cases.py", "test_documented_rollouts.py", "test_figures_rollouts.py"})
#: A bad case relaxes the CRD for a moment, and the tests of the schema hold it to its rules.
TOGETHER = {"test_operator_bad_cases.py": "crd", "test_schema.py": "crd"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """One worker runs all tests of a file, since they share its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        name = nodeid.split("::")[0].rsplit("/", 1)[-1]
        return nodeid if name in SINGLE else TOGETHER.get(name, name)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How tests are given to workers."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return read_settings()


@pytest.fixture(scope="session")
def kube(settings: Settings) -> Kube:
    """The running cluster, as its administrator."""
    if not settings.kubeconfig.exists():
        raise ClusterError("no cluster is up: run make cluster-up")
    return Kube.of(settings)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers of a run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def installed(settings: Settings, kube: Kube, shared: Path) -> Installation:
    """Slipway from this checkout's chart and images, with MLflow; the first worker of a run installs it."""
    record = shared / "installed.json"
    with exclusive(shared / "install.lock", "installing Slipway"):
        if record.exists():
            return Installation(kube, Helm.of(settings), **json.loads(record.read_text()))
        made = install(settings, kube)
        record.write_text(json.dumps({f"{short}_image": getattr(made, f"{short}_image") for short in IMAGES}))
        return made


@pytest.fixture(scope="session")
def mlflow(installed: Installation) -> Iterator[Registry]:
    """The cluster's MLflow, to register models with."""
    with installed.kube.port_forward("service/mlflow", "mlflow", 5000) as url:
        yield Registry(url)


@pytest.fixture(scope="session")
def token() -> str:
    """A few letters that set this run's names apart from those of earlier ones."""
    return secrets.token_hex(3)


@pytest.fixture(scope="module")
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the module's own, without rules on its pods."""
    name = f"test-{secrets.token_hex(3)}"
    kube.kubectl("create", "namespace", name)
    yield name
    kube.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def restricted_namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the test's own, of the restricted pod standard."""
    with temporary_namespace(kube) as name:
        yield name
