"""``spec.monitoring.onBreach``: what follows when monitoring finds something bad."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slipway.api.base import MESSAGE_KEY, Block, SecretRef, rule
from slipway.api.container import IMAGE, IMAGE_MESSAGE, EnvVar, Resources

ConditionName = Annotated[
    Literal["Drift", "DataQuality", "Performance", "Fairness"], Field(description="Type of a condition.")
]
Word = Annotated[str, Field(max_length=2048, description="One word.")]


class JobTemplate(Block):
    """A Job of one container, which may for instance train a new version and register it.

    It runs as the model's pods do: not as root, with a read-only root file system beside /tmp, and without a
    token for the API server. SLIPWAY_NAMESPACE, SLIPWAY_MODELDEPLOYMENT, SLIPWAY_REVISION, SLIPWAY_MODEL_URI,
    SLIPWAY_MODEL_VERSION, SLIPWAY_CONDITION, SLIPWAY_REASON and SLIPWAY_MESSAGE tell it what was found.
    """

    image: str = Field(
        min_length=1,
        max_length=512,
        pattern=IMAGE,
        description="Image of its container.",
        json_schema_extra={MESSAGE_KEY: IMAGE_MESSAGE},
    )
    command: tuple[Word, ...] = Field(
        default=(), max_length=32, description="Command; empty means the image's own."
    )
    args: tuple[Word, ...] = Field(default=(), max_length=64, description="Arguments.")
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=64,
        description="Plain environment variables.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    secretRefs: tuple[SecretRef, ...] = Field(
        default=(),
        max_length=8,
        description="Secrets whose keys become environment variables.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    resources: Resources = Field(default=Resources(), description="What it asks for and may use at most.")
    activeDeadlineSeconds: int = Field(
        default=3600, ge=30, le=604_800, description="How long it may take, with all its tries."
    )
    backoffLimit: int = Field(default=2, ge=0, le=10, description="How often it is tried again.")
    ttlSecondsAfterFinished: int = Field(
        default=86_400, ge=60, le=2_592_000, description="How long it is kept after its end."
    )


#: On the spec: what Rollback asks of the rollout.
ROLLBACK_RULE = rule(
    "self.rollout.strategy != 'Recreate' || !has(self.monitoring) || !has(self.monitoring.onBreach) || "
    "self.monitoring.onBreach.action != 'Rollback'",
    "onBreach.action Rollback goes with any strategy but Recreate, which ends the old revision first",
)


class OnBreach(Block):
    """What follows when a condition turns bad, beside an Event and the alerts. Restarts no pod."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(self.action == 'Job') == has(self.job)", "job goes with action Job, and with no other"
                ),
                rule(
                    "self.action != 'Alert' || !has(self.conditions)",
                    "conditions go with Job and Rollback; Alert reports every condition",
                ),
            ]
        }
    )

    action: Literal["Alert", "Job", "Rollback"] = Field(
        default="Alert",
        description=(
            "Alert: nothing else. Job: a Job is created once for each episode, which begins when a condition "
            "turns bad and ends when it has been good for a window. Rollback: the stable revision is "
            "rejected, and the one before it takes over again, if there is one. With spec.access both need a "
            "breach that no one caller brings about alone."
        ),
    )
    conditions: tuple[ConditionName, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=4,
        description="Conditions that it acts on; all of them where none is named.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    job: JobTemplate | None = Field(default=None, description="The Job that is created.")
