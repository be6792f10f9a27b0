"""An API server with the chart's CRD, roles and policies, and people with rights in its namespaces."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import yaml

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import HELM, Tools
from tests.policies.control_plane import (
    IN_FORCE,
    MERGE,
    Answer,
    Api,
    Manifest,
    control_plane,
    wait_until,
)

CHART = Path(__file__).parents[2] / "charts/slipway"
POLICIES = {"approvals": True, "borrowing": True, "operator": {"enabled": True}}
ROOT = "/apis/slipway.dev/v1alpha1"
#: Paths of what the chart has, by kind.
PATHS = {
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": (
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
    ),
}
PATHS |= {
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/slipway-system/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/slipway-system/rolebindings",
}
_RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces"
OPERATOR = "system:serviceaccount:slipway-system:slipway"
#: A rollout that waits at its second step, as the operator reports it.
ROLLOUT = {
    "phase": "Paused",
    "revision": "bbbbbbbbbb",
    "id": "bbbbbbbbbb.1",
    "step": 1,
    "startedAt": "2026-11-24T12:00:00Z",
    "stepStartedAt": "2026-11-24T12:04:00Z",
}
REJECTED = {
    "revision": "cccccccccc",
    "digest": "sha256:" + "1" * 64,
    "id": "cccccccccc.1",
    "rejectedAt": "2026-11-24T11:00:00Z",
    "message": "gate error-rate",
}


@functools.cache
def rendered() -> list[Manifest]:
    """The chart with every policy."""
    tools = Tools(read_settings().cache)
    helm = shutil.which("helm", path=f"{tools.bin}{os.pathsep}{os.environ['PATH']}") or str(
        tools.install(HELM)
    )
    words = [helm, "template", "slipway", str(CHART), "--namespace=slipway-system", "--values=-"]
    done = subprocess.run(
        [*words, "--kube-version=v1.34.4"],
        input=json.dumps({"policies": POLICIES}),
        capture_output=True,
        text=True,
        check=True,
    )
    return [found for found in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if found]


@dataclass(frozen=True)
class Installed:
    """The API server, and what tests ask of it.

    Attributes:
        api: as an administrator.
    """

    api: Api
    _numbers: Iterator[int] = field(default_factory=count)

    def by(self, user: str) -> Api:
        """As somebody; see ``people`` for who may do what."""
        return self.api.by(user)

    def namespace(self, *labels: str) -> str:
        """A namespace of its own, in which the people of ``PEOPLE`` have their rights.

        ``labels`` are names below slipway.dev/, such as protected.
        """
        name = f"models-{next(self._numbers)}"
        meta = {"name": name, "labels": {f"slipway.dev/{label}": "true" for label in labels}}
        self.api.must("POST", "/api/v1/namespaces", {"metadata": meta})
        for role, users in PEOPLE.items():
            subjects = [{"kind": "User", "name": user, "apiGroup": _GROUP} for user in users]
            self.api.must(
                "POST",
                f"{_RBAC}/{name}/rolebindings",
                {
                    "metadata": {"name": role},
                    "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": _GROUP},
                    "subjects": subjects,
                },
            )
        return name

    def model(
        self,
        namespace: str,
        spec: Manifest | None = None,
        status: Manifest | None = None,
        annotations: dict[str, str] | None = None,
        name: str = "fraud",
    ) -> Model:
        """A ModelDeployment that is there, whose operator reports so."""
        found = Model(self, namespace, name)
        meta = {"name": name, "annotations": annotations or {}}
        self.api.must("POST", models(namespace), manifest(spec, meta))
        if status is not None:
            found.report(status)
        return found


@dataclass(frozen=True)
class Model:
    """A ModelDeployment, and ways to change it."""

    installed: Installed
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return f"{models(self.namespace)}/{self.name}"

    def get(self) -> Manifest:
        return self.installed.api.must("GET", self.path)

    def report(self, status: Manifest) -> None:
        """Write status as an administrator."""
        self.installed.api.must("PATCH", f"{self.path}/status", {"status": status}, MERGE)

    def merge(self, user: str, change: Manifest, **query: str) -> Answer:
        """A merge patch of a user's."""
        return self.installed.by(user).ask("PATCH", self.path, change, MERGE, **query)

    def annotate(self, user: str, name: str, value: str | None) -> Answer:
        """Set an annotation below slipway.dev/ by a merge patch; None takes it away."""
        return self.merge(user, {"metadata": {"annotations": {f"slipway.dev/{name}": value}}})

    def annotation(self, name: str) -> str | None:
        found = (self.get()["metadata"].get("annotations") or {}).get(f"slipway.dev/{name}")
        return None if found is None else str(found)


_GROUP = "rbac.authorization.k8s.io"
#: Roles, and who has them in every namespace of a test.
PEOPLE = {
    "slipway-edit": ("editor", "other", "approver", "second", "owner", "reader"),
    "slipway-approve": ("approver", "second"),
    "tests-bypass": ("owner",),
    "tests-read": ("reader", "owner"),
    "tests-config-maps": ("editor", "owner"),
    "tests-pods": ("reader", "owner"),
}
ROLES = {
    "tests-bypass": [
        {"apiGroups": ["slipway.dev"], "resources": ["modeldeployments/approval"], "verbs": ["bypass"]}
    ],
    "tests-read": [{"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get"]}],
    "tests-config-maps": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["update", "patch", "delete"]}
    ],
    "tests-pods": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]},
        {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["create"]},
    ],
}


def models(namespace: str) -> str:
    return f"{ROOT}/namespaces/{namespace}/modeldeployments"


def manifest(spec: Manifest | None = None, meta: Manifest | None = None) -> Manifest:
    whole = {"model": {"uri": "mlflow://fraud/1"}, **(spec or {})}
    found = {"name": "fraud", **(meta or {})}
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": found,
        "spec": whole,
    }


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The API server, with every policy in force."""
    with control_plane(tmp_path_factory.mktemp("control-plane")) as api:
        api.must("POST", "/api/v1/namespaces", {"metadata": {"name": "slipway-system"}})
        for found in rendered():
            if found["kind"] in PATHS:
                api.must("POST", PATHS[found["kind"]], found)
        for name, rules in ROLES.items():
            role = {"metadata": {"name": name}, "rules": rules}
            api.must("POST", PATHS["ClusterRole"], role)
        wait_until(lambda: api.ask("GET", f"{ROOT}/modeldeployments").code == 200, IN_FORCE, "the CRD")
        it = Installed(api)
        _await_policies(it)
        yield it


def _await_policies(it: Installed) -> None:
    """Each has refused something, so that what a test sees accepted was looked at."""
    plain, strict = it.namespace(), it.namespace("protected", "four-eyes")
    signed = it.namespace("require-signature")
    credentials = {"uri": "https://a.b/c", "credentials": {"secretRef": {"name": "any"}}}
    it.model(strict, annotations={"slipway.dev/proposed-by": "admin"})
    maps = "/api/v1/namespaces/kube-system/configmaps"
    signers = f"/api/v1/namespaces/{strict}/configmaps"
    it.api.must("POST", signers, {"metadata": {"name": "signers", "labels": {"slipway.dev/signers": "true"}}})
    for name, user, method, path, body in (
        ("approvals", "editor", "POST", models(strict), manifest(meta={"name": "probe"})),
        ("protected", "editor", "DELETE", f"{models(strict)}/fraud", None),
        ("secrets", "editor", "POST", models(plain), manifest({"model": credentials})),
        ("pods", "editor", "POST", models(plain), manifest({"runtime": {"image": "a/b"}})),
        ("operator", OPERATOR, "POST", maps, {"metadata": {"name": "probe"}}),
        ("signed", "editor", "POST", models(signed), manifest(meta={"name": "probe"})),
        ("signers", "editor", "DELETE", f"{signers}/signers", None),
    ):
        wait_until(
            lambda: f"'slipway-{name}'" in it.by(user).ask(method, path, body, dryRun="All").message,  # noqa: B023
            IN_FORCE,
            f"policy {name} is in force",
        )
