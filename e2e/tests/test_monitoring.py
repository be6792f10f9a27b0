"""A model whose inputs move and whose labels come back, as its ModelDeployment tells of it."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

from e2e import credit
from e2e.kube import Kube, Object
from e2e.ledger import PATIENCE, hold
from e2e.tests.conditions import condition, wait_for_event, wait_until_ready
from e2e.tests.installation import temporary_namespace
from e2e.tests.registry import Registry
from e2e.tests.stage import SMALL

#: A short window, so that drift is over soon after its cause. It is looked at every four seconds or so.
WINDOW_SECONDS, LOOK_SECONDS = 30, 4.5
KEYS = "feedback-keys"


@pytest.fixture(scope="module")
def served(kube: Kube, mlflow: Registry, token: str) -> Iterator[tuple[str, httpx.Client]]:
    """The namespace of a model with a profile that serves, and a client of it."""
    version = credit.register(f"credit-{token}", mlflow.url)
    with temporary_namespace(kube) as namespace:
        key = base64.b64encode(secrets.token_hex(32).encode()).decode()
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": KEYS, "namespace": namespace},
                "data": {"2026-01": key},
            },
            _model_deployment(namespace, f"mlflow://credit-{token}/{version}"),
        )
        wait_until_ready(kube, credit.NAME, namespace)
        with (
            kube.port_forward(f"service/{credit.NAME}", namespace, 80) as url,
            httpx.Client(base_url=url, timeout=20) as client,
        ):
            yield namespace, client


def _model_deployment(namespace: str, uri: str) -> Object:
    attribute = {
        "name": credit.ATTRIBUTE,
        "parameter": credit.ATTRIBUTE,
        "groups": list(credit.GROUPS),
        "referenceGroup": credit.REFERENCE_GROUP,
    }
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": credit.NAME, "namespace": namespace},
        "spec": {
            "model": {"uri": uri},
            "runtime": SMALL,
            "monitoring": {
                "drift": {"windowSeconds": WINDOW_SECONDS, "minimumRows": 500},
                "performance": {
                    "feedback": {"secretRef": {"name": KEYS}},
                    "objectives": [{"metric": "Accuracy", "minimum": "55%", "minimumLabels": 500}],
                },
            },
            "fairness": {
                "sensitiveAttributes": [attribute],
                "favorableOutcomes": [credit.FAVORABLE],
                "metrics": [{"name": "DemographicParityDifference", "maximum": "30%"}],
            },
        },
    }


def _as_they_are(asked: credit.Applicants) -> credit.Applicants:
    return asked


def _otherwise(asked: credit.Applicants) -> credit.Applicants:
    """The same people, of whom the opposite became."""
    return replace(asked, paid_back=1 - asked.paid_back)


def _unequal(asked: credit.Applicants) -> credit.Applicants:
    """The same people, but for the debts of one group and the incomes of the other."""
    rows = asked.rows.copy()
    is_reference = np.array(asked.groups) == credit.REFERENCE_GROUP
    rows[is_reference, credit.FEATURES.index("income")] += 60
    rows[~is_reference, credit.FEATURES.index("debt")] += 60
    return replace(asked, rows=rows)


def _send_until(
    kube: Kube,
    served: tuple[str, httpx.Client],
    type_: str,
    status: str,
    *,
    shift: float,
    within: float,
    changed: Callable[[credit.Applicants], credit.Applicants] = _as_they_are,
) -> tuple[dict[str, Any], float]:
    """Ask about people, and say what became of them, until a condition has a status; and how long it took.

    `changed`: what is told instead of the truth, or who is asked about.
    """
    namespace, client = served
    begun, seed = time.monotonic(), int(time.monotonic() * 1000)
    while time.monotonic() - begun < within * PATIENCE:
        seed += 1
        for asked in changed(credit.applicants(200, seed, shift=shift)).batches():
            credit.tell(client, credit.ask(client, asked), asked)
        found = kube.get("mdep", credit.NAME, namespace) or {}
        if condition(found, type_).get("status") == status:
            return found, time.monotonic() - begun
    raise AssertionError(
        f"{type_} is {condition(found, type_)}, not {status}, after {within * PATIENCE:.0f} s"
    )


@pytest.mark.timed
def test_inputs_that_moved_are_named_until_they_are_as_before(
    kube: Kube, served: tuple[str, httpx.Client]
) -> None:
    calm, _ = _send_until(kube, served, "Drift", "False", shift=0.0, within=40)
    assert condition(calm, "Drift")["reason"] == "NoDrift"
    moved, seconds = _send_until(kube, served, "Drift", "True", shift=credit.SHIFT, within=30)
    # Two looks agree; the first of them may need a window half full of what moved.
    hold("inputs that moved are drift", seconds, WINDOW_SECONDS / 2 + 2 * LOOK_SECONDS + 5)
    told = condition(moved, "Drift")
    assert told["reason"] == "FeaturesDrifted"
    assert {"income", "debt"} <= {one["name"] for one in _verdict(moved, "Drift")["features"]}
    assert "income: PSI" in told["message"]
    assert condition(moved, "Ready")["status"] == "True"
    wait_for_event(kube, credit.NAME, "FeaturesDrifted", namespace=served[0])
    again, _ = _send_until(kube, served, "Drift", "False", shift=0.0, within=WINDOW_SECONDS + 30)
    assert condition(again, "Drift")["reason"] == "NoDrift"


def test_labels_that_came_back_and_groups_are_told_in_numbers(
    kube: Kube, served: tuple[str, httpx.Client]
) -> None:
    found, _ = _send_until(kube, served, "Performance", "True", shift=0.0, within=30)
    assert "Accuracy" in condition(found, "Performance")["message"]
    assert condition(found, "Fairness")["status"] == "True"
    assert "DemographicParityDifference" in condition(found, "Fairness")["message"]
    assert condition(found, "DataQuality")["status"] == "True"


def test_a_model_that_errs_is_bad_though_it_serves(kube: Kube, served: tuple[str, httpx.Client]) -> None:
    found, _ = _send_until(kube, served, "Performance", "False", shift=0.0, within=90, changed=_otherwise)
    told = condition(found, "Performance")
    assert told["reason"] == "ObjectiveMissed"
    assert "Accuracy" in told["message"]
    assert condition(found, "Ready")["status"] == "True"
    wait_for_event(kube, credit.NAME, told["reason"], namespace=served[0])


def test_a_model_that_treats_groups_otherwise_is_bad(kube: Kube, served: tuple[str, httpx.Client]) -> None:
    found, _ = _send_until(kube, served, "Fairness", "False", shift=0.0, within=90, changed=_unequal)
    told = condition(found, "Fairness")
    assert told["reason"] == "LimitExceeded"
    assert "DemographicParityDifference" in told["message"]
    wait_for_event(kube, credit.NAME, told["reason"], namespace=served[0])


def _verdict(found: Object, type_: str) -> dict[str, Any]:
    verdicts: list[dict[str, Any]] = found["status"]["monitoring"]["verdicts"]
    return next(one for one in verdicts if one["type"] == type_)
