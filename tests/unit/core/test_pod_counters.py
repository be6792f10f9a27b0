"""Whose counters end with what, and when they began."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.core.pod_counters import has_begun_since, life_of

BEGAN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def container(name: str, restarts: int = 0, minutes: int = 0, **fields: Any) -> dict[str, Any]:
    started = (BEGAN + timedelta(minutes=minutes)).isoformat()
    return {
        "name": name,
        "restartCount": restarts,
        "containerID": f"containerd://{name}-{restarts}",
        "state": {"running": {"startedAt": started}},
        **fields,
    }


def pod(*containers: dict[str, Any], uid: str = "1", **status: Any) -> dict[str, Any]:
    found = {"startTime": BEGAN.isoformat(), "containerStatuses": list(containers), **status}
    return {"metadata": {"name": "fraud-a-1", "uid": uid}, "status": found}


CALM = pod(container("proxy"), container("server"))


@pytest.mark.parametrize(
    "same",
    [
        pod(container("proxy", 3, 50), container("server")),
        pod(container("server"), container("proxy")),
        pod(container("server"), initContainerStatuses=[container("native", 7, 50)]),
        pod(container("server"), initContainerStatuses=[container("server", 2, 50)]),
        pod(container("server"), ephemeralContainerStatuses=[container("debug", 0, 50)]),
        pod(container("server"), container("injected", 0, 50)),
    ],
    ids=["restarted", "reordered", "native", "native of its name", "ephemeral", "injected"],
)
def test_other_containers_of_the_pod_end_no_life(same: dict[str, Any]) -> None:
    assert life_of(same, "server") == life_of(CALM, "server")
    assert not has_begun_since(same, "server", BEGAN + timedelta(minutes=10))


@pytest.mark.parametrize(
    "other",
    [
        pod(container("proxy"), container("server", 1, 20)),
        pod(container("proxy"), container("server", 0, 20, containerID="containerd://forgot")),
        pod(container("proxy"), container("server", 0, 20), uid="2"),
    ],
    ids=["restarted", "restarted where the count began again", "replaced under its name"],
)
def test_a_server_that_began_again_has_another_life(other: dict[str, Any]) -> None:
    assert life_of(other, "server") != life_of(CALM, "server")
    assert has_begun_since(other, "server", BEGAN + timedelta(minutes=10))
    assert not has_begun_since(other, "server", BEGAN + timedelta(minutes=30))


@pytest.mark.parametrize(
    "unknown",
    [
        pod(),
        pod(containerStatuses=None),
        pod(container("other", 0, 50)),
        pod(container("server", 1, state={"waiting": {"reason": "CrashLoopBackOff"}})),
        {"metadata": {"name": "fraud-a-1", "uid": "1"}},
        {"metadata": {"name": "fraud-a-1", "uid": "1"}, "status": {}},
    ],
    ids=["none yet", "null", "renamed", "waiting", "no status", "empty status"],
)
def test_what_is_not_known_to_have_begun_lately_has_not(unknown: dict[str, Any]) -> None:
    assert not has_begun_since(unknown, "server", BEGAN + timedelta(minutes=10))
    assert life_of(unknown, "server").startswith("1/")
