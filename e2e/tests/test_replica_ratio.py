"""A canary without routers: the share of fresh connections is that of the pods, and nothing is lost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from e2e.ledger import LONG, note
from e2e.load import Load, loading
from e2e.tests.conditions import condition, wait_for, wait_until_ready
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry
from e2e.tests.test_figures_rolling import FACTORS, change, plan, times
from e2e.tests.test_figures_rollouts import (
    MOST_Z,
    NAME,
    command,
    promote,
    resource,
    stable,
    status,
    wait_for_step,
)

#: One canary pod beside two stable ones is as near to 10% as it gets.
SHARE = 33
SAMPLE = 3000 if LONG else 1200


@pytest.fixture(scope="module")
def versions(mlflow: Registry, token: str) -> list[str]:
    """URIs of three versions that multiply by different factors."""
    model = f"ratio-{token}"
    return [f"mlflow://{model}/{mlflow.register(model, times(factor))}" for factor in FACTORS]


@pytest.mark.timed
def test_fresh_connections_are_split_by_pods_and_none_fails_through_promotion_and_abort(
    installed: Installation, restricted_namespace: str, versions: list[str]
) -> None:
    kube, namespace = installed.kube, restricted_namespace
    one, two, three = (uri.rsplit("/", 1)[1] for uri in versions)
    kube.apply(by_replicas(namespace, versions[0]))
    wait_until_ready(kube, NAME, namespace)
    fresh = replace(plan(namespace, [one, two, three], NAME, 60.0), kept=0, patient=0, fresh=6)
    with loading(kube, namespace, installed.server_image, fresh) as load:
        change(kube, namespace, versions[1], NAME)
        wait_for_step(kube, namespace, SHARE)
        told = condition(kube.get("modeldeployment", NAME, namespace) or {}, "TrafficSynced")
        assert told["reason"] == "ApproximateSplit"
        assert told["message"].endswith("; 10% are asked for")
        split = judged(load, two)
        promote(kube, namespace, 1)
        wait_for(lambda: stable(kube, namespace) == two, 120, "version 2 does not take over")
        change(kube, namespace, versions[2], NAME)
        wait_for_step(kube, namespace, SHARE)
        command(kube, namespace, "abort")
        wait_for(lambda: bool(status(kube, namespace).get("rejected")), 60, "it is not aborted")
        load.wait_for(load.so_far()["sent"] + 600, 60)
        before = load.so_far()["answers"].get(three, 0)
        load.wait_for(load.so_far()["sent"] + 600, 60)
        account = load.stop()
    note(f"replica ratio: {split}; {json.dumps({**account, 'failures': account['failures'][:5]})}")
    assert account["failed"] == 0, account["failures"]
    assert account["answers"].get(three, 0) == before
    assert kube.get("deployment", "slipway-router", namespace) is None


def by_replicas(namespace: str, uri: str) -> dict[str, Any]:
    """Two pods, and a canary that waits at 10% for somebody."""
    found = resource(namespace, uri)
    found["spec"]["rollout"]["steps"] = [{"setWeight": 10}, {"pause": {"untilApproved": True}}]
    found["spec"]["traffic"] = {"provider": "ReplicaRatio"}
    return found


def judged(load: Load, version: str) -> str:
    """Whether a version answers the third of the next requests that its one pod of three stands for."""
    before = load.so_far()
    load.wait_for(before["sent"] + SAMPLE, 180)
    now = load.so_far()["answers"]
    answers = {found: count - before["answers"].get(found, 0) for found, count in now.items()}
    total, part = sum(answers.values()), 1 / 3
    z = (answers.get(version, 0) - total * part) / math.sqrt(total * part * (1 - part))
    assert abs(z) < MOST_Z, answers
    return f"{answers.get(version, 0)} of {total} (z = {z:+.1f})"
