"""The `kind` provider: Docker's containers as nodes, the same add-ons, the same verbs."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from string import Template

from e2e.cluster import images
from e2e.cluster.addons import Kubectl
from e2e.cluster.command import exclusive, run, step, tell, wait_until
from e2e.cluster.errors import ClusterError
from e2e.cluster.kind.docker import NODE_IMAGE, docker, engine_answers, find_node_image
from e2e.cluster.settings import Settings
from e2e.cluster.tools import KIND, Tools

CONFIG = Path(__file__).resolve().parent / "cluster.yaml"
PROC = Path("/proc")
CONTROL_PLANE_TAINT = "node-role.kubernetes.io/control-plane"
READY_SECONDS = 180
#: After this long without an answer the cluster is made again: a busy machine needs a good part of it.
API_SECONDS = 120.0
RUNTIME_SECONDS = 120.0


class KindProvider:
    """A cluster of Docker containers; see `e2e.cluster.provider.Provider`."""

    kind = "kind"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tools = Tools(settings.cache)

    @property
    def config(self) -> Path:
        """The configuration that the cluster was made with; its presence says that the cluster is kind's."""
        return self.settings.state / "kind.yaml"

    def up(self) -> None:
        if not shutil.which("docker"):
            raise ClusterError("kind needs Docker: install and start it, or use SLIPWAY_CLUSTER=node")
        if not engine_answers():
            raise ClusterError("Docker does not answer: start its engine, or use SLIPWAY_CLUSTER=node")
        with self._alone():
            nodes = self._nodes()
            wanted = self.settings.nodes or max(len(nodes), 1)
            if nodes and len(nodes) < wanted:
                raise ClusterError(
                    f"cluster {self.settings.name} has {len(nodes)} nodes, and kind adds none to a cluster "
                    f"that is there, as SLIPWAY_NODES={wanted} asks for: unset SLIPWAY_NODES, or run "
                    "`python -m e2e.cluster down` first, which removes all that runs on it"
                )
            self.tools.expose()
            if nodes and not self._revive(nodes):
                tell("  the cluster cannot be repaired; it is made again")
                self._remove()
                nodes = []
            if not nodes:
                self._create(wanted)
            self._remove_surplus(wanted)
            self._load_own_images()
            self._start_addons(self._nodes())

    def down(self) -> None:
        with self._alone(), step(f"removing cluster {self.settings.name}"):
            self._remove()

    def status(self) -> bool:
        nodes = self._nodes()
        answers = bool(nodes) and self._kubectl().answers()
        ready = self._kubectl().ready_nodes() if answers else frozenset()
        states = {node: self._state(node) for node in nodes}
        for node, state in states.items():
            print(f"{node:<24} {('up' if node in ready else 'not ready') if state == 'running' else state}")
        print(f"API server at {self.settings.kubeconfig}: {'answers' if answers else 'no answer'}")
        return answers and all(state == "running" for state in states.values()) and ready.issuperset(nodes)

    def load(self, archives: Sequence[Path]) -> list[str]:
        nodes = self._running_nodes()
        loaded: list[str] = []
        for archive in archives:
            names = images.image_names(archive)
            with step(f"loading {', '.join(names)}"):
                self._kind("load", "image-archive", str(archive))
                loaded += [self._pin(node, _full_name(name)) for node in nodes for name in names]
        return list(dict.fromkeys(loaded))

    def run(self, argv: Sequence[str]) -> int:
        first = self._running_nodes()[0]
        pid, identity = docker("inspect", "--format", "{{.State.Pid}} {{.Id}}", first).split()
        if os.geteuid() != 0 or not _is_of_container(pid, identity):
            raise ClusterError(
                "running inside the cluster's network needs root and Docker on this machine; "
                "reach a Service with `kubectl port-forward` instead"
            )
        return subprocess.call(["nsenter", "--target", pid, "--net", "--", *argv])

    def _alone(self) -> AbstractContextManager[None]:
        lock = self.settings.cache / "clusters" / f"{self.settings.name}.lock"
        return exclusive(lock, f"changing cluster {self.settings.name}")

    def _create(self, nodes: int) -> None:
        image = find_node_image(self.settings)
        if image is None:
            raise ClusterError(
                f"Docker has no {NODE_IMAGE.split('@')[0]} and cannot pull it: fix that, `docker load` it "
                "from a file, name another image by SLIPWAY_KIND_IMAGE, or use SLIPWAY_CLUSTER=node"
            )
        try:
            self.settings.volumes.mkdir(parents=True, exist_ok=True)
            text = Template(CONFIG.read_text()).substitute(VOLUMES=self.settings.volumes)
            mount = f'{{hostPath: "{self.settings.volumes}", containerPath: /mnt}}'
            text += f"  - {{role: worker, extraMounts: [{mount}]}}\n" * (nodes - 1)
            self.config.write_text(text)
            self.settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
            with step("creating the kind cluster"):
                words = ("--config", str(self.config), "--image", image, "--wait", f"{READY_SECONDS}s")
                self._kind("create", "cluster", *words, "--kubeconfig", str(self.settings.kubeconfig))
        except BaseException:
            # What says that a cluster of kind's is here stays only where nodes do.
            with suppress(ClusterError):
                self._remove()
            raise

    def _revive(self, nodes: Sequence[str]) -> bool:
        """Resume paused nodes and start stopped ones; false where the API server does not come back."""
        if paused := [node for node in nodes if self._state(node) == "paused"]:
            docker("unpause", *paused)
        docker("start", *nodes)
        self._kind("export", "kubeconfig", "--kubeconfig", str(self.settings.kubeconfig))
        try:
            with step("waiting for the API server"):
                self._kubectl().wait_for_api(API_SECONDS)
        except ClusterError:
            return False
        return True

    def _remove_surplus(self, wanted: int) -> None:
        """Take away workers beyond those asked for."""
        for node in self._nodes()[wanted:]:
            with step(f"removing {node}"):
                docker("rm", "--force", "--volumes", node)
                self._kubectl()("delete", "node", node, "--ignore-not-found")

    def _remove(self) -> None:
        with suppress(ClusterError):
            self._kind("delete", "cluster", "--kubeconfig", str(self.settings.kubeconfig))
        if left := self._nodes():
            raise ClusterError(f"kind left {', '.join(left)}: remove them with `docker rm -f`")
        shutil.rmtree(self.settings.state, ignore_errors=True)
        self.settings.kubeconfig.unlink(missing_ok=True)

    def _load_own_images(self) -> None:
        nodes = self._nodes()
        with step("waiting for the container runtime of each node"):
            for node in nodes:
                silent = partial("the container runtime of {0} is silent: see `docker logs {0}`".format, node)
                wait_until(partial(_runtime_answers, node), RUNTIME_SECONDS, silent)
        everywhere = frozenset.intersection(*map(_image_tags, nodes))
        absent = [
            a for a in images.shared_images(self.tools) if not everywhere.issuperset(images.image_names(a))
        ]
        self.load(absent)

    def _start_addons(self, nodes: Sequence[str]) -> None:
        kubectl = self._kubectl()
        values = {
            "METRICS_SERVER_IMAGE": images.METRICS_SERVER_IMAGE,
            # kind's kubelets sign their own certificates.
            "KUBELET_TRUST": "--kubelet-insecure-tls",
        }
        with step("nodes, DNS and metrics"):
            kubectl.apply("metrics-server", values)
            self._answer_names(kubectl)
            self._use_control_plane(kubectl)
            kubectl.wait_for_nodes(nodes, READY_SECONDS)
            for name in ("coredns", "metrics-server"):
                kubectl.wait_for_deployment("kube-system", name, READY_SECONDS)
            kubectl.wait_for_metrics(len(nodes), READY_SECONDS)

    def _answer_names(self, kubectl: Kubectl) -> None:
        """Let kubeadm's CoreDNS answer as the other provider's does; it restarts where that is a change."""
        text = kubectl.apply("corefile", {})
        note = {"slipway.test/corefile": hashlib.sha256(text.encode()).hexdigest()[:16]}
        patch = json.dumps({"spec": {"template": {"metadata": {"annotations": note}}}})
        kubectl(
            "patch", "deployment", "coredns", "--namespace=kube-system", "--type=merge", f"--patch={patch}"
        )

    def _use_control_plane(self, kubectl: Kubectl) -> None:
        """Let pods run on every node: kubeadm keeps them off a control plane that has workers."""
        for node in kubectl.nodes():
            if any(taint["key"] == CONTROL_PLANE_TAINT for taint in node["spec"].get("taints") or []):
                kubectl("taint", "nodes", node["metadata"]["name"], f"{CONTROL_PLANE_TAINT}-")

    def _pin(self, node: str, name: str) -> str:
        """Name an image by its digest too, so that a pinned reference needs no pull."""
        ctr = ("exec", node, "ctr", "--namespace=k8s.io", "images")
        listing = docker(*ctr, "ls", f"name=={name}")
        digest = re.search(r"sha256:[0-9a-f]{64}", listing)
        if digest is None:
            raise ClusterError(f"{name} was loaded, but {node} does not list it")
        reference = f"{name.rsplit(':', 1)[0]}@{digest[0]}"
        docker(*ctr, "tag", "--force", name, reference)
        return reference

    def _nodes(self) -> list[str]:
        mine = f"label=io.x-k8s.kind.cluster={self.settings.name}"
        # The control plane's name sorts before every worker's.
        return sorted(docker("ps", "--all", "--filter", mine, "--format", "{{.Names}}").split())

    def _running_nodes(self) -> list[str]:
        nodes = [node for node in self._nodes() if self._state(node) == "running"]
        if not nodes:
            raise ClusterError(f"cluster {self.settings.name} is not up: run `python -m e2e.cluster up`")
        return nodes

    def _state(self, node: str) -> str:
        """`running`, `paused`, `exited` and so on; Docker counts a paused container as running too."""
        return docker("inspect", "--format", "{{.State.Status}}", node).strip()

    def _kubectl(self) -> Kubectl:
        return Kubectl(self.tools.kubernetes() / "kubectl", self.settings.kubeconfig)

    def _kind(self, *words: str) -> str:
        return run([self.tools.install(KIND), *words, "--name", self.settings.name], timeout=900)


def _runtime_answers(node: str) -> bool:
    try:
        _image_tags(node)
    except ClusterError:
        return False
    return True


def _image_tags(node: str) -> frozenset[str]:
    return frozenset(docker("exec", node, "ctr", "--namespace=k8s.io", "images", "ls", "--quiet").split())


def _is_of_container(pid: str, identity: str) -> bool:
    """Whether this machine's process of that pid is in the container: the engine may count pids elsewhere."""
    try:
        return identity in (PROC / pid / "cgroup").read_text()
    except OSError:
        return False


def _full_name(name: str) -> str:
    """The name that containerd files an image under: Docker's short names belong to docker.io."""
    first, _, rest = name.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if rest else f"docker.io/library/{name}"
