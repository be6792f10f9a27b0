"""In a namespace that is protected nobody weakens a rollout or access by the way, on a real API server."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from tests.policies.conftest import Installed, manifest, models
from tests.policies.control_plane import Answer, Manifest

CANARY: Manifest = {
    "strategy": "Canary",
    "steps": [{"setWeight": 10}, {"pause": {"untilApproved": True}}, {"analysis": {}}],
    "analysis": {
        "gates": [
            {"name": "errors", "type": "ErrorRate"},
            {"name": "slow", "type": "SlowRequests", "thresholdMilliseconds": 100},
        ]
    },
}
ACCESS: Manifest = {
    "apiKeys": {"secretRef": {"name": "keys"}},
    "allow": [
        {"callers": ["key:shop"], "actions": ["Infer"]},
        {"callers": ["key:batch"], "actions": ["Infer", "Feedback"]},
    ],
    "limits": {"perCaller": {"requestsPerSecond": 10}},
}
SPEC: Manifest = {"rollout": CANARY, "access": ACCESS}
_numbers = count()

WEAKER: dict[str, Manifest] = {
    "another strategy": {"rollout": {"strategy": "RollingUpdate", "steps": None}},
    "ends first": {"rollout": {"strategy": "Recreate", "steps": None}},
    "no rollout": {"rollout": None},
    "no steps": {"rollout": {"steps": None}},
    "no pause": {"rollout": {"steps": [{"setWeight": 10}, {"analysis": {}}]}},
    "more weight": {"rollout": {"steps": [{"setWeight": 90}, *CANARY["steps"][1:]]}},
    "a step before": {"rollout": {"steps": [{"setWeight": 99}, *CANARY["steps"]]}},
    "no analysis": {"rollout": {"analysis": None}},
    "a gate less": {"rollout": {"analysis": {"gates": CANARY["analysis"]["gates"][:1]}}},
    "a milder gate": {
        "rollout": {
            "analysis": {
                "gates": [
                    CANARY["analysis"]["gates"][0],
                    {**CANARY["analysis"]["gates"][1], "thresholdMilliseconds": 1000},
                ]
            }
        }
    },
    "a gate that only reports": {
        "rollout": {
            "analysis": {
                "gates": [
                    {**CANARY["analysis"]["gates"][0], "dryRun": True},
                    CANARY["analysis"]["gates"][1],
                ]
            }
        }
    },
    "promoted without a verdict": {"rollout": {"analysis": {"onInconclusive": "Promote"}}},
    "other evidence": {"rollout": {"analysis": {"prometheus": {"address": "http://mine:9090"}}}},
    "shorter": {"rollout": {"analysis": {"maxDurationSeconds": 30}}},
    "back to any": {"rollout": {"rollbackWindowRevisions": 50}},
    "no access": {"access": None},
    "no rules": {"access": {"allow": None}},
    "an empty list of rules": {"access": {"allow": []}},
    "a rule more": {
        "access": {"allow": [*ACCESS["allow"], {"callers": ["anonymous"], "actions": ["Infer"]}]}
    },
    "a wider rule": {"access": {"allow": [{"callers": ["*"], "actions": ["Infer"]}]}},
    "other keys": {"access": {"apiKeys": {"secretRef": {"name": "mine"}}}},
    "another kind of callers": {"access": {"serviceAccounts": {}}},
    "no limits": {"access": {"limits": None}},
    "more": {"access": {"limits": {"perCaller": {"requestsPerSecond": 1000}}}},
    "a server of one's own": {"runtime": {"image": "mine/server"}},
    "a server with other words": {"runtime": {"env": [{"name": "PYTHONPATH", "value": "/model"}]}},
}
FREE: dict[str, Manifest] = {
    "another model": {"model": {"uri": "mlflow://fraud/2"}},
    "more pods": {"scaling": {"minReplicas": 3}},
    "more resources": {"runtime": {"resources": {"requests": {"cpu": "1"}}}},
    "a gate more": {
        "rollout": {
            "analysis": {"gates": [{"name": "odd", "type": "Violations"}, *CANARY["analysis"]["gates"]]}
        }
    },
    "aborted without a verdict": {"rollout": {"analysis": {"onInconclusive": "Abort"}}},
    "fewer go back": {"rollout": {"rollbackWindowRevisions": 0}},
    "held": {"rollout": {"paused": True}},
    "a rule less": {"access": {"allow": ACCESS["allow"][:1]}},
}


@pytest.fixture(scope="module")
def namespace(installed: Installed) -> str:
    return installed.namespace("protected")


def changed(installed: Installed, namespace: str, user: str, spec: Manifest, change: Any) -> Answer:
    model = installed.model(namespace, spec, name=f"p-{next(_numbers)}")
    return model.merge(user, {"spec": change})


@pytest.mark.parametrize("case", WEAKER)
def test_weakening_takes_bypass(installed: Installed, namespace: str, case: str) -> None:
    # Who may have all that a spec borrows, so that nothing else refuses it.
    answer = changed(installed, namespace, "reader", SPEC, WEAKER[case])
    assert (answer.code, "takes the verb bypass" in answer.message.replace("take the", "takes the")) == (
        403,
        True,
    ), answer
    approver = changed(installed, namespace, "approver", SPEC, WEAKER[case])
    assert approver.code == 403, "approving is another right"


@pytest.mark.parametrize("case", WEAKER)
def test_who_has_bypass_may_weaken(installed: Installed, namespace: str, case: str) -> None:
    answer = changed(installed, namespace, "owner", SPEC, WEAKER[case])
    assert answer.code == 200, answer


@pytest.mark.parametrize("case", FREE)
def test_what_weakens_nothing_is_as_free_as_before(installed: Installed, namespace: str, case: str) -> None:
    answer = changed(installed, namespace, "editor", SPEC, FREE[case])
    assert answer.code == 200, answer


@pytest.mark.parametrize("strategy", ["Canary", "BlueGreen", "Shadow"])
@pytest.mark.parametrize("before", [None, {"strategy": "RollingUpdate"}, {"strategy": "Recreate"}])
def test_from_none_to_some_is_free(
    installed: Installed, namespace: str, before: Manifest | None, strategy: str
) -> None:
    spec = {} if before is None else {"rollout": before}
    answer = changed(installed, namespace, "editor", spec, {"rollout": {"strategy": strategy}})
    assert answer.code == 200, answer


def test_access_where_there_was_none_is_free_to_whoever_may_read_the_keys(
    installed: Installed, namespace: str
) -> None:
    assert changed(installed, namespace, "reader", {}, {"access": ACCESS}).code == 200


def test_the_same_is_refused_however_it_is_sent(installed: Installed, namespace: str) -> None:
    model = installed.model(namespace, SPEC, name=f"p-{next(_numbers)}")
    weaker = manifest({"access": ACCESS}, {"name": model.name})
    live = model.get()
    del live["spec"]["rollout"]
    assert installed.by("editor").ask("PUT", model.path, live).code == 403
    forced = installed.by("editor").apply(
        model.path, {**weaker, "spec": {**weaker["spec"], "rollout": {"strategy": "Recreate"}}}
    )
    assert forced.code in (403, 422), forced


def test_a_deletion_takes_bypass_and_the_cluster_may_clean_up(installed: Installed, namespace: str) -> None:
    model = installed.model(namespace, SPEC, name=f"p-{next(_numbers)}")
    for ask in (
        lambda user: installed.by(user).ask("DELETE", model.path, dryRun="All"),
        lambda user: installed.by(user).ask("DELETE", models(namespace), dryRun="All"),
    ):
        assert ask("editor").code == 403
        assert ask("owner").code == 200
    controller = "system:serviceaccount:kube-system:namespace-controller"
    assert installed.by(controller).ask("DELETE", model.path).code == 200


def test_elsewhere_nothing_of_this_holds(installed: Installed) -> None:
    plain = installed.namespace()
    for case in ("another strategy", "no access", "a gate less"):
        assert changed(installed, plain, "editor", SPEC, WEAKER[case]).code == 200
