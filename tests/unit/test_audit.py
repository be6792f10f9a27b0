"""What the tests on the cluster make of an audit log: a write by an operator that leads no more is found."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from e2e.tests.audit import POD, by_two_leaders, read

START = datetime(2026, 1, 1, tzinfo=UTC)


def entry(
    pod: str, second: float, *, leads: bool = False, code: int = 200, took: float = 0.0
) -> dict[str, Any]:
    """A request of an operator's pod that reached the API server so many seconds after the start."""
    times = [(START + timedelta(seconds=at)).isoformat() for at in (second, second + took)]
    lease = {"resource": "leases", "name": "slipway-operator", "namespace": "slipway-system"}
    return {
        "user": {"extra": {POD: [pod]}},
        "verb": "patch",
        "requestURI": f"/at/{second}",
        "objectRef": lease if leads else {"resource": "deployments", "name": "a", "namespace": "models"},
        "requestObject": {"spec": {"holderIdentity": pod}} if leads else {},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": times[0],
        "stageTimestamp": times[1],
    }


def found(tmp_path: Path, *entries: dict[str, Any]) -> list[str]:
    log = tmp_path / "audit.log"
    log.write_text("\n".join(map(json.dumps, entries)) + '\n{"half')
    return [write.what for write in by_two_leaders(read(log, START, "models"))]


def test_writes_of_one_leader_after_the_other_are_fine(tmp_path: Path) -> None:
    entries = (entry("a", 0, leads=True), entry("a", 1), entry("b", 2, leads=True), entry("b", 3))
    assert found(tmp_path, *entries) == []


def test_a_write_after_another_one_took_the_lease_is_found(tmp_path: Path) -> None:
    entries = (entry("a", 0, leads=True), entry("b", 2, leads=True), entry("a", 3), entry("b", 4))
    assert found(tmp_path, *entries) == ["patch /at/3"]


def test_what_was_refused_or_was_under_way_before_is_fine(tmp_path: Path) -> None:
    entries = (
        entry("a", 0, leads=True),
        entry("a", 1, took=2),
        entry("b", 2, leads=True),
        entry("a", 3, code=409),
        entry("a", 4, leads=True, code=409),
        entry("b", 5),
    )
    assert found(tmp_path, *entries) == []


def test_a_leader_that_comes_back_may_write_again(tmp_path: Path) -> None:
    entries = (
        entry("a", 0, leads=True),
        entry("b", 1, leads=True),
        entry("a", 2, leads=True),
        entry("a", 3),
        entry("b", 4),
    )
    assert found(tmp_path, *entries) == ["patch /at/4"]
