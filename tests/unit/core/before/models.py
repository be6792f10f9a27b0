"""How version 0.1 of the operator (commit 32f01a5) reads ``status.rollout``: copied, never edited.

It reads a status all or nothing: one field that these refuse, and it has forgotten every rejection.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_STEPS = 32
MAX_GATES = 8
MAX_LOOKS = 60
MAX_OUTPUTS = 4
MAX_BINS = 32


class Block(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


_Count = Annotated[int, Field(ge=0)]


class PredictionStatus(Block):
    output: str = Field(max_length=253)
    canary: tuple[_Count, ...] = Field(max_length=MAX_BINS)
    stable: tuple[_Count, ...] = Field(max_length=MAX_BINS)


class LookStatus(Block):
    canaryRequests: int = Field(ge=0)
    canaryEvents: tuple[_Count, ...] = Field(max_length=MAX_GATES)
    stableRequests: int = Field(ge=0)
    stableEvents: tuple[_Count, ...] = Field(max_length=MAX_GATES)
    canaryServed: int | None = Field(default=None, ge=0)
    stableServed: int | None = Field(default=None, ge=0)
    pairs: int | None = Field(default=None, ge=0)
    predictions: tuple[PredictionStatus, ...] | None = Field(default=None, max_length=MAX_OUTPUTS)


class GateStatus(Block):
    name: str = Field(max_length=63)
    verdict: Literal["Pass", "Fail", "Inconclusive"]
    message: str = Field(max_length=1024)


class RolloutStatus(Block):
    phase: Literal["Progressing", "Paused", "Promoting", "Aborting"]
    revision: str = Field(max_length=63)
    id: str = Field(max_length=96)
    step: int = Field(default=0, ge=0, le=MAX_STEPS)
    startedAt: str = Field(max_length=64)
    stepStartedAt: str = Field(max_length=64)
    weight: int = Field(default=0, ge=0, le=100)
    mirrorPercent: int = Field(default=0, ge=0, le=100)
    canaryReplicas: int = Field(default=1, ge=0, le=1000)
    stableReplicas: int = Field(default=0, ge=0, le=1000)
    lookedAt: str | None = Field(default=None, max_length=64)
    countedAt: str | None = Field(default=None, max_length=64)
    evidenceErrors: int = Field(default=0, ge=0, le=1_000_000)
    looks: tuple[LookStatus, ...] = Field(default=(), max_length=MAX_LOOKS)
    gates: tuple[GateStatus, ...] = Field(default=(), max_length=MAX_GATES)
    mismatch: str = Field(default="", max_length=1024)
    message: str = Field(default="", max_length=1024)


def counted(look: LookStatus, index: int, by_pods: bool) -> tuple[int, int, int, int] | None:
    """What it takes a look to say of the gate in this place: requests and events of canary and stable.

    Raises:
        ValueError: where it ends its reconcile, at more events than requests.
    """
    canary, stable = look.canaryRequests, look.stableRequests
    if by_pods:
        if look.canaryServed is None or look.stableServed is None:
            return None
        canary, stable = look.canaryServed, look.stableServed
    if index >= len(look.canaryEvents) or index >= len(look.stableEvents):
        return None
    found = (canary, look.canaryEvents[index], stable, look.stableEvents[index])
    if found[1] > canary or found[3] > stable:
        raise ValueError(f"{found}: more events than requests")
    return found
