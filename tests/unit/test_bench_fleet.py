"""The bench of many ModelDeployments: what it reads from the audit log, and a whole small run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.fleet import audit, measure
from bench.fleet.answers import FEATURES, WATCHED, PaperPods, Server
from bench.fleet.audit import AuditLog
from bench.fleet.fleet import is_ready
from bench.fleet.goals import Found, rows
from bench.fleet.measure import Measured
from bench.fleet.page import as_json, grids
from bench.fleet.processes import OPERATOR_USER
from bench.fleet.real import figures
from bench.fleet.real.figures import Round
from bench.fleet.real.timeline import PHASES, Timeline
from bench.fleet.rollouts import between
from bench.fleet.traffic import PaperRouter
from slipway.core import naming
from slipway.core.traffic.envoy.config import files
from slipway.core.traffic.envoy.routes import Arm, Route
from slipway.engine.observers.watched import WANTED
from slipway.infra.bounded import reading_session
from slipway.infra.pods import by_version, read_pod
from slipway.infra.routers import read_router
from slipway.names import Metric
from tests.ports import free_ports


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
    assert is_ready(found) is ready


async def test_the_operators_own_readers_understand_what_pods_on_paper_say() -> None:
    """What a router does and counts, and what a model server does of it, over HTTP."""
    stable, canary = (Arm(f"r{number}", f"m-r{number}.a.svc", 8080) for number in (1, 2))
    pods, route = PaperPods(), Route("m", 10001, stable, canary, weight=10)
    router = PaperRouter(share=1.0)
    router.follow(files([Route("m", 10001, stable, None)]), 0.0)
    # As long before as any clock goes back: a thousand requests for stable, then a tenth for the canary.
    router.follow(files([route]), 1000.0)
    pods.routers["127.0.0.1"] = "a", router
    pods.servers["127.0.0.1"] = Server("a", "m", "1", "r1")
    router.arms["m"]["r1"].per_second = router.arms["m"]["r2"].per_second = 0.0
    ports = free_ports(2)
    async with pods.serve(ports), reading_session() as session:
        found = await read_router(f"127.0.0.1:{ports[0]}", session)
        assert await read_router(f"127.0.0.1:{ports[0]}", session, known=found) is found
        wanted = {Metric.REQUESTS, Metric.PREDICTION_VALUES}
        page = await read_pod(f"127.0.0.1:{ports[1]}", wanted, session)
    assert found.does(route)
    assert found.arms["m", "r1"].counters.requests == 1000
    assert sum(count for (metric, *_), count in page["1"].items() if metric == Metric.REQUESTS) == 1000


def test_a_router_on_paper_counts_by_its_weights_and_keeps_what_it_counted() -> None:
    stable, canary = (Arm(f"r{number}", f"m-r{number}.a.svc", 8080) for number in (1, 2))
    router = PaperRouter(share=0.5)
    router.follow(files([Route("m", 10001, stable, canary, weight=10)]), 0.0)
    router.follow(files([Route("m", 10001, stable, canary, weight=50)]), 100.0)
    assert {revision: counted.at(200.0) for revision, counted in router.arms["m"].items()} == {
        "r1": pytest.approx(45 + 25),
        "r2": pytest.approx(5 + 25),
    }


def test_a_watched_models_page_has_thirty_features() -> None:
    pods = PaperPods()
    text = pods.page(Server(f"{WATCHED}a", "m", "1", "r1"), 10.0)
    found = by_version(text, WANTED)["1"]
    features = {dict(labels)["feature"] for metric, labels in found if metric == Metric.FEATURE_VALUES}
    assert len(features) == FEATURES


@pytest.mark.parametrize(
    ("looks", "gaps"),
    [
        ([0.0, 30.0, 60.0, 90.0, 120.0], [30.0, 30.0, 30.0]),
        ([0.0, 30.0, 75.0], [30.0, 45.0]),
        # Nobody comes any more: that counts as long as it is watched.
        ([0.0], [110.0]),
        ([], [100.0]),
    ],
)
def test_the_time_between_looks_counts_the_wait_for_one_that_does_not_come(
    looks: list[float], gaps: list[float]
) -> None:
    assert list(between(looks, 10.0, 110.0)) == gaps


def test_what_was_not_measured_or_failed_is_said_and_the_rest_is_written() -> None:
    broken = Measured(100, failed={"from nothing to Ready": "the operator does not lead"})
    found = Found([broken], failed={"monitored models": "the operator has ended"})
    said = {row.what: (row.found, row.met) for row in rows(found)}
    assert said["from nothing to Ready, at 100"] == ("failed: the operator does not lead", None)
    assert said["monitored models"] == ("failed: the operator has ended", None)
    assert said["memory that a monitored model of 30 features adds"] == ("not measured here", None)
    assert next(iter(grids(found))).rows
    assert json.dumps(as_json(found))


def test_the_real_clusters_figures_are_rows_of_the_table_by_their_median(tmp_path: Path) -> None:
    output = tmp_path / "fleet.json"
    assert figures.known(output) == []
    rounds = {
        figures.NAMES[0]: [Round(seconds, {"a": 1.0, "b": seconds}) for seconds in (3.0, 3.5, 9.0)],
        figures.NAMES[1]: [Round(7.0, {"a": 2.0})],
    }
    document = {
        "rounds": {
            name: [{"seconds": one.seconds, "phases": one.phases} for one in found]
            for name, found in rounds.items()
        }
    }
    figures.beside(output).write_text(json.dumps(document))
    first, second = figures.known(output)
    assert (first.found, first.met) == ("3.5 s, 3.0 to 9.0 s of 3", True)
    assert second.met is False
    grid = next(iter(figures.grids(rounds)))
    assert grid.rows == [("a", "1.00", "+1.00", "1.00", "1.00"), ("b", "3.50", "+2.50", "3.00", "9.00")]


def test_a_timeline_has_each_phase_once_and_none_of_pods_that_were_there() -> None:
    timeline = Timeline()
    timeline.see_pod(pod("old", "server"))
    timeline.begin("m")
    timeline.see_pod(pod("old", "server"))
    assert timeline.moments == {}
    timeline.see_pod(pod("r", "resolver"))
    timeline.see_pod(pod("new", "server"))
    condition = {"type": "Ready", "status": "True", "observedGeneration": 2}
    found = {"metadata": {"name": "m", "generation": 2}, "status": {"conditions": [condition]}}
    timeline.see_resource({**found, "metadata": {"name": "another", "generation": 2}})
    assert "status Ready" not in timeline.moments
    timeline.see_resource({**found, "status": {**found["status"], "canaryWeight": 10}})
    assert set(timeline.moments) == set(PHASES)


def pod(uid: str, component: str) -> dict[str, Any]:
    """A pod of the ModelDeployment ``m`` that has done all that it is to do."""
    labels = {naming.MODEL_LABEL: "m", naming.COMPONENT_LABEL: component}
    status: dict[str, Any] = {"phase": "Succeeded"}
    if component == "server":
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "initContainerStatuses": [{"name": naming.FETCH_CONTAINER, "state": {"terminated": {}}}],
            "containerStatuses": [{"name": naming.SERVER_CONTAINER, "state": {"running": {}}}],
        }
    return {"metadata": {"uid": uid, "labels": labels}, "spec": {"nodeName": "n"}, "status": status}


@pytest.mark.long
def test_a_small_fleet_is_measured_on_a_real_api_server(tmp_path: Path) -> None:
    output = tmp_path / "fleet.json"
    options = ["--sizes", "5", "--rest-seconds", "2", "--events", "5", "--holes", "2", "--monitored", "0"]
    options += ["--rollouts", "5", "--look-seconds", "40"]
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
    assert found["rollouts"]["looks"] >= 5
    assert found["rollouts"]["writes"]["patch modeldeployments/status"] >= 5
    assert found["rollouts"]["bytes_per_second"]["written"] > 0
    page = output.with_suffix(".md").read_text()
    assert "| CPU for one from nothing to Ready, at 5 |" in page
    assert "| a restart with 5 and nothing changed: writes | 0 | 0 | met |" in page
