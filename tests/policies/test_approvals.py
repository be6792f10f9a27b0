"""Who may let a rollout go on, by the policies of the chart on a real API server."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.policies.conftest import OPERATOR, REJECTED, ROLLOUT, Installed, Model, manifest, models
from tests.policies.control_plane import MERGE, PATCH, Answer

ID = "bbbbbbbbbb.1"
WAITING = {"rollout": ROLLOUT, "rejected": [REJECTED]}
#: Commands that let a version go on, and their values without a name.
APPROVING = {"promote": f"{ID}/1", "promote-full": ID, "retry": "cccccccccc.1"}
#: Commands that hold or stop it.
HOLDING = {"pause": ID, "abort": ID}
NO_RIGHT = "takes the verb approve on modeldeployments/approval"


@pytest.fixture(scope="module")
def namespace(installed: Installed) -> str:
    return installed.namespace()


_numbers = count()


@pytest.fixture
def waiting(installed: Installed, namespace: str) -> Model:
    return fresh(installed, namespace)


def fresh(installed: Installed, namespace: str, **annotations: str) -> Model:
    """A ModelDeployment whose rollout waits, with annotations below slipway.dev/."""
    said = {f"slipway.dev/{key}": value for key, value in annotations.items()}
    return installed.model(namespace, status=WAITING, annotations=said, name=f"waits-{next(_numbers)}")


def _merge(model: Model, user: str, key: str, value: str) -> Answer:
    return model.annotate(user, key.removeprefix("slipway.dev/"), value)


def _json_patch(model: Model, user: str, key: str, value: str) -> Answer:
    annotations = {**(model.get()["metadata"].get("annotations") or {}), key: value}
    operation = {"op": "add", "path": "/metadata/annotations", "value": annotations}
    return model.installed.by(user).ask("PATCH", model.path, [operation], PATCH)


def _apply(model: Model, user: str, key: str, value: str) -> Answer:
    wanted = manifest(meta={"name": model.name, "annotations": {key: value}})
    return model.installed.by(user).apply(model.path, wanted, manager=user)


def _replace(model: Model, user: str, key: str, value: str) -> Answer:
    live = model.get()
    live["metadata"].setdefault("annotations", {})[key] = value
    return model.installed.by(user).ask("PUT", model.path, live)


def _among_other_things(model: Model, user: str, key: str, value: str) -> Answer:
    meta = {"annotations": {key: value, "team": "risk"}, "labels": {"team": "risk"}}
    return model.merge(user, {"metadata": meta})


WAYS: list[Callable[[Model, str, str, str], Answer]] = [
    _merge,
    _json_patch,
    _apply,
    _replace,
    _among_other_things,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("command", APPROVING)
def test_who_may_edit_cannot_approve_and_an_approver_can(
    waiting: Model, command: str, way: Callable[[Model, str, str, str], Answer]
) -> None:
    key = f"slipway.dev/{command}"
    for value in (APPROVING[command], f"{APPROVING[command]}/editor", f"{APPROVING[command]}/approver"):
        answer = way(waiting, "editor", key, value)
        assert (answer.code, NO_RIGHT in answer.message) == (403, True), answer
        assert waiting.annotation(command) is None
    answer = way(waiting, "approver", key, f"{APPROVING[command]}/approver")
    assert answer.code == 200, answer
    assert waiting.annotation(command) == f"{APPROVING[command]}/approver"


@pytest.mark.parametrize(
    ("way", "name"),
    [
        *((way, name) for way in WAYS for name in ("", "/second")),
        *((_merge, name) for name in ("/", "/approver/second", "/second/approver", "/APPROVER", "approver")),
    ],
)
@pytest.mark.parametrize("command", APPROVING)
def test_an_approval_bears_the_true_name(
    installed: Installed,
    namespace: str,
    command: str,
    name: str,
    way: Callable[[Model, str, str, str], Answer],
) -> None:
    model = fresh(installed, namespace)
    answer = way(model, "approver", f"slipway.dev/{command}", APPROVING[command] + name)
    assert (answer.code, "your own name" in answer.message) == (403, True), answer


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("promote", f"{ID}/0/approver"),
        ("promote", f"{ID}/2/approver"),
        ("promote", f"{ID}/approver"),
        ("promote", "dddddddddd.1/1/approver"),
        ("promote-full", "dddddddddd.1/approver"),
        ("promote-full", f"{ID}/1/approver"),
        ("retry", f"{ID}/approver"),
        ("retry", "cccccccccc/approver"),
    ],
)
def test_nothing_is_approved_ahead_of_time_or_for_another_rollout(
    waiting: Model, command: str, value: str
) -> None:
    assert waiting.annotate("approver", command, value).code == 403


@pytest.mark.parametrize("command", APPROVING)
@pytest.mark.parametrize("meta", [{"name": "born"}, {"name": None, "generateName": "born-"}])
def test_nothing_is_born_approved(
    installed: Installed, namespace: str, command: str, meta: dict[str, Any]
) -> None:
    said = {"annotations": {f"slipway.dev/{command}": f"{APPROVING[command]}/approver"}}
    for user in ("editor", "approver"):
        wanted = manifest(meta={**meta, **said})
        if wanted["metadata"]["name"] is None:
            del wanted["metadata"]["name"]
        answer = installed.by(user).ask("POST", models(namespace), wanted)
        assert answer.code == 403, answer
    applied = installed.by("approver").apply(
        f"{models(namespace)}/born", manifest(meta={"name": "born", **said})
    )
    assert applied.code == 403


def named(model: Model, user: str, command: str, value: str | None, by: str | None) -> Answer:
    """Give a command as `kubectl slipway` does: one annotation for it, one that repeats it with the name."""
    said = {f"slipway.dev/{command}": value, f"slipway.dev/{command}-by": by}
    return model.merge(user, {"metadata": {"annotations": said}})


@pytest.mark.parametrize("command", APPROVING)
def test_a_name_in_an_annotation_of_its_own_is_held_to_the_same(waiting: Model, command: str) -> None:
    value = APPROVING[command]
    assert named(waiting, "editor", command, value, f"{value}/editor").code == 403
    for by in (
        f"{value}/second",
        f"{value}/",
        f"{value}",
        "dddddddddd.1/approver",
        f"{value}x/approver",
        None,
    ):
        answer = named(waiting, "approver", command, value, by)
        assert (answer.code, "your own name" in answer.message) == (403, True), (by, answer)
    assert named(waiting, "approver", command, value, f"{value}/approver").code == 200
    for by in (f"{value}/editor", f"{value}/second", None):
        assert waiting.annotate("editor", f"{command}-by", by).code == 403, by
    assert named(waiting, "editor", command, None, None).code == 200


@pytest.mark.parametrize("command", APPROVING)
def test_a_name_that_was_written_ahead_approves_nothing(waiting: Model, command: str) -> None:
    value = APPROVING[command]
    assert waiting.annotate("editor", f"{command}-by", f"{value}/approver").code == 200
    assert waiting.annotate("editor", command, value).code == 403
    assert waiting.annotate("second", command, value).code == 403, "another's name"
    assert waiting.annotate("approver", command, value).code == 200


@pytest.mark.parametrize("command", HOLDING)
def test_who_holds_by_name_is_let_go_by_an_approver_alone(waiting: Model, command: str) -> None:
    assert named(waiting, "editor", command, ID, f"{ID}/second").code == 403
    assert named(waiting, "editor", command, ID, f"{ID}/editor").code == 200
    for value, by in ((None, None), (None, f"{ID}/editor"), (ID, None), (ID, f"{ID}/editor2")):
        assert named(waiting, "other", command, value, by).code == 403, (value, by)
    assert named(waiting, "other", command, ID, f"{ID}/other").code == 200, "it holds as before"
    assert named(waiting, "approver", command, None, None).code == 200


@pytest.mark.parametrize("command", HOLDING)
def test_everybody_may_hold_and_stop_and_only_an_approver_may_let_go(waiting: Model, command: str) -> None:
    assert waiting.annotate("editor", command, f"{ID}/second").code == 403, "another's name"
    assert waiting.annotate("editor", command, f"{ID}/editor").code == 200
    for value in (None, "", "cccccccccc.1", f"{ID}x"):
        answer = waiting.annotate("other", command, value)
        assert (answer.code, NO_RIGHT in answer.message) == (403, True), answer
    removed = waiting.installed.by("editor").ask(
        "PATCH", waiting.path, [{"op": "remove", "path": "/metadata/annotations"}], PATCH
    )
    assert removed.code == 403
    assert waiting.annotate("other", command, f"{ID}/other").code == 200, "it holds as before"
    assert waiting.annotate("approver", command, None).code == 200


def test_a_command_without_a_name_may_hold_as_it_always_did(waiting: Model) -> None:
    assert waiting.annotate("editor", "pause", ID).code == 200
    assert waiting.annotate("editor", "pause", None).code == 403


def test_an_old_pause_is_anybodys_to_change(installed: Installed, namespace: str) -> None:
    model = fresh(installed, namespace, pause="aaaaaaaaaa.1")
    assert model.annotate("editor", "pause", f"{ID}/editor").code == 200
    other = fresh(installed, namespace, pause="aaaaaaaaaa.1")
    assert other.annotate("editor", "pause", None).code == 200


def test_what_the_spec_holds_only_an_approver_lets_go(installed: Installed, namespace: str) -> None:
    model = installed.model(namespace, {"rollout": {"paused": True}}, WAITING, name="paused")
    for change in ({"paused": False}, {"paused": None}, None):
        assert model.merge("editor", {"spec": {"rollout": change}}).code == 403
    assert model.merge("approver", {"spec": {"rollout": {"paused": False}}}).code == 200
    assert model.merge("editor", {"spec": {"rollout": {"paused": True}}}).code == 200


def test_an_approval_changes_nothing_else_of_the_spec(waiting: Model) -> None:
    change = {
        "metadata": {"annotations": {"slipway.dev/promote": f"{ID}/1/approver"}},
        "spec": {"model": {"uri": "mlflow://fraud/3"}},
    }
    assert waiting.merge("approver", change).code == 403


def test_edits_that_approve_nothing_are_as_free_as_before(waiting: Model) -> None:
    assert waiting.merge("editor", {"spec": {"model": {"uri": "mlflow://fraud/2"}}}).code == 200
    assert waiting.annotate("editor", "promote", None).code == 200
    scale = {"spec": {"replicas": 3}}
    assert waiting.installed.by("editor").ask("PATCH", f"{waiting.path}/scale", scale, MERGE).code == 200
    assert waiting.installed.by("editor").ask("DELETE", waiting.path).code == 200


def test_a_given_approval_may_stay_be_applied_again_and_be_taken_away(waiting: Model) -> None:
    said = f"{ID}/1/approver"
    assert waiting.annotate("approver", "promote", said).code == 200
    assert _apply(waiting, "editor", "slipway.dev/promote", said).code == 200
    assert waiting.merge("editor", {"spec": {"scaling": {"minReplicas": 2}}}).code == 200
    assert waiting.annotate("editor", "promote", None).code == 200
    assert waiting.annotate("editor", "promote", said).code == 403


def test_the_status_subresource_changes_no_annotation(waiting: Model) -> None:
    said = {"metadata": {"annotations": {"slipway.dev/promote": f"{ID}/1"}}, "status": {"replicas": 1}}
    answer = waiting.installed.by(OPERATOR).ask("PATCH", f"{waiting.path}/status", said, MERGE)
    assert answer.code == 200, answer
    assert waiting.annotation("promote") is None


# Four eyes


@pytest.fixture(scope="module")
def watched(installed: Installed) -> str:
    """A namespace in which nobody approves what they proposed."""
    return installed.namespace("four-eyes")


def proposed(installed: Installed, namespace: str, by: str, name: str, **status: Any) -> Model:
    found = Model(installed, namespace, name)
    meta = {"name": name, "annotations": {"slipway.dev/proposed-by": by}}
    answer = installed.by(by).ask("POST", models(namespace), manifest(meta=meta))
    assert answer.code == 201, answer
    found.report({**WAITING, **status})
    return found


def change(number: int, by: str | None) -> dict[str, Any]:
    said = {} if by is None else {"metadata": {"annotations": {"slipway.dev/proposed-by": by}}}
    return {**said, "spec": {"model": {"uri": f"mlflow://fraud/{number}"}}}


@pytest.mark.parametrize("command", APPROVING)
def test_who_proposed_cannot_approve_and_another_approver_can(
    installed: Installed, watched: str, command: str
) -> None:
    model = proposed(installed, watched, "approver", f"eyes-{command}")
    answer = model.annotate("approver", command, f"{APPROVING[command]}/approver")
    assert (answer.code, "approver proposed this" in answer.message) == (403, True), answer
    assert model.annotate("second", command, f"{APPROVING[command]}/second").code == 200


@pytest.mark.parametrize("by", [None, "", "second", "approver,second", "second,approver", "approverx"])
def test_a_proposal_bears_the_true_name(installed: Installed, watched: str, by: str | None) -> None:
    said = {"annotations": {} if by is None else {"slipway.dev/proposed-by": by}}
    for name in ({"name": "forged"}, {"name": "forged", "generateName": "forged-"}):
        answer = installed.by("approver").ask("POST", models(watched), manifest(meta={**name, **said}))
        assert (answer.code, "slipway.dev/proposed-by" in answer.message) == (403, True), answer
    model = proposed(installed, watched, "approver", f"forged-{next(_numbers)}")
    if by not in (None, "approver,second"):
        assert model.merge("approver", change(2, by)).code == 403, by


def test_nobody_gets_rid_of_having_proposed_what_is_open(installed: Installed, watched: str) -> None:
    model = proposed(installed, watched, "approver", "rid")
    for value in (None, "", "second", "other"):
        assert model.annotate("approver", "proposed-by", value).code == 403
    removed = [{"op": "remove", "path": "/metadata/annotations"}]
    assert model.installed.by("approver").ask("PATCH", model.path, removed, PATCH).code == 403
    # Nor by an accomplice who changes a word.
    assert model.merge("second", change(2, "second")).code == 403
    assert model.merge("second", change(2, "approver,second")).code == 200
    for user in ("approver", "second"):
        assert model.annotate(user, "promote", f"{ID}/1/{user}").code == 403


def test_once_it_serves_the_next_proposal_begins_with_its_own_name(
    installed: Installed, watched: str
) -> None:
    model = proposed(installed, watched, "approver", "settled")
    assert model.merge("second", change(2, "second")).code == 403, "the first one is open"
    generation = model.get()["metadata"]["generation"]
    model.report({"rollout": None, "settledGeneration": generation})
    assert model.merge("second", change(2, "second")).code == 200
    model.report({"rollout": ROLLOUT})
    assert model.annotate("approver", "promote", f"{ID}/1/approver").code == 200


def test_a_proposer_that_nobody_recorded_is_not_taken_for_another(installed: Installed) -> None:
    plain = installed.namespace()
    model = installed.model(plain, status=WAITING)
    labels = {"metadata": {"labels": {"slipway.dev/four-eyes": "true"}}}
    installed.api.must("PATCH", f"/api/v1/namespaces/{plain}", labels, MERGE)
    answer = model.annotate("approver", "promote", f"{ID}/1/approver")
    assert (answer.code, "nobody is recorded" in answer.message) == (403, True), answer
    assert model.annotate("editor", "proposed-by", "approver").code == 403
    assert model.annotate("editor", "proposed-by", "editor").code == 200
    assert model.annotate("approver", "promote", f"{ID}/1/approver").code == 200


def test_whoever_changes_and_approves_at_once_does_neither(installed: Installed, watched: str) -> None:
    model = proposed(installed, watched, "editor", "at-once")
    both = change(2, "editor,approver")
    both["metadata"]["annotations"]["slipway.dev/promote"] = f"{ID}/1/approver"
    assert model.merge("approver", both).code == 403


def test_a_name_within_another_name_is_another_person(installed: Installed, watched: str) -> None:
    model = proposed(installed, watched, "second", "within")
    assert model.merge("editor", change(2, "second,editor")).code == 200
    assert model.annotate("approver", "promote", f"{ID}/1/approver").code == 200


def test_a_namespace_that_says_false_asks_for_nothing(installed: Installed) -> None:
    namespace = installed.namespace()
    labels = {"metadata": {"labels": {"slipway.dev/four-eyes": "false", "slipway.dev/protected": "false"}}}
    installed.api.must("PATCH", f"/api/v1/namespaces/{namespace}", labels, MERGE)
    model = installed.model(namespace, status=WAITING)
    assert model.annotate("approver", "promote", f"{ID}/1/approver").code == 200
    assert model.installed.by("editor").ask("DELETE", model.path).code == 200
