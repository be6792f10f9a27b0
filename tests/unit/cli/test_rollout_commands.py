"""``kubectl slipway``: what it draws, what it writes, and what it refuses."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slipway.api.rollout import Step
from slipway.api.status import Condition
from slipway.cli import drawing
from slipway.cli.cluster import Cluster
from slipway.cli.command import asked
from slipway.cli.errors import CommandError
from slipway.cli.main import main
from slipway.cli.parser import parse
from slipway.cli.terminal import Line, Tone
from slipway.core.resource import Resource, read
from slipway.core.revision import Settings
from tests.unit.cli.planning import told

NOW = datetime(2026, 11, 24, 12, 5, tzinfo=UTC)
DIGEST = "sha256:" + "1" * 64
STABLE = {"revision": "aaaaaaaaaa", "version": "1", "digest": DIGEST, "replicas": 2, "readyReplicas": 2}
CANARY = {"revision": "bbbbbbbbbb", "version": "2", "digest": DIGEST, "replicas": 1, "readyReplicas": 1}
ROLLOUT = {
    "phase": "Progressing",
    "revision": "bbbbbbbbbb",
    "id": "bbbbbbbbbb.1",
    "step": 1,
    "startedAt": "2026-11-24T12:00:00Z",
    "stepStartedAt": "2026-11-24T12:04:00Z",
    "weight": 10,
    "canaryReplicas": 1,
    "lookedAt": "2026-11-24T12:04:50Z",
    "gates": [{"name": "error-rate", "verdict": "Inconclusive", "message": "canary 1 errors in 120"}],
    "message": "gathers evidence",
}
REJECTED = {
    "revision": "cccccccccc",
    "digest": DIGEST,
    "id": "cccccccccc.1",
    "rejectedAt": "2026-11-24T11:00:00Z",
    "message": "gate error-rate: canary 14 errors in 1,210",
}
MODEL = {
    "uri": "mlflow://fraud/1",
    "resolvedURI": "mlflow://fraud/1",
    "version": "1",
    "digest": DIGEST,
    "bytes": 1,
}


def draw(found: Resource, now: datetime) -> str:
    return "\n".join(line.text for line in drawing.draw(found, now))


def resource(annotations: dict[str, str] | None = None, **status: Any) -> Resource:
    return read(manifest(annotations, **status))


def manifest(annotations: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud", "namespace": "payments", "uid": "u", "annotations": annotations or {}},
        "spec": {"model": {"uri": "mlflow://fraud/1"}, "rollout": {"strategy": "Canary"}},
        "status": status,
    }


def test_a_canary_in_analysis_is_drawn_with_steps_evidence_and_time_to_go() -> None:
    text = draw(resource(stable=STABLE, canary=CANARY, canaryWeight=10, rollout=ROLLOUT), NOW)
    assert text.splitlines() == [
        "payments/fraud",
        "  stable  ██████████████░░  90%  version 1, revision aaaaaaaaaa, 2/2 pods ready",
        "  canary  ██░░░░░░░░░░░░░░  10%  version 2, revision bbbbbbbbbb, 1/1 pods ready",
        "",
        "rollout bbbbbbbbbb.1: Progressing since 5 min",
        "  ✓ 10% of the traffic",
        "  → wait for evidence",
        "    50% of the traffic",
        "    wait for evidence",
        "  gathers evidence",
        "  gate error-rate: Inconclusive; canary 1 errors in 120",
        "  next look in 20 s",
        "  without a verdict in 59 min: Pause",
    ]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"setWeight": 10}, "10% of the traffic"),
        ({"setMirror": {"percent": 20}}, "copies of 20% of the requests"),
        ({"setCanaryScale": {"replicas": 3}}, "3 pods"),
        ({"pause": {"untilApproved": True}}, "wait for approval"),
        ({"pause": {"seconds": 90}}, "wait 90 s"),
        ({"analysis": {}}, "wait for evidence"),
    ],
)
def test_a_step_is_told_in_words(step: dict[str, Any], words: str) -> None:
    assert drawing.told_step(Step.model_validate(step)) == words


def test_routers_that_lag_behind_are_told() -> None:
    text = draw(resource(stable=STABLE, canary=CANARY, canaryWeight=0, rollout=ROLLOUT), NOW)
    assert "  routers send 0%, 10% is asked for" in text.splitlines()


def test_what_was_rejected_is_told_with_its_reason() -> None:
    lines = draw(resource(stable=STABLE, rejected=[REJECTED]), NOW).splitlines()
    assert "rejected; kubectl slipway retry allows the most recent to be tried again" in lines
    assert "  cccccccccc  2026-11-24T11:00:00Z  gate error-rate: canary 14 errors in 1,210" in lines


def test_what_audits_found_is_told_the_newest_first_in_the_colour_of_its_verdict() -> None:
    common = {"revision": "aaaaaaaaaa", "version": "1", "key": "k"}
    found = [
        {**common, "name": name, "verdict": verdict, "message": f"figures of {name}", "finishedAt": at}
        for name, verdict, at in (
            ("groups", "Pass", "2026-11-24T11:00:00Z"),
            ("noise", "Fail", "2026-11-24T11:02:00Z"),
            ("attack", "Error", "2026-11-24T11:01:00Z"),
        )
    ]
    drawn = drawing.draw(resource(stable=STABLE, audits=found), NOW)
    begin = drawn.index(Line("audits", Tone.TITLE))
    assert drawn[begin + 1 : begin + 4] == [
        Line("  noise, version 1: Fail; figures of noise", Tone.BAD),
        Line("  attack, version 1: Error; figures of attack", Tone.WAITING),
        Line("  groups, version 1: Pass; figures of groups", Tone.GOOD),
    ]
    assert "audits" not in draw(resource(stable=STABLE), NOW).splitlines()


#: Conditions by the status in which they tell of something wrong, and of something under way.
WRONG = {
    "True": ("Stalled", "Drift", "Crashing"),
    "False": ("Ready", "DataQuality", "Performance", "Fairness", "TrafficSynced", "ScalingActive"),
}
UNDER_WAY = {"True": ("Reconciling", "Suspended"), "False": ("RolloutComplete",)}


@pytest.mark.parametrize(("statuses", "tone"), [(WRONG, Tone.BAD), (UNDER_WAY, Tone.WAITING)])
def test_a_condition_has_the_colour_of_what_it_tells(
    statuses: dict[str, tuple[str, ...]], tone: Tone
) -> None:
    others = {"True": "False", "False": "True"}
    for status, types in statuses.items():
        for type_ in types:
            found = {"type": type_, "reason": "A", "message": "", "observedGeneration": 1}
            found["lastTransitionTime"] = "2026-11-24T12:00:00Z"
            one, other, unknown = (
                Condition.model_validate({**found, "status": each})
                for each in (status, others[status], "Unknown")
            )
            tones = [drawing.tone_of(each) for each in (one, other, unknown)]
            assert tones == [tone, Tone.PLAIN, Tone.WAITING], type_


@pytest.mark.parametrize(
    ("status", "tone"), [("False", Tone.BAD), ("Unknown", Tone.WAITING), ("True", Tone.PLAIN)]
)
def test_the_condition_of_audits_has_a_colour(status: str, tone: Tone) -> None:
    told = {
        "type": "AuditsPassed",
        "status": status,
        "reason": "AuditFailed",
        "message": "m",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T11:00:00Z",
    }
    drawn = drawing.draw(resource(stable=STABLE, conditions=[told]), NOW)
    [line] = [line for line in drawn if "AuditFailed" in line.text]
    assert line.tone == tone


def test_what_runs_on_a_gpu_is_told_and_the_cpu_goes_without_saying() -> None:
    text = draw(resource(stable=STABLE, canary={**CANARY, "device": "CUDA"}, canaryWeight=10), NOW)
    stable, canary = text.splitlines()[1:3]
    assert stable.endswith("2/2 pods ready")
    assert canary.endswith("1/1 pods ready, on CUDA")


def test_before_anything_serves_that_is_said() -> None:
    assert "  nothing serves yet" in draw(resource(), NOW).splitlines()


NEWER = {**ROLLOUT, "phase": "Soaking"}


def test_a_status_of_another_version_is_told_with_all_that_can_be_read() -> None:
    text = draw(resource(stable=STABLE, canary=CANARY, rollout=NEWER, rejected=[REJECTED]), NOW)
    assert "  StatusFromAnotherVersion: status.rollout.phase: " in text
    assert "version 1, revision aaaaaaaaaa, 2/2 pods ready" in text
    assert "cccccccccc" in text
    text = draw(resource(stable={**STABLE, "replicas": "two"}), NOW)
    assert "StatusFromAnotherVersion" in text
    assert "nothing serves yet" not in text, "that is not known"


def test_a_spec_of_another_version_hides_nothing_of_what_serves() -> None:
    newer = {**manifest(stable=STABLE, rejected=[REJECTED]), "spec": {"model": 7}}
    text = draw(read(newer), NOW)
    assert "  InvalidResource: spec.model: " in text
    assert "version 1, revision aaaaaaaaaa, 2/2 pods ready" in text
    assert "cccccccccc" in text


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (manifest(stable=STABLE), 0),
        (manifest(stable=STABLE, rollout=NEWER), 1),
        ({**manifest(stable=STABLE), "spec": {"model": 7}}, 1),
    ],
)
def test_what_cannot_be_read_is_no_success(
    found: dict[str, Any], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class There:
        def __init__(self, _: Namespace) -> None: ...

        def get(self, _: str) -> dict[str, Any]:
            return found

    monkeypatch.setattr("slipway.cli.status.Cluster", There)
    assert main(["status", "fraud"]) == code
    assert "revision aaaaaaaaaa, 2/2 pods ready" in capsys.readouterr().out
    assert main(["status", "fraud", "-o", "json"]) == 0, "as it is"


@pytest.mark.parametrize("command", ["promote", "promote-full", "abort", "pause", "resume", "retry"])
def test_a_status_of_another_version_takes_no_command(command: str) -> None:
    with pytest.raises(CommandError, match=r"status\.rollout\.phase"):
        asked(command, resource(stable=STABLE, canary=CANARY, rollout=NEWER, rejected=[REJECTED]))


@pytest.mark.parametrize(
    ("command", "annotation", "value"),
    [
        ("promote", "slipway.dev/promote", "bbbbbbbbbb.1/1"),
        ("promote-full", "slipway.dev/promote-full", "bbbbbbbbbb.1"),
        ("abort", "slipway.dev/abort", "bbbbbbbbbb.1"),
        ("pause", "slipway.dev/pause", "bbbbbbbbbb.1"),
    ],
)
def test_a_command_names_the_rollout_that_it_is_for(command: str, annotation: str, value: str) -> None:
    for user, by in (("", None), ("alice", f"{value}/alice")):
        found, _ = asked(command, resource(stable=STABLE, canary=CANARY, rollout=ROLLOUT), user)
        assert found == {annotation: value, f"{annotation}-by": by}


def test_resume_takes_the_pause_away() -> None:
    paused = {"slipway.dev/pause": "bbbbbbbbbb.1"}
    found, _ = asked("resume", resource(paused, rollout=ROLLOUT))
    assert found == {"slipway.dev/pause": None, "slipway.dev/pause-by": None}


def test_retry_names_the_newest_rejection() -> None:
    found = asked(
        "retry", resource(stable=STABLE, rejected=[{**REJECTED, "id": "old.1", "revision": "old"}, REJECTED])
    )
    assert found[0] == {"slipway.dev/retry": "cccccccccc.1", "slipway.dev/retry-by": None}


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("promote", {"stable": STABLE}, "fraud has no rollout under way; kubectl slipway status fraud"),
        ("retry", {"stable": STABLE}, "fraud has no rejected revision that could be tried again"),
        ("resume", {"rollout": ROLLOUT}, "fraud was not paused by kubectl slipway pause"),
        ("promote", {"rollout": {**ROLLOUT, "phase": "Aborting"}}, "is being aborted"),
    ],
)
def test_a_command_for_nothing_is_refused_with_words(command: str, status: dict[str, Any], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        asked(command, resource(**status))


def planned(change: dict[str, Any], live: dict[str, Any] | None) -> list[str]:
    wanted = manifest()
    wanted.pop("status")
    wanted["spec"] |= change
    return told(wanted, live, Settings("slipway.dev/server:dev"), NOW)


def test_the_plan_of_a_new_resource_names_its_objects() -> None:
    lines = planned({}, None)
    assert "  revision  the first one; it serves as soon as one of its pods is ready" in lines
    assert "  apply     Deployment fraud-REVISION" in lines


def test_the_plan_of_a_change_that_restarts_no_pod_says_so() -> None:
    live = manifest(model=MODEL, stable=STABLE)
    lines = planned({"scaling": {"minReplicas": 4}}, live)
    assert lines[-1] == "  revision  aaaaaaaaaa stays: no pod is restarted"


def test_the_plan_of_a_new_version_has_the_steps_it_will_go_through() -> None:
    lines = planned({"model": {"uri": "mlflow://fraud/2"}}, manifest(model=MODEL, stable=STABLE))
    assert "  revision  a new one, next to aaaaaaaaaa with version 1" in lines
    assert "    1. 10% of the traffic" in lines
    assert "    4. wait for evidence" in lines


def test_a_spec_that_cannot_be_is_told_by_its_field() -> None:
    lines = planned({"scaling": {"minReplicas": 0}}, None)
    assert lines[-1].startswith("  invalid: spec.scaling.minReplicas: ")


def test_a_file_without_a_model_deployment_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "service.yaml"
    path.write_text("kind: Service")
    assert main(["plan", "--offline", "-f", str(path)]) == 1
    assert "holds no ModelDeployment of slipway.dev/v1alpha1" in capsys.readouterr().err


def test_without_a_cluster_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "fraud", "--kubeconfig", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("error: no cluster to ask: ")


PAUSED = {"phase": "Paused", "message": "waits for approval: kubectl slipway promote"}


@pytest.mark.parametrize(
    ("changes", "weight", "lines"),
    [
        pytest.param(PAUSED, 10, ["  waits for approval: kubectl slipway promote"], id="approval"),
        pytest.param(
            {"phase": "Promoting", "step": 4, "weight": 100, "message": "takes over"},
            50,
            ["  ✓ wait for evidence", "  takes over", "  routers send 50%, 100% is asked for"],
            id="promoting",
        ),
        pytest.param(
            {"phase": "Aborting", "message": "holds, since the stable revision has no ready pod: why"},
            10,
            ["  holds, since the stable revision has no ready pod: why"],
            id="held",
        ),
        pytest.param(
            {"canaryReplicas": 3},
            10,
            ["  without 3 ready pods in 9 min: aborted"],
            id="too-few-pods",
        ),
    ],
)
def test_a_rollout_is_drawn_in_each_phase(changes: dict[str, Any], weight: int, lines: list[str]) -> None:
    rollout = {**ROLLOUT, **changes}
    drawn = draw(resource(stable=STABLE, canary=CANARY, canaryWeight=weight, rollout=rollout), NOW)
    assert [line for line in lines if line not in drawn.splitlines()] == []
    if rollout["phase"] in ("Promoting", "Aborting"):
        assert "without" not in drawn


def test_a_condition_that_keeps_routers_away_is_drawn() -> None:
    condition = {
        "type": "TrafficSynced",
        "status": "False",
        "reason": "RouterUnavailable",
        "message": "no router is ready",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T12:00:00Z",
    }
    lines = draw(resource(stable=STABLE, conditions=[condition]), NOW).splitlines()
    assert "  TrafficSynced    False   RouterUnavailable: no router is ready" in lines


@pytest.mark.parametrize(
    ("annotations", "step", "says"),
    [
        ({"slipway.dev/pause": "bbbbbbbbbb.1"}, 1, "fraud is paused; kubectl slipway resume fraud first"),
        ({}, 2, "fraud waits for no person: gathers evidence; kubectl slipway promote-full fraud"),
    ],
)
def test_a_promotion_that_would_do_nothing_is_refused(
    annotations: dict[str, str], step: int, says: str
) -> None:
    with pytest.raises(CommandError, match=says):
        asked("promote", resource(annotations, rollout={**ROLLOUT, "step": step}))


def test_the_namespace_is_that_of_the_context_which_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("""\
apiVersion: v1
kind: Config
current-context: one
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {}}]
contexts:
- {name: one, context: {cluster: here, user: me, namespace: first}}
- {name: two, context: {cluster: here, user: me, namespace: second}}
""")
    asking = parse(["status", "fraud", "--kubeconfig", str(path), "--context", "two"])
    assert Cluster(asking).namespace == "second"
