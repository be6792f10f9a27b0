"""The accept and refuse table of ``spec.rollout`` and of what status remembers of rollouts."""

from __future__ import annotations

from typing import Any

from e2e.tests.schema_cases import EXAMPLE, Case
from e2e.tests.schema_shapes import bounds, choice, items, moment, profile, required, text, twins

SPEC = "spec.rollout"
STEP = f"{SPEC}.steps.*"
GATE = f"{SPEC}.analysis.gates.*"
STATUS = "status.rollout"
LOOK = f"{STATUS}.looks.*"
COUNT = f"{LOOK}.gates.*"
REJECTED = "status.rejected.*"


def _spec(rollout: dict[str, Any]) -> dict[str, Any]:
    """No more than that: the example's traffic goes with Canary alone."""
    return {"model": EXAMPLE["spec"]["model"], "rollout": rollout}


def _gate(index: int) -> dict[str, Any]:
    return {"name": f"gate-{index}", "type": "ErrorRate"}


COPIES = {"setMirror": {"percent": 1}}
PAIRS = {"gates": [{"name": "alike", "type": "ShadowAgreement"}]}
SHIFT = {"name": "gate-0", "type": "PredictionShift"}


def _verdict(index: int) -> dict[str, Any]:
    return {"name": f"gate-{index}", "verdict": "Pass", "message": ""}


def _rejected(index: int) -> dict[str, Any]:
    found: dict[str, Any] = EXAMPLE["status"]["rejected"][0]
    return found | {"revision": f"r{index}"}


ROLLOUT = [
    Case(f"{SPEC}.strategy", "enum", "Canary", "canary", 'supported values: "RollingUpdate", "Canary",'),
    *(
        Case(
            SPEC,
            "rule",
            _spec({"strategy": right, "steps": [{"analysis": {}}]}),
            _spec({"strategy": wrong, "steps": [{"analysis": {}}]}),
            "steps go with strategy Canary, BlueGreen or Shadow",
            at="spec",
        )
        for right, wrong in (("Canary", "RollingUpdate"), ("BlueGreen", "Recreate"), ("Shadow", "Recreate"))
    ),
    *(
        Case(
            SPEC,
            "rule",
            _spec({"strategy": strategy, "steps": [{"setWeight": 0}]}),
            _spec({"strategy": strategy, "steps": [{"setWeight": 1}]}),
            "setWeight goes with strategy Canary; BlueGreen and Shadow move all traffic at once",
            at="spec",
        )
        for strategy in ("BlueGreen", "Shadow")
    ),
    *bounds(f"{SPEC}.progressDeadlineSeconds", 30, 86_400),
    *bounds(f"{SPEC}.rollbackWindowRevisions", 0, 50),
    *bounds(f"{SPEC}.historyLimit", 0, 50),
    *bounds(f"{SPEC}.surgePercent", 1, 100),
    *bounds(f"{SPEC}.scaleDownDelaySeconds", 10, 86_400),
    *bounds(f"{SPEC}.abortScaleDownDelaySeconds", 0, 86_400),
    *items(f"{SPEC}.steps", 32, lambda _: COPIES),
    Case(
        f"{SPEC}.steps",
        "minItems",
        [COPIES],
        [],
        "should have at least 1 items",
        also="needs a step setMirror",
    ),
    *(
        Case(STEP, "rule", right, wrong, "a step has exactly one of setWeight, setMirror, setCanaryScale")
        for right, wrong in (
            ({"setWeight": 1}, {}),
            ({"analysis": {}}, {"analysis": {}, "setWeight": 1}),
            ({"pause": {"seconds": 1}}, {"pause": {"seconds": 1}, "setMirror": {"percent": 1}}),
        )
    ),
    *bounds(f"{STEP}.setWeight", 0, 100),
    *required(f"{STEP}.setMirror", "percent"),
    *bounds(f"{STEP}.setMirror.percent", 0, 100),
    *required(f"{STEP}.setCanaryScale", "replicas"),
    *bounds(f"{STEP}.setCanaryScale.replicas", 1, 1000),
    *(
        Case(f"{STEP}.pause", "rule", right, wrong, "a pause needs either seconds or untilApproved: true")
        for right, wrong in (
            ({"seconds": 1}, {}),
            ({"untilApproved": True}, {"untilApproved": False}),
            ({"seconds": 1, "untilApproved": False}, {"seconds": 1, "untilApproved": True}),
        )
    ),
    *bounds(f"{STEP}.pause.seconds", 1, 2_592_000),
    *bounds(f"{SPEC}.analysis.intervalSeconds", 5, 3600),
    *bounds(f"{SPEC}.analysis.maxDurationSeconds", 30, 604_800),
    *choice(f"{SPEC}.analysis.onInconclusive", "Pause", "Abort", "Promote"),
    *items(f"{SPEC}.analysis.gates", 8, _gate),
    Case(f"{SPEC}.analysis.gates", "minItems", [_gate(0)], [], "should have at least 1 items"),
    Case(
        f"{SPEC}.analysis.gates",
        "rule",
        [_gate(0), _gate(1)],
        [_gate(0), _gate(0)],
        "each gate needs a name of its own",
    ),
    *required(GATE, "name", "type"),
    text(f"{GATE}.name", 63),
    Case(f"{GATE}.name", "minLength", "a", "", "should be at least 1 chars long", also="should match"),
    Case(f"{GATE}.name", "pattern", "a-1", "A", "should match '^[a-z0-9]"),
    Case(
        f"{GATE}.type",
        "enum",
        "SlowRequests",
        "never",
        'supported values: "ErrorRate", "SlowRequests", "Violations", "PredictionShift", "ShadowAgreement"',
    ),
    *(
        Case(GATE, "rule", right, wrong, "thresholdMilliseconds goes with type SlowRequests, and with no")
        for right, wrong in (
            (_gate(0), _gate(0) | {"thresholdMilliseconds": 250}),
            (
                {"name": "slow", "type": "SlowRequests", "thresholdMilliseconds": 1},
                {"name": "slow", "type": "SlowRequests"},
            ),
        )
    ),
    Case(f"{GATE}.thresholdMilliseconds", "enum", 10000, 200, "supported values: "),
    Case(f"{GATE}.objective", "maxLength", "99.1234%", "99.12345%", "Too long: may not be more than 8"),
    *(
        Case(f"{GATE}.objective", "rule", right, wrong, "must be a share below 100%, such as 1% or 0.25%")
        for right, wrong in (("0%", "1"), ("0.25%", ".25%"), ("99%", "100%"), ("1%", "-1%"))
    ),
    *(
        case
        for field in ("toleratedRatio", "ruledOutRatio")
        for case in (
            Case(f"{GATE}.{field}", "maxLength", "999.999", "1999.999", "Too long: may not be more than 7"),
            Case(f"{GATE}.{field}", "rule", "1", "0.5", "must be a ratio of 1 or more, such as 1.25"),
            Case(f"{GATE}.{field}", "rule", "1.25", "1,25", "must be a ratio of 1 or more, such as 1.25"),
        )
    ),
    *(
        Case(
            GATE,
            "rule",
            _gate(0) | {field: value},
            SHIFT | {field: value},
            f"{field} goes with type ErrorRate,",
        )
        for field, value in (("objective", "1%"), ("toleratedRatio", "1.25"), ("ruledOutRatio", "2"))
    ),
    *(
        Case(
            GATE,
            "rule",
            {"name": "gate-0", "type": "ShadowAgreement", field: "99%"},
            _gate(0) | {field: "99%"},
            f"{field} goes with type ShadowAgreement",
        )
        for field in ("minAgreement", "tolerance")
    ),
    Case(f"{GATE}.minAgreement", "maxLength", "99.1234%", "99.12345%", "Too long: may not be more than 8"),
    *(
        Case(
            f"{GATE}.minAgreement", "rule", right, wrong, "must be a share from 1% to below 100%, such as 98%"
        )
        for right, wrong in (("1%", "0%"), ("99.9%", "100%"), ("98%", "98"))
    ),
    Case(f"{GATE}.tolerance", "maxLength", "99.1234%", "99.12345%", "Too long: may not be more than 8"),
    Case(f"{GATE}.tolerance", "rule", "0%", "1", "must be a share below 100%, such as 1% or 0.25%"),
    *(
        Case(
            SPEC,
            "rule",
            _spec({"strategy": "Canary", "steps": [COPIES], "analysis": PAIRS}),
            _spec(wrong | {"analysis": PAIRS}),
            "a gate of type ShadowAgreement needs a step setMirror: it compares answers to copies",
            at="spec",
        )
        for wrong in (
            {"strategy": "Canary"},
            {"strategy": "RollingUpdate"},
            {"strategy": "Shadow", "steps": [{"analysis": {}}]},
        )
    ),
    *(
        Case(
            SPEC,
            "rule",
            _spec({"strategy": strategy, "analysis": PAIRS}),
            _spec({"strategy": "Recreate", "analysis": PAIRS}),
            "a gate of type ShadowAgreement needs a step setMirror: it compares answers to copies",
            at="spec",
        )
        for strategy in ("BlueGreen", "Shadow")
    ),
    Case(GATE, "rule", SHIFT | {"maxPSI": "0.2"}, _gate(0) | {"maxPSI": "0.2"}, "maxPSI goes with type Pred"),
    Case(
        f"{GATE}.maxPSI", "maxLength", "1.999", "10.999", "Too long: may not be more than 5", also="must be"
    ),
    *(
        Case(f"{GATE}.maxPSI", "rule", right, wrong, "must be a number such as 0.2")
        for right, wrong in (("0.25", "0"), ("1", "10"), ("0.001", ".1"))
    ),
    *required(f"{SPEC}.analysis.prometheus", "address"),
    text(f"{SPEC}.analysis.prometheus.address", 500, head="http://"),
    *(
        Case(
            f"{SPEC}.analysis.prometheus.address",
            "rule",
            right,
            wrong,
            "must be a URL such as http://prometheus.monitoring:9090",
        )
        for right, wrong in (
            ("https://a", "ftp://a"),
            ("http://a:9090/b", "http://a:9090/b?c"),
            ("http://a", "http:///"),
        )
    ),
    Case(
        f"{SPEC}.analysis.prometheus.address",
        "rule",
        "http://prometheus.monitoring:9090/a@b",
        "http://user:password@prometheus.monitoring:9090",
        "the address must be without user and password",
    ),
    *bounds(f"{SPEC}.analysis.prometheus.consecutiveErrorLimit", 1, 100),
    *bounds(f"{STATUS}.evidenceErrors", 0, 1_000_000),
    *required(STATUS, "phase", "revision", "id", "startedAt", "stepStartedAt"),
    *choice(f"{STATUS}.phase", "Progressing", "Paused", "Promoting", "Aborting"),
    text(f"{STATUS}.revision", 63),
    text(f"{STATUS}.id", 96),
    *bounds(f"{STATUS}.step", 0, 32),
    *items(f"{STATUS}.steps", 32, lambda index: f"pause/{index}"),
    text(f"{STATUS}.steps.*", 64),
    *moment(f"{STATUS}.startedAt"),
    *moment(f"{STATUS}.stepStartedAt"),
    *moment(f"{STATUS}.waitingSince"),
    *moment(f"{STATUS}.stableLostAt"),
    *bounds(f"{STATUS}.heldWeight", 1, 100),
    *moment(f"{STATUS}.lookedAt"),
    *moment(f"{STATUS}.countedAt"),
    *bounds(f"{STATUS}.weight", 0, 100),
    *bounds(f"{STATUS}.mirrorPercent", 0, 100),
    *bounds(f"{STATUS}.canaryReplicas", 0, 1000),
    *bounds(f"{STATUS}.stableReplicas", 0, 1000),
    text(f"{STATUS}.mismatch", 1024),
    text(f"{STATUS}.message", 1024),
    *items(f"{STATUS}.looks", 60, lambda _: EXAMPLE["status"]["rollout"]["looks"][0]),
    *required(LOOK, "canaryRequests", "canaryEvents", "stableRequests", "stableEvents"),
    *(
        case
        for arm in ("canary", "stable")
        for case in (
            *bounds(f"{LOOK}.{arm}Requests", 0, None),
            *bounds(f"{LOOK}.{arm}Events.*", 0, None),
            *items(f"{LOOK}.{arm}Events", 8, lambda _: 0),
        )
    ),
    *bounds(f"{LOOK}.canaryServed", 0, None),
    *bounds(f"{LOOK}.pairs", 0, None),
    *bounds(f"{LOOK}.stableServed", 0, None),
    *bounds(f"{LOOK}.looks", 1, None),
    text(f"{LOOK}.apart", 512),
    *items(f"{LOOK}.gates", 8, lambda _: EXAMPLE["status"]["rollout"]["looks"][0]["gates"][0]),
    *required(COUNT, "gate", "looks", "canaryRequests", "canaryEvents", "stableRequests", "stableEvents"),
    text(f"{COUNT}.gate", 80),
    *bounds(f"{COUNT}.looks", 1, None),
    *(
        case
        for counted in ("canaryRequests", "canaryEvents", "stableRequests", "stableEvents")
        for case in bounds(f"{COUNT}.{counted}", 0, None)
    ),
    *(
        case
        for number in ("expected", "spread")
        for case in (
            text(f"{COUNT}.{number}", 25, "1", tail=".000000"),
            Case(f"{COUNT}.{number}", "pattern", "12.5", "-1", "should match '^[0-9]"),
        )
    ),
    text(f"{LOOK}.predictions.*.bins", 16),
    *items(f"{LOOK}.predictions", 4, lambda _: EXAMPLE["status"]["rollout"]["looks"][0]["predictions"][0]),
    *required(f"{LOOK}.predictions.*", "output", "canary", "stable"),
    text(f"{LOOK}.predictions.*.output", 253),
    *(
        case
        for arm in ("canary", "stable")
        for case in (
            *bounds(f"{LOOK}.predictions.*.{arm}.*", 0, None),
            *items(f"{LOOK}.predictions.*.{arm}", 32, lambda _: 0),
        )
    ),
    *items(f"{STATUS}.gates", 8, _verdict),
    *twins(f"{STATUS}.gates", _verdict),
    *required(f"{STATUS}.gates.*", "name", "verdict", "message"),
    text(f"{STATUS}.gates.*.name", 63),
    *choice(f"{STATUS}.gates.*.verdict", "Pass", "Fail", "Inconclusive"),
    text(f"{STATUS}.gates.*.message", 1024),
    text(f"{STATUS}.gates.*.asked", 16),
    *items("status.rejected", 20, _rejected),
    *twins("status.rejected", _rejected),
    *required(REJECTED, "revision", "digest", "id", "rejectedAt", "message"),
    text(f"{REJECTED}.revision", 63),
    text(f"{REJECTED}.digest", 71),
    text(f"{REJECTED}.content", 63),
    text(f"{REJECTED}.identity", 63),
    text(f"{REJECTED}.id", 96),
    *moment(f"{REJECTED}.rejectedAt"),
    *profile(f"{REJECTED}.profile"),
    text(f"{REJECTED}.message", 1024),
    *items("status.previous", 50, lambda index: f"r{index}"),
    text("status.previous.*", 63),
    *bounds("status.routerPort", 1, 65535),
    *moment("status.refreshRequestedAt"),
    *moment("status.refreshFailingSince"),
]
