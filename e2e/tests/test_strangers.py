"""What a ModelDeployment may have the operator do for it, on a real cluster."""

from __future__ import annotations

from e2e.tests import models
from e2e.tests.conditions import condition, wait_for_condition
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry

NAME = "strangers"


def test_the_operator_asks_no_address_that_the_installation_does_not_list(
    installed: Installation, restricted_namespace: str, mlflow: Registry, token: str
) -> None:
    model = f"strangers-{token}"
    version = mlflow.register(model, models.iris())
    installed.kube.apply(
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": NAME, "namespace": restricted_namespace},
            "spec": {
                "model": {"uri": f"mlflow://{model}/{version}"},
                "rollout": {
                    "strategy": "Canary",
                    "analysis": {"prometheus": {"address": "http://kubernetes.default.svc:443"}},
                },
            },
        }
    )
    found = wait_for_condition(
        installed.kube, NAME, "Stalled", "True", "PrometheusNotAllowed", namespace=restricted_namespace
    )
    assert "rollouts.prometheus.addresses" in condition(found, "Stalled")["message"]
    wait_for_condition(installed.kube, NAME, "Ready", "True", namespace=restricted_namespace, within=120)
