"""The accept and refuse table of ``spec.rollout.audits`` and ``status.audits``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from e2e.tests.schema_cases import DIGEST, REMOVED, Case, value_at
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

AUDITS = "spec.rollout.audits"
AUDIT = f"{AUDITS}.*"
COLUMN = f"{AUDIT}.attributes.*"
METRIC = f"{AUDIT}.metrics.*"
SOURCE = f"{AUDIT}.data.configMapRef"
RESULT = "status.audits.*"
ROBUSTNESS = f"{AUDIT}.robustness"
FIGURE = f"{RESULT}.figures.*"


def an_audit(index: int) -> dict[str, Any]:
    """A small one, of a name of its own."""
    return {
        "name": f"a{index}",
        "type": "Subgroups",
        "data": {"configMapRef": {"name": "rows", "key": "rows.csv"}},
        "labelColumn": "good",
        "minimumAccuracy": "80%",
    }


def _without(**fields: Any) -> dict[str, Any]:
    """The example's audit with other fields."""
    found = {**value_at(AUDIT), **fields}
    return {key: value for key, value in found.items() if value is not REMOVED}


def _moving(**fields: Any) -> dict[str, Any]:
    """An audit that moves rows, with other fields."""
    options = {"radius": "0.25", "noise": "0.5"}
    found = {**an_audit(0), "type": "CertifiedSmoothing", "robustness": options, **fields}
    return {key: value for key, value in found.items() if value is not REMOVED}


def _deviations(path: str) -> Iterator[Case]:
    says = "must be a number above 0 and below 100 with up to 3 decimals, such as 0.25"
    for right, wrong in (("0.001", "0"), ("99.999", "100"), ("1", "-1"), ("0.1", ".1"), ("0.250", "0.00")):
        yield Case(path, "rule", right, wrong, says)
    yield Case(path, "maxLength", "10.125", "10.1255", "Too long: may not be more than 6", also="must be a")


def _column(index: int) -> dict[str, Any]:
    return {"column": f"c{index}", "groups": ["0", "1"], "referenceGroup": "0"}


def _metric(index: int) -> dict[str, Any]:
    """The last one is the first again: there are no more names."""
    names = ("DemographicParityDifference", "EqualOpportunityDifference", "EqualizedOddsDifference")
    ratio = {"name": "DisparateImpactRatio", "minimum": "80%"}
    return ratio if index % 4 == 3 else {"name": names[index % 4], "maximum": "10%"}


def _result(index: int) -> dict[str, Any]:
    return {**value_at(RESULT), "name": f"a{index}"}


def _figure(index: int) -> dict[str, Any]:
    return {"metric": f"m{index}", "value": "0.1", "low": "0", "high": "-0.2"}


def _group(named: str) -> dict[str, Any]:
    return {"column": "c", "groups": ["0", "a" * 63], "referenceGroup": named}


def _decimal(path: str) -> list[Case]:
    says = "should match '^-?[0-9]{1,9}"
    longest = "-123456789.123456"
    return [
        *(Case(path, "pattern", "-0.25", wrong, says) for wrong in ("", "1,5", "inf", ".5")),
        Case(
            path, "maxLength", longest, f"{longest}7890", "Too long: may not be more than 20 bytes", also=says
        ),
    ]


AUDITS_TABLE = [
    *items(AUDITS, 4, an_audit),
    *twins(AUDITS, an_audit),
    *required(AUDIT, "name", "type", "data", "labelColumn"),
    text(f"{AUDIT}.name", 63),
    Case(
        f"{AUDIT}.name",
        "minLength",
        "a",
        "",
        "should be at least 1 chars long",
        also="should match '^[a-z0-9](",
    ),
    *(
        Case(f"{AUDIT}.name", "pattern", "a-1", wrong, "should match '^[a-z0-9](")
        for wrong in ("A", "-a", "a-", "a.b")
    ),
    Case(
        AUDIT,
        "rule",
        _moving(),
        _moving(robustness=REMOVED),
        "robustness goes with types CertifiedSmoothing and Evasion, which need it",
    ),
    Case(
        AUDIT,
        "rule",
        an_audit(0),
        _moving(type="Subgroups", robustness={"radius": "0.25"}),
        "robustness goes with types CertifiedSmoothing and Evasion, which need it",
    ),
    Case(
        AUDIT,
        "rule",
        _moving(),
        _moving(robustness={"radius": "0.25"}),
        "robustness.noise goes with type CertifiedSmoothing, which needs it",
    ),
    Case(
        AUDIT,
        "rule",
        _moving(type="Evasion", robustness={"radius": "0.25"}),
        _moving(type="Evasion"),
        "robustness.noise goes with type CertifiedSmoothing, which needs it",
    ),
    *(
        Case(
            ROBUSTNESS,
            "rule",
            right,
            {"radius": "0.25", "noise": "0.5", **wrong},
            "attack and queries of type",
        )
        for right, wrong in (
            ({"radius": "0.25", "noise": "0.5"}, {"attack": "Boundary"}),
            ({"radius": "0.25", "noise": "0.5"}, {"queries": 100}),
        )
    ),
    Case(
        ROBUSTNESS,
        "rule",
        {"radius": "0.25", "noise": "0.5"},
        {"radius": "0.25", "samples": 100},
        "attack and queries of type",
        also="robustness.noise goes with",
    ),
    *choice(f"{ROBUSTNESS}.attack", "HopSkipJump", "Boundary"),
    *bounds(f"{ROBUSTNESS}.queries", 100, 10_000),
    *(
        Case(AUDIT, "rule", _moving(), _moving(**more), "groups are of type Subgroups: leave out metrics")
        for more in (
            {"attributes": [_column(0)]},
            {"favorableOutcomes": ["1"]},
            {"minimumGroupRows": 10},
            {"attributes": [_column(0)], "favorableOutcomes": ["1"], "metrics": [_metric(0)]},
        )
    ),
    *required(ROBUSTNESS, "radius"),
    *_deviations(f"{ROBUSTNESS}.radius"),
    *_deviations(f"{ROBUSTNESS}.noise"),
    *bounds(f"{ROBUSTNESS}.samples", 100, 10_000),
    Case(
        f"{ROBUSTNESS}.rows",
        "minimum",
        100,
        9,
        "should be greater than or equal to 10",
        also="must not be below",
    ),
    *bounds(f"{ROBUSTNESS}.rows", None, 300),
    *(
        Case(AUDIT, "rule", _moving(**right), _moving(**wrong), "must not be below minimumRows")
        for right, wrong in (
            ({"minimumRows": 200}, {"minimumRows": 201}),
            (
                {"robustness": {"radius": "0.25", "noise": "0.5", "rows": 100}},
                {"robustness": {"radius": "0.25", "noise": "0.5", "rows": 99}},
            ),
        )
    ),
    *items(f"{ROBUSTNESS}.fixedColumns", 50, lambda index: f"c{index}"),
    some(f"{ROBUSTNESS}.fixedColumns", "c"),
    unique(f"{ROBUSTNESS}.fixedColumns"),
    *name(f"{ROBUSTNESS}.fixedColumns.*", 200),
    Case(
        f"{AUDIT}.type",
        "enum",
        "Subgroups",
        "Groups",
        'supported values: "Subgroups", "CertifiedSmoothing", "Evasion"',
    ),
    *required(f"{AUDIT}.data", "configMapRef"),
    *required(SOURCE, "name", "key"),
    text(f"{SOURCE}.name", 253),
    *(
        Case(
            f"{SOURCE}.name",
            "rule",
            "rows.v2",
            wrong,
            "must be a name of lower case letters, digits, '-' and '.', such as store or store.v2",
        )
        for wrong in ("", "Rows", "-rows", "rows_2")
    ),
    text(f"{SOURCE}.key", 253),
    Case(
        f"{SOURCE}.key", "minLength", "a", "", "should be at least 1 chars long", also="should match '^[-._"
    ),
    *(Case(f"{SOURCE}.key", "pattern", "rows.csv", wrong, "should match '^[-._") for wrong in ("a/b", "a b")),
    *(
        Case(f"{AUDIT}.data.digest", "pattern", DIGEST, wrong, "should match '^sha256:")
        for wrong in ("sha256:0", DIGEST.upper())
    ),
    Case(
        f"{AUDIT}.data.digest",
        "maxLength",
        DIGEST,
        f"{DIGEST}0",
        "Too long: may not be more than 71 bytes",
        also="should match '^sha256:",
    ),
    *name(f"{AUDIT}.labelColumn", 200),
    *items(f"{AUDIT}.attributes", 3, _column),
    some(f"{AUDIT}.attributes", _column(0)),
    *twins(f"{AUDIT}.attributes", _column),
    *required(COLUMN, "column", "groups"),
    *name(f"{COLUMN}.column", 200),
    *items(f"{COLUMN}.groups", 10, lambda index: "abcdefghijk"[index]),
    Case(
        f"{COLUMN}.groups",
        "minItems",
        ["b", "c"],
        ["b"],
        "should have at least 2 items",
    ),
    replace(unique(f"{COLUMN}.groups"), accepts=["a", "b"], refuses=["b", "b"]),
    *name(f"{COLUMN}.groups.*", 63),
    Case(
        f"{COLUMN}.referenceGroup",
        "maxLength",
        _group("a" * 63),
        _group("a" * 64),
        "Too long: may not be more than 63 bytes",
        at=COLUMN,
        also="must be one of the groups",
    ),
    Case(
        f"{COLUMN}.referenceGroup",
        "minLength",
        _group("0"),
        _group(""),
        "should be at least 1 chars long",
        at=COLUMN,
        also="must be one of the groups",
    ),
    Case(COLUMN, "rule", _group("0"), _group("2"), "referenceGroup must be one of the groups"),
    *items(f"{AUDIT}.favorableOutcomes", 20, str),
    some(f"{AUDIT}.favorableOutcomes", "1"),
    unique(f"{AUDIT}.favorableOutcomes"),
    *name(f"{AUDIT}.favorableOutcomes.*", 63),
    replace(next(items(f"{AUDIT}.metrics", 4, _metric)), also="Duplicate value"),
    some(f"{AUDIT}.metrics", _metric(0)),
    *twins(f"{AUDIT}.metrics", _metric),
    Case(
        f"{METRIC}.name",
        "enum",
        {"name": "EqualizedOddsDifference", "maximum": "10%"},
        {"name": "never", "maximum": "10%"},
        "supported values: ",
        at=METRIC,
    ),
    Case(METRIC, "required name", "EqualizedOddsDifference", REMOVED, "Required value", at=f"{METRIC}.name"),
    *share(f"{METRIC}.maximum"),
    *minimum(f"{METRIC}.minimum"),
    *(
        Case(METRIC, "rule", _metric(2), wrong, says)
        for wrong, says in (
            (
                {"name": "EqualizedOddsDifference", "maximum": "10%", "minimum": "80%"},
                "DisparateImpactRatio needs a minimum, and the differences have none",
            ),
            (
                {"name": "EqualizedOddsDifference"},
                "the differences need a maximum, and DisparateImpactRatio has none",
            ),
        )
    ),
    Case(
        AUDIT,
        "rule",
        an_audit(0),
        {key: value for key, value in an_audit(0).items() if key != "minimumAccuracy"},
        "an audit holds the model to something: give metrics, minimumAccuracy or maxAccuracyLoss",
    ),
    *(
        Case(
            AUDIT,
            "rule",
            _without(),
            _without(**{missing: REMOVED}),
            "metrics compare groups: give attributes and favorableOutcomes",
        )
        for missing in ("attributes", "favorableOutcomes")
    ),
    Case(
        AUDIT,
        "rule",
        _without(),
        _without(attributes=[{"column": "sex", "groups": ["a", "b"]}]),
        "DisparateImpactRatio is to a reference group: give each attribute one",
    ),
    *minimum(f"{AUDIT}.minimumAccuracy"),
    *share(f"{AUDIT}.maxAccuracyLoss"),
    *minimum(f"{AUDIT}.confidence"),
    *bounds(f"{AUDIT}.minimumGroupRows", 10, 1_000_000),
    *bounds(f"{AUDIT}.minimumRows", 10, 1_000_000),
    *choice(f"{AUDIT}.onFail", "Block", "Report"),
    *choice(f"{AUDIT}.onInconclusive", "Block", "Continue"),
    *bounds(f"{AUDIT}.repeatSeconds", 3600, 31_536_000),
    *bounds(f"{AUDIT}.timeoutSeconds", 30, 3600),
    *items("status.audits", 8, _result),
    *required(RESULT, "name", "revision", "version", "key", "verdict", "message", "finishedAt"),
    text(f"{RESULT}.name", 63),
    text(f"{RESULT}.revision", 63),
    text(f"{RESULT}.version", 256),
    text(f"{RESULT}.key", 16),
    text(f"{RESULT}.baseline", 71),
    *choice(f"{RESULT}.verdict", "Pass", "Fail", "Inconclusive", "Error"),
    text(f"{RESULT}.message", 1024),
    *moment(f"{RESULT}.finishedAt"),
    text(f"{RESULT}.dataDigest", 71),
    *bounds(f"{RESULT}.rows", 0, None),
    *items(f"{RESULT}.figures", 24, _figure),
    *required(FIGURE, "metric", "value", "low", "high"),
    text(f"{FIGURE}.metric", 40),
    text(f"{FIGURE}.of", 400),
    *(case for field in ("value", "low", "high", "limit") for case in _decimal(f"{FIGURE}.{field}")),
]
