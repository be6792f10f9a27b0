"""Where ModelDeployments are broken and fixed: a namespace, and a web server with models."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from e2e.kube import Kube, Object
from e2e.ledger import hold
from e2e.tests import models
from e2e.tests.conditions import (
    condition,
    events,
    explain,
    wait_for_condition,
    wait_for_event,
    wait_until_ready,
)
from e2e.tests.installation import temporary_namespace
from e2e.tests.pods import Shelf, Web
from e2e.tests.registry import Registry

#: Until a failure shows its reason, and until what was fixed serves: both without a restart of the operator.
REPORT_SECONDS, RECOVERY_SECONDS = 60, 150
#: Little CPU is asked for, so that all of them fit on a small node at once.
SMALL = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}}

GOOD = models.iris().SerializeToString()


@dataclass(frozen=True)
class Stage:
    """What the bad cases share. Each calls its ModelDeployment by a name of its own."""

    kube: Kube
    mlflow: Registry
    namespace: str
    token: str
    """Part of the names of what does not live in the namespace."""
    volumes: Path
    """A folder of this machine that nodes see at /mnt."""
    web: Web
    shelf: Shelf
    server_image: str
    leaving: ExitStack
    """What is to be cleaned up at the end."""

    @property
    def registered(self) -> str:
        """A model in MLflow that is fine; its alias is champion."""
        return f"iris-{self.token}"

    @property
    def good_uri(self) -> str:
        return f"mlflow://{self.registered}@champion"

    def create(
        self,
        name: str,
        uri: str,
        *,
        namespace: str | None = None,
        runtime: Mapping[str, Any] | None = None,
        digest: str | None = None,
        secret: str | None = None,
    ) -> None:
        """Apply a ModelDeployment."""
        model: Object = {"uri": uri}
        if digest:
            model["digest"] = digest
        if secret:
            model["credentials"] = {"secretRef": {"name": secret}}
        self.kube.apply(
            {
                "apiVersion": "slipway.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": name, "namespace": namespace or self.namespace},
                "spec": {"model": model, "runtime": {**SMALL, **(runtime or {})}},
            }
        )

    def patch(self, name: str, spec: Mapping[str, Any], namespace: str | None = None) -> None:
        """Change a ModelDeployment's spec by a merge patch."""
        self.kube.kubectl(
            "patch",
            "modeldeployment",
            name,
            f"--namespace={namespace or self.namespace}",
            "--type=merge",
            f"--patch={json.dumps({'spec': spec})}",
        )

    def fails(
        self,
        name: str,
        part: str,
        reason: str,
        says: str,
        *,
        namespace: str | None = None,
        serving: bool = False,
    ) -> Object:
        """The failure is told within a minute: by the condition it belongs to, by Ready, and by an Event.

        `serving`: the ModelDeployment has a revision that goes on serving, so that Ready stays True.
        """
        where, began = namespace or self.namespace, time.monotonic()
        found = wait_for_condition(
            self.kube, name, part, "False", reason, namespace=where, within=REPORT_SECONDS
        )
        told, ready = condition(found, part), condition(found, "Ready")
        assert says in told["message"], told
        assert told["observedGeneration"] == found["metadata"]["generation"], told
        if serving:
            assert ready["status"] == "True", ready
        else:
            assert (ready["status"], ready["reason"]) == ("False", reason), ready
        event = wait_for_event(self.kube, name, reason, namespace=where)
        assert says in event["message"], event
        hold(f"{name}: {reason} is reported", time.monotonic() - began, REPORT_SECONDS)
        return found

    def recovers(self, name: str, namespace: str | None = None) -> None:
        """It serves once fixed; then it is deleted, to make room."""
        where, began = namespace or self.namespace, time.monotonic()
        wait_until_ready(self.kube, name, where, within=RECOVERY_SECONDS)
        wait_for_event(self.kube, name, "Serving", "Normal", namespace=where)
        told = Counter(
            event["reason"] for event in events(self.kube, name, where) if event["type"] == "Warning"
        )
        # However often it was tried again meanwhile, a failure is told once.
        assert max(told.values(), default=0) <= 1, told
        hold(f"{name}: fixed, it serves", time.monotonic() - began, RECOVERY_SECONDS)
        self.kube.kubectl("delete", "modeldeployment", name, f"--namespace={where}", "--wait=false")

    def own_namespace(self, prefix: str) -> str:
        """One more namespace, deleted at the end."""
        return self.leaving.enter_context(temporary_namespace(self.kube, prefix))

    def secret(self, name: str, keys: Mapping[str, str], namespace: str | None = None) -> str:
        """Create or change a Secret with these keys; returns its name."""
        where = {"name": name, "namespace": namespace or self.namespace}
        self.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": where, "stringData": dict(keys)})
        return name

    def trusting(self, name: str) -> str:
        """A Secret that trusts the web server, and enters nothing."""
        return self.secret(name, {"ca.crt": self.web.authority})

    def claim(self, name: str) -> Path:
        """Create a PersistentVolumeClaim bound to a folder of this machine; returns that folder."""
        volume = f"{name}-{self.token}"
        self.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteMany"],
                    "hostPath": {"path": f"/mnt/{volume}"},
                    "storageClassName": "",
                    "claimRef": {"name": name, "namespace": self.namespace},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "accessModes": ["ReadWriteMany"],
                    "resources": {"requests": {"storage": "1Gi"}},
                    "storageClassName": "",
                    "volumeName": volume,
                },
            },
        )
        self.leaving.callback(self.kube.kubectl, "delete", "persistentvolume", volume, "--wait=false")
        return self.folder(name)

    def folder(self, claim: str) -> Path:
        """The folder behind a claim, which may be filled before there is a claim."""
        folder = self.volumes / f"{claim}-{self.token}"
        folder.mkdir(parents=True, exist_ok=True)
        self.leaving.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def explain(self, name: str) -> str:
        return explain(self.kube, name, self.namespace)


Case = Callable[[Stage], None]


def collecting(cases: list[Case]) -> Callable[[Case], Case]:
    """A decorator that adds to these cases."""

    def collect(function: Case) -> Case:
        cases.append(function)
        return function

    return collect


def question() -> Object:
    """A request for `models.iris`, in the words of the Open Inference Protocol."""
    rows = models.flowers()
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP32", "data": rows.flatten().tolist()}
    return {"inputs": [tensor]}


def answers(regularization: float = 1.0) -> dict[str, np.ndarray]:
    """What onnxruntime itself answers to that, by output name."""
    session = onnxruntime.InferenceSession(models.iris(regularization).SerializeToString())
    found = session.run(None, {"X": models.flowers()})
    return dict(zip((output.name for output in session.get_outputs()), found, strict=True))
