"""A canary through a real Gateway: split as asked, and nothing lost while the route moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from e2e import services
from e2e.cluster.settings import Settings
from e2e.ledger import note
from e2e.load import loading
from e2e.tests.conditions import condition, wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry
from e2e.tests.test_figures_rolling import FACTORS, change, plan, times
from e2e.tests.test_figures_rollouts import (
    NAME,
    command,
    promote,
    resource,
    share,
    stable,
    status,
    wait_for_step,
)

CRD = "httproutes.gateway.networking.k8s.io"
GATEWAY = "http://envoy-gateway.envoy-gateway.svc"
RATE = 300.0


@pytest.fixture(scope="module")
def versions(mlflow: Registry, token: str) -> list[str]:
    """URIs of three versions that multiply by different factors."""
    model = f"gateway-{token}"
    return [f"mlflow://{model}/{mlflow.register(model, times(factor))}" for factor in FACTORS]


@pytest.fixture
def cleared(installed: Installation, restricted_namespace: str) -> Iterator[str]:
    """A namespace whose route ends with the test, not some time after it."""
    yield restricted_namespace
    installed.kube.kubectl(
        "delete",
        "modeldeployment",
        "--all",
        f"--namespace={restricted_namespace}",
        "--timeout=240s",
        seconds=270,
    )


# The operator restarts once the kinds of the Gateway API are there.
@pytest.mark.alone
@pytest.mark.timed
def test_ten_percent_of_requests_and_no_failure_through_promotion_and_abort(
    installed: Installation, settings: Settings, cleared: str, versions: list[str]
) -> None:
    kube, namespace = installed.kube, cleared
    one, two, three = (uri.rsplit("/", 1)[1] for uri in versions)
    if kube.get("crd", CRD) is None:
        # The cluster has no Gateway yet, as most have none.
        kube.apply(through_the_gateway(namespace, versions[0]))
        found = wait_for_condition(
            kube, NAME, "TrafficSynced", "False", "GatewayAPIMissing", namespace=namespace, within=120
        )
        assert "install the Gateway API" in condition(found, "Ready")["message"]
    services.start(["envoy-gateway"], settings)
    kube.apply(through_the_gateway(namespace, versions[0]))
    # The operator starts anew within a minute, to watch routes as well.
    wait_until_ready(kube, NAME, namespace, within=240)
    load_plan = replace(
        plan(namespace, [one, two, three], NAME, RATE), url=f"{GATEWAY}/v2/models/{NAME}/infer"
    )
    shares: list[str] = []
    with loading(kube, namespace, installed.server_image, load_plan) as load:
        load.wait_for(500, 60)
        change(kube, namespace, versions[1], NAME)
        for step, weight in enumerate((10, 50)):
            wait_for_step(kube, namespace, weight)
            shares.append(share(load, two, weight))
            promote(kube, namespace, 2 * step + 1)
        wait_for(lambda: stable(kube, namespace) == two, 120, "version 2 does not take over")
        change(kube, namespace, versions[2], NAME)
        wait_for_step(kube, namespace, 10)
        shares.append(share(load, three, 10))
        command(kube, namespace, "abort")
        wait_for(lambda: bool(status(kube, namespace).get("rejected")), 60, "it is not aborted")
        load.wait_for(load.so_far()["sent"] + 2000, 60)
        before = load.so_far()["answers"].get(three, 0)
        load.wait_for(load.so_far()["sent"] + 2000, 60)
        account = load.stop()
    note(f"gateway: shares {'; '.join(shares)}")
    note(f"gateway: {json.dumps({**account, 'failures': account['failures'][:5]})}")
    assert account["failed"] == 0, account["failures"]
    assert account["answers"][three] == before
    assert stable(kube, namespace) == two


def through_the_gateway(namespace: str, uri: str) -> dict[str, Any]:
    """As behind routers, but by a route of the Gateway, at 10% and at 50%."""
    found = resource(namespace, uri)
    weights = (10, 50)
    found["spec"]["rollout"]["steps"] = [
        step for weight in weights for step in ({"setWeight": weight}, {"pause": {"untilApproved": True}})
    ]
    found["spec"]["traffic"] = {
        "provider": "GatewayAPI",
        "gatewayAPI": {"parentRefs": [{"name": "public", "namespace": "envoy-gateway"}]},
    }
    return found
