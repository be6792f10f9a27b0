"""A canary on this machine is judged as an operator judges it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.api.rollout import Analysis, Gate, Rollout
from slipway.api.types import ModelDeploymentSpec
from slipway.core.monitoring.series import Values
from slipway.core.rollout.gates import judge_gates
from slipway.core.traffic.envoy.readback import ArmCounters, ArmState, RouterState
from slipway.local.errors import LocalError
from slipway.local.judge import Judge, Judgement

START = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def spec(*gates: Gate) -> ModelDeploymentSpec:
    found = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://fraud/7"}})
    rollout = Rollout(strategy="Canary", analysis=Analysis(gates=gates) if gates else Analysis())
    return found.model_copy(update={"rollout": rollout})


class Traffic:
    """Requests behind a router, with a judge that looks each second."""

    def __init__(self, of: ModelDeploymentSpec, weight: int = 10) -> None:
        self.judge = Judge("fraud", of, weight, "b" * 10)
        self.now, self.weight = START, weight
        self.counts = {"canary": [0, 0], "stable": [0, 0]}
        self.servers: dict[str, Values] = {}

    def second(self, requests: int, canary_errors: int = 0, stable_errors: int = 0) -> Judgement:
        """So many requests, of which so many fail."""
        canary = requests * self.weight // 100
        more = {"canary": (canary, canary_errors), "stable": (requests - canary, stable_errors)}
        for arm, (asked, failed) in more.items():
            self.counts[arm][0] += asked
            self.counts[arm][1] += failed
        self.now += timedelta(seconds=1)
        arms = {
            ("fraud", arm): ArmState(1, 1, ArmCounters(asked, failed, meant=asked))
            for arm, (asked, failed) in self.counts.items()
        }
        router = RouterState({}, arms, frozenset(), frozenset())
        return self.judge.judge(router, self.servers, self.now)

    def seconds(self, count: int, requests: int, **failed: int) -> Judgement:
        for _ in range(count):
            found = self.second(requests, **failed)
        return found


def test_a_good_canary_would_be_promoted_on_the_evidence_that_the_cores_gates_ask_for() -> None:
    traffic = Traffic(spec())
    first = traffic.seconds(30, 100)
    assert first.action == "wait: gathers evidence"
    found = traffic.seconds(60, 100)
    assert found.action == "promote it: every gate that acts has passed"
    [gate] = found.gates
    assert gate.verdict == "Pass"
    assert traffic.judge._state is not None
    assert found.gates == judge_gates(traffic.judge.rollout.analysis, traffic.judge._state.looks)
    assert found.requests[0] + found.requests[1] >= 8000


def test_a_canary_that_fails_would_be_rolled_back_and_stays_so() -> None:
    traffic = Traffic(spec())
    traffic.seconds(6, 100)
    found = traffic.seconds(20, 100, canary_errors=5)
    assert found.action.startswith("roll back and reject it: gate error-rate: canary ")
    assert "evidence" in found.action
    assert traffic.seconds(100, 100).action == found.action


def test_errors_that_both_have_are_not_held_against_the_canary() -> None:
    found = Traffic(spec()).seconds(60, 100, canary_errors=1, stable_errors=9)
    assert found.action == "promote it: every gate that acts has passed"


def test_without_requests_it_waits_and_says_so_once() -> None:
    traffic = Traffic(spec())
    found = [traffic.second(0) for _ in range(30)]
    assert {one.action for one in found} == {"wait: gathers evidence"}
    assert sum(one.is_new for one in found) <= 3


def test_a_split_that_is_not_what_was_asked_for_is_no_evidence() -> None:
    traffic = Traffic(spec())
    traffic.second(100)
    traffic.judge._weight = 50
    found = traffic.seconds(30, 100)
    assert "went to the canary" in found.action
    assert found.requests == (0, 0)


def test_violations_are_counted_by_the_servers() -> None:
    traffic = Traffic(spec(Gate(name="contract", type="Violations")), weight=50)
    assert traffic.judge.asks_servers
    for second in range(1, 60):
        asked = 50.0 * second
        answered = ("slipway_inference_requests_total", (("code", "200"),))
        refused = ("slipway_inference_rejected_total", (("reason", "schema"),))
        traffic.servers = {
            "stable": {answered: asked, refused: 0.0},
            "canary": {answered: asked, refused: asked / 2},
        }
        found = traffic.second(100)
    assert found.action.startswith("roll back and reject it: gate contract: canary ")


def test_gates_that_need_copies_are_left_out_or_refused() -> None:
    shadow = Gate(name="same", type="ShadowAgreement")
    judge = Judge("fraud", spec(shadow, Gate(name="errors", type="ErrorRate")), 10, "b" * 10)
    assert [gate.name for gate in judge.left_out] == ["same"]
    assert [gate.name for gate in judge.rollout.analysis.gates] == ["errors"]
    with pytest.raises(LocalError, match="add one of type ErrorRate"):
        Judge("fraud", spec(shadow), 10, "b" * 10)


@pytest.mark.parametrize("kind", ["ErrorRate", "Violations"])
def test_all_that_is_counted_after_the_first_call_is_evidence(kind: Any) -> None:
    traffic = Traffic(spec(Gate(name="one", type=kind)), weight=50)
    answered = ("slipway_inference_requests_total", (("code", "200"),))
    for second in range(20):
        traffic.servers = {arm: {answered: 50.0 * second} for arm in ("stable", "canary")}
        found = traffic.second(100)
        if any(found.requests):
            break
    assert found.requests == (50 * second, 50 * second)
    [gate] = found.gates
    assert f" in {50 * second}, stable 0 " in gate.message
