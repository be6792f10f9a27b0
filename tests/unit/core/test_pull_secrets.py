"""Secrets that images are pulled with: they reach every pod by its ServiceAccount, and restart none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slipway.api.types import ModelDeploymentSpec
from slipway.core import naming
from slipway.core.observed import observe
from slipway.core.plan import plan
from slipway.core.resource import read
from slipway.core.revision import Settings
from slipway.core.traffic.envoy.objects import RouterSettings, router_objects
from slipway.environment import Environment
from tests.unit.core.tables import OWNER, SETTINGS, digest, model
from tests.unit.core.test_properties import NOW

PULLED = [{"name": "pull"}, {"name": "mirror"}]


def planned(settings: Settings, **status: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """What would be applied for one ModelDeployment, by kind and name."""
    resource = read(
        {
            "metadata": {"name": "fraud", "namespace": "payments", "uid": OWNER.uid, "generation": 1},
            "spec": {"model": {"uri": "mlflow://fraud/1"}},
            "status": status,
        }
    )
    assert isinstance(resource.spec, ModelDeploymentSpec)
    found = plan(resource, resource.spec, observe([]), settings, NOW).apply
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


@pytest.mark.parametrize("status", [{}, {"model": model(1).model_dump()}], ids=["resolving", "serving"])
def test_pods_of_a_model_get_them_by_their_service_account_and_nothing_else_changes(
    status: dict[str, Any],
) -> None:
    without = planned(SETTINGS, **status)
    having = planned(replace(SETTINGS, image_pull_secrets=("pull", "mirror")), **status)
    account = ("ServiceAccount", naming.service_account("fraud"))
    assert having[account] == {**without[account], "imagePullSecrets": PULLED}
    assert {**having, account: without[account]} == without
    templates = [one["spec"]["template"]["spec"] for one in having.values() if one["kind"] == "Deployment"]
    pods = [one["spec"] for one in having.values() if one["kind"] == "Pod"]
    assert [pod["serviceAccountName"] for pod in templates + pods] == [account[1]]


def test_without_any_the_field_is_left_to_whoever_sets_it() -> None:
    assert "imagePullSecrets" not in planned(SETTINGS)["ServiceAccount", naming.service_account("fraud")]


def test_routers_get_them_in_the_same_way() -> None:
    settings = RouterSettings("slipway.dev/router:1")
    without = router_objects("payments", [], settings, [])
    having = router_objects("payments", [], replace(settings, image_pull_secrets=("pull", "mirror")), [])
    changed = [(one, other) for one, other in zip(without, having, strict=True) if one != other]
    [(before, after)] = changed
    assert after == {**before, "imagePullSecrets": PULLED}
    [pod] = [one["spec"]["template"]["spec"] for one in having if one["kind"] == "Deployment"]
    assert pod["serviceAccountName"] == after["metadata"]["name"]


def test_the_operator_reads_them_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_SERVER_IMAGE", f"slipway.dev/server@{digest(1)}")
    monkeypatch.setenv("SLIPWAY_ROUTER_IMAGE", f"slipway.dev/router@{digest(2)}")
    assert Environment.read().settings.image_pull_secrets == ()
    monkeypatch.setenv("SLIPWAY_IMAGE_PULL_SECRETS", "pull,mirror")
    found = Environment.read()
    assert found.settings.image_pull_secrets == found.routers.image_pull_secrets == ("pull", "mirror")
