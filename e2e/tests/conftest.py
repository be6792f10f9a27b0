"""What tests on the cluster share: the cluster that `make cluster-up` made, and namespaces of their own."""

import secrets
from collections.abc import Iterator

import pytest

from e2e.cluster.settings import read_settings
from e2e.kube import Kube


@pytest.fixture(scope="session")
def kube() -> Kube:
    """The running cluster, as its administrator."""
    return Kube.of(read_settings())


@pytest.fixture(scope="module")
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the module's own, without rules on its pods."""
    name = f"test-{secrets.token_hex(3)}"
    kube.kubectl("create", "namespace", name)
    yield name
    kube.kubectl("delete", "namespace", name, "--wait=false")
