"""What follows when a model is found bad, once on the cluster: a Job, a rollback, or an alert alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from e2e import credit
from e2e.kube import Kube, Object
from e2e.ledger import PATIENCE
from e2e.tests.conditions import condition, explain, wait_for, wait_until_ready
from e2e.tests.installation import Installation, temporary_namespace
from e2e.tests.registry import Registry

KEYS = "keys"
#: Short, so that what is bad is soon over.
WINDOW = {"windowSeconds": 30, "minimumRows": 300}
HEADER = "x-data-time"
DAY = 86_400


@pytest.fixture(scope="module")
def place(installed: Installation) -> Iterator[str]:
    with temporary_namespace(installed.kube, "breach") as namespace:
        installed.kube.apply(credit.feedback_keys(namespace, KEYS))
        yield namespace


def test_stale_data_makes_one_job_and_bad_labels_and_unequal_groups_are_said(
    installed: Installation, mlflow: Registry, place: str, token: str
) -> None:
    kube, name = installed.kube, "stale"
    uri = f"mlflow://stale-{token}/{credit.register(f'stale-{token}', mlflow.url)}"
    job = {
        "image": installed.server_image,
        "command": ["python", "-c"],
        "args": ["import os; print(sorted(name for name in os.environ if name.startswith('SLIPWAY_')))"],
        "env": [{"name": "WHY", "value": "stale"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "backoffLimit": 0,
    }
    breach = {"action": "Job", "conditions": ["DataQuality"], "job": job}
    kube.apply(
        resource(
            name,
            place,
            uri,
            onBreach=breach,
            freshness={"source": "Header", "name": HEADER, "maxAgeSeconds": 3600},
        )
    )
    wait_until_ready(kube, name, place)
    with asking(kube, name, place) as client:
        client.headers[HEADER] = str(time.time() - DAY)
        found = ask_until(kube, name, place, client, bad("DataQuality", "False"), wrong=True)
        assert condition(found, "DataQuality")["reason"] == "DataIsStale"
        ask_until(kube, name, place, client, bad("Performance", "False"), wrong=True)
        ask_until(kube, name, place, client, bad("Fairness", "False"), wrong=True)
    selector = f"slipway.dev/modeldeployment={name}"
    made: list[Object] = wait_for(lambda: kube.items("jobs", place, selector), 60, "no Job is created")
    wait_for(
        lambda: kube.items("jobs", place, selector)[0]["status"].get("succeeded") == 1,
        120,
        lambda: f"the Job does not succeed\n{explain(kube, name, place)}",
    )
    # One for the episode, however often it was looked at meanwhile.
    assert [job["metadata"]["uid"] for job in kube.items("jobs", place, selector)] == [
        job["metadata"]["uid"] for job in made
    ]
    verdict = next(
        one for one in found_now(kube, name, place)["status"]["monitoring"]["verdicts"] if "episode" in one
    )
    assert verdict["type"] == "DataQuality"
    assert verdict["episode"]["job"] == made[0]["metadata"]["name"]
    assert condition(found_now(kube, name, place), "Ready")["status"] == "True"


def test_drift_takes_a_revision_back_where_that_is_asked_and_changes_nothing_where_an_alert_is(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> None:
    kube, namespace, name = installed.kube, restricted_namespace, f"drift-{token}"
    kube.apply(credit.feedback_keys(namespace, KEYS))
    one, two = (credit.register(name, mlflow.url) for _ in range(2))
    actions = {"back": {"action": "Rollback", "conditions": ["Drift"]}, "told": {"action": "Alert"}}

    def version(deployment: str) -> str:
        return str(found_now(kube, deployment, namespace)["status"]["stable"]["version"])

    for served in (one, two):
        for deployment, breach in actions.items():
            kube.apply(resource(deployment, namespace, f"mlflow://{name}/{served}", onBreach=breach))
        for deployment in actions:
            wait_until_ready(kube, deployment, namespace)
            assert version(deployment) == served
    with asking(kube, "told", namespace) as client:
        told = ask_until(kube, "told", namespace, client, bad("Drift", "True"), shift=credit.SHIFT)
    with asking(kube, "back", namespace) as client:
        ask_until(
            kube, "back", namespace, client, lambda found: bool(found["status"].get("rejected")),
            shift=credit.SHIFT,
        )  # fmt: skip
    wait_for(lambda: version("back") == one, 120, lambda: explain(kube, "back", namespace))
    assert "Drift" in found_now(kube, "back", namespace)["status"]["rejected"][0]["message"]
    assert condition(told, "Drift")["reason"] == "FeaturesDrifted"
    assert version("told") == two
    assert not found_now(kube, "told", namespace)["status"].get("rejected")


def resource(name: str, namespace: str, uri: str, **monitoring: Any) -> Object:
    """A model that is soon found bad: in what it is asked, in what it gets right, and by groups."""
    found = credit.resource(namespace, uri, KEYS)
    found["metadata"]["name"] = name
    spec = found["spec"]
    spec["model"]["refreshSeconds"] = 0
    spec["runtime"] = {"resources": {"requests": {"cpu": "10m", "memory": "128Mi"}}}
    spec["rollout"] = {"scaleDownDelaySeconds": 10}
    spec["monitoring"] = {
        "drift": WINDOW,
        "performance": {
            "feedback": {"secretRef": {"name": KEYS}},
            "objectives": [{"metric": "Accuracy", "minimum": "55%", "minimumLabels": 300}],
        },
        **monitoring,
    }
    spec["fairness"]["metrics"] = [{"name": "DemographicParityDifference", "maximum": "0.1%"}]
    spec["fairness"]["minimumGroupRows"] = 10
    return found


def bad(type_: str, status: str) -> Callable[[Object], bool]:
    return lambda found: bool(condition(found, type_).get("status") == status)


def ask_until(
    kube: Kube,
    name: str,
    namespace: str,
    client: httpx.Client,
    holds: Callable[[Object], bool],
    *,
    shift: float = 0.0,
    wrong: bool = False,
    within: float = 120,
) -> Object:
    """Ask about people, and say what became of them or the contrary, until something holds."""
    end, seed = time.monotonic() + within * PATIENCE, 0
    while not holds(found := found_now(kube, name, namespace)):
        assert time.monotonic() < end, explain(kube, name, namespace)
        seed += 1
        for part in credit.applicants(200, seed, shift=shift).batches():
            became = 1 - part.paid_back if wrong else part.paid_back
            tokens = credit.ask(client, part, name)
            credit.tell(client, tokens, credit.Applicants(part.rows, np.asarray(became), part.groups), name)
        time.sleep(0.2)
    return found


def found_now(kube: Kube, name: str, namespace: str) -> Object:
    found: Object | None = kube.get("modeldeployment", name, namespace)
    assert found is not None
    return found


@contextmanager
def asking(kube: Kube, name: str, namespace: str) -> Iterator[httpx.Client]:
    with (
        kube.port_forward(f"service/{name}", namespace, 80) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client
