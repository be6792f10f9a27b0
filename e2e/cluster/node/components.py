"""The components of a node: their commands, their configuration, and how each shows that it is well."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.images import PAUSE_IMAGE
from e2e.cluster.node.layout import (
    API_PORT,
    DNS_ADDRESS,
    POD_CIDR,
    SERVICE_CIDR,
    Layout,
    Member,
)
from e2e.cluster.node.pki import component_kubeconfig

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
SOCKET = "SOCKET"
# Pods come and go in tests: autoscaling decides in seconds rather than minutes.
AUTOSCALING = (
    "--horizontal-pod-autoscaler-sync-period=5s",
    "--horizontal-pod-autoscaler-downscale-stabilization=30s",
    "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=30s",
)


@dataclass(frozen=True)
class Component:
    """A program that runs on one node for as long as the node does."""

    name: str
    member: int
    argv: tuple[str, ...]
    files: Mapping[Path, str] = field(default_factory=dict)
    """Configuration written before the start; a change of it is a reason to start anew."""
    health: str | None = None
    """A URL inside the node that answers 200 when all is well, or the path of a socket that then accepts."""
    grace: float = 5
    """Seconds to end by itself."""
    listen: int | None = None
    """Port on this machine's loopback whose socket takes the place of `SOCKET` in the command."""

    @property
    def label(self) -> str:
        return f"{self.name}-{self.member}"


def control_plane(layout: Layout, programs: Path) -> list[Component]:
    """etcd, the API server, the controllers and the scheduler, all on the first node."""
    first, pki = layout.member(0), layout.pki
    api = component_kubeconfig
    controllers, scheduler = layout.configs / "controller-manager.conf", layout.configs / "scheduler.conf"
    policy = layout.configs / "audit-policy.json"
    return [
        Component(
            "etcd",
            0,
            (
                str(programs / "etcd"),
                f"--data-dir={layout.state / 'etcd'}",
                # A test cluster can be made again; a disk that is slow to sync must not fail its tests.
                "--unsafe-no-fsync",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--log-level=warn",
            ),
            health="http://127.0.0.1:2379/health",
        ),
        Component(
            "kube-apiserver",
            0,
            _api_server(layout, programs, policy),
            {policy: json.dumps(_audit_policy(), indent=2)},
            health="https://127.0.0.1:6443/livez",
        ),
        Component(
            "kube-controller-manager",
            0,
            (
                str(programs / "kube-controller-manager"),
                f"--kubeconfig={controllers}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={pki / 'sa.key'}",
                f"--root-ca-file={pki / 'ca.crt'}",
                f"--cluster-signing-cert-file={pki / 'ca.crt'}",
                f"--cluster-signing-key-file={pki / 'ca.key'}",
                "--leader-elect=true",
                "--profiling=false",
                "--bind-address=127.0.0.1",
                *AUTOSCALING,
            ),
            {controllers: api(layout, "controller-manager", first.address)},
            health="https://127.0.0.1:10257/healthz",
        ),
        Component(
            "kube-scheduler",
            0,
            (
                str(programs / "kube-scheduler"),
                f"--kubeconfig={scheduler}",
                "--leader-elect=true",
                "--profiling=false",
                "--bind-address=127.0.0.1",
            ),
            {scheduler: api(layout, "scheduler", first.address)},
            health="https://127.0.0.1:10259/healthz",
        ),
    ]


def api_forward(layout: Layout, program: Path, port: int) -> Component:
    """The way from this machine's loopback to the API server."""
    address = f"{layout.member(0).address}:{API_PORT}"
    return Component("forward", 0, (str(program), SOCKET, address), listen=port)


def container_runtime(layout: Layout, member: Member, plugins: Path) -> Component:
    """containerd of one node, with the network of its pods."""
    config = layout.configs / f"containerd-{member.index}.toml"
    network = layout.configs / f"cni-{member.index}" / "10-pods.conflist"
    return Component(
        "containerd",
        member.index,
        ("containerd", "--config", str(config)),
        {config: _containerd(member, network.parent, plugins), network: _pod_network(member)},
        health=CONTAINERD_SOCKET,
    )


def node_agents(layout: Layout, member: Member, programs: Path) -> list[Component]:
    """kubelet and kube-proxy of one node."""
    first = layout.member(0).address
    files = {name: layout.configs / f"{name}-{member.index}" for name in ("kubelet", "kube-proxy")}
    access = {name: path.with_suffix(".conf") for name, path in files.items()}
    config = {name: path.with_suffix(".json") for name, path in files.items()}
    # The machine's resolver is out of reach; pods of the node's own network get one that knows nothing.
    resolver = layout.configs / "resolv.conf"
    return [
        Component(
            "kubelet",
            member.index,
            (
                str(programs / "kubelet"),
                f"--config={config['kubelet']}",
                f"--kubeconfig={access['kubelet']}",
                f"--hostname-override={member.name}",
                f"--node-ip={member.address}",
                f"--root-dir={member.folder / 'kubelet'}",
            ),
            {
                config["kubelet"]: json.dumps(_kubelet(layout, member, resolver), indent=2),
                access["kubelet"]: component_kubeconfig(layout, f"kubelet-{member.name}", first),
                resolver: "search .\n",
            },
            health="http://127.0.0.1:10248/healthz",
        ),
        Component(
            "kube-proxy",
            member.index,
            (str(programs / "kube-proxy"), f"--config={config['kube-proxy']}"),
            {
                config["kube-proxy"]: json.dumps(_kube_proxy(member, access["kube-proxy"]), indent=2),
                access["kube-proxy"]: component_kubeconfig(layout, "proxy", first),
            },
            health="http://127.0.0.1:10256/livez",
        ),
    ]


def network_policies(layout: Layout, member: Member, program: Path) -> Component:
    """What enforces NetworkPolicies for the pods of one node."""
    access = layout.configs / f"network-policies-{member.index}.conf"
    return Component(
        "network-policies",
        member.index,
        (str(program), f"--kubeconfig={access}", f"--node={member.name}"),
        {access: component_kubeconfig(layout, "network-policies", layout.member(0).address)},
        health="http://127.0.0.1:10258/livez",
    )


def _api_server(layout: Layout, programs: Path, policy: Path) -> tuple[str, ...]:
    pki, first = layout.pki, layout.member(0)
    return (
        str(programs / "kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--secure-port={API_PORT}",
        "--bind-address=0.0.0.0",
        f"--advertise-address={first.address}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction",
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
        "--enable-aggregator-routing=true",
        "--profiling=false",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={layout.audit}",
        "--audit-log-maxsize=50",
        "--audit-log-maxbackup=2",
    )


def _audit_policy() -> dict[str, object]:
    """Every write of Slipway's operators, by pod, and what they write into leases; nothing else."""
    operators = {"userGroups": ["system:serviceaccounts:slipway-system"]}
    written = operators | {"verbs": ["create", "update", "patch", "delete", "deletecollection"]}
    leases = {"resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]}
    rules = [{"level": "Request", **written, **leases}, {"level": "Metadata", **written}, {"level": "None"}]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": rules,
    }


def _containerd(member: Member, networks: Path, plugins: Path) -> str:
    root = member.folder / "containerd"
    # The default socket and state lie below /run, which is the node's own. Without restrict_oom_score_adj no
    # sandbox starts on a machine that lacks CAP_SYS_RESOURCE. The plugins left out make folders or warn.
    return f"""\
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{PAUSE_IMAGE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
"""


def _pod_network(member: Member) -> str:
    addresses = {
        "type": "host-local",
        # Below the node's own /run: leases of pods that a restart of the node has ended go with it.
        "dataDir": "/run/pod-addresses",
        "ranges": [[{"subnet": member.pod_cidr}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}, indent=2)


def _kubelet(layout: Layout, member: Member, resolver: Path) -> dict[str, object]:
    identity = layout.pki / f"kubelet-{member.name}"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{identity}.crt",
        "tlsPrivateKeyFile": f"{identity}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{member.pods_cgroup}",
        "failSwapOn": False,
        "failCgroupV1": False,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": str(member.folder / "pod-logs"),
        "maxPods": 250,
        # The disk is the machine's: images are collected and pods evicted only when it is all but full.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
        "shutdownGracePeriod": "0s",
        "shutdownGracePeriodCriticalPods": "0s",
        "enableProfilingHandler": False,
        "volumePluginDir": str(member.folder / "volume-plugins"),
    }


def _kube_proxy(member: Member, access: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(access)},
        "mode": "iptables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": member.name,
        # The size of the connection table belongs to the machine: leave it.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
