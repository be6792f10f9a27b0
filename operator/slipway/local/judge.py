"""What an operator would do with a canary, by its own code: the rollout's machine, its gates and counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from slipway.api.rollout import Analysis, AnalysisStep, Gate, Rollout, Step
from slipway.api.rollout_status import GateStatus, RolloutStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.core.monitoring.series import Series, Values
from slipway.core.observed import ObservedTraffic
from slipway.core.rollout.arms import ArmCounter, count_arms
from slipway.core.rollout.counter import Counter, count
from slipway.core.rollout.due import next_look
from slipway.core.rollout.interest import Interest
from slipway.core.rollout.machine import decide
from slipway.core.rollout.new_look import new_look
from slipway.core.rollout.pod_evidence import served
from slipway.core.rollout.sample_ratio_mismatch import split_mismatch
from slipway.core.rollout.situation import Situation, StepOutcome
from slipway.core.traffic.envoy.readback import RouterState
from slipway.local.errors import LocalError

#: Names of the arms to the router.
CANARY, STABLE = "canary", "stable"
ARMS = (CANARY, STABLE)
#: Seconds between two looks at most: somebody is watching.
_MOST_INTERVAL = 5


@dataclass(frozen=True)
class Judgement:
    """What is known of a canary at one moment.

    Attributes:
        requests: that canary and stable answered, in all looks.
        gates: what each of them says.
        action: what an operator would do, in words.
        is_new: whether any of it is otherwise than before.
    """

    requests: tuple[int, int]
    gates: tuple[GateStatus, ...]
    action: str
    is_new: bool


class Judge:
    """Follows one canary against one stable revision."""

    def __init__(self, name: str, spec: ModelDeploymentSpec, weight: int, revision: str) -> None:
        """
        Args:
            name: of the route.
            spec: of the canary, which says by which gates it is judged.
            weight: percent of requests that it gets.
            revision: the canary's.

        Raises:
            LocalError: where no gate of the spec can be judged here.
        """
        self._name, self._spec, self._weight, self._revision = name, spec, weight, revision
        self.rollout = rollout_of(spec, weight)
        self.left_out = left_out(spec)
        self._state: RolloutStatus | None = None
        self._arms: ArmCounter | None = None
        self._pods: Counter[Series] | None = None
        self._before: tuple[object, ...] = ()

    @property
    def asks_servers(self) -> bool:
        """Whether it needs what the servers count, which the router does not see."""
        return any(gate.is_counted_by_pods for gate in self.rollout.analysis.gates)

    def judge(self, router: RouterState, servers: Mapping[str, Values], now: datetime) -> Judgement:
        """Take in what was counted until now, from the first call on: what was before is evidence of nothing.

        Args:
            router: as it was just read.
            servers: what the server of each arm shows, where :attr:`asks_servers`.
            now: the time, with a time zone.
        """
        traffic = ObservedTraffic(
            routers=1,
            synced_routers=1,
            weights=frozenset({self._weight}),
            receiving=frozenset(ARMS),
            canary_pods=min(router.arms[self._name, arm].healthy_pods for arm in ARMS)
            if all((self._name, arm) in router.arms for arm in ARMS)
            else 0,
            arrived=True,
        )
        before = self._state
        if before is not None:
            traffic = self._counted(before, traffic, router, servers)
        ready = min(1, traffic.canary_pods)
        seen = Situation(
            canary=self._revision,
            canary_ready=ready,
            canary_routed=ready,
            stable_ready=1,
            max_replicas=1,
            seen_weights=traffic.weights,
            counts=new_look(self.rollout.analysis.gates, traffic),
            doubt=split_mismatch(self._spec, traffic),
        )
        decision = decide(self.rollout, before, seen, now)
        state = self._state = decision.state
        if before is None:
            self._counted(state, traffic, router, servers)
        action = _action(decision.outcome, state, decision.suspended)
        requests = (
            sum(look.canaryRequests for look in state.looks),
            sum(look.stableRequests for look in state.looks),
        )
        now_known = (requests, state.gates, action)
        is_new, self._before = now_known != self._before, now_known
        return Judgement(*now_known, is_new)

    def _counted(
        self,
        state: RolloutStatus,
        traffic: ObservedTraffic,
        router: RouterState,
        servers: Mapping[str, Values],
    ) -> ObservedTraffic:
        analysis = self.rollout.analysis
        look = state.lookedAt or state.startedAt
        interest = Interest(ARMS, (state.id,), look, next_look(state, analysis), analysis.intervalSeconds)
        self._arms, (canary, stable) = count_arms(self._arms, interest, self._name, {"router": router.arms})
        traffic = replace(traffic, canary=canary, stable=stable)
        if not self.asks_servers or servers.keys() < set(ARMS):
            return traffic
        shown = {arm: {arm: values} for arm, values in servers.items()}
        self._pods = count(self._pods, interest.subject, interest.look, shown)
        return replace(
            traffic,
            canary_served=served(self._pods.of(CANARY)),
            stable_served=served(self._pods.of(STABLE)),
        )


def rollout_of(spec: ModelDeploymentSpec, weight: int) -> Rollout:
    """The rollout of a spec, with one weight and one analysis.

    Raises:
        LocalError: where no gate of the spec can be judged here.
    """
    analysis = spec.rollout.analysis
    gates = tuple(gate for gate in analysis.gates if not gate.compares_answers)
    if not gates:
        raise LocalError(
            "every gate of spec.rollout.analysis compares answers to copies, which only clusters send: "
            "add one of type ErrorRate, SlowRequests, Violations or PredictionShift"
        )
    here = Analysis(
        intervalSeconds=min(analysis.intervalSeconds, _MOST_INTERVAL),
        maxDurationSeconds=analysis.maxDurationSeconds,
        onInconclusive=analysis.onInconclusive,
        gates=gates,
    )
    steps = (Step(setWeight=weight), Step(analysis=AnalysisStep()))
    return Rollout(strategy="Canary", steps=steps, analysis=here)


def left_out(spec: ModelDeploymentSpec) -> tuple[Gate, ...]:
    """Gates that cannot be judged here."""
    return tuple(gate for gate in spec.rollout.analysis.gates if gate.compares_answers)


def _action(outcome: StepOutcome, state: RolloutStatus, suspended: bool) -> str:
    if outcome is StepOutcome.REJECT:
        return f"roll back and reject it: {state.message}"
    if outcome is StepOutcome.PROMOTE or state.phase == "Promoting":
        return "promote it: every gate that acts has passed"
    if suspended:
        return f"wait for a person: {state.message}"
    return f"wait: {state.message}"
