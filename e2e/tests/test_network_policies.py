"""NetworkPolicies, by connections that fail: the chart's own, and a namespace that denies everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.kube import Kube, Object
from e2e.load import loading
from e2e.tests.conditions import condition, wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import (
    RELEASE,
    SYSTEM_NAMESPACE,
    Installation,
    installation_values,
    temporary_namespace,
)
from e2e.tests.network import (
    Address,
    Caller,
    address_of,
    component,
    of_namespace,
    policy,
    ports,
    shown,
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
    """Three versions of a model, by name."""
    model = f"network-{token}"
    return [f"mlflow://{model}/{mlflow.register(model, times(factor))}" for factor in (2, 3, 5)]


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
    one, two = (uri.rsplit("/", 1)[1] for uri in uris[:2])
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


def test_a_namespace_that_denies_everything_takes_the_documented_paths_and_each_of_them(
    installed: Installation, restricted_namespace: str, elsewhere: str, uris: list[str]
) -> None:
    kube, namespace = installed.kube, restricted_namespace
    kube.apply(*closed_but_for_the_paths(namespace, elsewhere))
    opened, blind = Rollout(kube, namespace, "open"), Rollout(kube, namespace, "no-counters")
    mute, apart = Rollout(kube, namespace, "no-weights"), Rollout(kube, namespace, "no-servers")
    for each in (opened, blind):
        each.apply(uris[0], CANARY)
    for each in (mute, apart):
        each.apply(uris[0], CANARY, traffic={"router": "Dedicated"})
    # One that nobody resolved yet, and one that is resolved already: its pods do not get it.
    Rollout(kube, namespace, "no-store").apply(uris[2], CANARY)
    Rollout(kube, namespace, "no-dns").apply(uris[0], CANARY)
    client = Caller.start(kube, elsewhere, "client")
    stranger = Caller.start(kube, elsewhere, "stranger")
    for caller in (client, stranger):
        caller.wait()

    # With all paths it serves, to whom the path is open.
    wait_until_ready(kube, opened.name, namespace, within=240)
    opened.wait_until_synced()
    asked = {Address(address_of(kube, namespace, ROUTER), opened.status()["routerPort"])}
    wait_for(lambda: answers(client, opened), 10, "the model does not answer")
    assert client.reached(asked) == asked
    assert not stranger.reached(asked)

    for name in ("no-store", "no-dns"):
        found = wait_for_condition(
            kube, name, "Ready", "False", "RegistryUnreachable", namespace=namespace, within=120
        )
        assert "network policies" in condition(found, "Ready")["message"]
    # Its pod was the first to ask for this version, and holds up nobody who asks for the same.
    Rollout(kube, namespace, "asks-later").apply(uris[2], CANARY)
    wait_until_ready(kube, "asks-later", namespace, within=120)

    # Its routers are there, and have nobody to ask.
    wait_until_ready(kube, apart.name, namespace, within=240)
    apart.wait_until_synced()
    assert not answers(client, apart)

    # Without counters there is no evidence, and a canary that routers say nothing of gets no traffic.
    one, two = (uri.rsplit("/", 1)[1] for uri in uris[:2])
    for each in (blind, mute):
        wait_until_ready(kube, each.name, namespace, within=240)
    blind.wait_until_synced()
    with loading(kube, elsewhere, installed.server_image, blind.load({one: 2, two: 3})):
        for each in (blind, mute, apart):
            each.change(uris[1])
        wait_for(
            lambda: "counters could not be read" in gates(blind).get("violations", ""),
            120,
            lambda: shown(kube, namespace, blind.name),
        )
    for each in (mute, apart):
        waits_for_routers(each)


def waits_for_routers(rollout: Rollout) -> None:
    """The canary is there, and routers know of none."""
    words = "routers know 0 of 1 canary pods"
    wait_for(
        lambda: words in rollout.status().get("rollout", {}).get("message", ""),
        120,
        lambda: shown(rollout.kube, rollout.namespace, rollout.name),
    )
    assert not rollout.status().get("canaryWeight")


def answers(client: Caller, model: Rollout) -> bool:
    """Whether the model tells a client of itself, by its Service."""
    service = model.kube.get("service", model.name, model.namespace) or {}
    url = f"http://{service['spec']['clusterIP']}/v2/models/{model.name}"
    return f'"{model.name}"' in client.answers(url)


def gates(rollout: Rollout) -> dict[str, str]:
    """What is said of the gates of a rollout, by name."""
    found = rollout.status().get("rollout", {}).get("gates", [])
    return {gate["name"]: gate.get("message", "") for gate in found}


def closed_but_for_the_paths(namespace: str, callers: str) -> list[Object]:
    """Everything is denied, then each row of the table is allowed but to one ModelDeployment, named by it."""
    operator = of_namespace(SYSTEM_NAMESPACE, {"app.kubernetes.io/instance": RELEASE})
    dns = {
        "to": [of_namespace("kube-system", {"k8s-app": "kube-dns"})],
        "ports": [*ports(53, protocol="UDP"), *ports(53)],
    }
    clients = of_namespace(callers, {"app": "client"}), of_namespace(callers, {"app": "load"})
    store = {"to": [of_namespace("mlflow")], "ports": ports(5000)}
    fetching = ("resolver", "model-server")
    serving = ports(*REQUESTS)
    return [
        policy(namespace, "nothing", {}, into=[], out=[]),
        policy(namespace, "store", component(*fetching, but=["no-store"]), out=[store]),
        policy(namespace, "dns", component(*fetching, "router", but=["no-dns"]), out=[dns]),
        policy(
            namespace,
            "clients",
            component("router"),
            into=[{"from": list(clients), "ports": ports(10000, end=14999)}],
        ),
        policy(
            namespace,
            "to-servers",
            component("router", but=["no-servers"]),
            out=[{"to": [{"podSelector": component("model-server")}], "ports": serving}],
        ),
        policy(
            namespace,
            "from-routers",
            component("model-server"),
            into=[{"from": [{"podSelector": component("router")}], "ports": serving}],
        ),
        policy(
            namespace,
            "weights",
            component("router", but=["no-weights"]),
            into=[{"from": [operator], "ports": ports(ROUTER_ADMIN)}],
        ),
        policy(
            namespace,
            "counters",
            component("model-server", but=["no-counters"]),
            into=[{"from": [operator], "ports": ports(ADMIN)}],
        ),
    ]
