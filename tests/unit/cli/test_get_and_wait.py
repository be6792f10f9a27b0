"""``slipway get`` and ``slipway status --wait``."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from slipway.cli import status
from slipway.cli.ages import age, short
from slipway.cli.get import table
from slipway.cli.terminal import Tone
from slipway.cli.waiting import Outcome, Progress, progress
from slipway.names import PLURAL
from tests.unit.cli.conftest import Run
from tests.unit.cli.serving import PLACE, RESOURCE, Served
from tests.unit.world import NAME, NAMESPACE, World

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def condition(type_: str, value: str = "True", reason: str = "Why", generation: int = 1) -> dict[str, Any]:
    words = {"reason": reason, "message": "so it is", "observedGeneration": generation}
    return {"type": type_, "status": value, **words}


def listed(name: str, *conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "payments",
        "creationTimestamp": "2026-11-24T09:00:00Z",
        "generation": 1,
    }
    spec = {"model": {"uri": "mlflow://fraud@champion"}}
    state = {"observedGeneration": 1, "conditions": list(conditions), **status}
    return {"metadata": meta, "spec": spec, "status": state}


STABLE = {"version": "7", "revision": "aaaaaaaaaa", "digest": "sha256:" + "1" * 64}
SERVING = listed(
    "fraud",
    condition("Ready", reason="Serving"),
    stable=STABLE,
    replicas=2,
    readyReplicas=2,
    url="http://fraud",
)
CANARY = listed(
    "credit",
    condition("Ready"),
    condition("Drift", "False"),
    stable=STABLE,
    canary={"version": "8"},
    canaryWeight=10,
    rollout={"phase": "Paused"},
    replicas=3,
    readyReplicas=1,
)


def test_a_table_has_the_version_the_canary_and_the_pods() -> None:
    lines = table([SERVING, CANARY], NOW, wide=False, namespaces=False, headers=True)
    assert [line.text for line in lines] == [
        "NAME     READY   VERSION   CANARY   WEIGHT   ROLLOUT   PODS   DRIFT   AGE",
        "fraud    True    7         -        -        -         2/2    -       3h",
        "credit   True    7         8        10%      Paused    1/3    False   3h",
    ]
    assert [line.tone for line in lines] == [Tone.TITLE, Tone.PLAIN, Tone.WAITING]


def test_a_wide_table_of_all_namespaces_has_more_columns() -> None:
    head, row = table([SERVING], NOW, wide=True, namespaces=True, headers=True)
    assert dict(zip(head.text.split(), row.text.split(), strict=True)) == {
        "NAMESPACE": "payments",
        "NAME": "fraud",
        "READY": "True",
        "VERSION": "7",
        "CANARY": "-",
        "WEIGHT": "-",
        "ROLLOUT": "-",
        "PODS": "2/2",
        "DRIFT": "-",
        "AGE": "3h",
        "REASON": "Serving",
        "REVISION": "aaaaaaaaaa",
        "DIGEST": "sha256:111111111111",
        "MODEL": "mlflow://fraud@champion",
        "URL": "http://fraud",
    }


@pytest.mark.parametrize(
    ("one", "tone"),
    [
        (listed("a"), Tone.BAD),
        (listed("a", condition("Ready"), condition("Stalled")), Tone.BAD),
        (listed("a", condition("Ready"), condition("Drift")), Tone.BAD),
        (listed("a", condition("Ready"), condition("Performance", "False")), Tone.BAD),
        (listed("a", condition("Ready"), condition("Fairness", "False")), Tone.BAD),
        (listed("a", condition("Ready"), condition("DataQuality", "False")), Tone.BAD),
        (listed("a", condition("Ready"), condition("Suspended")), Tone.WAITING),
        (listed("a", condition("Ready"), condition("Drift", "Unknown")), Tone.PLAIN),
    ],
)
def test_what_is_wrong_has_the_colour_of_it(one: dict[str, Any], tone: Tone) -> None:
    [line] = table([one], NOW, wide=False, namespaces=False, headers=False)
    assert line.tone is tone


def test_a_resource_without_status_or_spec_is_listed() -> None:
    [line] = table([{"metadata": {"name": "new"}}], NOW, wide=True, namespaces=False, headers=False)
    assert line.text.split() == ["new", *"----", "-", "0/0", *"-------"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
    ],
)
def test_an_age_has_two_of_its_unit_at_least(seconds: int, told: str) -> None:
    assert short(timedelta(seconds=seconds)) == told
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == told


def test_an_age_of_no_time_is_a_dash() -> None:
    assert age("", NOW) == age("2026-11-24T09:00:00", NOW) == "-"


@pytest.mark.parametrize("words", [(), ("-A",), ("-l", "team=risk"), (NAME,)])
def test_get_lists_what_is_there(
    world: World, cluster: Served, run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    world.kube.find(*PLACE)["metadata"].setdefault("labels", {})["team"] = "risk"
    assert run("get", *words) == 0
    head, row = capsys.readouterr().out.splitlines()
    found = dict(zip(head.split(), row.split(), strict=True))
    assert (found["NAME"], found["VERSION"], found["CANARY"], found["WEIGHT"]) == (NAME, "1", "2", "20%")
    assert ("NAMESPACE" in found) == (words == ("-A",))
    collection = f"/apis/slipway.dev/v1alpha1/{PLURAL}"
    asked = {("-A",): collection, (NAME,): RESOURCE}.get(words, RESOURCE.rpartition("/")[0])
    assert cluster.asked == [("GET", asked)]


def test_get_finds_none_of_another_team(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("get", "-l", "team=other") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"no ModelDeployments found in namespace {NAMESPACE}\n")
    assert run("get", "-A", "-l", "team=other") == 0
    assert capsys.readouterr().err == "no ModelDeployments found in any namespace\n"
    assert run("get", "-l", "team=other", "-o", "name") == 0
    assert capsys.readouterr().out == ""
    assert run("get", "-l", "team=other", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["items"] == []


def test_get_prints_no_header_where_none_is_wanted(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("get", "--no-headers") == 0
    assert capsys.readouterr().out.split()[0] == NAME


def test_get_has_kubectls_formats(world: World, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    live = world.kube.find(*PLACE)
    assert run("get", NAME, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == live
    assert run("get", NAME, "-o", "yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == live
    for words in ((NAME,), ()):
        assert run("get", *words, "-o", "name") == 0
        assert capsys.readouterr().out == f"modeldeployment.slipway.dev/{NAME}\n"
    assert run("get", "-o", "json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["kind"], whole["apiVersion"], whole["items"]) == ("List", "v1", [live])


def test_get_takes_names_or_a_selector(cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("-A",), ("-l", "a=b")):
        assert run("get", NAME, *words) == 1
        assert "give either names, or --selector and --all-namespaces" in capsys.readouterr().err
    assert cluster.asked == []


def test_a_long_list_is_read_page_by_page(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = iter(
        [{"metadata": {"continue": "more"}, "items": [SERVING]}, {"metadata": {}, "items": [CANARY]}]
    )
    cluster.answer = lambda *_: (200, "application/json", json.dumps(next(pages)).encode())
    assert run("get", "--no-headers") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["fraud", "credit"]
    assert len(cluster.asked) == 2


def state(*conditions: dict[str, Any], generation: int = 1, seen: int = 1) -> dict[str, Any]:
    found = listed("fraud", *conditions)
    found["metadata"]["generation"] = generation
    found["status"]["observedGeneration"] = seen
    return found


DONE = (condition("Ready"), condition("RolloutComplete", reason="RolledOut"))
OPEN = (condition("Ready"), condition("RolloutComplete", "False", "RollingOut"))


@pytest.mark.parametrize(
    ("found", "outcome", "message"),
    [
        (state(*DONE), Outcome.DONE, "RolledOut: so it is"),
        (state(*DONE, generation=2), Outcome.OPEN, "the operator has not seen this change yet"),
        (state(*DONE, generation=2, seen=2), Outcome.OPEN, "condition Ready is of an earlier generation"),
        (state(*OPEN), Outcome.OPEN, "RollingOut: so it is"),
        (state(*OPEN, condition("Suspended")), Outcome.OPEN, "RollingOut: so it is"),
        (
            state(condition("Ready", "False", "Starting"), condition("RolloutComplete")),
            Outcome.OPEN,
            "Starting: so it is",
        ),
        (state(condition("Ready")), Outcome.OPEN, "nothing is known of a rollout yet"),
        (state(condition("RolloutComplete")), Outcome.OPEN, "nothing is known of a rollout yet"),
        (state(), Outcome.OPEN, "nothing is known of a rollout yet"),
        (
            state(condition("Ready"), condition("RolloutComplete", "False", "Rejected")),
            Outcome.FAILED,
            "Rejected: so it is",
        ),
        (
            state(*OPEN, condition("Stalled", reason="ModelNotFound")),
            Outcome.FAILED,
            "ModelNotFound: so it is",
        ),
        (state(*DONE, condition("Stalled", "False")), Outcome.DONE, "RolledOut: so it is"),
        (
            {"metadata": {"name": "new", "generation": 1}},
            Outcome.OPEN,
            "the operator has not seen this change yet",
        ),
    ],
)
def test_a_rollout_is_done_failed_or_open(found: dict[str, Any], outcome: Outcome, message: str) -> None:
    assert progress(found) == Progress(outcome, message)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "INTERVAL", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("conditions", "code", "says"), [(DONE, 0, "RolledOut"), (None, 1, "Rejected")])
async def test_waiting_ends_with_the_rollout(
    world: World,
    cluster: Served,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    conditions: tuple[dict[str, Any], ...] | None,
    code: int,
    says: str,
) -> None:
    generation = world.kube.find(*PLACE)["metadata"]["generation"]
    end = conditions or (condition("Ready"), condition("RolloutComplete", "False", "Rejected"))
    moment = {"lastTransitionTime": "2026-11-24T12:00:00Z", "observedGeneration": generation}

    def change(looks: int) -> None:
        if looks == 3:
            told = {"conditions": [one | moment for one in end]}
            world.kube.edit(PLACE, lambda live: live["status"].update(told), "slipway-status")

    cluster.after_get = change
    assert run("status", NAME, "--wait", "--timeout", "60s") == code
    said = capsys.readouterr()
    assert said.out.startswith(f"{NAMESPACE}/{NAME}\n"), "how it stands at the end"
    first, *_, last = said.err.splitlines()
    assert first.startswith("waiting: Suspended: ")
    assert last == f"{NAMESPACE}/{NAME}: {says}: so it is"
    assert said.err.count("waiting:") == 1, "each reason once"
    assert cluster.asked.count(("GET", RESOURCE)) == 4


@pytest.mark.usefixtures("quick")
def test_waiting_gives_up_after_its_time(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", NAME, "--wait", "--timeout", "0s") == 3
    assert cluster.asked.count(("GET", RESOURCE)) == 1, "it has looked once"
    assert capsys.readouterr().err.endswith(f"{NAMESPACE}/{NAME}: not done after 0 s\n")
    assert run("status", NAME, "--wait", "--timeout", "2s") == 3
    assert cluster.asked.count(("GET", RESOURCE)) > 3


@pytest.mark.usefixtures("quick")
def test_watching_has_an_end_too(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", NAME, "--watch", "--timeout", "50ms") == 3
    assert capsys.readouterr().out.count(f"{NAMESPACE}/{NAME}\n") == 1, "nothing changed"


@pytest.mark.usefixtures("quick")
def test_an_api_server_that_fails_for_a_while_is_waited_for(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = iter([1, 2, 3])
    body = json.dumps({"kind": "Status", "message": "etcd has no leader"}).encode()
    cluster.answer = lambda *_: (500, "application/json", body) if next(failures, None) else None
    assert run("status", NAME, "--wait", "--timeout", "200ms") == 3
    said = capsys.readouterr().err
    assert said.count(f"trying again: ModelDeployment {NAMESPACE}/{NAME}: etcd has no leader") == 1
    assert "waiting: Suspended" in said


def test_a_time_limit_needs_something_to_limit(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", NAME, "--timeout", "5s") == 1
    assert "--timeout goes with --wait or --watch" in capsys.readouterr().err
    assert cluster.asked == []
