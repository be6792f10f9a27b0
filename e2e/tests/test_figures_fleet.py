"""Figures of an operator that looks after 50 ModelDeployments."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client import AppsV1Api, CoreV1Api

from e2e.cluster.settings import Settings
from e2e.kube import Kube, Object
from e2e.ledger import LONG, PATIENCE, hold, note
from e2e.tests import figures, models
from e2e.tests.conditions import wait_for
from e2e.tests.installation import RELEASE, SYSTEM_NAMESPACE, Installation, temporary_namespace
from e2e.tests.registry import Registry

SIZE = 50 if LONG else 10
#: How long nothing may be written; the promise is five minutes.
STEADY_SECONDS = float(os.environ.get("SLIPWAY_STEADY_SECONDS", "60" if LONG else "20"))
READY_SECONDS = 420.0
#: It counts what the operator does for anybody, restarts it and kills it.
pytestmark = [pytest.mark.alone, pytest.mark.timed]
LABEL = "slipway.dev/modeldeployment"
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Fleet:
    """Ready ModelDeployments, and what it took to make them so."""

    namespace: str
    uri: str
    seconds: float
    requests: Counter[str]

    def names(self, count: int = SIZE) -> list[str]:
        return [f"fleet-{index:02d}" for index in range(count)]

    def one(self, name: str) -> dict[str, Any]:
        """A ModelDeployment of one small pod."""
        return {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "model": {"uri": self.uri},
                "runtime": {"resources": {"requests": {"cpu": "5m", "memory": "32Mi"}}},
                "scaling": {"maxReplicas": 1},
            },
        }


@pytest.fixture(scope="module")
def fleet(installed: Installation, mlflow: Registry, token: str) -> Iterator[Fleet]:
    kube = installed.kube
    model = f"fleet-{token}"
    uri = f"mlflow://{model}/{mlflow.register(model, models.identity())}"
    with temporary_namespace(kube, "fleet") as namespace:
        made = Fleet(namespace, uri, 0, Counter())
        before = figures.operator_requests(kube)
        began = time.monotonic()
        kube.apply(*(made.one(name) for name in made.names()))
        seconds = wait_until_all_ready(kube, namespace, SIZE) - began
        requests = figures.operator_requests(kube) - before
        yield Fleet(namespace, uri, seconds, requests)


@pytest.fixture(scope="module")
def apps(settings: Settings) -> AppsV1Api:
    """The API server without a process for each question, to measure seconds with."""
    return AppsV1Api(config.new_client_from_config(str(settings.kubeconfig)))  # type: ignore[no-untyped-call]


def wait_until_all_ready(kube: Kube, namespace: str, count: int) -> float:
    """Wait until all ModelDeployments of a namespace are Ready; when that was seen."""

    def ready() -> bool:
        return sum(map(figures.is_ready, kube.items("modeldeployments", namespace))) == count

    wait_for(ready, READY_SECONDS, f"not all {count} ModelDeployments are Ready")
    return time.monotonic()


def wait_until_quiet(kube: Kube) -> None:
    """Wait until the operator has written nothing for some seconds, and no other namespace is deleted."""
    last = figures.operator_requests(kube)

    def quiet() -> bool:
        nonlocal last
        time.sleep(4)
        before, last = last, figures.operator_requests(kube)
        phases = {found["status"]["phase"] for found in kube.items("namespaces")}
        return figures.writes(before) == figures.writes(last) and phases == {"Active"}

    wait_for(quiet, 180, "the operator goes on writing, or a namespace does not go")


def test_a_new_model_deployment_costs_few_writes(fleet: Fleet) -> None:
    per_one = {method: count / SIZE for method, count in sorted(fleet.requests.items())}
    written = figures.writes(fleet.requests) / SIZE
    note(
        f"{SIZE} ModelDeployments Ready after {fleet.seconds:.0f} s; requests for each: "
        f"{per_one}, {written:.1f} of them writes"
    )
    # Seven children and the resolver pod are made, that pod is deleted, a few states and Events are told.
    assert written < 25


def test_model_deployments_at_rest_are_written_nothing(installed: Installation, fleet: Fleet) -> None:
    """By the operator's own count and by the API server's; the leader's lease alone is renewed."""
    kube = installed.kube
    wait_until_quiet(kube)
    leader = figures.leader(kube)
    own, all_, versions = (
        figures.operator_requests(kube),
        figures.api_server_writes(kube),
        figures.versions(kube, fleet.namespace),
    )
    assert len(versions) == 6 * SIZE + 1, "not all that was made is there; the namespace has an account too"
    events = told_by_slipway(kube, fleet.namespace)

    time.sleep(STEADY_SECONDS)

    written = figures.writes(figures.operator_requests(kube)) - figures.writes(own)
    counted = figures.api_server_writes(kube) - all_
    note(f"writes with {SIZE} at rest in {STEADY_SECONDS:.0f} s: {written}; by API server: {dict(counted)}")
    assert figures.leader(kube) == leader
    assert written == 0
    # Status of all but its own resource is written by Kubernetes' controllers: the operator may not (see
    # docs/permissions.md). At rest that is the autoscaler's figures, and a pod slow to answer a probe.
    own_kinds = {what: count for what, count in counted.items() if _is_allowed(what)}
    assert not own_kinds
    assert figures.versions(kube, fleet.namespace) == versions
    assert told_by_slipway(kube, fleet.namespace) == events


def _is_allowed(what: str) -> bool:
    """Whether the operator may make such a write at all."""
    return not what.endswith("/status") or what.endswith("modeldeployments/status")


@pytest.mark.usefixtures("fleet")
def test_an_operator_with_many_at_rest_is_small(installed: Installation) -> None:
    kube = installed.kube
    leader = figures.leader(kube)
    memory = {
        pod["metadata"]["name"]: figures.operator_samples(kube, pod["metadata"]["name"])[
            "process_resident_memory_bytes", frozenset()
        ]
        / MEBIBYTE
        for pod in figures.operator_pods(kube)
    }
    note(
        f"resident memory with {SIZE} at rest: leader {memory[leader]:.0f} MiB, all "
        f"{sorted(round(size) for size in memory.values())} MiB"
    )
    assert max(memory.values()) <= 120


def test_an_operator_that_starts_finds_nothing_to_write(installed: Installation, fleet: Fleet) -> None:
    kube = installed.kube
    versions, before = figures.versions(kube, fleet.namespace), figures.api_server_writes(kube)
    leader = figures.leader(kube)
    kube.kubectl("rollout", "restart", f"deployment/{RELEASE}", f"--namespace={SYSTEM_NAMESPACE}")
    kube.wait_for_rollout(f"deployment/{RELEASE}", SYSTEM_NAMESPACE, 120)
    wait_for(lambda: figures.leader(kube) not in ("", leader), 30, "the old leader has no successor")
    wait_for(lambda: reconciles(kube, figures.leader(kube)) >= SIZE, 60, "the new leader did not look at all")
    wait_until_quiet(kube)

    requests = figures.operator_requests(kube)
    applied = {
        what: count
        for what, count in (figures.api_server_writes(kube) - before).items()
        if what.startswith("APPLY ") or "modeldeployments" in what
    }
    note(f"requests of both replicas since their start, watches aside: {dict(requests)}")
    assert figures.writes(requests) == 0
    assert not applied
    assert figures.versions(kube, fleet.namespace) == versions


def test_a_deleted_deployment_is_back_within_5_seconds(
    installed: Installation, fleet: Fleet, apps: AppsV1Api
) -> None:
    kube = installed.kube
    took = []
    for name in fleet.names(8 if LONG else 2):
        [(old, uid)] = deployments(apps, fleet.namespace, name).items()
        began = time.monotonic()
        kube.kubectl("delete", "deployment", old, f"--namespace={fleet.namespace}")

        def back(name: str = name, uid: str = uid) -> bool:
            return any(found != uid for found in deployments(apps, fleet.namespace, name).values())

        took.append(seconds_until(back, began, 20))
    note(
        f"a deleted Deployment is back after {median(took):.2f} s (median), {max(took):.2f} s (maximum) of "
        f"{len(took)}, kubectl's own time included"
    )
    hold("a deleted Deployment is back", max(took), 5)
    wait_until_all_ready(kube, fleet.namespace, SIZE)


@pytest.mark.parametrize(("how", "within"), [("killed", 20.0), ("asked to stop", 10.0)])
def test_a_leader_that_is_gone_is_replaced(
    how: str, within: float, installed: Installation, fleet: Fleet, apps: AppsV1Api, token: str
) -> None:
    kube, name = installed.kube, f"after-{how.replace(' ', '-')}"
    core = CoreV1Api(apps.api_client)
    both_replicas_are_up(kube)
    leader = kube.get("pod", wait_for(lambda: figures.leader(kube), 30, "nobody leads"), SYSTEM_NAMESPACE)
    assert leader is not None

    def acted_upon() -> bool:
        return bool(
            core.list_namespaced_service_account(fleet.namespace, label_selector=f"{LABEL}={name}").items
        )

    if how == "killed":
        with figures.killer(installed, f"killer-{token}") as killer:
            began = time.monotonic()
            assert killer.kill(leader, for_good=True)
            kube.apply(fleet.one(name))
            took = seconds_until(acted_upon, began, 60)
    else:
        began = time.monotonic()
        leader_name = leader["metadata"]["name"]
        kube.kubectl("delete", "pod", leader_name, f"--namespace={SYSTEM_NAMESPACE}", "--wait=false")
        kube.apply(fleet.one(name))
        took = seconds_until(acted_upon, began, 60)
    note(f"the leader was {how}: a new ModelDeployment is acted upon after {took:.1f} s")
    wait_for(lambda: figures.leader(kube) not in ("", leader["metadata"]["name"]), 20, "nobody else leads")
    hold(f"the leader was {how}: a new ModelDeployment is acted upon", took, within)
    kube.kubectl("delete", "modeldeployment", name, f"--namespace={fleet.namespace}")


def deployments(apps: AppsV1Api, namespace: str, name: str) -> dict[str, str]:
    """Name and uid of the Deployments of a ModelDeployment."""
    found = apps.list_namespaced_deployment(namespace, label_selector=f"{LABEL}={name}").to_dict()
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in found["items"]}


def seconds_until(check: Callable[[], bool], began: float, within: float) -> float:
    """Ask ten times a second until the answer is true; how long after `began` that was."""
    while not check():
        assert time.monotonic() - began < within * PATIENCE, f"not within {within * PATIENCE:.0f} s"
        time.sleep(0.1)
    return time.monotonic() - began


def reconciles(kube: Kube, pod: str) -> float:
    """How many reconciles a replica has done."""
    samples = figures.operator_samples(kube, pod)
    return sum(value for (name, _), value in samples.items() if name == "controller_runtime_reconcile_total")


def both_replicas_are_up(kube: Kube) -> None:
    kube.wait_for_rollout(f"deployment/{RELEASE}", SYSTEM_NAMESPACE, 60)
    wait_for(lambda: len(figures.operator_pods(kube)) == 2, 60, "there are not two replicas")


def told_by_slipway(kube: Kube, namespace: str) -> set[str]:
    """Uids of the Events that the operator wrote in a namespace."""

    def is_slipways(event: Object) -> bool:
        return str(event.get("reportingComponent")) == "slipway.dev/operator"

    return {event["metadata"]["uid"] for event in filter(is_slipways, kube.items("events", namespace))}
