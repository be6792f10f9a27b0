"""How a new revision takes over: the ``rollout`` block of the spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from slipway.api.audits import MAX_AUDITS, Audit
from slipway.api.base import MESSAGE_KEY, Block, Share, rule, string

#: Steps and gates that a resource may hold.
MAX_STEPS = 32
MAX_GATES = 8
#: Earlier stable revisions that status remembers.
MAX_PREVIOUS = 50

Ratio = Annotated[
    str,
    string(r"^[1-9][0-9]{0,2}([.][0-9]{1,3})?$", "must be a ratio of 1 or more, such as 1.25", max_length=7),
]


Psi = Annotated[
    str,
    string(r"^(0[.][0-9]{1,3}|[1-9]([.][0-9]{1,3})?)$", "must be a number such as 0.2", max_length=5),
]


Agreement = Annotated[
    str,
    string(
        r"^[1-9][0-9]?([.][0-9]{1,4})?%$", "must be a share from 1% to below 100%, such as 98%", max_length=8
    ),
]


class SetMirror(Block):
    """Copy traffic to the canary; its answers are thrown away."""

    percent: int = Field(ge=0, le=100, description="Percent of the stable revision's requests.")


class SetCanaryScale(Block):
    """Give the canary pods before it gets traffic."""

    replicas: int = Field(ge=1, le=1000, description="Pods of the canary at least.")


class Pause(Block):
    """Wait for a time, or for a person."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.seconds) != (has(self.untilApproved) && self.untilApproved)",
                    "a pause needs either seconds or untilApproved: true",
                )
            ]
        }
    )

    seconds: int | None = Field(default=None, ge=1, le=2_592_000, description="How long to wait.")
    untilApproved: bool | None = Field(default=None, description="Wait for kubectl slipway promote.")


class AnalysisStep(Block):
    """Stay until the gates have enough evidence for or against."""


class Step(Block):
    """One step; exactly one of its fields is set."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.setWeight), has(self.setMirror), has(self.setCanaryScale), has(self.pause), "
                    "has(self.analysis)].filter(found, found).size() == 1",
                    "a step has exactly one of setWeight, setMirror, setCanaryScale, pause and analysis",
                )
            ]
        }
    )

    setWeight: int | None = Field(default=None, ge=0, le=100, description="Percent of traffic on the canary.")
    setMirror: SetMirror | None = Field(default=None, description="Copy traffic to the canary.")
    setCanaryScale: SetCanaryScale | None = Field(default=None, description="Give the canary pods.")
    pause: Pause | None = Field(default=None, description="Wait.")
    analysis: AnalysisStep | None = Field(default=None, description="Wait for the gates' evidence.")


def _goes_with(field: str, types: tuple[str, ...]) -> dict[str, Any]:
    listed = ", ".join(f"'{type_}'" for type_ in types)
    words = " or ".join([", ".join(types[:-1]), types[-1]] if len(types) > 1 else types)
    return rule(f"!has(self.{field}) || self.type in [{listed}]", f"{field} goes with type {words}")


#: Gates that compare how many of each revision's requests something counts against.
_COUNTING = ("ErrorRate", "SlowRequests", "Violations")


class Gate(Block):
    """One question that the evidence has to answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(self.type == 'SlowRequests') == has(self.thresholdMilliseconds)",
                    "thresholdMilliseconds goes with type SlowRequests, and with no other",
                ),
                *(_goes_with(field, _COUNTING) for field in ("objective", "toleratedRatio", "ruledOutRatio")),
                _goes_with("maxPSI", ("PredictionShift",)),
                _goes_with("minAgreement", ("ShadowAgreement",)),
                _goes_with("tolerance", ("ShadowAgreement",)),
            ]
        }
    )

    name: str = Field(
        min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Names the gate."
    )
    type: Literal["ErrorRate", "SlowRequests", "Violations", "PredictionShift", "ShadowAgreement"] = Field(
        description=(
            "What counts against the canary. ErrorRate: errors. SlowRequests: answers that took too long. "
            "Violations: requests that break the input contract, as its own pods count them. "
            "PredictionShift: answers that are spread over the bins of the profile otherwise than stable's "
            "at the same time. ShadowAgreement: other answers than stable's to the very same requests, where "
            "the canary gets copies."
        )
    )
    thresholdMilliseconds: Literal[1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000] | None = Field(
        default=None, description="A request that takes longer is slow; a bound of the latency histogram."
    )
    objective: Share | None = Field(
        default=None, description="Share that is good enough whatever stable does; 1% unless given."
    )
    toleratedRatio: Ratio | None = Field(
        default=None,
        description="Times stable's rate that the canary may have, 1.25 unless given; more aborts.",
    )
    ruledOutRatio: Ratio | None = Field(
        default=None,
        description="Times stable's rate that must be ruled out before the gate passes; 2 unless given.",
    )
    maxPSI: Psi | None = Field(
        default=None,
        description="Population stability index beyond its noise that is too much; 0.2 unless given.",
    )
    minAgreement: Agreement | None = Field(
        default=None, description="Share of requests that both answer alike; 98% unless given."
    )
    tolerance: Share | None = Field(
        default=None,
        description="By how much numbers that are alike may differ, of the larger one; 1% unless given.",
    )
    dryRun: bool | None = Field(
        default=None,
        description=(
            "Report the verdict, but do not act on it. Unless given, true for PredictionShift, since another "
            "answer need not be a worse one, and false for every other type."
        ),
    )

    @property
    def acts(self) -> bool:
        """Whether its verdict decides."""
        return not (self.type == "PredictionShift" if self.dryRun is None else self.dryRun)

    @property
    def is_counted_by_pods(self) -> bool:
        """Whether it needs what the model servers count, which routers do not see."""
        return self.type in ("Violations", "PredictionShift")

    @property
    def compares_answers(self) -> bool:
        """Whether it needs both revisions' answers to the same requests."""
        return self.type == "ShadowAgreement"


class PrometheusSource(Block):
    """A Prometheus that scrapes the routers, with the labels namespace and pod."""

    address: str = Field(
        max_length=500,
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="Where its API is, such as http://prometheus.monitoring:9090; one of those that the "
        "chart's value rollouts.prometheus.addresses lists.",
        json_schema_extra={
            MESSAGE_KEY: "must be a URL such as http://prometheus.monitoring:9090",
            "x-kubernetes-validations": [
                rule("!self.matches('^https?://[^/]*@')", "the address must be without user and password")
            ],
        },
    )
    consecutiveErrorLimit: int = Field(
        default=4, ge=1, le=100, description="Looks in a row that may fail before the rollout pauses."
    )


class Analysis(Block):
    """When the gates are asked, and what happens when they cannot tell."""

    intervalSeconds: int = Field(default=30, ge=5, le=3600, description="Time between two evaluations.")
    maxDurationSeconds: int = Field(
        default=3600, ge=30, le=604_800, description="An analysis step without a verdict ends after this."
    )
    onInconclusive: Literal["Pause", "Abort", "Promote"] = Field(
        default="Pause", description="What happens then."
    )
    gates: tuple[Gate, ...] = Field(
        default=(Gate(name="error-rate", type="ErrorRate"),),
        min_length=1,
        max_length=MAX_GATES,
        description="Every gate must pass; one that fails aborts.",
        # By name, a server-side apply would leave the default gate with those that a manifest adds.
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            "x-kubernetes-validations": [
                rule(
                    "self.all(one, self.exists_one(other, other.name == one.name))",
                    "each gate needs a name of its own",
                )
            ],
        },
    )
    prometheus: PrometheusSource | None = Field(
        default=None,
        description="Where errors and slow requests are read; from the routers themselves unless given.",
    )


class Rollout(Block):
    """How a new revision takes over."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.steps) || self.strategy in ['Canary', 'BlueGreen', 'Shadow']",
                    "steps go with strategy Canary, BlueGreen or Shadow",
                ),
                rule(
                    "!has(self.steps) || self.strategy == 'Canary' || "
                    "!self.steps.exists(step, has(step.setWeight) && step.setWeight > 0)",
                    "setWeight goes with strategy Canary; BlueGreen and Shadow move all traffic at once",
                ),
                rule(
                    "!self.analysis.gates.exists(gate, gate.type == 'ShadowAgreement') || "
                    "(has(self.steps) ? self.steps.exists(step, has(step.setMirror)) : "
                    "self.strategy in ['BlueGreen', 'Shadow'])",
                    "a gate of type ShadowAgreement needs a step setMirror: it compares answers to copies",
                ),
            ]
        }
    )

    strategy: Literal["RollingUpdate", "Canary", "BlueGreen", "Shadow", "Recreate"] = Field(
        default="RollingUpdate",
        description=(
            "RollingUpdate moves all traffic once the new revision is ready. Canary moves it step by step. "
            "BlueGreen gives the new revision copies of the traffic, then all of it at once. Shadow gives "
            "it copies until a person promotes it. Recreate ends the old revision before the new one starts."
        ),
    )
    paused: bool = Field(default=False, description="Hold where it is.")
    progressDeadlineSeconds: int = Field(
        default=600, ge=30, le=86_400, description="A canary that is not ready by then is aborted."
    )
    rollbackWindowRevisions: int = Field(
        default=2,
        ge=0,
        le=MAX_PREVIOUS,
        description="Going back to one of so many earlier stable revisions skips the steps.",
    )
    historyLimit: int = Field(
        default=10,
        ge=0,
        le=MAX_PREVIOUS,
        description="Revisions that are remembered in addition to those in use.",
    )
    scaleDownDelaySeconds: int = Field(
        default=30, ge=10, le=86_400, description="How long pods of a replaced revision are kept."
    )
    abortScaleDownDelaySeconds: int = Field(
        default=60, ge=0, le=86_400, description="How long pods of a rejected revision are kept."
    )
    surgePercent: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description=(
            "Ready pods that a new revision needs before it takes all traffic, in percent of stable's; 100 "
            "unless given. With less it fits into a quota below twice the pods, and fewer pods serve all "
            "traffic until the others have started."
        ),
    )
    steps: tuple[Step, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_STEPS,
        description=(
            "What a new revision goes through. Without steps, Canary: 10%, analysis, 50%, analysis; "
            "BlueGreen: copies of all requests, analysis; Shadow: the same, then it waits for approval."
        ),
    )
    analysis: Analysis = Field(default=Analysis(), description="The gates, and when they are evaluated.")
    audits: tuple[Audit, ...] = Field(
        default=(),
        max_length=MAX_AUDITS,
        description="What a version has to pass before it has any pods, and so any traffic. A change here "
        "makes no new revision.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
