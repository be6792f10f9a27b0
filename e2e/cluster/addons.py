"""What runs in the cluster from the start, and kubectl to put it there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from e2e.cluster.command import run, wait_until
from e2e.cluster.errors import ClusterError

MANIFESTS = Path(__file__).resolve().parent / "manifests"


@dataclass(frozen=True)
class Kubectl:
    """kubectl of the cluster's own version, as its administrator."""

    program: Path
    kubeconfig: Path

    def __call__(self, *words: str, stdin: str | None = None, timeout: float = 60) -> str:
        argv = [str(self.program), f"--kubeconfig={self.kubeconfig}", *words]
        return run(argv, stdin=None if stdin is None else stdin.encode(), timeout=timeout)

    def answers(self) -> bool:
        """Whether the API server takes requests now."""
        try:
            return self("get", "--raw", "/readyz", "--request-timeout=2s", timeout=5) == "ok"
        except ClusterError:
            return False

    def wait_for_api(self, seconds: float) -> None:
        wait_until(self.answers, seconds, lambda: f"the API server does not answer after {seconds:.0f} s")

    def apply(self, manifest: str, values: Mapping[str, str]) -> str:
        """Apply one of the bundled manifests with its `$NAMES` filled in; returns what was applied."""
        text = Template((MANIFESTS / f"{manifest}.yaml").read_text()).substitute(values)
        owner = "--field-manager=slipway-test-cluster"
        self("apply", "--server-side", "--force-conflicts", owner, "-f", "-", stdin=text)
        return text

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that have registered."""
        found: list[dict[str, Any]] = json.loads(self("get", "nodes", "-o", "json"))["items"]
        return found

    def ready_nodes(self) -> frozenset[str]:
        """The names of those that are ready now."""
        return frozenset(
            node["metadata"]["name"] for node in self.nodes() if _ready(node).get("status") == "True"
        )

    def wait_for_nodes(self, names: Sequence[str], seconds: float) -> None:
        """Wait until exactly these nodes have registered and are ready."""
        waiting = dict.fromkeys(names, "not registered")

        def ready() -> bool:
            for node in self.nodes():
                state = _ready(node)
                waiting[node["metadata"]["name"]] = state.get("message", "no status")
                if state.get("status") == "True":
                    del waiting[node["metadata"]["name"]]
            return not waiting

        wait_until(ready, seconds, lambda: f"nodes are not ready after {seconds:.0f} s: {waiting}", pause=0.3)

    def wait_for_deployment(self, namespace: str, name: str, seconds: float) -> None:
        where = (f"deployment/{name}", f"--namespace={namespace}")
        self("rollout", "status", *where, f"--timeout={seconds:.0f}s", timeout=seconds + 10)

    def wait_for_metrics(self, nodes: int, seconds: float) -> None:
        """Wait until metrics-server answers through the API server with figures of every node."""

        def measured() -> bool:
            try:
                answer = self("get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes", "--request-timeout=3s")
            except ClusterError:
                return False
            return len(json.loads(answer)["items"]) >= nodes

        wait_until(
            measured, seconds, lambda: f"no figures of metrics-server after {seconds:.0f} s", pause=0.5
        )


def _ready(node: dict[str, Any]) -> dict[str, str]:
    """The node's condition Ready; empty before it has one."""
    found: list[dict[str, str]] = node["status"].get("conditions", [])
    return next((condition for condition in found if condition["type"] == "Ready"), {})
