"""The real API server does what the fake one of the unit tests does. It needs no more than the CRD."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient

from e2e.kube import Kube
from e2e.tests.installation import temporary_namespace
from tests.contract.api_server import *  # noqa: F403
from tests.contract.api_server import Cluster


@pytest.fixture
async def cluster(kube: Kube) -> AsyncIterator[Cluster]:
    """A namespace of its own for each test."""
    await config.load_kube_config(str(kube.kubeconfig))  # type: ignore[no-untyped-call]
    with temporary_namespace(kube, "contract") as namespace:
        async with ApiClient() as client:
            yield Cluster(client, namespace)
