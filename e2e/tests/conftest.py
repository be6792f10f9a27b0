"""What tests on the cluster share: the cluster itself, Slipway on it, and namespaces of their own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings, read_settings
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

__all__ = ["MLFLOW_ADDRESS", "RELEASE", "SYSTEM_NAMESPACE", "Installation", "temporary_namespace"]


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
def installed(settings: Settings, kube: Kube) -> Installation:
    """Slipway from this checkout's chart and images, with MLflow beside it; what is there already stays."""
    return install(settings, kube)


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
