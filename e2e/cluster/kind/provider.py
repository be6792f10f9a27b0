"""The `kind` provider: a pinned node image in Docker, the same add-ons, the same verbs."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from string import Template

from e2e.cluster import images
from e2e.cluster.addons import Kubectl
from e2e.cluster.command import exclusive, run, step, tell
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings
from e2e.cluster.tools import KIND, Tools

# The image that this version of kind is released with for Kubernetes 1.34.
NODE_IMAGE = "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a"
CONFIG = Path(__file__).resolve().parent / "cluster.yaml"
READY_SECONDS = 180


def kind_is_usable() -> bool:
    """Whether Docker answers and has the node image, or gets it now."""
    try:
        run(["docker", "info"], timeout=20)
    except ClusterError:
        return False
    with suppress(ClusterError):
        run(["docker", "image", "inspect", NODE_IMAGE], timeout=20)
        return True
    try:
        with step("pulling kind's node image"):
            run(["docker", "pull", "--quiet", NODE_IMAGE], timeout=900)
    except ClusterError as unreachable:
        tell(f"  Docker runs, but has no {NODE_IMAGE.split('@')[0]}: {str(unreachable)[-200:]}")
        return False
    return True


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
        if not kind_is_usable():
            raise ClusterError(
                f"Docker is down or cannot pull {NODE_IMAGE}: fix it, or use SLIPWAY_CLUSTER=node"
            )
        with self._alone():
            self.tools.expose()
            nodes = self._nodes()
            wanted = self.settings.nodes or max(len(nodes), 1)
            if nodes and not (len(nodes) == wanted and self._revive(nodes)):
                tell("  the cluster cannot be repaired as it is; it is made anew")
                self._remove()
                nodes = []
            if not nodes:
                self._create(wanted)
            self._load_own_images()
            self._start_addons(self._nodes())

    def down(self) -> None:
        with self._alone(), step(f"removing cluster {self.settings.name}"):
            self._remove()

    def status(self) -> bool:
        nodes = self._nodes()
        running = [node for node in nodes if self._is_running(node)]
        for node in nodes:
            print(f"{node:<24} {'up' if node in running else 'down'}")
        answers = bool(nodes) and self._kubectl().answers()
        print(f"API server at {self.settings.kubeconfig}: {'answers' if answers else 'no answer'}")
        return answers and running == nodes

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
        nodes = self._running_nodes()
        pid = self._docker("inspect", "--format", "{{.State.Pid}}", nodes[0]).strip()
        if os.geteuid() != 0 or not Path(f"/proc/{pid}/ns/net").exists():
            raise ClusterError(
                "running inside the cluster's network needs root and Docker on this machine; "
                "reach a Service with `kubectl port-forward` instead"
            )
        return subprocess.call(["nsenter", "--target", pid, "--net", "--", *argv])

    def _alone(self) -> AbstractContextManager[None]:
        lock = self.settings.cache / "clusters" / f"{self.settings.name}.lock"
        return exclusive(lock, f"changing cluster {self.settings.name}")

    def _create(self, nodes: int) -> None:
        self.settings.volumes.mkdir(parents=True, exist_ok=True)
        text = Template(CONFIG.read_text()).substitute(VOLUMES=self.settings.volumes)
        mount = f'{{hostPath: "{self.settings.volumes}", containerPath: /mnt}}'
        text += f"  - {{role: worker, extraMounts: [{mount}]}}\n" * (nodes - 1)
        self.config.write_text(text)
        self.settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        with step("creating the kind cluster"):
            words = ("--config", str(self.config), "--image", NODE_IMAGE, "--wait", f"{READY_SECONDS}s")
            self._kind("create", "cluster", *words, "--kubeconfig", str(self.settings.kubeconfig))

    def _revive(self, nodes: Sequence[str]) -> bool:
        """Start nodes that have stopped; false where the API server does not come back."""
        self._docker("start", *nodes)
        self._kind("export", "kubeconfig", "--kubeconfig", str(self.settings.kubeconfig))
        try:
            with step("waiting for the API server"):
                self._kubectl().wait_for_api(60)
        except ClusterError:
            return False
        return True

    def _remove(self) -> None:
        with suppress(ClusterError):
            self._kind("delete", "cluster", "--kubeconfig", str(self.settings.kubeconfig))
        if left := self._nodes():
            raise ClusterError(f"kind left {', '.join(left)}: remove them with `docker rm -f`")
        shutil.rmtree(self.settings.state, ignore_errors=True)
        self.settings.kubeconfig.unlink(missing_ok=True)

    def _load_own_images(self) -> None:
        present = self._docker("exec", self._nodes()[-1], "crictl", "images", "--output", "json")
        tags = {tag for image in json.loads(present)["images"] for tag in image.get("repoTags", [])}
        absent = [a for a in images.shared_images(self.tools) if not tags.issuperset(images.image_names(a))]
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
            kubectl.wait_for_nodes(nodes, READY_SECONDS)
            for name in ("coredns", "metrics-server"):
                kubectl.wait_for_deployment("kube-system", name, READY_SECONDS)
            kubectl.wait_for_metrics(len(nodes), READY_SECONDS)

    def _pin(self, node: str, name: str) -> str:
        """Name an image by its digest too, so that a pinned reference needs no pull."""
        ctr = ("exec", node, "ctr", "--namespace=k8s.io", "images")
        listing = self._docker(*ctr, "ls", f"name=={name}")
        digest = re.search(r"sha256:[0-9a-f]{64}", listing)
        if digest is None:
            raise ClusterError(f"{name} was loaded, but {node} does not list it")
        reference = f"{name.rsplit(':', 1)[0]}@{digest[0]}"
        self._docker(*ctr, "tag", "--force", name, reference)
        return reference

    def _nodes(self) -> list[str]:
        mine = f"label=io.x-k8s.kind.cluster={self.settings.name}"
        # The control plane's name sorts before every worker's.
        return sorted(self._docker("ps", "--all", "--filter", mine, "--format", "{{.Names}}").split())

    def _running_nodes(self) -> list[str]:
        nodes = [node for node in self._nodes() if self._is_running(node)]
        if not nodes:
            raise ClusterError(f"cluster {self.settings.name} is not up: run `python -m e2e.cluster up`")
        return nodes

    def _is_running(self, node: str) -> bool:
        return self._docker("inspect", "--format", "{{.State.Running}}", node).strip() == "true"

    def _kubectl(self) -> Kubectl:
        return Kubectl(self.tools.kubernetes() / "kubectl", self.settings.kubeconfig)

    def _kind(self, *words: str) -> str:
        return run([self.tools.install(KIND), *words, "--name", self.settings.name], timeout=900)

    def _docker(self, *words: str) -> str:
        return run(["docker", *words], timeout=120)


def _full_name(name: str) -> str:
    """The name that containerd files an image under: Docker's short names belong to docker.io."""
    first, _, rest = name.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if rest else f"docker.io/library/{name}"
