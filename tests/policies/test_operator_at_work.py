"""What the operator really writes is accepted, by its own rights and its policy, on a real API server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from slipway.engine.kube import RESOURCES, typed
from tests.policies.conftest import OPERATOR, Installed
from tests.policies.control_plane import MERGE, PATCH, Answer
from tests.unit.engine.test_audits import AUDIT, fair
from tests.unit.engine.test_robustness_audits import NOISE, standing
from tests.unit.world import NAME, World

STEPS = [{"setWeight": 20}, {"pause": {"untilApproved": True}}]
#: What is done one after another in one namespace; an annotation goes to the rollout that waits.
SCENARIOS: dict[str, list[dict[str, Any]]] = {
    "a rollout by routers of the namespace": [
        {"model": {"uri": "mlflow://fraud/1"}},
        {"model": {"uri": "mlflow://fraud/2"}, "rollout": {"strategy": "Canary", "steps": STEPS}},
        {"model": {"uri": "mlflow://fraud/3"}, "rollout": {"strategy": "Recreate"}},
    ],
    "models that resolvers look up": [
        {"model": {"uri": "pvc://models/fraud.onnx"}},
        {"model": {"uri": "https://store.invalid/m.onnx", "credentials": {"secretRef": {"name": "keys"}}}},
    ],
    "a rollout by routers of its own": [
        {"model": {"uri": "mlflow://fraud/1"}, "traffic": {"router": "Dedicated"}},
        {
            "model": {"uri": "mlflow://fraud/2"},
            "traffic": {"router": "Dedicated"},
            "rollout": {"strategy": "BlueGreen"},
        },
    ],
    "with access, feedback and words about pods": [
        {
            "model": {"uri": "mlflow://fraud/1"},
            "access": {"apiKeys": {"secretRef": {"name": "keys"}}},
            "monitoring": {"performance": {"feedback": {"secretRef": {"name": "keys"}}}},
            "runtime": {"pod": {"labels": {"team": "risk"}, "imagePullSecrets": [{"name": "pull"}]}},
        },
        {"model": {"uri": "mlflow://fraud/2"}},
    ],
    "audits of versions": [
        {"model": {"uri": "mlflow://fraud/1"}, "rollout": {"audits": [AUDIT]}},
        {
            "model": {"uri": "mlflow://fraud/2"},
            "rollout": {"audits": [{**AUDIT, "maxAccuracyLoss": "5%"}]},
        },
    ],
    "audits of versions by noise": [
        {"model": {"uri": "mlflow://fraud/1"}, "rollout": {"audits": [NOISE]}},
        {"model": {"uri": "mlflow://fraud/2"}, "rollout": {"audits": [{**NOISE, "maxAccuracyLoss": "5%"}]}},
    ],
    "by numbers of pods": [
        {"model": {"uri": "mlflow://fraud/1"}, "traffic": {"provider": "ReplicaRatio"}},
        {
            "model": {"uri": "mlflow://fraud/2"},
            "traffic": {"provider": "ReplicaRatio"},
            "rollout": {"strategy": "Canary", "steps": STEPS},
        },
    ],
}


class Mirror:
    """Sends what the operator writes into its fake cluster to the real API server too, as the operator."""

    def __init__(self, installed: Installed, world: World) -> None:
        self.api, self.token = installed.api, installed.by(OPERATOR)
        self.namespace = installed.namespace()
        self.accepted: Counter[tuple[str, str]] = Counter()
        self._kube = world.kube
        for verb in ("create", "apply", "apply_status", "patch", "delete", "emit", "repeat"):
            self._follow(verb)

    def _follow(self, verb: str) -> None:
        inner, send = getattr(self._kube, verb), getattr(self, f"_{verb}")

        async def both(*words: Any) -> Any:
            send(*words)
            return await inner(*words)

        setattr(self._kube, verb, both)

    def _create(self, wanted: Mapping[str, Any], manager: str) -> None:
        answer = self.token.ask("POST", self._path(wanted["kind"]), self._own(wanted), fieldManager=manager)
        self._note("create", wanted["kind"], answer)

    def _apply(self, wanted: Mapping[str, Any], manager: str) -> None:
        path = self._path(wanted["kind"], wanted["metadata"]["name"])
        if wanted["kind"] == "Pod":
            self._have_router_pod(path, wanted["metadata"]["name"])
        self._note("apply", wanted["kind"], self.token.apply(path, self._own(wanted), manager))

    def _apply_status(self, wanted: Mapping[str, Any], manager: str) -> None:
        path = f"{self._path(wanted['kind'], wanted['metadata']['name'])}/status"
        self._note("apply", "status", self.token.apply(path, self._own(wanted), manager))

    def _patch(self, live: Mapping[str, Any], operations: Any, manager: str) -> None:
        path = self._path(live["kind"], live["metadata"]["name"])
        answer = self.token.ask("PATCH", path, operations, PATCH, fieldManager=manager)
        self._note("patch", live["kind"], answer)

    def _delete(self, live: Mapping[str, Any]) -> None:
        answer = self.token.ask("DELETE", self._path(live["kind"], live["metadata"]["name"]))
        self._note("delete", live["kind"], answer)

    def _emit(self, _namespace: str, event: dict[str, Any]) -> None:
        meta = {**event["metadata"], "namespace": self.namespace}
        about = {**event["regarding"], "namespace": self.namespace}
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        answer = self.token.ask("POST", path, {**event, "metadata": meta, "regarding": about})
        self._note("create", "Event", answer)

    def _repeat(self, _namespace: str, name: str, series: dict[str, Any]) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events/{name}"
        self._note("patch", "Event", self.token.ask("PATCH", path, {"series": series}, MERGE))

    def _have_router_pod(self, path: str, name: str) -> None:
        """What the ReplicaSet's controller would have made of the routers' Deployment."""
        if self.api.ask("GET", path).code == 404:
            group = name.rpartition("-pod-")[0]
            routers = self.api.must("GET", self._path("Deployment", group))
            template = routers["spec"]["template"]
            meta = {"name": name, "labels": template["metadata"]["labels"]}
            self.api.must("POST", self._path("Pod"), {"metadata": meta, "spec": template["spec"]})

    def _path(self, kind: str, name: str | None = None) -> str:
        return RESOURCES[kind].path(self.namespace, name)

    def _own(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        meta = {
            key: value for key, value in wanted["metadata"].items() if key not in ("uid", "resourceVersion")
        }
        return {**typed(wanted, wanted["kind"]), "metadata": {**meta, "namespace": self.namespace}}

    def _note(self, verb: str, kind: str, answer: Answer) -> None:
        # Nothing runs there: what a controller would have made is missing, and a version is another one.
        assert answer.code != 403, (verb, kind, answer.message)
        assert "ValidatingAdmissionPolicy" not in answer.message, (verb, kind, answer.message)
        if answer.code < 300:
            self.accepted[verb, kind] += 1


@pytest.mark.parametrize("case", SCENARIOS)
async def test_everything_that_the_operator_does_is_accepted(installed: Installed, case: str) -> None:
    world = World()
    world.audits = standing if "noise" in case else fair
    mirror = Mirror(installed, world)
    installed.model(mirror.namespace, name=NAME)
    await world.operator.start()
    for spec in SCENARIOS[case]:
        world.create(spec)
        await world.run(40)
        rollout = world.status().get("rollout")
        if rollout is not None:
            world.annotate("slipway.dev/promote-full", rollout["id"])
        await world.run(60)
    accepted = mirror.accepted
    if "resolvers" in case:
        assert accepted["create", "Pod"] + accepted["apply", "Pod"], accepted
        return
    assert world.status()["stable"] is not None
    if "audits" in case:
        # The first version is audited once more, when the audit is another one.
        assert (accepted["create", "Job"], accepted["delete", "Job"]) == (3, 3), accepted
    for kind in ("Deployment", "Service", "ServiceAccount", "HorizontalPodAutoscaler"):
        assert accepted["create", kind] + accepted["apply", kind], (kind, accepted)
    assert accepted["apply", "status"], accepted
    assert accepted["create", "Event"], accepted
    assert any(verb == "delete" for verb, _ in accepted), accepted


def test_the_lease_is_accepted(installed: Installed) -> None:
    token = installed.by(OPERATOR)
    leases = "/apis/coordination.k8s.io/v1/namespaces/slipway-system/leases"
    made = token.ask("POST", leases, {"metadata": {"name": "slipway-operator"}, "spec": {}})
    assert made.code == 201, made
    assert token.ask("PUT", f"{leases}/slipway-operator", made.body).code == 200
