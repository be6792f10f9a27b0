"""What a workload may expect of the test cluster, asked of the running one."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.images import BUSYBOX_IMAGE
from e2e.kube import Kube, Object
from e2e.ledger import PATIENCE, hold

pytestmark = pytest.mark.usefixtures("web")


def pod(name: str, command: str, labels: dict[str, str] | None = None, **container: object) -> Object:
    shell = {"name": "main", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", command], **container}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [shell]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
    }


def deployment(name: str, replicas: int, container: Object) -> Object:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", **container}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def within(namespace: str, item: Object) -> Object:
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}}


def wait_until(check: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds * PATIENCE
    while not check():
        assert time.monotonic() < end, f"{what}: not within {seconds * PATIENCE:.0f} s"
        time.sleep(0.5)


def reason(kube: Kube, namespace: str, name: str) -> str | None:
    """Why the pod's container waits or has ended."""
    status = (kube.get("pod", name, namespace) or {}).get("status", {})
    states = [
        details
        for container in status.get("containerStatuses", [])
        for details in container["state"].values()
    ]
    return states[0].get("reason") if states else None


@pytest.fixture(scope="module")
def web(kube: Kube, namespace: str) -> str:
    """Two web servers that answer their own name, behind a Service, and a pod to ask from."""
    serve = "mkdir /tmp/www; hostname > /tmp/www/name; echo ready; exec httpd -f -p 8080 -h /tmp/www"
    server = {
        "image": BUSYBOX_IMAGE,
        "command": ["/bin/sh", "-c", serve],
        "readinessProbe": {"httpGet": {"path": "/name", "port": 8080}, "periodSeconds": 1},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    objects = (deployment("web", 2, server), service, pod("client", "sleep 3600"))
    kube.apply(*(within(namespace, item) for item in objects))
    kube.wait_for_rollout("deployment/web", namespace, 60)
    kube.kubectl("wait", "--for=condition=Ready", "pod/client", "-n", namespace, "--timeout=240s")
    return "web"


@pytest.fixture
def ask(kube: Kube, namespace: str) -> Callable[[str], str]:
    """Run a shell command in the client pod; returns what it printed."""
    return lambda command: kube.kubectl("exec", "client", "-n", namespace, "--", "/bin/sh", "-c", command)


def test_a_pod_finds_a_service_by_its_short_name(ask: Callable[[str], str]) -> None:
    assert ask("timeout 20 wget -qO- http://web/name").startswith("web-")


def test_a_pod_finds_a_service_of_another_namespace(ask: Callable[[str], str]) -> None:
    assert "10.96.0.1" in ask("nslookup -type=a kubernetes.default.svc.cluster.local")


@pytest.mark.timed
def test_a_name_outside_of_the_cluster_does_not_exist_and_says_so_at_once(ask: Callable[[str], str]) -> None:
    started = time.monotonic()
    assert "NXDOMAIN" in ask("nslookup -type=a models.example 2>&1 || true")
    hold("a name outside of the cluster does not exist", time.monotonic() - started, 5)


def test_a_service_spreads_connections_over_its_pods(ask: Callable[[str], str]) -> None:
    answers = ask("for i in $(seq 30); do timeout 20 wget -qO- http://web/name; done").split()
    assert len(answers) == 30
    assert len(set(answers)) == 2


def test_a_pod_reaches_itself_through_its_service(kube: Kube, namespace: str) -> None:
    name = kube.items("pods", namespace, "app=web")[0]["metadata"]["name"]
    ask = "for i in $(seq 20); do timeout 20 wget -qO- http://web/name; done"
    assert name in kube.kubectl("exec", name, "-n", namespace, "--", "/bin/sh", "-c", ask).split()


def test_exec_returns_the_exit_code_of_the_command(kube: Kube, namespace: str) -> None:
    with pytest.raises(ClusterError, match="exit code 7"):
        kube.kubectl("exec", "client", "-n", namespace, "--", "/bin/sh", "-c", "exit 7")


def test_logs_show_what_a_pod_printed(kube: Kube, namespace: str) -> None:
    assert kube.kubectl("logs", "deployment/web", "-n", namespace).strip() == "ready"


def test_port_forward_carries_a_service_to_loopback(kube: Kube, namespace: str) -> None:
    with (
        kube.port_forward("service/web", namespace, 80) as url,
        urllib.request.urlopen(f"{url}/name", timeout=10) as answer,
    ):
        assert answer.read().startswith(b"web-")


def test_a_command_of_this_machine_reaches_a_service_from_inside_the_network(
    kube: Kube, namespace: str
) -> None:
    service = kube.get("service", "web", namespace)
    assert service is not None
    program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())"
    url = f"http://{service['spec']['clusterIP']}/name"
    inside = [sys.executable, "-m", "e2e.cluster", "run", "--", sys.executable, "-c", program, url]
    assert subprocess.check_output(inside, text=True, timeout=60).startswith("web-")


def test_a_host_path_volume_outlives_the_pod_that_wrote_it(kube: Kube, namespace: str) -> None:
    volume = f"volume-{namespace}"
    capacity = {"storage": "1Mi"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    path = {"path": f"/mnt/{namespace}", "type": "DirectoryOrCreate"}
    persistent = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume},
        "spec": {"capacity": capacity, "hostPath": path, **common},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {"resources": {"requests": capacity}, "volumeName": volume, **common},
    }
    try:
        kube.apply(persistent, claim)
        for name, command in (
            ("writer", "echo kept > /data/file"),
            ("reader", "cat /data/file; rm /data/file"),
        ):
            job = pod(name, command, volumeMounts=[{"name": "data", "mountPath": "/data"}])
            job["spec"] |= {
                "restartPolicy": "Never",
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            }
            kube.apply(within(namespace, job))
            done = f"--for=jsonpath={{.status.phase}}=Succeeded pod/{name} --timeout=120s -n {namespace}"
            kube.kubectl("wait", *done.split())
        assert kube.kubectl("logs", "reader", "-n", namespace).strip() == "kept"
    finally:
        kube.kubectl("delete", "pod/writer", "pod/reader", "pvc/data", "-n", namespace, "--ignore-not-found")
        kube.kubectl("delete", "pv", volume, "--ignore-not-found")


def test_rbac_allows_what_is_granted_and_nothing_more(kube: Kube, namespace: str, tmp_path: Path) -> None:
    in_namespace = ("-n", namespace)
    kube.kubectl("create", "serviceaccount", "reader", *in_namespace)
    kube.kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods", *in_namespace)
    account = f"{namespace}:reader"
    kube.kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={account}", *in_namespace
    )
    token = kube.kubectl("create", "token", "reader", *in_namespace).strip()
    # The administrator's certificate would win over a token: this kubeconfig has none.
    config = json.loads(kube.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    cluster = config["clusters"][0]["cluster"]
    as_reader = (f"--server={cluster['server']}", "--insecure-skip-tls-verify", f"--token={token}")
    stranger = Kube(kube.program, tmp_path / "empty.kubeconfig")
    stranger.kubeconfig.touch()
    assert "client" in stranger.kubectl("get", "pods", *in_namespace, *as_reader)
    with pytest.raises(ClusterError, match=r'cannot list resource "secrets"'):
        stranger.kubectl("get", "secrets", *in_namespace, *as_reader)
    with pytest.raises(ClusterError, match=r'cannot delete resource "pods"'):
        stranger.kubectl("delete", "pod", "client", *in_namespace, *as_reader)
    with pytest.raises(ClusterError, match=r'in the namespace "default"'):
        stranger.kubectl("get", "pods", "-n", "default", *as_reader)


def test_a_restricted_namespace_refuses_a_privileged_pod(kube: Kube) -> None:
    name = "test-restricted"
    kube.ensure_namespace(name)
    try:
        privileged = pod("privileged", "sleep 1", securityContext={"privileged": True})
        with pytest.raises(ClusterError, match=r'violates PodSecurity "restricted:latest": privileged'):
            kube.apply(within(name, privileged))
        harmless = {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        modest = pod("modest", "sleep 600", securityContext=harmless)
        kube.apply(within(name, modest))
        kube.kubectl("wait", "--for=condition=Ready", "pod/modest", "-n", name, "--timeout=120s")
    finally:
        kube.kubectl("delete", "namespace", name, "--wait=false")


def test_an_image_pinned_by_digest_needs_no_pull(kube: Kube, namespace: str) -> None:
    client = kube.get("pod", "client", namespace)
    assert client is not None
    digest = client["status"]["containerStatuses"][0]["imageID"].split("@")[-1]
    pinned = pod("pinned", "sleep 600", image=f"{BUSYBOX_IMAGE.split(':')[0]}@{digest}")
    kube.apply(within(namespace, pinned))
    kube.kubectl("wait", "--for=condition=Ready", "pod/pinned", "-n", namespace, "--timeout=120s")


def test_an_image_of_an_unknown_registry_fails_within_seconds(kube: Kube, namespace: str) -> None:
    absent = pod("absent", "sleep 600", image="registry.invalid/absent:1")
    kube.apply(within(namespace, absent))

    failed = ("ErrImagePull", "ImagePullBackOff")
    wait_until(lambda: reason(kube, namespace, "absent") in failed, 20, "the pull to fail")


def test_a_memory_limit_ends_the_container_that_exceeds_it(kube: Kube, namespace: str) -> None:
    # tail keeps the whole end of the stream that it is to print.
    hungry = pod("hungry", "exec tail -c 64m /dev/zero", resources={"limits": {"memory": "16Mi"}})
    hungry["spec"]["restartPolicy"] = "Never"
    kube.apply(within(namespace, hungry))

    wait_until(lambda: reason(kube, namespace, "hungry") == "OOMKilled", 30, "the limit to act")


def test_the_administrator_reads_the_api_servers_own_counters(kube: Kube) -> None:
    assert "apiserver_request_total{" in kube.kubectl("get", "--raw", "/metrics")


def test_an_autoscaler_adds_pods_under_load(kube: Kube, namespace: str) -> None:
    # The limit keeps the load small; the target is far below it.
    resources = {"requests": {"cpu": "20m"}, "limits": {"cpu": "100m"}}
    burn = {
        "image": BUSYBOX_IMAGE,
        "command": ["/bin/sh", "-c", "while :; do :; done"],
        "resources": resources,
    }
    burner = deployment("burner", 1, burn)
    kube.apply(within(namespace, burner))
    kube.kubectl("autoscale", "deployment", "burner", "-n", namespace, "--cpu=50%", "--min=1", "--max=2")
    try:

        def replicas() -> int:
            found = kube.get("deployment", "burner", namespace)
            return int((found or {})["spec"]["replicas"])

        wait_until(lambda: replicas() == 2, 90, "the second pod")
    finally:
        kube.kubectl("delete", "hpa/burner", "deployment/burner", "-n", namespace)
