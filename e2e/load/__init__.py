"""Load on a model from a pod inside the cluster; see `e2e.load.client`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2e.kube import Kube
from e2e.ledger import PATIENCE
from e2e.load.client import STOP, Plan

CLIENT = Path(__file__).with_name("client.py")
NAME = "load"


@dataclass(frozen=True)
class Load:
    """A load that is under way, in a pod of one namespace."""

    kube: Kube
    namespace: str

    def so_far(self) -> dict[str, Any]:
        """The account as of the last second: sent, failed, answers by model version."""
        lines = self._log("--tail=1").splitlines()
        account: dict[str, Any] = json.loads(lines[-1]) if lines else {"sent": 0, "failed": 0, "answers": {}}
        return account

    def wait_for(self, sent: int, seconds: float) -> dict[str, Any]:
        """Wait until so many requests were sent in all; `seconds` are those of a quiet machine."""
        end = time.monotonic() + seconds * PATIENCE
        while (account := self.so_far())["sent"] < sent:
            assert time.monotonic() < end, f"only {account} after {seconds * PATIENCE:.0f} s"
            time.sleep(1)
        return account

    def stop(self, seconds: float = 60) -> dict[str, Any]:
        """End the load; the whole account."""
        self.kube.kubectl("exec", NAME, f"--namespace={self.namespace}", "--", "touch", STOP)
        end = time.monotonic() + seconds * PATIENCE
        while not (account := self.so_far()).get("done"):
            assert time.monotonic() < end, f"the load does not end: {account}"
            time.sleep(0.5)
        return account

    def _log(self, *words: str) -> str:
        return self.kube.kubectl("logs", NAME, f"--namespace={self.namespace}", *words)


@contextmanager
def loading(kube: Kube, namespace: str, image: str, plan: Plan) -> Iterator[Load]:
    """Load that begins at once and ends with the block; `image` is the model server's."""
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": namespace},
            "data": {"client.py": CLIENT.read_text(), "plan.json": json.dumps(asdict(plan))},
        },
        _pod(namespace, image),
    )
    try:
        kube.kubectl(
            "wait",
            f"pod/{NAME}",
            f"--namespace={namespace}",
            "--for=condition=Ready",
            "--timeout=240s",
            seconds=270,
        )
        yield Load(kube, namespace)
    finally:
        kube.kubectl(
            "delete", f"pod/{NAME}", f"configmap/{NAME}", f"--namespace={namespace}", "--now", "--wait=false"
        )


def _pod(namespace: str, image: str) -> dict[str, Any]:
    container = {
        "name": "client",
        "image": image,
        "command": ["python", "/load/client.py", "/load/plan.json"],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "load", "mountPath": "/load"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": namespace, "labels": {"app": NAME}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "load", "configMap": {"name": NAME}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }
