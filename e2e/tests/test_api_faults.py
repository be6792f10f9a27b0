"""What faults of the API server leave behind: nothing that shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings
from e2e.kube import Kube
from e2e.ledger import LONG, hold, note
from e2e.load import loading
from e2e.tests import figures
from e2e.tests.audit import check_one_leader
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.control_plane import ControlPlane
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry
from e2e.tests.rollout import Rollout, again

pytestmark = [pytest.mark.alone, pytest.mark.timed, pytest.mark.long]

#: How long there is no API server.
AWAY_SECONDS = 600.0 if LONG else 45.0
APPROVAL: dict[str, Any] = {"pause": {"untilApproved": True}}
STEPS = [{"setWeight": 50}, APPROVAL]


@pytest.fixture(scope="module")
def control_plane(settings: Settings) -> ControlPlane:
    if choose_provider(settings).kind != "node":
        pytest.skip("the API server of kind is not this machine's process; these need the node provider")
    return ControlPlane(settings)


@pytest.fixture
def halfway(
    installed: Installation, mlflow: Registry, restricted_namespace: str, token: str
) -> tuple[Rollout, list[str]]:
    """A canary that waits at 50% for somebody, and the versions of its model."""
    model = f"faults-{token}-{restricted_namespace[-4:]}"
    versions = [mlflow.register(model, again(factor, "")) for factor in (2, 3, 5)]
    rollout = Rollout(installed.kube, restricted_namespace, "halfway")
    rollout.apply(f"mlflow://{model}/{versions[0]}", {"strategy": "Canary", "steps": STEPS})
    wait_until_ready(installed.kube, "halfway", restricted_namespace)
    rollout.wait_until_synced()
    rollout.change(f"mlflow://{model}/{versions[1]}")
    rollout.wait_for_weight(50)
    return rollout, versions


def test_an_api_server_that_is_killed_and_has_lost_its_history_changes_nothing(
    installed: Installation, control_plane: ControlPlane, halfway: tuple[Rollout, list[str]]
) -> None:
    """Every watch has to be taken up from a state that nobody remembers, which is answered 410."""
    rollout, versions = halfway
    began = datetime.now(UTC)
    with undisturbed(installed, rollout, versions):
        for _ in range(3 if LONG else 1):
            control_plane.kill("kube-apiserver")
            control_plane.compact()
            control_plane.repair()
        wait_for(lambda: figures.leader(installed.kube), 60, "nobody leads")
        # Pods count as unready until their nodes reported again: the canary gets its share back only then.
        rollout.wait_for_weight(50)
        finish(rollout, versions)
    check_one_leader(control_plane.settings, began, rollout.namespace)


def test_models_serve_while_there_is_no_api_server_and_the_rollout_goes_on_afterwards(
    installed: Installation, control_plane: ControlPlane, halfway: tuple[Rollout, list[str]]
) -> None:
    rollout, versions = halfway
    began = datetime.now(UTC)
    with undisturbed(installed, rollout, versions):
        control_plane.kill("kube-apiserver")
        time.sleep(AWAY_SECONDS)
        control_plane.repair()
        back = time.monotonic()
        wait_for(lambda: figures.leader(installed.kube), 120, "nobody leads")
        # Pods count as unready until their nodes reported again: the canary gets its share back only then.
        rollout.wait_for_weight(50)
        finish(rollout, versions)
        hold("after the API server came back: a promotion and a new canary", time.monotonic() - back, 180)
    check_one_leader(control_plane.settings, began, rollout.namespace)


@contextmanager
def undisturbed(installed: Installation, rollout: Rollout, versions: list[str]) -> Iterator[None]:
    """Load all the while, of which no request fails; no pod of the model is restarted."""
    kube, namespace = installed.kube, rollout.namespace
    before = restarts(kube, namespace)
    plan = rollout.load(dict(zip(versions, (2, 3, 5), strict=True)), rate=30.0)
    with loading(kube, namespace, installed.server_image, plan) as load:
        load.wait_for(100, 60)
        yield
        account = load.stop()
    assert account["failed"] == 0, account["failures"]
    assert {
        name: count for name, count in restarts(kube, namespace).items() if count != before.get(name, 0)
    } == {}
    note(f"{account['sent']} requests meanwhile")


def finish(rollout: Rollout, versions: list[str]) -> None:
    """The rollout ends as it would have, and the next one comes as far as it."""
    if rollout.stable() != versions[1]:
        rollout.say("promote")
        rollout.wait_for_stable(versions[1])
    uri = str(rollout.found()["spec"]["model"]["uri"]).rsplit("/", 1)[0]
    rollout.change(f"{uri}/{versions[2]}")
    rollout.wait_for_weight(50)


def restarts(kube: Kube, namespace: str) -> dict[str, int]:
    """How often each pod of a model was restarted."""
    found = kube.items("pods", namespace, "app.kubernetes.io/component=model-server")
    return {
        pod["metadata"]["name"]: sum(
            status["restartCount"] for status in pod["status"].get("containerStatuses", ())
        )
        for pod in found
    }
