"""The chart's NetworkPolicies, by connections that fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.kube import Kube, Object
from e2e.load import loading
from e2e.tests.conditions import wait_for, wait_until_ready
from e2e.tests.installation import (
    RELEASE,
    Installation,
    installation_values,
    temporary_namespace,
)
from e2e.tests.network import (
    Address,
    Caller,
    address_of,
    of_namespace,
)
from e2e.tests.registry import Registry
from e2e.tests.rollout import LOOKS, Rollout
from e2e.tests.test_figures_rolling import times

SERVER, ROUTER = {"app.kubernetes.io/component": "model-server"}, {"app.kubernetes.io/component": "router"}
REQUESTS, ADMIN, ROUTER_ADMIN = (8080, 9000), 8081, 9902
#: Until what was applied holds.
SECONDS = 30.0
#: Gates that need both: what routers count, and what pods count.
GATES = [{"name": "errors", "type": "ErrorRate"}, {"name": "violations", "type": "Violations"}]
CANARY = {
    "strategy": "Canary",
    "steps": [{"setWeight": 50}, {"analysis": {}}],
    "analysis": {**LOOKS, "gates": GATES},
}


@pytest.fixture(scope="module")
def uris(mlflow: Registry, token: str) -> list[str]:
    """Two versions of a model, by name."""
    model = f"network-{token}"
    return [f"mlflow://{model}/{mlflow.register(model, times(factor))}" for factor in (2, 3)]


@pytest.fixture
def elsewhere(kube: Kube) -> Iterator[str]:
    """A namespace for those who call, without models."""
    with temporary_namespace(kube, "callers") as name:
        yield name


def test_the_charts_policies_let_through_whom_its_values_name_and_nobody_else(
    installed: Installation, restricted_namespace: str, elsewhere: str, uris: list[str]
) -> None:
    kube, namespace = installed.kube, restricted_namespace
    guarded = Rollout(kube, namespace, "guarded")
    guarded.apply(uris[0], CANARY)
    client = Caller.start(kube, namespace, "client")
    stranger, scraper = (Caller.start(kube, elsewhere, name) for name in ("stranger", "scraper"))
    for caller in (client, stranger, scraper):
        caller.wait()
    wait_until_ready(kube, "guarded", namespace)
    guarded.wait_until_synced()

    server, router = (address_of(kube, namespace, labels) for labels in (SERVER, ROUTER))
    asked = {Address(server, port) for port in REQUESTS} | {Address(router, guarded.status()["routerPort"])}
    counted = {Address(server, ADMIN), Address(router, ROUTER_ADMIN)}
    # What fails afterwards works before.
    assert stranger.reached(asked | counted) == asked | counted

    policies = charts_policies(installed, namespace, elsewhere)
    kube.apply(*policies)
    wait_for(
        lambda: not stranger.reached(asked | counted),
        SECONDS,
        "a pod that nobody let in still connects: `python -m e2e.cluster status` says what enforces policies",
    )
    assert client.reached(asked | counted) == asked
    assert scraper.reached(asked | counted) == counted

    # By the Service and a router, to a new version that the operator judges by counters of both.
    one, two = (uri.rsplit("/", 1)[1] for uri in uris)
    with loading(kube, namespace, installed.server_image, guarded.load({one: 2, two: 3})) as load:
        guarded.change(uris[1])
        guarded.wait_for_stable(two, 240)
        account = load.stop()
    assert account["failed"] == 0, account["failures"]
    assert account["answers"][two] > 0

    server = address_of(kube, namespace, SERVER)
    asked = {Address(server, port) for port in REQUESTS}
    assert not stranger.reached(asked)
    kube.kubectl("delete", "networkpolicy", "--all", f"--namespace={namespace}")
    wait_for(lambda: stranger.reached(asked) == asked, SECONDS, "it is not reached without policies")


def charts_policies(installed: Installation, namespace: str, scrapers: str) -> list[Object]:
    """The policies that the chart writes for models and routers of a namespace."""
    from_own: Object = {"podSelector": {}}
    from_scrapers = of_namespace(scrapers, {"app": "scraper"})
    values = installation_values(installed)
    narrowed: dict[str, Any] = {"networkPolicy": {"namespaces": [namespace], "clientsFrom": [from_own]}}
    values |= {
        "modelServers": narrowed,
        "router": values["router"] | narrowed,
        "networkPolicy": {"metricsFrom": [from_scrapers]},
    }
    found = [
        one
        for one in yaml.safe_load_all(installed.helm.template(values))
        if one and one["kind"] == "NetworkPolicy" and one["metadata"]["namespace"] == namespace
    ]
    assert {one["metadata"]["name"] for one in found} == {f"{RELEASE}-model-servers", f"{RELEASE}-routers"}
    return found
