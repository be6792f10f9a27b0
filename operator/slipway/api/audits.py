"""``spec.rollout.audits``: what a version has to pass before any traffic, and what status says of that."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from slipway.api.base import Block, DnsSubdomain, Minimum, Share, rule, string
from slipway.contract import MOST_MOVED_ROWS, Digest

#: Audits that a resource may have, results that status holds, and figures of each.
MAX_AUDITS = 4
MAX_AUDIT_RESULTS = 8
MAX_AUDIT_FIGURES = 24

Value = Annotated[str, Field(min_length=1, max_length=63, description="A value, numbers too as text.")]
_Column = Annotated[str, Field(min_length=1, max_length=200)]


class FairnessLimit(Block):
    """How far groups may be apart."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "(self.name == 'DisparateImpactRatio') == has(self.minimum)",
                    "DisparateImpactRatio needs a minimum, and the differences have none",
                ),
                rule(
                    "(self.name == 'DisparateImpactRatio') != has(self.maximum)",
                    "the differences need a maximum, and DisparateImpactRatio has none",
                ),
            ]
        }
    )

    name: Literal[
        "DisparateImpactRatio",
        "DemographicParityDifference",
        "EqualOpportunityDifference",
        "EqualizedOddsDifference",
    ] = Field(description="What is measured, as Fairlearn defines it.")
    minimum: Minimum | None = Field(
        default=None, description="The least ratio to the reference group, and the least of its inverse."
    )
    maximum: Share | None = Field(default=None, description="The largest difference between two groups.")


class ConfigMapKey(Block):
    """A key of a ConfigMap in the namespace of the ModelDeployment."""

    name: DnsSubdomain = Field(description="Name of the ConfigMap.")
    key: str = Field(
        min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key with the table."
    )


class AuditData(Block):
    """A table that the model was not trained on, with the true classes."""

    configMapRef: ConfigMapKey = Field(
        description="CSV in UTF-8 whose first line names the columns, as it is or by gzip (in binaryData): "
        "64 MiB and a million rows at most."
    )
    digest: Digest | None = Field(
        default=None,
        max_length=71,
        description="SHA-256 of the file. Without it, whatever the ConfigMap holds when the audit runs.",
    )


class AuditedColumn(Block):
    """A column of the table by whose values people are told apart; it need not be an input of the model."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.referenceGroup) || self.referenceGroup in self.groups",
                    "referenceGroup must be one of the groups",
                )
            ]
        }
    )

    column: _Column = Field(description="Its name.")
    groups: tuple[Value, ...] = Field(
        min_length=2,
        max_length=10,
        description="Values that are compared, numbers too as text; rows with others are in no group.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    referenceGroup: Value | None = Field(default=None, description="The group that ratios are to.")


_FixedColumn = Annotated[str, Field(min_length=1, max_length=200, description="Name of a column.")]
_Deviations = Annotated[
    str,
    string(
        r"^([1-9][0-9]?([.][0-9]{1,3})?|0[.]([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9]))$",
        "must be a number above 0 and below 100 with up to 3 decimals, such as 0.25",
        max_length=6,
    ),
]


class RobustnessOptions(Block):
    """How rows are moved. Distances are in standard deviations of each column over the table, all columns
    together (L2): 0.25 is a quarter of one column's, or an eighth of each of four.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.noise) ? !has(self.attack) && !has(self.queries) : !has(self.samples)",
                    "noise and samples are of type CertifiedSmoothing, attack and queries of type Evasion",
                )
            ]
        }
    )

    radius: _Deviations = Field(description="Up to which a row has to stand to count.")
    noise: _Deviations | None = Field(
        default=None,
        description="Standard deviation of the noise: less proves less far, more blurs the answers.",
    )
    samples: int | None = Field(
        default=None,
        ge=100,
        le=10_000,
        description="Copies of each row; 1000 unless given, which prove radii up to 2.4 times the noise.",
    )
    attack: Literal["HopSkipJump", "Boundary"] | None = Field(
        default=None,
        description="Moves rows, by classes alone: HopSkipJump unless given.",
    )
    queries: int | None = Field(
        default=None,
        ge=100,
        le=10_000,
        description="Answers that the attack may ask for at each row; 1000 unless given.",
    )
    rows: int | None = Field(
        default=None,
        ge=10,
        le=MOST_MOVED_ROWS,
        description="Rows of the table, drawn by chance, the same each time; 200 unless given.",
    )
    fixedColumns: tuple[_FixedColumn, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=50,
        description="Columns that nobody can move. Text, and what spec.inputs lists values for, never is.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Audit(Block):
    """A run of the model over a table, in a Job of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.metrics) || has(self.minimumAccuracy) || has(self.maxAccuracyLoss)",
                    "an audit holds the model to something: give metrics, minimumAccuracy or maxAccuracyLoss",
                ),
                rule(
                    "!has(self.metrics) || (has(self.attributes) && has(self.favorableOutcomes))",
                    "metrics compare groups: give attributes and favorableOutcomes",
                ),
                rule(
                    "!has(self.metrics) || !has(self.attributes) || "
                    "!self.metrics.exists(one, one.name == 'DisparateImpactRatio') || "
                    "self.attributes.all(one, has(one.referenceGroup))",
                    "DisparateImpactRatio is to a reference group: give each attribute one",
                ),
                rule(
                    "(self.type == 'Subgroups') != has(self.robustness)",
                    "robustness goes with types CertifiedSmoothing and Evasion, which need it",
                ),
                rule(
                    "!has(self.robustness) || "
                    "(self.type == 'CertifiedSmoothing') == has(self.robustness.noise)",
                    "robustness.noise goes with type CertifiedSmoothing, which needs it",
                ),
                rule(
                    "!has(self.robustness) || !(has(self.metrics) || has(self.attributes) || "
                    "has(self.favorableOutcomes) || has(self.minimumGroupRows))",
                    "groups are of type Subgroups: leave out metrics, attributes, favorableOutcomes and "
                    "minimumGroupRows, or make them another audit",
                ),
                rule(
                    "!has(self.robustness) || (has(self.robustness.rows) ? self.robustness.rows : 200) >= "
                    "(has(self.minimumRows) ? self.minimumRows : 100)",
                    "robustness.rows (200 unless given) must not be below minimumRows (100 unless given)",
                ),
            ]
        }
    )

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        description="Names the audit.",
    )
    type: Literal["Subgroups", "CertifiedSmoothing", "Evasion"] = Field(
        description="Subgroups: how often the model is right, and how it treats groups, on a table. "
        "CertifiedSmoothing: how often it is right however a row is moved within a radius, proven of what it "
        "answers for most noisy copies of the row (randomized smoothing). Evasion: likewise, as far as an "
        "attack finds nothing nearer."
    )
    data: AuditData = Field(description="The table.")
    labelColumn: _Column = Field(description="Column with the true class.")
    attributes: tuple[AuditedColumn, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=3,
        description="Whose groups are compared, and are not to lose accuracy.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["column"]},
    )
    favorableOutcomes: tuple[Value, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        description="Classes that are good for whom they are given to, numbers too as text.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    metrics: tuple[FairnessLimit, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=4,
        description="How far groups may be apart: the audit fails once a whole interval lies beyond.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    robustness: RobustnessOptions | None = Field(
        default=None, description="How rows are moved, for types CertifiedSmoothing and Evasion."
    )
    minimumAccuracy: Minimum | None = Field(
        default=None,
        description="Share of the rows that the model has to be right about; with robustness, however they "
        "are moved within its radius.",
    )
    maxAccuracyLoss: Share | None = Field(
        default=None,
        description="Share of the rows that the version may be right about less often than the stable one, "
        "on the same rows; more has to be ruled out. No group may surely lose more. The first version has "
        "nothing to lose.",
    )
    confidence: Minimum | None = Field(
        default=None, description="Of all intervals of the audit together; 95% unless given."
    )
    minimumGroupRows: int | None = Field(
        default=None,
        ge=10,
        le=1_000_000,
        description="Groups of fewer rows are neither judged nor shown; 100 unless given.",
    )
    minimumRows: int | None = Field(
        default=None,
        ge=10,
        le=1_000_000,
        description="With fewer rows accuracy is not judged; 300 unless given, and 100 with robustness.",
    )
    onFail: Literal["Block", "Report"] | None = Field(
        default=None,
        description="Block, unless given, rejects a version that fails. Report shows it, and goes on.",
    )
    onInconclusive: Literal["Block", "Continue"] | None = Field(
        default=None,
        description="What happens with too few rows to tell: Block, unless given, holds the version.",
    )
    repeatSeconds: int | None = Field(
        default=None,
        ge=3600,
        le=31_536_000,
        description="How often the stable version is audited again. Only a table without data.digest can "
        "say anything new.",
    )
    timeoutSeconds: int | None = Field(
        default=None, ge=30, le=3600, description="How long it may take, with all tries; 600 unless given."
    )


_Decimal = Annotated[str, Field(pattern=r"^-?[0-9]{1,9}([.][0-9]{1,6})?$", max_length=20)]


class AuditFigure(Block):
    """A number that an audit found."""

    metric: str = Field(max_length=40, description="What was measured.")
    of: str = Field(default="", max_length=400, description="Of which groups; of all rows if empty.")
    value: _Decimal = Field(description="On the table.")
    low: _Decimal = Field(description="The true one is at least this.")
    high: _Decimal = Field(description="The true one is at most this.")
    limit: _Decimal | None = Field(default=None, description="What it is held to.")


class AuditResult(Block):
    """What an audit found of a version."""

    name: str = Field(max_length=63, description="Names the audit.")
    revision: str = Field(max_length=63, description="The revision that was audited.")
    version: str = Field(max_length=256, description="Its version of the model.")
    key: str = Field(
        max_length=16, description="Hash of all that the result depends on, but the stable version."
    )
    baseline: str | None = Field(
        default=None, max_length=71, description="SHA-256 of the stable version that it was compared with."
    )
    verdict: Literal["Pass", "Fail", "Inconclusive", "Error"] = Field(
        description="Error: it could not be done, and is tried again."
    )
    message: str = Field(max_length=1024, description="The numbers in words, or why there are none.")
    finishedAt: str = Field(max_length=64, description="When.", json_schema_extra={"format": "date-time"})
    dataDigest: str | None = Field(default=None, max_length=71, description="SHA-256 of the table.")
    rows: int = Field(default=0, ge=0, description="Rows of the table.")
    figures: tuple[AuditFigure, ...] = Field(
        default=(), max_length=MAX_AUDIT_FIGURES, description="What was measured, the worst first."
    )
