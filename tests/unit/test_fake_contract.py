"""The fake API server does what the real one does: the same tests, which ``e2e`` runs against that one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tests.contract.api_server import *  # noqa: F403
from tests.contract.api_server import Cluster
from tests.unit.fake import FakeKube
from tests.unit.infra.api_server import api_server
from tests.unit.served_kube import ServedKube


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """The fake one, over HTTP."""
    served = ServedKube(FakeKube(lambda: datetime.now(UTC)))
    async with api_server(served) as server:
        yield Cluster(server.client, "payments", served.compact)
