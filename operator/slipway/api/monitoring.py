"""``spec.monitoring`` and ``spec.fairness``: what is counted, and when what was counted is bad."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slipway.api.audits import FairnessLimit, Value
from slipway.api.base import Block, HeaderName, Minimum, SecretRef, Share, rule, string
from slipway.api.breach import OnBreach
from slipway.api.freshness import Freshness
from slipway.api.suspects import SuspectInputs

Name = Annotated[str, Field(min_length=1, max_length=63)]

#: A number between 0 and 1, neither of them.
Fraction = Annotated[
    str,
    string(
        r"^0[.][0-9]*[1-9][0-9]*$",
        "must be a number between 0 and 1, such as 0.05",
        max_length=8,
    ),
]


class Psi(Block):
    """Limits of the population stability index, beyond the noise that a window of its size has."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!isQuantity(self.warning) || !isQuantity(self.critical) || "
                    "!quantity(self.warning).isGreaterThan(quantity(self.critical))",
                    "warning (0.05 where it is not given) must not be above critical (0.25 where it is not "
                    "given)",
                )
            ]
        }
    )

    warning: Fraction = Field(
        default="0.05", description="A feature beyond it has drifted, and Drift is True."
    )
    critical: Fraction = Field(default="0.25", description="Beyond it the alert is critical.")


class Drift(Block):
    """When inputs count as drifted. A change here judges again and restarts no pod."""

    windowSeconds: int = Field(
        default=3600,
        ge=30,
        le=86_400,
        description=(
            "How far back inputs are judged, those of dataQuality too. The rules for Prometheus look at an "
            "hour whatever it is."
        ),
    )
    minimumRows: int = Field(
        default=1000, ge=100, le=10_000_000, description="With fewer rows nothing is said of a feature."
    )
    compareWith: Literal["Reference", "SameHourYesterday"] = Field(
        default="Reference",
        description=(
            "Reference: with the profile next to the model. SameHourYesterday: with the same window a day "
            "ago, where day and night differ."
        ),
    )
    psi: Psi = Field(
        default=Psi(), description="How far a feature may move: population stability index beyond noise."
    )
    significance: Fraction = Field(
        default="0.001",
        description="Chance that an evaluation of inputs that did not move finds drift, over all features.",
    )


class DataQuality(Block):
    """How much of what comes in may be bad. A change here judges again and restarts no pod."""

    maxMissingRatio: Share = Field(default="5%", description="Share of a feature's values that may lack.")
    maxViolationRatio: Share = Field(
        default="1%",
        description=(
            "Share of a feature's values that may break a rule of spec.inputs, or be of a category that the "
            "profile does not have, beyond those that it has not listed either."
        ),
    )


class Objective(Block):
    """How often the model has to be right, by the labels of the last 24 hours."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(self.metric == 'Accuracy') != has(self.outcome)",
                    "outcome, the class that is meant, goes with Precision and Recall, and not with Accuracy",
                )
            ]
        }
    )

    metric: Literal["Accuracy", "Precision", "Recall"] = Field(
        description=(
            "Accuracy: of all rows. Precision: of those predicted as outcome. Recall: of those that are."
        )
    )
    outcome: Value | None = Field(default=None, description="The class that Precision and Recall are about.")
    minimum: Minimum = Field(description="Performance is False once the whole interval of 95% lies below it.")
    minimumLabels: int = Field(
        default=300, ge=1, le=10_000_000, description="With fewer labels nothing is said; 300 unless given."
    )


class Feedback(Block):
    """Tokens in answers, with which labels come back."""

    secretRef: SecretRef = Field(
        description=(
            "Secret with the keys of the tokens, each of 32 random bytes at least. The last by name is used "
            "for new tokens; keep the others as long as their tokens are to be taken."
        )
    )
    maxAgeDays: int = Field(
        default=90, ge=1, le=3650, description="How long after a prediction its label is taken."
    )


class Performance(Block):
    """How often the model is right."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.objectives) || self.objectives.size() == 0 || has(self.feedback)",
                    "objectives need feedback, by which labels come",
                ),
                rule(
                    "!has(self.objectives) || self.objectives.all(one, self.objectives.exists_one(other, "
                    "other.metric == one.metric && (has(other.outcome) ? other.outcome : '') == "
                    "(has(one.outcome) ? one.outcome : '')))",
                    "each metric of an outcome has one objective at most",
                ),
            ]
        }
    )

    feedback: Feedback | None = Field(
        default=None,
        description=(
            "Gives each answered row a token, and takes labels at /v2/models/NAME/feedback. A change here "
            "makes a new revision."
        ),
    )
    objectives: tuple[Objective, ...] = Field(
        default=(),
        max_length=8,
        description=("How often the model has to be right. A change here judges again and restarts no pod."),
    )


class Latency(Block):
    """How many requests have to be fast."""

    thresholdMilliseconds: Literal[1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000] = Field(
        description="A request that takes longer is slow; a bound of the latency histogram."
    )
    objective: Minimum = Field(default="99%", description="Share of the requests that have to be fast.")


class Slos(Block):
    """Objectives of the service, for the rules for Prometheus. A change here restarts no pod."""

    availability: Minimum = Field(
        default="99.9%", description="Share of the requests that must not be answered 5xx."
    )
    latency: Latency | None = Field(default=None, description="How many requests have to be fast.")


class Monitoring(Block):
    """What is watched, and when it is bad. Feedback, freshness and suspectInputs make a new revision."""

    drift: Drift | None = Field(
        default=None,
        description=(
            "When inputs have drifted. Without it the defaults hold for models with a profile. A change here "
            "judges again and restarts no pod."
        ),
    )
    dataQuality: DataQuality | None = Field(
        default=None,
        description=(
            "How much of what comes in may be bad. Without it the defaults hold for models with a profile. A "
            "change here judges again and restarts no pod."
        ),
    )
    performance: Performance | None = Field(default=None, description="How often the model is right.")
    freshness: Freshness | None = Field(
        default=None,
        description="How old the data of a request may be. A change here makes a new revision.",
    )
    suspectInputs: SuspectInputs | None = Field(
        default=None,
        description=(
            "Counts rows that may be a search for another answer, in slipway_suspect_inputs_total. A "
            "change here makes a new revision."
        ),
    )
    onBreach: OnBreach | None = Field(
        default=None,
        description="What follows when a condition turns bad; without it, alerts. Restarts no pod.",
    )
    slos: Slos | None = Field(
        default=None,
        description=(
            "Objectives of the service, for the rules for Prometheus. A change here restarts no pod."
        ),
    )


class SensitiveAttribute(Block):
    """Something by which people must not be treated differently."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(has(self.parameter) ? 1 : 0) + (has(self.tensor) ? 1 : 0) + "
                    "(has(self.header) ? 1 : 0) == 1",
                    "name exactly one of parameter, tensor and header, which holds the attribute",
                ),
                rule(
                    "!has(self.referenceGroup) || self.referenceGroup in self.groups",
                    "referenceGroup must be one of the groups",
                ),
            ]
        }
    )

    name: Name = Field(description="Its name in the metrics.")
    parameter: Name | None = Field(
        default=None,
        description="Parameter of the request that holds it: one value for all rows, or a list of one a row.",
    )
    header: HeaderName | None = Field(
        default=None,
        description=(
            "Header of the request that holds it, or metadata of a gRPC call: one value for all rows. It "
            "leaves the server as the name of a group only."
        ),
    )
    tensor: str | None = Field(
        default=None, min_length=1, max_length=200, description="Input of the model that holds it."
    )
    column: int = Field(
        default=0, ge=0, le=9999, description="Its place in a row of the tensor; 0, the first, unless given."
    )
    groups: tuple[Value, ...] = Field(
        min_length=1,
        max_length=10,
        description="Values that are counted, numbers too as text; all others are the group 'other'.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    referenceGroup: Value | None = Field(
        default=None,
        description=("The group that ratios are to. A change here judges again and restarts no pod."),
    )


#: Limits that cannot be judged without labels.
_LABELLED = "['EqualOpportunityDifference', 'EqualizedOddsDifference']"
#: On the spec: what fairness asks of monitoring.
LABELS_RULE = rule(
    f"!has(self.fairness) || !has(self.fairness.metrics) || "
    f"!self.fairness.metrics.exists(one, one.name in {_LABELLED}) || "
    "(has(self.monitoring) && has(self.monitoring.performance) && "
    "has(self.monitoring.performance.feedback))",
    "EqualOpportunityDifference and EqualizedOddsDifference need monitoring.performance.feedback, by which "
    "labels come",
)


class Fairness(Block):
    """Who gets what. A change of what is counted makes a new revision; one of the limits does not."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.metrics) || !self.metrics.exists(one, one.name == 'DisparateImpactRatio') || "
                    "self.sensitiveAttributes.all(one, has(one.referenceGroup))",
                    "DisparateImpactRatio is to a reference group: give each sensitive attribute one",
                ),
                rule(
                    "!has(self.metrics) || self.metrics.size() == 0 || "
                    "self.sensitiveAttributes.all(one, one.groups.size() > 1)",
                    "metrics compare groups: give each sensitive attribute two groups at least",
                ),
            ]
        }
    )

    sensitiveAttributes: tuple[SensitiveAttribute, ...] = Field(
        min_length=1,
        max_length=3,
        description="Attributes whose groups are compared; they need not be inputs of the model.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    favorableOutcomes: tuple[Value, ...] = Field(
        min_length=1,
        max_length=20,
        description="Classes that are good for whom they are given to, numbers too as text.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    metrics: tuple[FairnessLimit, ...] = Field(
        default=(),
        max_length=4,
        description=(
            "How far groups may be apart: Fairness is False once a whole interval lies beyond. A change here "
            "judges again and restarts no pod."
        ),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    windowSeconds: int = Field(
        default=86_400,
        ge=60,
        le=604_800,
        description=(
            "How far back groups are compared. The rules for Prometheus look at a day whatever it is. A "
            "change here judges again and restarts no pod."
        ),
    )
    confidence: Minimum = Field(
        default="95%",
        description="Of the intervals, over all comparisons. A change here judges again and restarts no pod.",
    )
    minimumGroupRows: int = Field(
        default=100,
        ge=10,
        le=10_000_000,
        description=(
            "Groups of fewer rows are neither judged nor shown. A change here judges again and restarts no "
            "pod."
        ),
    )
