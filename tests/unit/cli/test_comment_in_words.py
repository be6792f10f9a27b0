"""A plan as a comment on a pull request, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.audits import AuditResult
from slipway.api.status import ModelStatus
from slipway.api.types import ModelDeploymentSpec
from slipway.cli.comment import Proposed, comment
from slipway.cli.markdown import MOST
from slipway.cli.planned import Change, Planned
from slipway.cli.sides import Row, Side, rows
from slipway.profile import Profile

DIGESTS = ["sha256:" + digit * 64 for digit in "0123"]


def spec(version: int, **fields: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": f"mlflow://fraud/{version}"}, **fields})


def model(version: int, **fields: Any) -> ModelStatus:
    uri = f"mlflow://fraud/{version}"
    return ModelStatus(
        uri=uri,
        resolvedURI=uri,
        version=str(version),
        digest=DIGESTS[version],
        bytes=4096 * version,
        **fields,
    )


def feature(name: str, importance: float, missing: int, **fields: Any) -> dict[str, Any]:
    bins = {"kind": "Intervals", "edges": [0.0], "counts": [500, 500]}
    place = {"tensor": "x", "column": 0, "datatype": "FP32", "bins": bins}
    return {"name": name, "importance": importance, "missing": missing, **place, **fields}


def profile(*features: dict[str, Any], rows: int) -> Profile:
    return Profile.model_validate(
        {
            "modelDigest": DIGESTS[0],
            "data": {"digest": DIGESTS[3], "rows": rows},
            "features": features,
            "predictions": [
                {
                    "output": "label",
                    "bins": {"kind": "Categories", "categories": ["a", "b"], "counts": [30, 60], "other": 10},
                }
            ],
            "confidence": {
                "output": "p",
                "bins": {"kind": "Intervals", "edges": [0.5], "counts": [1, 1]},
                "rows": [100, 100],
                "correct": [60, 90],
            },
        }
    )


AGE = {"mean": 4.25, "minimum": 18, "maximum": 110, "deviation": 3.5, "integral": True}
CARD = {
    "owner": "risk",
    "intendedUse": "fraud",
    "limitations": "none known",
    "links": ["https://a.example", "https://b.example"],
    "maxAgeDays": 30,
}
GATES = [
    {"name": "errors", "type": "ErrorRate"},
    {"name": "slow", "type": "SlowRequests", "thresholdMilliseconds": 250},
    {"name": "inputs", "type": "Violations", "dryRun": True},
    {"name": "shift", "type": "PredictionShift"},
]
TABLE = {"configMapRef": {"name": "rows", "key": "rows.csv"}}
AUDITS = [
    {"name": name, "type": "Subgroups", "data": TABLE, "labelColumn": "label", "minimumAccuracy": "90%"}
    for name in ("groups", "noise")
]
FOUND = AuditResult(
    name="noise",
    revision="aaaaaaaaaa",
    version="2",
    key="k",
    verdict="Fail",
    message="too few",
    finishedAt="2026-11-24T12:00:00Z",
)
NOW = Side(
    spec=spec(1),
    model=model(1, createdAt="2026-01-01T00:00:00Z", signedBy="alice"),
    profile=profile(
        feature("amount", 0.1, 0), feature("age", 0.5, 10, range=AGE), feature("gone", 0.2, 0), rows=1000
    ),
)
THEN = Side(
    spec=spec(2, card=CARD, rollout={"strategy": "Canary", "analysis": {"gates": GATES}, "audits": AUDITS}),
    model=model(2),
    profile=profile(feature("amount", 0.1, 0), feature("age", 0.5, 30, range=AGE), rows=2000),
)
WHOLE = Proposed(
    "models/fraud.yaml",
    Planned(
        "payments",
        "fraud",
        revision="a new one",
        is_new=True,
        conversion="holds",
        device="CUDA",
        strategy="Canary",
        steps=("10% of the traffic", "wait for evidence"),
        changes=(
            Change("create", "Deployment", "fraud-REVISION"),
            Change("create", "Service", "fraud-REVISION"),
            Change("change", "Service", "fraud", ("spec.selector", "metadata.labels")),
            Change("unchanged", "ServiceAccount", "fraud"),
            Change("delete", "Deployment", "fraud-old"),
            Change("apply", "Pod", "fraud-resolve"),
        ),
    ),
    NOW,
    THEN,
    (FOUND,),
)

TEXT = f"""\
<!-- m -->
## Slipway

**1 ModelDeployment**: 1 with a new revision, compared with main.

### `payments/fraud` in `models/fraud.yaml`

**Revision**: a new one.

|  | now | with this change |
| --- | --- | --- |
| **URI** | `mlflow://fraud/1` | `mlflow://fraud/2` |
| **Version** | `1` | `2` |
| **Digest** | `{DIGESTS[1]}` | `{DIGESTS[2]}` |
| **Size** | `4,096 bytes` | `8,192 bytes` |
| **Made** | `2026-01-01T00:00:00Z` |  |
| **Signed by** | `alice` |  |
| **Training rows** | `1,000` | `2,000` |
| **Features** | `3` | `2` |
| Right on held-out rows | `75.0% of 200` | `75.0% of 200` |
| Answers, label | `a: 30.0%, b: 60.0%` | `a: 30.0%, b: 60.0%` |
| **Owner** |  | `risk` |
| **Intended use** |  | `fraud` |
| **Limitations** |  | `none known` |
| **More** |  | `https://a.example https://b.example` |
| **May be so old** |  | `30 days` |
| **Feature age** | `FP32, 1.0% missing, mean 4.25, 18 to 110` | `FP32, 1.5% missing, mean 4.25, 18 to 110` |
| **Feature gone** | `FP32, 0.0% missing` | `none` |

**Proof of its conversion**: holds.

**Device**: CUDA.

**Rollout**: `Canary`

1. 10% of the traffic
2. wait for evidence

**Gates**

- `errors`: errors
- `slow`: requests over 250 ms
- `inputs`: requests against the input contract; reported, and decides nothing
- `shift`: answers spread otherwise than stable's; reported, and decides nothing

**Audits before traffic**

- `groups` (Subgroups): not run yet
- `noise` (Subgroups): Fail; too few

<details><summary>Objects: 2 created, 1 changed, 1 unchanged, 1 deleted, 1 applied</summary>

|  | kind | name | fields |
| --- | --- | --- | --- |
| create | `Deployment` | `fraud-REVISION` |  |
| create | `Service` | `fraud-REVISION` |  |
| change | `Service` | `fraud` | `spec.selector, metadata.labels` |
| unchanged | `ServiceAccount` | `fraud` |  |
| delete | `Deployment` | `fraud-old` |  |
| apply | `Pod` | `fraud-resolve` |  |

</details>
"""
HEAD = "## Slipway\n\n"
BEGIN = "### `payments/fraud` in `a.yaml`\n\n"


def test_a_comment_has_all_that_a_reviewer_has_to_know() -> None:
    assert comment([WHOLE], "compared with main", "<!-- m -->") == TEXT


def plan(**fields: Any) -> Proposed:
    return Proposed("a.yaml", Planned("payments", "fraud", **fields))


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        (
            {"complaints": ("spec.a: no", "spec.b: no"), "checked_by": "the CRD"},
            "invalid",
            "**Invalid**, as the CRD says:\n\n- `spec.a: no`\n- `spec.b: no`\n",
        ),
        ({"removed": "its pods go"}, "removed", "**Removed**: its pods go.\n"),
        ({"revision": "b", "is_new": True}, "with a new revision", "**Revision**: b.\n"),
        (
            {"revision": "b stays", "upgrade": "spec.access changed"},
            "whose pods are replaced",
            "**Revision**: b stays.\n\n**Pods**: spec.access changed.\n",
        ),
        ({"revision": "b stays"}, "without a new revision", "**Revision**: b stays.\n"),
        (
            {"revision": "b stays", "strategy": "RollingUpdate"},
            "without a new revision",
            "**Revision**: b stays.\n\n**Rollout**: `RollingUpdate`\n",
        ),
    ],
)
def test_each_kind_of_change_is_told(fields: dict[str, Any], kind: str, text: str) -> None:
    said = comment([plan(**fields)], "by #1")
    assert said == f"{HEAD}**1 ModelDeployment**: 1 {kind}, by #\u200b1.\n\n{BEGIN}{text}"


def test_several_are_counted_the_most_frequent_kind_first() -> None:
    found = [plan(removed="a"), plan(revision="b"), plan(revision="c")]
    first = comment(found, "at main").splitlines()[2]
    assert first == "**3 ModelDeployments**: 2 without a new revision, 1 removed, at main."


def test_no_change_is_told_in_one_line() -> None:
    assert comment([], "at main") == f"{HEAD}No ModelDeployment changes, at main.\n"
    assert comment([], "at main", "<!-- m -->").startswith("<!-- m -->\n## Slipway\n\nNo ")


def test_a_plan_that_is_too_long_is_told_by_its_beginning_and_what_has_no_room_is_counted() -> None:
    long = plan(complaints=tuple(f"spec.a: {number:060}" for number in range(2000)), checked_by="the CRD")
    said = comment([long, plan(removed="its pods go")], "at main")
    assert said.endswith(
        f"{BEGIN}**Invalid**, as the CRD says:\n\nToo long to be shown here; the log of the run has all.\n"
        f"\n{BEGIN}**Removed**: its pods go.\n"
    )
    many = comment([plan(removed="x" * 3000)] * 50, "at main")
    shown = many.count("**Removed**")
    assert many.endswith(f"\n… and {50 - shown} more; the log of the run has all.\n")
    assert MOST - 3100 < len(many) <= MOST


def test_only_what_differs_of_features_is_told_and_the_rest_is_counted() -> None:
    before = profile(*(feature(f"f{number}", number, 1) for number in range(30)), rows=100)
    after = profile(*(feature(f"f{number}", number, 2) for number in range(29)), rows=100)
    found = rows(Side(profile=before), Side(profile=after))
    told = [row for row in found if "eature" in row.name]
    assert told[0] == Row("Features", "30", "29")
    assert [row.name for row in told[1:-1]] == [f"Feature f{number}" for number in range(29, 9, -1)]
    assert told[1] == Row("Feature f29", "FP32, 1.0% missing", "none")
    assert told[-1] == Row("Other features", "", "10 more differ")
    assert [row.name for row in rows(Side(profile=before), Side()) if "Feature " in row.name] == []


def test_a_model_that_is_not_known_is_told_by_why() -> None:
    found = rows(Side(note="not looked up"), None)
    assert found == [Row("Version", "not looked up", "")]
    assert rows(None, None) == []
