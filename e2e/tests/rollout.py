"""One ModelDeployment through its rollouts: what it says, commands to it, and models that differ a little."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto

from e2e.cluster.command import run
from e2e.kube import Kube, Object
from e2e.load.client import Plan
from e2e.tests.conditions import condition, explain, wait_for
from e2e.tests.test_figures_rolling import times

RESOURCES = {"requests": {"cpu": "10m", "memory": "64Mi"}}
#: No revision outlives its turn for long.
QUICK = {"scaleDownDelaySeconds": 10, "abortScaleDownDelaySeconds": 5}
LOOKS = {"intervalSeconds": 5}


@dataclass(frozen=True)
class Rollout:
    """A ModelDeployment of one pod, by name."""

    kube: Kube
    namespace: str
    name: str

    def apply(self, uri: str, rollout: Mapping[str, Any], **spec: Any) -> None:
        """Create it, or change it to this."""
        self.kube.apply(
            {
                "apiVersion": "slipway.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {
                    "model": {"uri": uri, "refreshSeconds": 0},
                    "runtime": {"resources": RESOURCES, "requestTimeoutMilliseconds": 8000},
                    "scaling": {"maxReplicas": 1},
                    "rollout": {**QUICK, **rollout},
                    **spec,
                },
            }
        )

    def change(self, uri: str) -> None:
        """Ask for another model."""
        patch = json.dumps({"spec": {"model": {"uri": uri}}})
        where = (f"--namespace={self.namespace}", "--type=merge")
        self.kube.kubectl("patch", "modeldeployment", self.name, *where, f"--patch={patch}")

    def say(self, command: str, *words: str) -> str:
        """What `kubectl slipway` answers to a command."""
        where = (f"--namespace={self.namespace}", f"--kubeconfig={self.kube.kubeconfig}")
        argv = [sys.executable, "-m", "slipway.cli.main", command, self.name, *where, *words]
        return run(argv, timeout=120)

    def found(self) -> Object:
        return self.kube.get("modeldeployment", self.name, self.namespace) or {}

    def status(self) -> Object:
        status: Object = self.found().get("status", {})
        return status

    def phase(self) -> str:
        return str(self.status().get("rollout", {}).get("phase", ""))

    def stable(self) -> str:
        """Version that clients reach."""
        return str(self.status().get("stable", {}).get("version", ""))

    def canary(self) -> str:
        """Version that is on trial; empty where none is."""
        return str(self.status().get("canary", {}).get("version", ""))

    def says(self, type_: str) -> str:
        """Status of a condition."""
        return str(condition(self.found(), type_).get("status", ""))

    def wait_for_stable(self, version: str, within: float = 120) -> None:
        """Wait until a version has all traffic and no other one is on trial."""
        self._wait(lambda: self.stable() == version and not self.canary(), within, f"{version} is not stable")

    def wait_for_canary(self, version: str, within: float = 120) -> None:
        self._wait(lambda: self.canary() == version, within, f"{version} is not on trial")

    def wait_for_phase(self, phase: str, within: float = 120) -> None:
        self._wait(lambda: self.phase() == phase, within, f"the rollout is not {phase}")

    def wait_for_weight(self, weight: int, within: float = 120) -> None:
        """Wait until the canary gets this share and the rollout waits for somebody."""
        self._wait(
            lambda: self.status().get("canaryWeight") == weight and self.phase() == "Paused",
            within,
            f"the canary does not get {weight}%",
        )

    def wait_for_rejection(self, within: float = 180) -> str:
        """Wait until no canary is left because one was rejected; why that was."""
        self._wait(lambda: self.status().get("rejected") and not self.canary(), within, "nothing is rejected")
        return str(self.status()["rejected"][-1]["message"])

    def wait_until_synced(self) -> None:
        """Wait until the Service leads to routers."""

        def synced() -> bool:
            service = self.kube.get("service", self.name, self.namespace) or {}
            selector = service.get("spec", {}).get("selector", {})
            return "slipway.dev/revision" not in selector and self.says("TrafficSynced") == "True"

        self._wait(synced, 120, "the Service does not lead to routers")

    def load(self, answers: Mapping[str, int | None], rate: float = 60.0) -> Plan:
        """Requests in turn, and what each version multiplies them by."""
        rows = [[float(index), float(index + 1), float(-index)] for index in range(16)]
        return Plan(
            url=f"http://{self.name}.{self.namespace}.svc/v2/models/{self.name}/infer",
            inputs=[[tensor("x", row)] for row in rows],
            answers={
                version: [[tensor("y", [value * factor for value in row])] for row in rows]
                for version, factor in answers.items()
                if factor is not None
            },
            rate=rate,
            kept=6,
            patient=1,
            fresh=2,
        )

    def _wait(self, check: Any, within: float, words: str) -> None:
        wait_for(check, within, lambda: f"{words}\n{explain(self.kube, self.name, self.namespace)}\n")


def tensor(name: str, row: list[float]) -> dict[str, Any]:
    """A row of three numbers in the words of the Open Inference Protocol."""
    return {"name": name, "datatype": "FP32", "shape": [1, len(row)], "data": row}


def again(factor: int, words: str) -> ModelProto:
    """As `times`, with a digest of its own."""
    made = times(factor)
    made.doc_string = words
    return made
