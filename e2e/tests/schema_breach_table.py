"""The accept and refuse table of ``spec.monitoring.onBreach``, and of what status remembers of breaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from e2e.tests.schema_cases import Case
from e2e.tests.schema_shapes import bounds, items, moment, required, text, twins

BREACH = "spec.monitoring.onBreach"
JOB = f"{BREACH}.job"
EPISODE = "status.monitoring.verdicts.*.episode"
CONDITIONS = ("Drift", "DataQuality", "Performance", "Fairness")


def of_job(cases: Iterable[Case], runtime: str) -> Iterator[Case]:
    """What holds for the image, resources and variables of the runtime, for those of the Job."""
    alike = (f"{runtime}.image", f"{runtime}.resources", f"{runtime}.env")
    for case in cases:
        if case.path.startswith(alike) and case.accepts != "":
            yield replace(case, path=case.path.replace(runtime, JOB))


def _secret(index: int) -> dict[str, Any]:
    return {"name": f"s{index}"}


def _spec(strategy: str) -> dict[str, Any]:
    breach = {"onBreach": {"action": "Rollback"}}
    return {"model": {"uri": "mlflow://a/1"}, "monitoring": breach, "rollout": {"strategy": strategy}}


BREACHES = [
    Case(
        f"{BREACH}.action",
        "enum",
        {"action": "Rollback"},
        {"action": "never"},
        'supported values: "Alert", "Job", "Rollback"',
        at=BREACH,
    ),
    *(
        Case(BREACH, "rule", right, wrong, "job goes with action Job, and with no other")
        for right, wrong in (
            ({"action": "Job", "job": {"image": "a"}}, {"action": "Job"}),
            ({"action": "Rollback"}, {"action": "Rollback", "job": {"image": "a"}}),
        )
    ),
    Case(
        BREACH,
        "rule",
        {"action": "Rollback", "conditions": ["Drift"]},
        {"conditions": ["Drift"]},
        "conditions go with Job and Rollback; Alert reports every condition",
    ),
    Case(
        "spec",
        "rule",
        _spec("RollingUpdate"),
        _spec("Recreate"),
        "onBreach.action Rollback goes with any strategy but Recreate, which ends the old revision first",
    ),
    Case(
        f"{BREACH}.conditions",
        "maxItems",
        list(CONDITIONS),
        [*CONDITIONS, "Drift"],
        "Too many: 5: must have at most 4 items",
        also="Duplicate value",
    ),
    Case(f"{BREACH}.conditions", "minItems", ["Drift"], [], "should have at least 1 items"),
    Case(
        f"{BREACH}.conditions",
        "x-kubernetes-list-type",
        ["Drift", "Fairness"],
        ["Drift", "Drift"],
        "Duplicate value",
    ),
    Case(
        f"{BREACH}.conditions.*",
        "enum",
        "Fairness",
        "never",
        'supported values: "Drift", "DataQuality", "Performance", "Fairness"',
    ),
    *required(JOB, "image"),
    Case(f"{JOB}.image", "minLength", "a", "", "should be at least 1 chars long"),
    *items(f"{JOB}.command", 32, str),
    text(f"{JOB}.command.*", 2048),
    *items(f"{JOB}.args", 64, str),
    text(f"{JOB}.args.*", 2048),
    *items(f"{JOB}.secretRefs", 8, _secret),
    *twins(f"{JOB}.secretRefs", _secret),
    *required(f"{JOB}.secretRefs.*", "name"),
    text(f"{JOB}.secretRefs.*.name", 253),
    Case(f"{JOB}.secretRefs.*.name", "rule", "store.v2", "Store", "must be a name of lower case letters"),
    *bounds(f"{JOB}.activeDeadlineSeconds", 30, 604_800),
    *bounds(f"{JOB}.backoffLimit", 0, 10),
    *bounds(f"{JOB}.ttlSecondsAfterFinished", 60, 2_592_000),
    *required(EPISODE, "startedAt"),
    *moment(f"{EPISODE}.startedAt"),
    *moment(f"{EPISODE}.endedAt"),
    text(f"{EPISODE}.job", 63),
    text(f"{EPISODE}.fault", 1024),
]
