"""etcd, the API server, its controllers and the operator, as processes of the bench."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.command import wait_until
from e2e.cluster.errors import ClusterError
from e2e.cluster.node.components import control_plane
from e2e.cluster.node.layout import API_PORT, Layout
from e2e.cluster.node.pki import (
    component_kubeconfig,
    control_plane_identities,
    make_authority,
    make_certificate,
)
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import HELM, Tools
from e2e.helm import NAMESPACE, RELEASE, Helm
from e2e.kube import Kube

ROOT = Path(__file__).resolve().parents[2]
SERVER = f"https://127.0.0.1:{API_PORT}"
ETCD = "http://127.0.0.1:2379"
#: etcd's counters of bytes, and what they are called here.
_BYTES = {
    "etcd_disk_wal_write_bytes_total": "written",
    "etcd_network_client_grpc_received_bytes_total": "sent",
}
PROMETHEUS = "http://198.19.0.1:9090"
OPERATOR_USER = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
METRICS_PORT = 8082
START_SECONDS = 180.0
#: Without a metrics server, the autoscaler's controller would tell of nothing but that; without leases of
#: nodes, that of their life would evict all pods.
_CONTROLLERS = (
    "--controllers=*,-horizontal-pod-autoscaler-controller,-node-lifecycle-controller",
    "--kube-api-qps=400",
    "--kube-api-burst=800",
    "--concurrent-deployment-syncs=10",
    "--concurrent-replicaset-syncs=10",
)
_VALUES = {
    "rollouts": {"prometheus": {"addresses": [PROMETHEUS]}},
    "metrics": {"serviceMonitor": {"enabled": False}},
}
#: Every request of the operator; and of the bench, what makes or deletes an object that the operator sees.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "Metadata", "users": [OPERATOR_USER]},
        {
            "level": "Metadata",
            "users": ["admin"],
            "verbs": ["create", "delete"],
            "resources": [
                {"group": "", "resources": ["services"]},
                {"group": "slipway.dev", "resources": ["modeldeployments"]},
            ],
        },
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Usage:
    """What a process has used and holds.

    Attributes:
        cpu: seconds on a core since its start, of all threads.
        rss: bytes resident now.
        top: bytes resident at most since its start.
    """

    cpu: float
    rss: int
    top: int


def usage_of(pid: int) -> Usage:
    """Of one process that runs now."""
    folder = Path(f"/proc/{pid}")
    stat = (folder / "stat").read_text()
    user, system = stat[stat.rindex(")") + 2 :].split()[11:13]
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    held, top = (int(status[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return Usage((int(user) + int(system)) / os.sysconf("SC_CLK_TCK"), held, top)


def bytes_into_etcd() -> Mapping[str, float]:
    """What etcd has taken since its start: bytes of its write-ahead log, and of all that clients sent."""
    with urllib.request.urlopen(f"{ETCD}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = {
        name: float(value) for name, _, value in (line.partition(" ") for line in lines) if name in _BYTES
    }
    return {_BYTES[name]: value for name, value in found.items()}


class Operator:
    """The operator, started as its image starts it, and started again as often as asked."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        """``environment``: all of it; ``log``: where it logs to."""
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it runs by itself."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "slipway.main"],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, seconds: float = 40.0) -> None:
        """As the kubelet does: SIGTERM, and SIGKILL to one that has not ended by then."""
        if self._process is not None:
            _end(self._process, seconds)
            self._process = None

    def usage(self) -> Usage:
        """Of the process that runs now.

        Raises:
            ClusterError: if it has ended, with the end of its log.
        """
        if self._process is None or self._process.poll() is not None:
            raise ClusterError(f"the operator has ended: {self._log.read_text()[-1500:]}")
        return usage_of(self._process.pid)


@dataclass(frozen=True)
class ControlPlane:
    """What runs, and how it is reached.

    Attributes:
        layout: where what is kept.
        trust: for connections to the API server, as its administrator.
        kube: kubectl, as the same.
        processes: ids of the processes, by component.
    """

    layout: Layout
    trust: ssl.SSLContext
    kube: Kube
    processes: Mapping[str, int]

    def cpu(self) -> dict[str, float]:
        """Seconds on a core of each component since its start."""
        return {name: usage_of(pid).cpu for name, pid in self.processes.items()}


def build() -> None:
    """Build what is needed and not in the cache; needs a network, once."""
    tools = Tools(read_settings().cache)
    tools.kubernetes()
    tools.install(HELM)


def api_address() -> str:
    """The address that the API server tells others; the network has to have it."""
    return Layout(read_settings()).member(0).address


@contextmanager
def control_plane_processes(folder: Path) -> Iterator[ControlPlane]:
    """Start etcd, the API server and the controllers, with all state in a folder; end them after use.

    Raises:
        ClusterError: if one of them does not become healthy.
    """
    settings = replace(read_settings(), name="fleet", state=folder, kubeconfig=folder / "kubeconfig")
    layout, programs = Layout(settings), Tools(settings.cache).kubernetes()
    make_authority(layout.pki)
    for identity in control_plane_identities(layout.member(0).address):
        make_certificate(layout.pki, identity)
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.configs.mkdir(parents=True, exist_ok=True)
    policy = layout.configs / "bench-audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    settings.kubeconfig.write_text(component_kubeconfig(layout, "admin", "127.0.0.1"))
    trust = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    trust.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    more = {
        # What ten thousand write until the API server compacts it is more than the default of 2 GiB.
        "etcd": (f"--quota-backend-bytes={8 * 1024**3}",),
        "kube-apiserver": (f"--audit-policy-file={policy}", "--audit-log-maxsize=8192"),
        "kube-controller-manager": _CONTROLLERS,
    }
    processes: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        for component in control_plane(layout, programs):
            if component.name not in more:
                continue
            for path, text in component.files.items():
                path.write_text(text)
            log = layout.logs / f"{component.name}.log"
            running = _running([*component.argv, *more[component.name]], log)
            processes[component.name] = stack.enter_context(running)
            _wait_for_health(component.health or "", log)
        yield ControlPlane(layout, trust, Kube(programs / "kubectl", settings.kubeconfig), processes)


@contextmanager
def operator_process(plane: ControlPlane) -> Iterator[Operator]:
    """Install the chart, less its Deployment, whose settings are for the process; not started yet.

    Raises:
        ClusterError: with the last words of helm or kubectl.
    """
    helm = Helm(Tools(plane.layout.settings.cache).install(HELM), Path(os.devnull))
    found = [one for one in yaml.safe_load_all(helm.template(_VALUES)) if one]
    plane.kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *(one for one in found if one["kind"] != "Deployment"),
    )
    crd = ("crd/modeldeployments.slipway.dev", "--for=condition=Established", "--timeout=60s")
    plane.kube.kubectl("wait", *crd, seconds=90)
    token = plane.kube.kubectl("create", "token", RELEASE, f"--namespace={NAMESPACE}", "--duration=24h")
    [deployment] = (one for one in found if one["kind"] == "Deployment")
    config = plane.layout.state / "operator.kubeconfig"
    config.write_text(json.dumps(_kubeconfig(plane, token.strip())))
    environment = {**_environment(deployment), "KUBECONFIG": str(config)}
    operator = Operator(environment, plane.layout.logs / "operator.log")
    try:
        yield operator
    finally:
        operator.stop(10.0)


def _environment(deployment: dict[str, Any]) -> dict[str, str]:
    """What image and chart set for the operator; what the node would fill in is made up."""
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    told = {one["name"]: str(one["value"]) for one in container["env"] if "value" in one}
    fields = {"POD_NAME": f"{RELEASE}-0", "POD_NAMESPACE": NAMESPACE, "POD_IP": "127.0.0.1"}
    path = os.pathsep.join(map(str, (ROOT / "operator", ROOT / "server")))
    image = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **image, **fields, **told}


def _kubeconfig(plane: ControlPlane, token: str) -> dict[str, Any]:
    cluster = {"server": SERVER, "certificate-authority": str(plane.layout.pki / "ca.crt")}
    return {
        "current-context": "fleet",
        "contexts": [{"name": "fleet", "context": {"cluster": "fleet", "user": "operator"}}],
        "clusters": [{"name": "fleet", "cluster": cluster}],
        "users": [{"name": "operator", "user": {"token": token}}],
    }


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[int]:
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield process.pid
    finally:
        _end(process, 10.0)


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for_health(url: str, log: Path) -> None:
    # The controllers' certificate is of their own making.
    context = ssl._create_unverified_context()

    def is_well() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def last_words() -> str:
        return f"{log.stem} is not well after {START_SECONDS:.0f} s: {log.read_text()[-1500:]}"

    wait_until(is_well, START_SECONDS, last_words, pause=0.1)
