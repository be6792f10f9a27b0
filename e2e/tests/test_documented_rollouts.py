"""Every strategy, gate and command of docs/rollouts.md, once on the cluster, under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from onnx import ModelProto, parser

from e2e import credit, services
from e2e.cluster.settings import Settings
from e2e.load import loading
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import PROMETHEUS_ADDRESS, Installation
from e2e.tests.registry import Registry
from e2e.tests.rollout import LOOKS, Rollout, again, tensor

ERRORS = {"name": "errors", "type": "ErrorRate"}
SLOW = {"name": "slow", "type": "SlowRequests", "thresholdMilliseconds": 10_000}
SAME = {"name": "same-answers", "type": "ShadowAgreement", "minAgreement": "95%"}


def test_blue_green_copies_requests_and_a_copy_that_is_answered_otherwise_rejects(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"blue-{token}"
    # A row is judged by its largest value, which a change of sign moves.
    made = (again(2, "1"), again(2, "2"), again(-3, "3"))
    one, same, other = (mlflow.register(model, each) for each in made)
    blue = Rollout(kube, namespace, "blue")
    blue.apply(
        f"mlflow://{model}/{one}",
        {"strategy": "BlueGreen", "analysis": {**LOOKS, "gates": [ERRORS, SLOW, SAME]}},
    )
    wait_until_ready(kube, "blue", namespace)
    blue.wait_until_synced()
    plan = blue.load({one: 2, same: 2, other: -3})
    with loading(kube, namespace, installed.server_image, plan) as load:
        load.wait_for(200, 60)
        with shares_seen(blue) as seen:
            blue.change(f"mlflow://{model}/{same}")
            blue.wait_for_stable(same, 240)
        # Copies of all requests, and then all of them at once.
        assert (0, 100) in seen
        assert {weight for weight, _ in seen} <= {0, 100}

        blue.change(f"mlflow://{model}/{other}")
        assert "same-answers" in blue.wait_for_rejection()
        assert blue.stable() == same

        # What was rejected is tried again when somebody says so, and found bad again.
        blue.say("retry")
        blue.wait_for_canary(other)
        blue.wait_for_rejection()
        load.wait_for(load.so_far()["sent"] + 200, 60)
        account = load.stop()
    assert account["failed"] == 0, account["failures"]
    assert set(account["answers"]) == {one, same}


def test_a_shadow_is_paused_resumed_and_promoted_and_a_client_stays_with_its_revision(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"shadow-{token}"
    one, two, three = (mlflow.register(model, again(factor, "")) for factor in (2, 3, 5))
    shadow, affinity = Rollout(kube, namespace, "shadow"), {"sessionAffinity": {"header": "x-user-id"}}
    analysis = {**LOOKS, "gates": [ERRORS]}
    shadow.apply(f"mlflow://{model}/{one}", {"strategy": "Shadow", "analysis": analysis})
    wait_until_ready(kube, "shadow", namespace)
    shadow.wait_until_synced()
    plan = shadow.load({one: 2, two: 3, three: 5})
    with loading(kube, namespace, installed.server_image, plan) as load:
        load.wait_for(200, 60)
        shadow.change(f"mlflow://{model}/{two}")
        shadow.wait_for_canary(two)
        shadow.say("pause")
        shadow.wait_for_phase("Paused")
        assert "resume" in shadow.status()["rollout"]["message"]
        shadow.say("resume")
        # Evidence comes first, and then somebody.
        wait_for(lambda: shadow.phase() == "Paused" and told_to_promote(shadow), 240, "it does not wait")
        assert set(load.so_far()["answers"]) == {one}
        shadow.say("promote")
        shadow.wait_for_stable(two)

        steps: list[Any] = [
            {"setCanaryScale": {"replicas": 1}},
            {"setMirror": {"percent": 50}},
            {"pause": {"seconds": 1}},
            {"setWeight": 50},
            {"pause": {"untilApproved": True}},
            {"setWeight": 60},
            {"pause": {"untilApproved": True}},
        ]
        shadow.apply(f"mlflow://{model}/{three}", {"strategy": "Canary", "steps": steps}, traffic=affinity)
        shadow.wait_for_weight(50)
        by_user = answers_by_user(shadow, 24)
        assert all(len(versions) == 1 for versions in by_user.values()), by_user
        assert {two, three} == set().union(*by_user.values())
        shadow.say("promote-full")
        shadow.wait_for_stable(three)
        account = load.stop()
    assert account["failed"] == 0, account["failures"]


def test_recreate_ends_the_old_revision_before_the_new_one_begins(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"recreate-{token}"
    one, two = (mlflow.register(model, again(factor, "")) for factor in (2, 3))
    there = Rollout(kube, namespace, "recreated")
    there.apply(f"mlflow://{model}/{one}", {"strategy": "Recreate"})
    wait_until_ready(kube, "recreated", namespace)
    there.change(f"mlflow://{model}/{two}")
    at_once: list[set[str]] = []

    def taken_over() -> bool:
        pods = kube.items("pods", namespace, "slipway.dev/modeldeployment=recreated")
        labels = (pod["metadata"]["labels"] for pod in pods)
        at_once.append({found["slipway.dev/revision"] for found in labels if "slipway.dev/revision" in found})
        return there.stable() == two

    wait_for(taken_over, 120, "the new revision does not take over")
    assert max(map(len, at_once)) == 1, at_once
    wait_until_ready(kube, "recreated", namespace)


def test_a_prometheus_gives_the_evidence_and_a_canary_that_refuses_requests_is_rejected(
    installed: Installation, settings: Settings, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, model = installed.kube, restricted_namespace, f"contract-{token}"
    services.start(["prometheus", "alertmanager"], settings)
    one, same, wider = (mlflow.register(model, each) for each in (again(2, "1"), again(2, "2"), wide()))
    contract = Rollout(kube, namespace, "contract")
    steps = [{"setWeight": 50}, {"analysis": {}}]
    gates = [ERRORS, {"name": "violations", "type": "Violations"}]
    analysis = {**LOOKS, "gates": gates, "prometheus": {"address": PROMETHEUS_ADDRESS}}
    contract.apply(f"mlflow://{model}/{one}", {"strategy": "Canary", "steps": steps, "analysis": analysis})
    wait_until_ready(kube, "contract", namespace)
    contract.wait_until_synced()
    with loading(kube, namespace, installed.server_image, contract.load({one: 2, same: 2})) as load:
        load.wait_for(200, 60)
        contract.change(f"mlflow://{model}/{same}")
        contract.wait_for_stable(same, 300)
        assert load.so_far()["failed"] == 0, load.stop()["failures"]
        contract.change(f"mlflow://{model}/{wider}")
        assert "violations" in contract.wait_for_rejection()
        assert contract.stable() == same
        account = load.stop()
    assert {"400" in failure["error"] for failure in account["failures"]} == {True}


def test_a_canary_whose_answers_shift_is_rejected_where_the_gate_acts(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, name = installed.kube, restricted_namespace, f"shift-{token}"
    one = credit.register(name, mlflow.url)
    lenient = credit.register(name, mlflow.url, leniency=3.0)
    shifting = Rollout(kube, namespace, credit.NAME)
    gate = {"name": "answers", "type": "PredictionShift", "dryRun": False}
    steps = [{"setWeight": 50}, {"analysis": {}}]
    shifting.apply(
        f"mlflow://{name}/{one}",
        {"strategy": "Canary", "steps": steps, "analysis": {**LOOKS, "gates": [gate]}},
    )
    wait_until_ready(kube, credit.NAME, namespace)
    shifting.wait_until_synced()
    with asking(shifting) as client:
        shifting.change(f"mlflow://{name}/{lenient}")
        wait_for(lambda: shifting.status().get("canaryWeight") == 50, 120, "the canary gets no traffic")
        seed = 1

        def rejected() -> bool:
            nonlocal seed
            seed += 1
            credit.ask_all(client, credit.applicants(1000, seed))
            return bool(shifting.status().get("rejected"))

        wait_for(rejected, 120, lambda: f"it is not rejected: {shifting.status().get('rollout')}")
    assert "answers" in shifting.wait_for_rejection()
    assert shifting.stable() == one


def told_to_promote(rollout: Rollout) -> bool:
    return "promote" in rollout.status().get("rollout", {}).get("message", "")


@contextmanager
def asking(rollout: Rollout) -> Iterator[httpx.Client]:
    """A client of a ModelDeployment, by one of the pods behind its Service."""
    with (
        rollout.kube.port_forward(f"service/{rollout.name}", rollout.namespace, 80) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


def answers_by_user(rollout: Rollout, users: int) -> dict[str, set[str]]:
    """Versions that answered each of some users, who came several times."""
    found: dict[str, set[str]] = {}
    path = f"/v2/models/{rollout.name}/infer"
    with asking(rollout) as client:
        for number in range(users * 4):
            user = f"user-{number % users}"
            body = {"inputs": [tensor("x", [1.0, 2.0, 3.0])]}
            answer = client.post(path, json=body, headers={"x-user-id": user}).raise_for_status()
            found.setdefault(user, set()).add(answer.json()["model_version"])
    return found


@contextmanager
def shares_seen(rollout: Rollout) -> Iterator[set[tuple[int, int]]]:
    """Shares of requests and of copies that a rollout has meanwhile, both in percent."""
    seen: set[tuple[int, int]] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            status = rollout.status()
            if "rollout" in status:
                going = status["rollout"]
                seen.add((going.get("weight", 0), going.get("mirrorPercent", 0)))
            time.sleep(0.5)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def wide() -> ModelProto:
    """A model for rows of four numbers, which refuses those of three."""
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4] x) => (float[N,4] y) { y = Identity(x) }"""
    )
