"""The accept and refuse table of ``spec.monitoring`` and ``spec.fairness``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from e2e.tests.schema_cases import REMOVED, Case
from e2e.tests.schema_shapes import (
    bounds,
    choice,
    items,
    minimum,
    moment,
    name,
    required,
    share,
    some,
    text,
    twins,
    unique,
)

DRIFT = "spec.monitoring.drift"
QUALITY = "spec.monitoring.dataQuality"
PERFORMANCE = "spec.monitoring.performance"
OBJECTIVE = f"{PERFORMANCE}.objectives.*"
SLOS = "spec.monitoring.slos"
STATUS = "status.monitoring"
VERDICT = f"{STATUS}.verdicts.*"
FEEDBACK = "spec.monitoring.performance.feedback"
FAIRNESS = "spec.fairness"
ATTRIBUTE = f"{FAIRNESS}.sensitiveAttributes.*"


def _attribute(index: int) -> dict[str, Any]:
    return {"name": f"a{index}", "parameter": "p", "groups": ["0", "1"], "referenceGroup": "0"}


def _of_group(name: str) -> dict[str, Any]:
    return {"name": "a", "parameter": "p", "groups": ["0", "a" * 63], "referenceGroup": name}


def _one_attribute(groups: list[str], **more: Any) -> dict[str, Any]:
    attribute = {"name": "a", "parameter": "p", "groups": groups}
    return {"sensitiveAttributes": [attribute], "favorableOutcomes": ["1"], **more}


def _objective(index: int) -> dict[str, Any]:
    return {"metric": "Recall", "outcome": f"{index}", "minimum": "70%"}


def _limit(index: int) -> dict[str, Any]:
    """The last one is the first again: there are no more names."""
    names = ("DemographicParityDifference", "EqualOpportunityDifference", "EqualizedOddsDifference")
    ratio = {"name": "DisparateImpactRatio", "minimum": "80%"}
    return ratio if index % 4 == 3 else {"name": names[index % 4], "maximum": "10%"}


def _verdict(index: int) -> dict[str, Any]:
    types = ("Drift", "DataQuality", "Performance", "Fairness")
    moments = dict.fromkeys(("judgedAt", "countedSince"), "2026-01-02T03:04:05Z")
    return {"type": types[index % 4], "status": "True", "reason": "A", "message": "", **moments}


def _feature(index: int) -> dict[str, Any]:
    return {"name": f"f{index}", "severity": "Critical", "psi": "0.3", "rows": 1}


def _fraction(path: str, right: str) -> Iterator[Case]:
    for wrong in ("0", "0.0", "1", "1.5", ".5", "5%"):
        says = "must be a number between 0 and 1, such as 0.05"
        yield Case(path, "rule", right, wrong, says, also="must not be above critical")
    longest = f"{right:0<8}"
    yield Case(path, "maxLength", longest, f"{longest}0", "Too long: may not be more than 8 bytes")


MONITORING = [
    *bounds(f"{DRIFT}.windowSeconds", 30, 86_400),
    *bounds(f"{DRIFT}.minimumRows", 100, 10_000_000),
    *choice(f"{DRIFT}.compareWith", "Reference", "SameHourYesterday"),
    *_fraction(f"{DRIFT}.psi.warning", "0.05"),
    *_fraction(f"{DRIFT}.psi.critical", "0.25"),
    Case(
        f"{DRIFT}.psi",
        "rule",
        {"warning": "0.25"},
        {"warning": "0.26"},
        "warning (0.05 where it is not given) must not be above critical (0.25 where it is not given)",
    ),
    *_fraction(f"{DRIFT}.significance", "0.001"),
    *share(f"{QUALITY}.maxMissingRatio"),
    *share(f"{QUALITY}.maxViolationRatio"),
    *items(f"{PERFORMANCE}.objectives", 8, _objective),
    Case(
        PERFORMANCE,
        "rule",
        {"feedback": {"secretRef": {"name": "keys"}}, "objectives": [_objective(0), _objective(1)]},
        {"feedback": {"secretRef": {"name": "keys"}}, "objectives": [_objective(0), _objective(0)]},
        "each metric of an outcome has one objective at most",
    ),
    Case(
        PERFORMANCE,
        "rule",
        {"feedback": {"secretRef": {"name": "keys"}}, "objectives": [_objective(0)]},
        {"objectives": [_objective(0)]},
        "objectives need feedback, by which labels come",
        also="need monitoring.performance.feedback",
    ),
    *required(OBJECTIVE, "metric", "minimum"),
    *choice(f"{OBJECTIVE}.metric", "Accuracy", "Precision", "Recall"),
    *minimum(f"{OBJECTIVE}.minimum"),
    *bounds(f"{OBJECTIVE}.minimumLabels", 1, 10_000_000),
    *(
        Case(
            OBJECTIVE,
            "rule",
            _objective(0),
            wrong,
            "outcome, the class that is meant, goes with Precision and Recall, and not with Accuracy",
        )
        for wrong in (
            {"metric": "Precision", "minimum": "70%"},
            {"metric": "Accuracy", "minimum": "70%", "outcome": "1"},
        )
    ),
    *name(f"{OBJECTIVE}.outcome", 63),
    *minimum(f"{SLOS}.availability"),
    *required(f"{SLOS}.latency", "thresholdMilliseconds"),
    Case(f"{SLOS}.latency.thresholdMilliseconds", "enum", 10000, 200, "supported values: "),
    *minimum(f"{SLOS}.latency.objective"),
    replace(next(items(f"{FAIRNESS}.metrics", 4, _limit)), also="Duplicate value"),
    *twins(f"{FAIRNESS}.metrics", _limit),
    *required(f"{FAIRNESS}.metrics.*", "name"),
    *choice(
        f"{FAIRNESS}.metrics.*.name",
        "DisparateImpactRatio",
        "DemographicParityDifference",
        "EqualOpportunityDifference",
        "EqualizedOddsDifference",
    ),
    *minimum(f"{FAIRNESS}.metrics.*.minimum"),
    *share(f"{FAIRNESS}.metrics.*.maximum"),
    *bounds(f"{FAIRNESS}.windowSeconds", 60, 604_800),
    *minimum(f"{FAIRNESS}.confidence"),
    *bounds(f"{FAIRNESS}.minimumGroupRows", 10, 10_000_000),
    *(
        Case(
            f"{FAIRNESS}.metrics.*",
            "rule",
            [{"name": "DisparateImpactRatio", "minimum": "80%"}],
            [wrong],
            "DisparateImpactRatio needs a minimum, and the differences have none",
            at=f"{FAIRNESS}.metrics",
            also="DisparateImpactRatio",
        )
        for wrong in (
            {"name": "DisparateImpactRatio"},
            {"name": "DemographicParityDifference", "maximum": "10%", "minimum": "80%"},
        )
    ),
    *(
        Case(
            f"{FAIRNESS}.metrics.*",
            "rule",
            [{"name": "DemographicParityDifference", "maximum": "10%"}],
            [wrong],
            "the differences need a maximum, and DisparateImpactRatio has none",
            at=f"{FAIRNESS}.metrics",
        )
        for wrong in (
            {"name": "DisparateImpactRatio", "minimum": "80%", "maximum": "80%"},
            {"name": "DemographicParityDifference"},
        )
    ),
    Case(
        FAIRNESS,
        "rule",
        {
            "sensitiveAttributes": [_attribute(0)],
            "favorableOutcomes": ["1"],
            "metrics": [{"name": "DisparateImpactRatio", "minimum": "80%"}],
        },
        _one_attribute(["0", "1"], metrics=[{"name": "DisparateImpactRatio", "minimum": "80%"}]),
        "DisparateImpactRatio is to a reference group: give each sensitive attribute one",
    ),
    Case(
        FAIRNESS,
        "rule",
        _one_attribute(["0"]),
        _one_attribute(["0"], metrics=[_limit(0)]),
        "metrics compare groups: give each sensitive attribute two groups at least",
    ),
    Case(
        f"{ATTRIBUTE}.referenceGroup",
        "maxLength",
        _of_group("a" * 63),
        _of_group("a" * 64),
        "Too long: may not be more than 63 bytes",
        at=ATTRIBUTE,
        also="must be one of the groups",
    ),
    Case(
        f"{ATTRIBUTE}.referenceGroup",
        "minLength",
        _of_group("0"),
        _of_group(""),
        "should be at least 1 chars long",
        at=ATTRIBUTE,
        also="must be one of the groups",
    ),
    Case(
        ATTRIBUTE,
        "rule",
        _attribute(0),
        _attribute(0) | {"referenceGroup": "2"},
        "referenceGroup must be one of the groups",
    ),
    Case(
        "spec",
        "rule",
        {"secretRef": {"name": "keys"}},
        REMOVED,
        "EqualOpportunityDifference and EqualizedOddsDifference need monitoring.performance.feedback",
        at=FEEDBACK,
        also="objectives need feedback",
    ),
    *required(STATUS, "version"),
    text(f"{STATUS}.version", 256),
    *bounds(f"{STATUS}.observedGeneration", 0, None),
    replace(next(items(f"{STATUS}.verdicts", 4, _verdict)), also="Duplicate value"),
    *twins(f"{STATUS}.verdicts", _verdict),
    *required(VERDICT, "type", "status", "reason", "message", "judgedAt", "countedSince"),
    *choice(f"{VERDICT}.type", "Drift", "DataQuality", "Performance", "Fairness"),
    *choice(f"{VERDICT}.status", "True", "False", "Unknown"),
    text(f"{VERDICT}.reason", 64),
    text(f"{VERDICT}.message", 1024),
    *moment(f"{VERDICT}.judgedAt"),
    *moment(f"{VERDICT}.countedSince"),
    *bounds(f"{VERDICT}.percentOfLimit", 0, 100_000),
    *items(f"{VERDICT}.features", 20, _feature),
    *twins(f"{VERDICT}.features", _feature),
    *required(f"{VERDICT}.features.*", "name", "severity", "psi", "rows"),
    text(f"{VERDICT}.features.*.name", 253),
    *choice(f"{VERDICT}.features.*.severity", "Warning", "Critical"),
    text(f"{VERDICT}.features.*.psi", 32),
    *bounds(f"{VERDICT}.features.*.rows", 0, None),
    *required(FEEDBACK, "secretRef"),
    *required(f"{FEEDBACK}.secretRef", "name"),
    text(f"{FEEDBACK}.secretRef.name", 253),
    *(
        Case(
            f"{FEEDBACK}.secretRef.name",
            "rule",
            "feedback.v2",
            wrong,
            "must be a name of lower case letters, digits, '-' and '.', such as store or store.v2",
        )
        for wrong in ("", "Store", "-store", "store_2")
    ),
    *bounds(f"{FEEDBACK}.maxAgeDays", 1, 3650),
    *required(FAIRNESS, "sensitiveAttributes", "favorableOutcomes"),
    *items(f"{FAIRNESS}.sensitiveAttributes", 3, _attribute),
    some(f"{FAIRNESS}.sensitiveAttributes", _attribute(0)),
    *twins(f"{FAIRNESS}.sensitiveAttributes", _attribute),
    *items(f"{FAIRNESS}.favorableOutcomes", 20, str),
    some(f"{FAIRNESS}.favorableOutcomes", "1"),
    unique(f"{FAIRNESS}.favorableOutcomes"),
    *name(f"{FAIRNESS}.favorableOutcomes.*", 63),
    *required(ATTRIBUTE, "name", "groups"),
    *name(f"{ATTRIBUTE}.name", 63),
    *name(f"{ATTRIBUTE}.parameter", 63),
    *name(f"{ATTRIBUTE}.tensor", 200),
    text(f"{ATTRIBUTE}.header", 63),
    *(
        Case(
            f"{ATTRIBUTE}.header",
            "rule",
            "X-Region",
            wrong,
            "must be the name of a header: letters, digits and '-', such as x-data-time",
        )
        for wrong in ("", "x region", "-x", "x_region", "x:")
    ),
    *bounds(f"{ATTRIBUTE}.column", 0, 9999),
    *items(f"{ATTRIBUTE}.groups", 10, lambda index: "abcdefghijk"[index]),
    Case(
        f"{ATTRIBUTE}.groups",
        "minItems",
        _one_attribute(["1"]),
        _one_attribute([]),
        "should have at least 1 items",
        at=FAIRNESS,
    ),
    replace(unique(f"{ATTRIBUTE}.groups"), also="must be one of the groups"),
    *name(f"{ATTRIBUTE}.groups.*", 63),
    *(
        Case(
            ATTRIBUTE,
            "rule",
            {"name": "a", "header": "x", "groups": ["0", "1"], "referenceGroup": "0"},
            {"name": "a", "groups": ["0", "1"], "referenceGroup": "0", **wrong},
            "name exactly one of parameter, tensor and header, which holds the attribute",
        )
        for wrong in (
            {},
            {"tensor": "x", "parameter": "p"},
            {"tensor": "x", "header": "h"},
            {"parameter": "p", "header": "h"},
            {"tensor": "x", "parameter": "p", "header": "h"},
        )
    ),
]
