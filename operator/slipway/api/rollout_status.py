"""What status remembers of rollouts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Block
from slipway.api.rollout import MAX_GATES, MAX_STEPS
from slipway.contract import ProfileDigest

#: Rejected revisions, and looks of a rollout.
MAX_REJECTED = 20
MAX_LOOKS = 60
#: Decisions that are remembered.
MAX_HISTORY = 20
#: Outputs whose answers a look counts, and bins of each; further bins count as one.
MAX_OUTPUTS = 4
MAX_BINS = 32

_Count = Annotated[int, Field(ge=0, description="Requests.")]
_Answers = Annotated[int, Field(ge=0, description="Answers.")]
_StepMark = Annotated[str, Field(max_length=64, description="What a step asks for, and its hash.")]
#: A number that is the same for every client, which a float is not.
Decimal = Annotated[str, Field(pattern=r"^[0-9]{1,18}([.][0-9]{1,6})?$", max_length=25)]


class GateCountStatus(Block):
    """What counts for one gate, by what it counts: places in lists move when gates are edited."""

    gate: str = Field(max_length=80, description="The gate's name, and a hash of what it counts.")
    looks: int = Field(ge=1, description="Looks that are summed.")
    canaryRequests: int = Field(ge=0, description="The canary's requests, or pairs of answers.")
    canaryEvents: int = Field(ge=0, description="Of these, what counts against the canary.")
    stableRequests: int = Field(ge=0, description="Stable's requests.")
    stableEvents: int = Field(ge=0, description="Of these, what counts against stable.")
    expected: Decimal | None = Field(
        default=None, description="Events that had fallen on the canary, look by look, had both failed alike."
    )
    spread: Decimal | None = Field(
        default=None,
        description="Variance of the canary's share between the evaluations, times their events.",
    )


class PredictionStatus(Block):
    """How both revisions' answers were spread over the bins that their profiles share."""

    output: str = Field(max_length=253, description="Of the model.")
    bins: str | None = Field(default=None, max_length=16, description="Hash of the bins' names.")
    canary: tuple[_Answers, ...] = Field(max_length=MAX_BINS, description="The canary's answers, by bin.")
    stable: tuple[_Answers, ...] = Field(max_length=MAX_BINS, description="Stable's, in the same bins.")


class LookStatus(Block):
    """Raw counts between two looks, or the sums of several in a row; evidence is computed from them."""

    canaryRequests: int = Field(ge=0, description="Requests that the canary answered.")
    canaryEvents: tuple[_Count, ...] = Field(
        max_length=MAX_GATES, description="Of these, what counts against each gate."
    )
    stableRequests: int = Field(ge=0, description="Requests that the stable revision answered.")
    stableEvents: tuple[_Count, ...] = Field(
        max_length=MAX_GATES, description="Of these, what counts against each gate."
    )
    canaryServed: int | None = Field(
        default=None, ge=0, description="Requests that the canary's pods counted, where gates ask for that."
    )
    stableServed: int | None = Field(default=None, ge=0, description="Requests that stable's pods counted.")
    pairs: int | None = Field(
        default=None, ge=0, description="Requests to which both gave an answer that could be compared."
    )
    predictions: tuple[PredictionStatus, ...] | None = Field(
        default=None, max_length=MAX_OUTPUTS, description="Answers, where a gate asks for them."
    )
    apart: str | None = Field(
        default=None,
        max_length=512,
        description="What each revision counts, where no output is counted in the same bins by both.",
    )
    looks: int | None = Field(default=None, ge=1, description="Looks that are summed here; one unless given.")
    gates: tuple[GateCountStatus, ...] | None = Field(
        default=None,
        max_length=MAX_GATES,
        description="What counts for each gate; events above are in the order that gates had at this look.",
    )


class GateStatus(Block):
    """What a gate says."""

    name: str = Field(max_length=63, description="Names the gate.")
    verdict: Literal["Pass", "Fail", "Inconclusive"] = Field(description="What the evidence shows.")
    message: str = Field(max_length=1024, description="The evidence in words.")
    asked: str | None = Field(default=None, max_length=16, description="Hash of what the gate asked.")


class Rejection(Block):
    """A revision that was found bad and is not tried again by itself."""

    revision: str = Field(max_length=63, description="Its name.")
    digest: str = Field(max_length=71, description="SHA-256 of its model's files.")
    content: str = Field(
        default="", max_length=63, description="As operators knew what was judged before there was identity."
    )
    identity: str | None = Field(
        default=None,
        max_length=63,
        description="Hash of what was judged: digest, runtime and inputs, as the spec has them.",
    )
    profile: ProfileDigest | None = Field(
        default=None,
        max_length=71,
        description="SHA-256 of the profile that it was judged with, or none; absent means any.",
    )
    id: str = Field(max_length=96, description="Names the rollout that found it bad.")
    rejectedAt: str = Field(max_length=64, description="When.", json_schema_extra={"format": "date-time"})
    message: str = Field(max_length=1024, description="Why.")


class DecisionStatus(Block):
    """One decision about a rollout, and who or what made it."""

    decidedAt: str = Field(max_length=64, description="When.", json_schema_extra={"format": "date-time"})
    decision: str = Field(
        max_length=32,
        description="Began, Approved, Skipped (the steps that were left), Held, Resumed, Promoted, "
        "RolledBack (to an earlier revision, from one that was found bad while it served), Superseded "
        "(by another one that is wanted), Rejected or Retried.",
    )
    rollout: str | None = Field(
        default=None, max_length=96, description="Names the rollout; absent where there was none."
    )
    revision: str = Field(max_length=63, description="The revision that it is about.")
    version: str | None = Field(default=None, max_length=256, description="Version of its model, if known.")
    person: bool = Field(
        default=False,
        description="Whether a person decided, by a command or a change of the spec; otherwise gates, steps "
        "and time did.",
    )
    by: str | None = Field(
        default=None,
        max_length=256,
        description="Name of the person, as the annotation has it, which the chart's policies.approvals "
        "holds to the truth.",
    )
    message: str | None = Field(default=None, max_length=256, description="Why.")


class RolloutStatus(Block):
    """How far a rollout is: all that decides, so that a restarted operator decides the same."""

    phase: Literal["Progressing", "Paused", "Promoting", "Aborting"] = Field(description="What goes on.")
    revision: str = Field(max_length=63, description="The canary that this is about.")
    id: str = Field(max_length=96, description="Names this rollout to the commands of kubectl slipway.")
    step: int = Field(default=0, ge=0, le=MAX_STEPS, description="Steps that are done.")
    steps: tuple[_StepMark, ...] | None = Field(
        default=None, max_length=MAX_STEPS, description="The steps that this counts, as they were then."
    )
    startedAt: str = Field(
        max_length=64, description="When the rollout began.", json_schema_extra={"format": "date-time"}
    )
    stepStartedAt: str = Field(
        max_length=64, description="When the current step began.", json_schema_extra={"format": "date-time"}
    )
    weight: int = Field(default=0, ge=0, le=100, description="Percent of traffic meant for the canary.")
    mirrorPercent: int = Field(default=0, ge=0, le=100, description="Percent of traffic copied to it.")
    heldWeight: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Weight that it gets back once it has ready pods again; stable has it meanwhile.",
    )
    canaryReplicas: int = Field(default=1, ge=0, le=1000, description="Pods that it is given at least.")
    stableReplicas: int = Field(
        default=0, ge=0, le=1000, description="Pods that the stable revision keeps, to take all traffic back."
    )
    waitingSince: str | None = Field(
        default=None,
        max_length=64,
        description="Since when it waits for pods, routers or Gateways, for progressDeadlineSeconds.",
        json_schema_extra={"format": "date-time"},
    )
    stableLostAt: str | None = Field(
        default=None,
        max_length=64,
        description="Since when the stable revision has had no ready pod.",
        json_schema_extra={"format": "date-time"},
    )
    lookedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When counts were last taken.",
        json_schema_extra={"format": "date-time"},
    )
    countedAt: str | None = Field(
        default=None,
        max_length=64,
        description="When both revisions were last seen to answer requests.",
        json_schema_extra={"format": "date-time"},
    )
    evidenceErrors: int = Field(
        default=0, ge=0, le=1_000_000, description="Looks in a row for which the Prometheus had no answer."
    )
    looks: tuple[LookStatus, ...] = Field(
        default=(), max_length=MAX_LOOKS, description="Counts, oldest first; of older looks the sums."
    )
    gates: tuple[GateStatus, ...] = Field(
        default=(),
        max_length=MAX_GATES,
        description="What each gate concluded.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    mismatch: str = Field(
        default="",
        max_length=1024,
        description="How the split was seen to differ from the weight at the last evaluation.",
    )
    message: str = Field(default="", max_length=1024, description="What it waits for, or why it was aborted.")
