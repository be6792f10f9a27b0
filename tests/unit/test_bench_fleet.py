"""The bench of many ModelDeployments: what it reads from the audit log, and a whole small run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.fleet import audit, measure
from bench.fleet.audit import AuditLog
from bench.fleet.processes import OPERATOR_USER


def entry(user: str, verb: str, resource: str, second: int, **place: str) -> dict[str, Any]:
    """A line of the audit log, received at a second and answered half a second later."""
    return {
        "requestReceivedTimestamp": f"2026-01-01T00:00:{second:02d}.000000Z",
        "stageTimestamp": f"2026-01-01T00:00:{second:02d}.500000Z",
        "user": {"username": user},
        "userAgent": "test",
        "verb": verb,
        "objectRef": {"resource": resource, "namespace": "a", "name": "m", **place},
        "responseStatus": {"code": 200},
    }


def write(path: Path, *entries: dict[str, Any]) -> AuditLog:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in entries))
    return AuditLog(path)


def test_leases_watches_and_requests_of_others_are_no_cost_of_a_resource(tmp_path: Path) -> None:
    log = write(
        tmp_path / "audit.log",
        entry(OPERATOR_USER, "patch", "modeldeployments", 1, subresource="status"),
        entry(OPERATOR_USER, "get", "services", 2),
        entry(OPERATOR_USER, "watch", "pods", 3),
        entry(OPERATOR_USER, "update", "leases", 4),
        entry("admin", "create", "modeldeployments", 5),
    )
    found = log.read()
    assert audit.by_kind(audit.writes(found)) == {"patch modeldeployments/status": 1}
    assert audit.by_kind(audit.reads(found)) == {"get services": 1}


def test_the_log_is_read_on_from_where_it_ended_also_within_a_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = write(path, entry(OPERATOR_USER, "get", "services", 1))
    assert len(log.read()) == 1
    line = json.dumps(entry(OPERATOR_USER, "patch", "services", 2))
    with path.open("a") as file:
        file.write(line[:20])
    assert log.read() == []
    with path.open("a") as file:
        file.write(f"{line[20:]}\n")
    assert [one.verb for one in log.read()] == ["patch"]


def test_a_reaction_lasts_from_the_end_of_the_deletion_to_the_operators_first_write(tmp_path: Path) -> None:
    log = write(
        tmp_path / "audit.log",
        entry(OPERATOR_USER, "patch", "services", 1),
        entry("admin", "delete", "services", 2),
        entry(OPERATOR_USER, "get", "services", 3),
        entry(OPERATOR_USER, "patch", "services", 4, name="another"),
        entry(OPERATOR_USER, "patch", "services", 5),
        entry(OPERATOR_USER, "patch", "services", 6),
    )
    assert list(measure.reactions(log.read())) == [2.5]


def test_a_write_that_is_answered_before_the_deletion_is_counts_too(tmp_path: Path) -> None:
    deletion, again = entry("admin", "delete", "services", 2), entry(OPERATOR_USER, "create", "services", 2)
    again["requestReceivedTimestamp"] = "2026-01-01T00:00:02.100000Z"
    again["stageTimestamp"] = "2026-01-01T00:00:02.200000Z"
    assert list(measure.reactions(write(tmp_path / "audit.log", again, deletion).read())) == [0.0]


@pytest.mark.parametrize(
    ("status", "observed", "ready"), [("True", 2, True), ("True", 1, False), ("False", 2, False)]
)
def test_ready_counts_for_the_spec_of_now_alone(status: str, observed: int, ready: bool) -> None:
    condition = {"type": "Ready", "status": status, "observedGeneration": observed}
    found = {"metadata": {"generation": 2}, "status": {"conditions": [condition]}}
    assert measure.is_ready(found) is ready


@pytest.mark.long
def test_a_small_fleet_is_measured_on_a_real_api_server(tmp_path: Path) -> None:
    output = tmp_path / "fleet.json"
    options = ["--sizes", "5", "--rest-seconds", "2", "--events", "5", "--holes", "2"]
    command = [sys.executable, "-m", "bench.fleet", *options, "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [found] = json.loads(output.read_text())["measured"]
    creation = found["creation"]
    # Of each of the five, and no request of anybody else.
    assert creation["writes"]["create deployments"] == 5
    assert creation["writes"]["delete pods"] == 5, "the resolvers'"
    assert creation["cpu_seconds"] > 0
    assert found["restart"]["writes"] == {}
    assert len(found["holes"]["reactions_ms"]) == 4
    assert found["holes"]["rollouts"] == 4, "every black hole has a rollout under way"
    page = output.with_suffix(".md").read_text()
    assert "| CPU for one from nothing to Ready, at 5 |" in page
    assert "| a restart with 5 and nothing changed: writes | 0 | 0 | met |" in page
