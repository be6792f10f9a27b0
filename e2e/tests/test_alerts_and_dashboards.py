"""Prometheus, Alertmanager and the dashboards beside models with a profile, in the midst of a rollout."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from e2e import credit, grafana, services
from e2e.cluster.settings import Settings
from e2e.grafana import Shown
from e2e.kube import Kube
from e2e.prometheus import Alertmanager, Prometheus
from e2e.tests import models
from e2e.tests.conditions import condition, wait_for, wait_for_condition, wait_until_ready
from e2e.tests.installation import RELEASE, SYSTEM_NAMESPACE, Installation, temporary_namespace
from e2e.tests.registry import Registry
from slipway.contract import Metric

SCRAPE_SECONDS = 5.0
#: A scrape, an evaluation, an alert's patience and its group's, each a few times on a busy machine.
SEEN_SECONDS = 120.0
ROWS = 3_000
BROKEN = "broken"


@dataclass(frozen=True)
class Watched:
    """The services that watch, and the namespace of the model that they are to see; since when."""

    kube: Kube
    prometheus: Prometheus
    alertmanager: Alertmanager
    namespace: str
    began: float


@pytest.fixture(scope="module")
def watched(installed: Installation, settings: Settings, mlflow: Registry, token: str) -> Iterator[Watched]:
    """A model whose applicants have changed and come with labels, half of them asked of its canary."""
    kube, name = installed.kube, f"{credit.NAME}-{token}"
    services.start(["prometheus", "alertmanager"], settings)
    with ExitStack() as stack:
        namespace = stack.enter_context(temporary_namespace(kube, "monitoring"))
        prometheus = Prometheus(_client(kube, "prometheus", 9090, stack))
        alertmanager = Alertmanager(_client(kube, "alertmanager", 9093, stack))
        made = credit.resource(namespace, f"mlflow://{name}/{credit.register(name, mlflow.url)}", "feedback")
        made["spec"]["rollout"] = {
            "strategy": "Canary",
            "steps": [{"setWeight": 50}, {"analysis": {}}, {"pause": {"untilApproved": True}}],
            "analysis": {"intervalSeconds": 5, "gates": [{"name": "error-rate", "type": "ErrorRate"}]},
        }
        made["spec"]["monitoring"]["suspectInputs"] = {"detectors": ["Nearby"]}
        kube.apply(credit.feedback_keys(namespace, "feedback"), made)
        wait_until_ready(kube, credit.NAME, namespace)
        wait_for_condition(kube, credit.NAME, "TrafficSynced", "True", namespace=namespace)
        rows = f'{Metric.ROWS.value}{{namespace="{namespace}"}}'
        wait_for(lambda: bool(prometheus.query(rows)), SEEN_SECONDS, "the model is not scraped")

        began = time.time()
        made["spec"]["model"]["uri"] = f"mlflow://{name}/{credit.register(name, mlflow.url)}"
        kube.apply(made)
        wait_for(lambda: _weight(kube, namespace) == 50, SEEN_SECONDS, "the canary gets no traffic")
        wait_for(
            lambda: len({one.labels["model_version"] for one in prometheus.query(rows)}) == 2,
            SEEN_SECONDS,
            "the canary is not scraped",
        )
        with (
            kube.port_forward(f"service/{credit.NAME}", namespace, 80) as url,
            httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
        ):
            for part in credit.applicants(ROWS, seed=1, shift=credit.SHIFT).batches():
                tokens = credit.ask(client, part)
                assert credit.tell(client, tokens, part) == len(tokens) == len(part.rows)
                # Over several scrapes.
                time.sleep(0.3)
        yield Watched(kube, prometheus, alertmanager, namespace, began)


def test_prometheus_evaluates_the_rules_that_the_chart_ships(watched: Watched) -> None:
    found = watched.kube.get("configmap", f"{RELEASE}-rules", SYSTEM_NAMESPACE)
    assert found is not None
    assert found["data"]["slipway.yaml"].strip() == services.RULES.read_text().strip()
    loaded = watched.prometheus.rules()
    assert len(loaded) > 100
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}


#: No model here is audited; tests/observability has these panels show a real page on a real Prometheus.
OF_AUDITS = {
    ("Slipway / Rollout", panel)
    for panel in ("How far rows stand", "What audits found", "What they measured")
}


def test_every_panel_shows_something(watched: Watched) -> None:
    def empty() -> set[tuple[str, str]]:
        return {each.target.place[:2] for each in _look(watched) if not each.series} - OF_AUDITS

    wait_for(lambda: not empty(), SEEN_SECONDS, lambda: f"empty: {sorted(empty())}")
    assert len(_look(watched)) > 50


def test_what_both_replicas_of_the_operator_say_is_shown_once(watched: Watched) -> None:
    def counted() -> tuple[float, int]:
        shown = {each.target.place: each for each in _look(watched)}
        [found] = shown["Slipway / Fleet", "Models", ""].series
        return found.last, len(watched.kube.items("modeldeployments"))

    wait_for(lambda: len(set(counted())) == 1, SEEN_SECONDS, lambda: f"shown and there: {counted()}")
    shown = {each.target.place: each for each in _look(watched)}
    pods = shown["Slipway / Rollout", "Pods", "{{role}} ready"]
    status = (watched.kube.get("modeldeployment", credit.NAME, watched.namespace) or {})["status"]
    ready = {role: status[role]["readyReplicas"] for role in ("stable", "canary")}
    assert {one.labels["role"]: one.last for one in pods.series} == ready


def test_drift_is_an_alert_of_the_model_that_names_the_feature(watched: Watched) -> None:
    of_model = (f'namespace="{watched.namespace}"', f'model="{credit.NAME}"')

    def features() -> set[tuple[str, str]]:
        return {
            (alert["labels"]["feature"], alert["labels"]["severity"])
            for group in watched.alertmanager.groups(*of_model, 'alertname="SlipwayFeatureDrift"')
            if group["labels"] == {"namespace": watched.namespace, "model": credit.NAME}
            for alert in group["alerts"]
            if alert["status"]["state"] == "active"
        }

    # The warnings of the same features are held back: what is critical is no warning as well.
    expected = {("income", "critical"), ("debt", "critical")}
    wait_for(lambda: features() == expected, SEEN_SECONDS, lambda: f"{features()}")


def test_a_broken_model_is_an_alert_until_it_is_mended(
    watched: Watched, mlflow: Registry, token: str
) -> None:
    kube, alertmanager, namespace = watched.kube, watched.alertmanager, watched.namespace
    name = f"{BROKEN}-{token}"
    kube.apply(
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": BROKEN, "namespace": namespace},
            "spec": {"model": {"uri": f"mlflow://{name}/1"}, "scaling": {"maxReplicas": 1}},
        }
    )
    ours = (f'namespace="{namespace}"', f'model="{BROKEN}"')

    def said() -> str:
        return f"Alertmanager says {json.dumps(alertmanager.alerts(*ours))}"

    wait_for(lambda: bool(alertmanager.alerts(*ours)), SEEN_SECONDS, said)
    resource = kube.get("modeldeployment", BROKEN, namespace)
    assert resource is not None
    assert condition(resource, "Ready")["status"] == "False"
    wait_for(lambda: _receivers(alertmanager, ours) == {"on-call"}, SEEN_SECONDS, said)
    for group in alertmanager.groups(*ours):
        assert group["labels"] == {"namespace": namespace, "model": BROKEN}
        [alert] = group["alerts"]
        assert alert["labels"] == {
            "alertname": "SlipwayModelNotReady",
            "namespace": namespace,
            "name": BROKEN,
            "model": BROKEN,
            "severity": "critical",
        }
        assert alert["annotations"]["summary"] == f"{BROKEN} in {namespace} is not Ready"
    assert mlflow.register(name, models.identity()) == "1"
    wait_until_ready(kube, BROKEN, namespace, within=180)
    wait_for(lambda: not alertmanager.alerts(*ours), SEEN_SECONDS, said)


def _receivers(alertmanager: Alertmanager, matchers: tuple[str, ...]) -> set[str]:
    return {str(group["receiver"]["name"]) for group in alertmanager.groups(*matchers)}


def _look(watched: Watched) -> list[Shown]:
    """Every query of the three dashboards, with the model chosen that has something to show."""
    chosen = {
        "namespace": watched.namespace,
        "model": credit.NAME,
        "name": credit.NAME,
        "feature": "income",
    }
    return [
        each
        for board in grafana.dashboards().values()
        for each in grafana.look(
            watched.prometheus, board, chosen, SCRAPE_SECONDS, watched.began, time.time()
        )
    ]


def _weight(kube: Kube, namespace: str) -> int:
    found: dict[str, Any] = kube.get("modeldeployment", credit.NAME, namespace) or {}
    return int(found.get("status", {}).get("canaryWeight", 0))


def _client(kube: Kube, name: str, port: int, stack: ExitStack) -> httpx.Client:
    url = stack.enter_context(kube.port_forward(f"service/{name}", "monitoring", port))
    return stack.enter_context(httpx.Client(base_url=url, timeout=30, trust_env=False))
