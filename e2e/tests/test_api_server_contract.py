"""The real API server does what the fake one of the unit tests does. It needs no more than the CRD."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient

from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings
from e2e.kube import Kube
from e2e.tests.control_plane import ControlPlane
from e2e.tests.installation import temporary_namespace
from tests.contract.api_server import *  # noqa: F403
from tests.contract.api_server import Cluster


@pytest.fixture
async def cluster(kube: Kube, settings: Settings) -> AsyncIterator[Cluster]:
    """A namespace of its own for each test."""
    # A cluster of kind has its etcd in a container; there, what is old enough is forgotten by itself.
    of_this_machine = choose_provider(settings).kind == "node"
    expire = ControlPlane(settings).compact if of_this_machine else lambda: None
    await config.load_kube_config(str(kube.kubeconfig))  # type: ignore[no-untyped-call]
    with temporary_namespace(kube, "contract") as namespace:
        async with ApiClient() as client:
            yield Cluster(client, namespace, expire)
