"""What the operator's own ServiceAccount may write, on a real API server: what Slipway makes, and no more."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from tests.policies.conftest import OPERATOR, PATHS, Installed, models
from tests.policies.control_plane import MERGE, PATCH, Manifest

_numbers = count()
CORE = "/api/v1/namespaces"
#: Of the cluster itself.
OTHERS = ("kube-system", "kube-public", "kube-node-lease")


@pytest.fixture(scope="module")
def namespace(installed: Installed) -> Iterator[str]:
    """A namespace in which the token has every right: what is refused there, the policy refuses."""
    binding = {
        "metadata": {"name": "stolen-token-with-every-right"},
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "ServiceAccount", "name": "slipway", "namespace": "slipway-system"}],
    }
    installed.api.must("POST", PATHS["ClusterRoleBinding"], binding)
    found = installed.namespace()
    for name, where in (("fraud-model", found), ("admin", found), *(("fraud-model", its) for its in OTHERS)):
        installed.api.must("POST", f"{CORE}/{where}/serviceaccounts", {"metadata": {"name": name}})
    yield found
    installed.api.must("DELETE", f"{PATHS['ClusterRoleBinding']}/stolen-token-with-every-right")


def pod(**changes: Any) -> Manifest:
    """A pod as Slipway makes it."""
    return {
        "metadata": {"name": f"p-{next(_numbers)}", "labels": {"app.kubernetes.io/managed-by": "slipway"}},
        "spec": {
            "serviceAccountName": "fraud-model",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "server",
                    "image": "slipway.dev/server",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                }
            ],
            **changes,
        },
    }


def secured(**changes: Any) -> list[Manifest]:
    """Containers whose security is another."""
    [found] = copy.deepcopy(pod()["spec"]["containers"])
    found["securityContext"] |= changes
    return [found]


def volume(**source: Any) -> Manifest:
    return {"volumes": [{"name": "v", **source}]}


TOKEN = {"serviceAccountToken": {"path": "token"}}
#: Changes of a pod that none of Slipway's has.
BAD: dict[str, Manifest] = {
    "host network": {"hostNetwork": True},
    "host pid": {"hostPID": True},
    "host ipc": {"hostIPC": True},
    "a node by name": {"nodeName": "control-plane"},
    "the node's disk": volume(hostPath={"path": "/"}),
    "nfs": volume(nfs={"server": "a", "path": "/"}),
    "csi": volume(csi={"driver": "any"}),
    "a token": {"automountServiceAccountToken": True},
    "a token by default": {"automountServiceAccountToken": None},
    "a token by a volume": volume(projected={"sources": [TOKEN]}),
    "a token for the API server": volume(
        projected={"sources": [{"serviceAccountToken": {"path": "t", "audience": "https://kubernetes"}}]}
    ),
    "another account": {"serviceAccountName": "admin"},
    "root": {"securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}}},
    "maybe root": {"securityContext": {"runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}}},
    "no security": {"securityContext": None},
    "no seccomp": {"securityContext": {"runAsNonRoot": True, "runAsUser": 1}},
    "unconfined": {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1,
            "seccompProfile": {"type": "Unconfined"},
        }
    },
    "privileged": {"containers": secured(privileged=True, allowPrivilegeEscalation=True)},
    "escalation": {"containers": secured(allowPrivilegeEscalation=True)},
    "escalation by default": {"containers": secured(allowPrivilegeEscalation=None)},
    "capabilities": {"containers": secured(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]})},
    "capabilities by default": {"containers": secured(capabilities=None)},
    "a container as root": {"containers": secured(runAsUser=0)},
    "a container maybe as root": {"containers": secured(runAsNonRoot=False)},
    "a container unconfined": {"containers": secured(seccompProfile={"type": "Unconfined"})},
    "a container of no security": {"containers": [{"name": "a", "image": "a"}]},
    "a first container of no security": {"initContainers": [{"name": "a", "image": "a"}]},
    "a port of the node": {
        "containers": [{**secured()[0], "ports": [{"containerPort": 1, "hostPort": 1, "protocol": "TCP"}]}]
    },
    "selinux": {"containers": secured(seLinuxOptions={"type": "spc_t"})},
}
#: Changes that are as restricted, which clouds and meshes make.
GOOD: dict[str, Manifest] = {
    "as it is": {},
    "a cloud's token": volume(
        projected={"sources": [{"serviceAccountToken": {"path": "t", "audience": "sts.amazonaws.com"}}]}
    ),
    "a claim": volume(persistentVolumeClaim={"claimName": "models"}),
    "a Secret": volume(secret={"secretName": "keys"}),
    "a sidecar that is restricted": {
        "initContainers": [{**secured(runAsUser=1337)[0], "name": "proxy", "restartPolicy": "Always"}]
    },
}


def _pods(found: Manifest) -> tuple[str, Manifest]:
    return f"{CORE}/{{}}/pods", found


def _deployments(found: Manifest) -> tuple[str, Manifest]:
    labels = {**found["metadata"]["labels"], "app": found["metadata"]["name"]}
    template = {"metadata": {"labels": labels}, "spec": found["spec"]}
    spec = {"selector": {"matchLabels": {"app": labels["app"]}}, "template": template}
    return "/apis/apps/v1/namespaces/{}/deployments", {"metadata": found["metadata"], "spec": spec}


def _jobs(found: Manifest) -> tuple[str, Manifest]:
    template = {"spec": {**found["spec"], "restartPolicy": "Never"}}
    return "/apis/batch/v1/namespaces/{}/jobs", {
        "metadata": found["metadata"],
        "spec": {"template": template},
    }


KINDS = [_pods, _deployments, _jobs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", BAD)
def test_a_pod_that_is_not_restricted_is_refused_in_every_shape(
    installed: Installed, namespace: str, case: str, kind: Callable[[Manifest], tuple[str, Manifest]]
) -> None:
    path, wanted = kind(pod(**BAD[case]))
    answer = installed.by(OPERATOR).ask("POST", path.format(namespace), wanted)
    assert (answer.code, "'slipway-operator'" in answer.message) == (403, True), answer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", GOOD)
def test_a_restricted_pod_is_accepted_in_every_shape(
    installed: Installed, namespace: str, case: str, kind: Callable[[Manifest], tuple[str, Manifest]]
) -> None:
    path, wanted = kind(pod(**GOOD[case]))
    answer = installed.by(OPERATOR).ask("POST", path.format(namespace), wanted)
    assert answer.code == 201, answer


def test_a_deployment_of_slipways_does_not_become_a_bad_one(installed: Installed, namespace: str) -> None:
    path, wanted = _deployments(pod())
    made = installed.by(OPERATOR).ask("POST", path.format(namespace), wanted)
    assert made.code == 201, made
    place = f"{path.format(namespace)}/{made.body['metadata']['name']}"
    operations = [{"op": "add", "path": "/spec/template/spec/hostNetwork", "value": True}]
    assert installed.by(OPERATOR).ask("PATCH", place, operations, PATCH).code == 403
    assert installed.by(OPERATOR).ask("DELETE", place).code == 200


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("where", OTHERS)
def test_nothing_is_written_in_the_clusters_own_namespaces(installed: Installed, where: str) -> None:
    label = {"app.kubernetes.io/managed-by": "slipway"}
    for path, wanted in (
        _pods(pod()),
        _deployments(pod()),
        (f"{CORE}/{{}}/configmaps", {"metadata": {"name": "c", "labels": label}}),
        (f"{CORE}/{{}}/serviceaccounts", {"metadata": {"name": "c", "labels": label}}),
        ("/apis/coordination.k8s.io/v1/namespaces/{}/leases", {"metadata": {"name": "c"}}),
    ):
        answer = installed.by(OPERATOR).ask("POST", path.format(where), wanted)
        assert (answer.code, "writes no" in answer.message) == (403, True), answer


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/namespaces/{}/secrets", {"metadata": {"name": "s"}}),
        ("/api/v1/namespaces", {"metadata": {"name": "new"}}),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": "r"}, "rules": []}),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
            {
                "metadata": {"name": "r"},
                "roleRef": {"kind": "ClusterRole", "name": "admin", "apiGroup": "rbac.authorization.k8s.io"},
            },
        ),
        ("/apis/apps/v1/namespaces/{}/daemonsets", None),
        ("/api/v1/namespaces/{}/serviceaccounts/fraud-model/token", {"spec": {"audiences": []}}),
        ("/apis/coordination.k8s.io/v1/namespaces/{}/leases", {"metadata": {"name": "c"}}),
    ],
)
def test_other_things_are_none_of_the_operators(
    installed: Installed, namespace: str, path: str, body: Manifest | None
) -> None:
    if body is None:
        labels = {"app": "d"}
        template = {"metadata": {"labels": labels}, "spec": pod()["spec"]}
        body = {
            "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        }
    answer = installed.by(OPERATOR).ask("POST", path.format(namespace), body)
    assert (answer.code, "'slipway-operator'" in answer.message) == (403, True), answer


def test_what_others_made_is_neither_changed_nor_taken_nor_deleted(
    installed: Installed, namespace: str
) -> None:
    path = f"{CORE}/{namespace}/configmaps"
    installed.api.must("POST", path, {"metadata": {"name": "theirs"}, "data": {"a": "1"}})
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "slipway"}}}
    token = installed.by(OPERATOR)
    assert token.ask("PATCH", f"{path}/theirs", {"data": {"a": "2"}}, MERGE).code == 403
    assert token.ask("PATCH", f"{path}/theirs", label, MERGE).code == 403
    assert token.ask("DELETE", f"{path}/theirs").code == 403
    assert token.ask("DELETE", path).code == 403
    assert token.ask("POST", path, {"metadata": {"name": "unmarked"}}).code == 403


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "LoadBalancer", "ports": [{"port": 80}]},
        {"type": "NodePort", "ports": [{"port": 80}]},
        {"type": "ExternalName", "externalName": "evil.example.com"},
        {"externalIPs": ["10.0.0.1"], "ports": [{"port": 80}]},
    ],
)
def test_a_service_leads_nowhere_else(installed: Installed, namespace: str, spec: Manifest) -> None:
    meta = {"name": "s", "labels": {"app.kubernetes.io/managed-by": "slipway"}}
    answer = installed.by(OPERATOR).ask(
        "POST", f"{CORE}/{namespace}/services", {"metadata": meta, "spec": spec}
    )
    assert (answer.code, "type ClusterIP" in answer.message) == (403, True), answer


def test_a_service_account_gets_no_cloud_role(installed: Installed, namespace: str) -> None:
    path = f"{CORE}/{namespace}/serviceaccounts"
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/admin"}
    meta = {"name": "cloud-model", "labels": {"app.kubernetes.io/managed-by": "slipway"}}
    token = installed.by(OPERATOR)
    assert token.ask("POST", path, {"metadata": {**meta, "annotations": role}}).code == 403
    assert token.ask("POST", path, {"metadata": meta}).code == 201
    given = {"metadata": {"annotations": role}}
    assert token.ask("PATCH", f"{path}/cloud-model", given, MERGE).code == 403
    installed.api.must("PATCH", f"{path}/cloud-model", given, MERGE)
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert token.ask("PATCH", f"{path}/cloud-model", labels, MERGE).code == 200, "what people gave stays"


def test_a_modeldeployment_is_never_changed_and_its_status_is(installed: Installed, namespace: str) -> None:
    model = installed.model(namespace, name="mine")
    token = installed.by(OPERATOR)
    assert token.ask("PATCH", model.path, {"spec": {"scaling": {"minReplicas": 2}}}, MERGE).code == 403
    assert token.ask("DELETE", model.path).code == 403
    assert token.ask("DELETE", models(namespace)).code == 403
    assert token.ask("PATCH", f"{model.path}/status", {"status": {"replicas": 1}}, MERGE).code == 200


def test_others_are_not_held_to_it(installed: Installed, namespace: str) -> None:
    installed.api.must("POST", f"{CORE}/kube-system/configmaps", {"metadata": {"name": "anybodys"}})
    path, wanted = _deployments(pod(**BAD["host network"]))
    installed.api.must("POST", path.format(namespace), wanted)
