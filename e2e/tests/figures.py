"""What figures are read from: the operator's own counters, and the API server's."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from e2e.kube import Kube, Object
from e2e.tests.installation import SYSTEM_NAMESPACE, Installation

LEASE = "slipway-operator"
METRICS_PORT = 8082
WRITE_VERBS = frozenset({"APPLY", "PATCH", "POST", "PUT", "DELETE", "DELETECOLLECTION"})
#: Resources that the operator writes; kubelet, autoscaler and garbage collector write to some of them, too.
WRITTEN = frozenset(
    {
        "modeldeployments",
        "controllerrevisions",
        "deployments",
        "services",
        "serviceaccounts",
        "horizontalpodautoscalers",
        "poddisruptionbudgets",
        "pods",
    }
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def operator_pods(kube: Kube) -> list[Object]:
    """The operator's pods that are not being deleted."""
    found = kube.items("pods", SYSTEM_NAMESPACE, "app.kubernetes.io/component=operator")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def leader(kube: Kube) -> str:
    """Name of the pod that holds the lease; empty while nobody does, as between two leaders."""
    found = kube.get("lease", LEASE, SYSTEM_NAMESPACE)
    return str((found or {"spec": {}})["spec"].get("holderIdentity", ""))


def operator_samples(kube: Kube, pod: str) -> Samples:
    """What one replica says at /metrics."""
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{pod}:{METRICS_PORT}/proxy/metrics"
    return _samples(kube.kubectl("get", "--raw", path))


def operator_requests(kube: Kube) -> Counter[str]:
    """Requests of all replicas by method; watches and the renewal of the lease are not among them."""
    total: Counter[str] = Counter()
    for pod in operator_pods(kube):
        for (name, labels), value in operator_samples(kube, pod["metadata"]["name"]).items():
            if name == "rest_client_requests_total":
                total[dict(labels)["method"]] += int(value)
    return total


def writes(requests: Counter[str]) -> int:
    """How many of the requests would change something."""
    return sum(count for method, count in requests.items() if method in WRITE_VERBS)


def api_server_writes(kube: Kube) -> Counter[str]:
    """Writes that the API server counted, of whomever: `VERB resource/subresource`, of the `WRITTEN` alone.

    Where a client applies on the server's side the verb is APPLY: Kubernetes' own controllers do not do so
    with these resources.
    """
    found: Counter[str] = Counter()
    metric = "apiserver_request_total"
    # Megabytes of other metrics are not worth parsing.
    lines = [
        line for line in kube.kubectl("get", "--raw", "/metrics").splitlines() if line.startswith(metric)
    ]
    for (_, labels), value in _samples("\n".join(lines)).items():
        label = dict(labels)
        if label["verb"] in WRITE_VERBS and label["resource"] in WRITTEN:
            found[f"{label['verb']} {label['resource']}/{label['subresource']}".rstrip("/")] += int(value)
    return found


def versions(kube: Kube, namespace: str) -> dict[str, str]:
    """What changes with each write of the operator to an object in a namespace.

    The generation, where Kubernetes' own controllers write status whenever a pod is slow to answer a probe;
    the resource version of all else.
    """
    kinds = "modeldeployments,controllerrevisions,deployments,services,serviceaccounts,poddisruptionbudgets"
    watched_by_others = ("Deployment", "PodDisruptionBudget")
    return {
        f"{found['kind']} {found['metadata']['name']}": str(
            found["metadata"]["generation" if found["kind"] in watched_by_others else "resourceVersion"]
        )
        for found in kube.items(kinds, namespace)
    }


def is_ready(found: Object) -> bool:
    """Whether a ModelDeployment is Ready for the spec it has now."""
    return any(
        one["type"] == "Ready"
        and one["status"] == "True"
        and one["observedGeneration"] == found["metadata"]["generation"]
        for one in found.get("status", {}).get("conditions", ())
    )


@dataclass(frozen=True)
class Killer:
    """Ends operators without a word, as a power cut does.

    Deleting a pod, even with --force, sends SIGTERM first, and the operator then hands over in good order. So
    the process is killed from a pod that sees the node's processes, as the user whom the operator runs as.
    """

    kube: Kube
    namespace: str

    def signal(self, pod: Object, number: int) -> bool:
        """Send a signal to the operator in a pod; False where no process is there."""
        words = ("exec", "killer", f"--namespace={self.namespace}", "--", "python", "-c", _KILL)
        uid = pod["metadata"]["uid"]
        told = self.kube.kubectl(*words, uid, str(int(number))).strip()
        assert told in ("0", "1"), f"{told} processes of {pod['metadata']['name']}"
        return told == "1"

    def kill(self, pod: Object, *, for_good: bool) -> bool:
        """Kill the operator in a pod; for good means that the pod goes as well and another one is made.

        False where no process is there to be killed: a pod's status says so only some time after its end.
        """
        meta = pod["metadata"]
        if not self.signal(pod, signal.SIGKILL):
            return False
        if for_good:
            gone = ("--grace-period=0", "--force", "--wait=false")
            self.kube.kubectl("delete", "pod", meta["name"], f"--namespace={meta['namespace']}", *gone)
        return True


@contextmanager
def killer(installed: Installation, namespace: str) -> Iterator[Killer]:
    """A killer in a namespace of its own, which must not be one of the restricted pod standard."""
    kube = installed.kube
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "killer", "namespace": namespace},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "killer", "namespace": namespace},
            "spec": _killer_spec(installed.operator_image),
        },
    )
    try:
        ready = ("--for=condition=Ready", "--timeout=240s")
        kube.kubectl("wait", "pod/killer", f"--namespace={namespace}", *ready, seconds=270)
        yield Killer(kube, namespace)
    finally:
        kube.kubectl("delete", "namespace", namespace, "--wait=false")


def release_lease(kube: Kube, holder: str) -> None:
    """Take the lease from a replica that is dead, so that a test need not wait until it has run out."""
    if leader(kube) == holder:
        patch = '{"spec": {"holderIdentity": ""}}'
        kube.kubectl(
            "patch", "lease", LEASE, f"--namespace={SYSTEM_NAMESPACE}", "--type=merge", f"--patch={patch}"
        )


_KILL = """
import os, sys
from pathlib import Path

killed = 0
for process in Path("/proc").glob("[0-9]*"):
    try:
        where = (process / "cgroup").read_text().replace("_", "-")
        if sys.argv[1] in where and b"slipway-operator" in (process / "cmdline").read_bytes():
            os.kill(int(process.name), int(sys.argv[2]))
            killed += 1
    except OSError:
        pass
print(killed)
"""


def _killer_spec(image: str) -> dict[str, Any]:
    return {
        "hostPID": True,
        "serviceAccountName": "killer",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "killer",
                "image": image,
                "command": ["sleep", "3600"],
                "securityContext": {
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }


def _samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
