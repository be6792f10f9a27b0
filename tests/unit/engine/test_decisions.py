"""Each decision about a rollout is one line of the operator's log, with who decided it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from slipway.infra.logs import JsonFormatter
from tests.unit.world import World

STEPS = [{"setWeight": 10}, {"pause": {"untilApproved": True}}, {"setWeight": 50}, {"pause": {"seconds": 60}}]


def spec(number: int) -> dict[str, Any]:
    rollout = {"strategy": "Canary", "steps": STEPS}
    return {"model": {"uri": f"mlflow://fraud/{number}"}, "rollout": rollout}


@pytest.fixture
async def world() -> World:
    """Version 1 serves, and version 2 waits for approval."""
    world = World()
    await world.operator.start()
    world.create(spec(1))
    await world.run(60)
    return world


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, bool]]:
    """What was decided, by whom, and whether by a person."""
    return [
        (record.decision, record.by, record.person)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.name == "slipway.decisions"
    ]


async def test_each_step_of_a_rollout_says_who_let_it_go_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "slipway.decisions")
    world.create(spec(2))
    await world.run(60)
    rollout = world.status()["rollout"]["id"]
    world.annotate("slipway.dev/pause", f"{rollout}/carol")
    await world.run(20)
    world.annotate("slipway.dev/pause", None)
    world.annotate("slipway.dev/promote", f"{rollout}/1/system:serviceaccount:ci:alice")
    await world.run(20)
    await world.run(200)
    assert told(caplog) == [
        ("Began", "", False),
        ("Held", "carol", True),
        ("Resumed", "", True),
        ("Approved", "system:serviceaccount:ci:alice", True),
        ("Promoted", "", False),
    ]
    [last] = [record for record in caplog.records if getattr(record, "decision", "") == "Promoted"]
    assert vars(last)["rollout"] == rollout
    assert (vars(last)["namespace"], vars(last)["modeldeployment"]) == ("payments", "fraud")


async def test_an_end_says_who_brought_it_about(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "slipway.decisions")
    world.create(spec(2))
    await world.run(60)
    rollout = world.status()["rollout"]["id"]
    world.annotate("slipway.dev/abort", f"{rollout}/bob")
    await world.run(30)
    world.annotate("slipway.dev/retry", f"{rollout}/alice")
    await world.run(60)
    again = world.status()["rollout"]["id"]
    world.annotate("slipway.dev/promote-full", again)
    await world.run(60)
    assert told(caplog) == [
        ("Began", "", False),
        ("Rejected", "bob", True),
        ("Retried", "alice", True),
        ("Began", "", False),
        ("Skipped", "", True),
        ("Promoted", "", False),
    ]


async def test_what_gates_reject_no_person_is_said_to_have_rejected(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.routers.requests_per_second = 10
    stable = world.status()["stable"]["revision"]
    world.routers.error_rate = lambda revision: 0.0 if revision == stable else 0.5
    caplog.set_level(logging.INFO, "slipway.decisions")
    world.create({**spec(2), "rollout": {"strategy": "Canary"}})
    await world.run(300)
    assert told(caplog) == [("Began", "", False), ("Rejected", "", False)]
    assert any("errors" in str(vars(record).get("why")) for record in caplog.records)


async def test_what_is_promoted_has_what_its_gates_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "slipway.decisions")
    world.routers.requests_per_second = 50
    gates = [{"name": name, "type": "ErrorRate", "objective": "1%"} for name in ("errors", "more")]
    steps = [{"setWeight": 50}, {"analysis": {}}]
    world.create({**spec(2), "rollout": {"strategy": "Canary", "steps": steps, "analysis": {"gates": gates}}})
    await world.run(600)
    assert told(caplog)[-1] == ("Promoted", "", False)
    assert vars(caplog.records[-1])["why"] == "gates: errors Pass, more Pass"


async def test_a_restart_says_nothing_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.create(spec(2))
    await world.run(60)
    caplog.set_level(logging.INFO, "slipway.decisions")
    await world.restart()
    await world.run(60)
    assert told(caplog) == []


async def test_a_name_forges_no_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "slipway.decisions")
    world.create(spec(2))
    await world.run(60)
    rollout = world.status()["rollout"]["id"]
    world.annotate(
        "slipway.dev/promote", f'{rollout}/1/eve\n{{"decision": "Approved", "by": "alice"}}' + "x" * 999
    )
    await world.run(30)
    lines = [JsonFormatter().format(record) for record in caplog.records if hasattr(record, "decision")]
    assert all("\n" not in line and len(line) < 2000 for line in lines)
    assert ("Approved", "alice", True) not in told(caplog)
