"""The `node` provider: bring the components up, find out what is broken, take all of it away."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

from e2e.cluster import images
from e2e.cluster.addons import Kubectl
from e2e.cluster.command import exclusive, run, step, tell
from e2e.cluster.errors import ClusterError
from e2e.cluster.node import cgroups, holder, packages, pki
from e2e.cluster.node.components import (
    CONTAINERD_SOCKET,
    Component,
    api_forward,
    container_runtime,
    control_plane,
    network_policies,
    node_agents,
)
from e2e.cluster.node.layout import DNS_ADDRESS, Layout, Member
from e2e.cluster.node.probe import dns_answers, socket_accepts
from e2e.cluster.node.process import enter, resident_bytes
from e2e.cluster.node.supervisor import READY_SECONDS, Supervisor, listen
from e2e.cluster.settings import MAX_NODES, Settings
from e2e.cluster.tools import Tools

UNPACKED = re.compile(r"^unpacking (\S+) \((sha256:[0-9a-f]{64})\)", re.MULTILINE)
# These need no API server, or are the way to it.
EARLY = ("etcd", "kube-apiserver", "forward", "containerd")


class NodeProvider:
    """A cluster of this machine's own processes; see `e2e.cluster.provider.Provider`."""

    kind = "node"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.layout = Layout(settings)
        self.tools = Tools(settings.cache)
        self.supervisor = Supervisor(self.layout)

    def up(self) -> None:
        packages.require_root()
        with self._alone():
            packages.install_packages()
            self.tools.expose()
            before = self.layout.pki.exists()
            members = self._members()
            try:
                self._run_components(members)
            except ClusterError as broken:
                if not before:
                    raise
                tell(f"  the cluster cannot be repaired ({str(broken)[:300]}); it is made anew")
                self._remove()
                self._run_components(members)
            # What fails from here on is not worth the workloads of a cluster whose components are well.
            self._finish(members)

    def down(self) -> None:
        if os.geteuid() and not self.settings.state.exists():
            return
        packages.require_root()
        with self._alone(), step(f"removing cluster {self.settings.name}"):
            self._remove()

    def status(self) -> bool:
        well = True
        for member in self.layout.known_members():
            held = holder.find_holder(self.layout, member)
            print(f"{member.name:<24} {'up, pid ' + str(held.pid) if held else 'down'}")
            well = well and held is not None
        for component in self._components(len(self.layout.known_members()), self._port()):
            record = self.supervisor.record(component)
            state = "down" if record is None else "well" if self.supervisor.is_well(component) else "sick"
            memory = f"{resident_bytes(record.pid) / 1e6:5.0f} MB" if record else ""
            print(f"  {component.label:<26} {state:<6} {memory}")
            well = well and state == "well"
        answers = self.settings.kubeconfig.exists() and self._kubectl().answers()
        if self.layout.unenforced.exists():
            print(self.layout.unenforced.read_text().strip())
        print(f"API server at {self.settings.kubeconfig}: {'answers' if answers else 'no answer'}")
        print(f"memory of the whole cluster: {cgroups.memory_bytes(self.layout) / 1e6:.0f} MB")
        print(f"logs: {self.layout.logs}")
        return bool(self.layout.known_members()) and well and answers

    def load(self, archives: Sequence[Path]) -> list[str]:
        loaded: list[str] = []
        for archive in archives:
            names = images.image_names(archive)
            for member in self._running_members():
                with step(f"loading {', '.join(names)} on {member.name}"):
                    loaded += self._import(member, archive)
        return list(dict.fromkeys(loaded))

    def run(self, argv: Sequence[str]) -> int:
        packages.require_root()
        first = self._running_members()[0]
        return subprocess.call([*enter(self.supervisor.holder(first).pid, "--net"), *argv])

    def _alone(self) -> AbstractContextManager[None]:
        lock = self.settings.cache / "clusters" / f"{self.settings.name}.lock"
        return exclusive(lock, f"changing cluster {self.settings.name}")

    def _members(self) -> list[Member]:
        count = self.settings.nodes or max(len(self.layout.known_members()), 1)
        return [self.layout.member(index) for index in range(count)]

    def _run_components(self, members: Sequence[Member]) -> None:
        """Bring every component to what it should be; those that are stay untouched."""
        archives = images.node_images(self.tools)
        with step("certificates, namespaces and network"):
            self._make_certificates(members)
            cgroups.create(self.layout, len(members))
            entrances, pause = cgroups.entrances(self.layout), self.tools.pause()
            holders = [holder.hold(self.layout, member, pause, entrances) for member in members]
            holder.connect(members, holders)
        self._look_at_kernel()
        components = self._components(len(members), self._choose_port())
        early = [component for component in components if component.name in EARLY]
        with step("container runtime and API server"):
            self._write_kubeconfig()
            self._start(early)
            for member in members:
                self._preload(member, archives)
            self.supervisor.wait_until(partial(self._serves, early), "the API server does not answer")
        with step("components"):
            self._kubectl().apply("network-policies", {})
            self._start([component for component in components if component not in early])
            for component in components:
                self.supervisor.wait_for(component)

    def _finish(self, members: Sequence[Member]) -> None:
        """Wait for nodes, DNS and metrics."""
        self._remove_surplus(len(members))
        with step("nodes, DNS and metrics"):
            self._start_addons(members)
            held = self.supervisor.holder(members[0]).pid
            self.supervisor.wait_until(partial(dns_answers, held), "the DNS does not answer")
            self._kubectl().wait_for_metrics(len(members), READY_SECONDS)

    def _serves(self, early: Sequence[Component]) -> bool:
        self.supervisor.require_alive(early)
        return self._kubectl().answers()

    def _start(self, components: Sequence[Component]) -> None:
        running = [component for component in components if not self.supervisor.ensure(component)]
        # Only now, and only these: what seems sick may have missed one that was down.
        for component in self.supervisor.end_sick(running):
            self.supervisor.ensure(component)

    def _start_addons(self, members: Sequence[Member]) -> None:
        values = {
            "COREDNS_IMAGE": images.COREDNS_IMAGE,
            "METRICS_SERVER_IMAGE": images.METRICS_SERVER_IMAGE,
            "DNS_ADDRESS": DNS_ADDRESS,
            "KUBELET_TRUST": "--kubelet-certificate-authority=/etc/authority/ca.crt",
        }
        kubectl = self._kubectl()
        kubectl.apply("corefile", values)
        kubectl.apply("coredns", values)
        kubectl.apply("metrics-server", values)
        kubectl.wait_for_nodes([member.name for member in members], READY_SECONDS)
        for name in ("coredns", "metrics-server"):
            kubectl.wait_for_deployment("kube-system", name, READY_SECONDS)

    def _remove(self) -> None:
        for index in range(MAX_NODES):
            holder.release(self.layout, self.layout.member(index))
        cgroups.remove(self.settings.name)
        shutil.rmtree(self.settings.state, ignore_errors=True)
        with suppress(OSError):
            self.settings.state.parent.rmdir()
        self.settings.kubeconfig.unlink(missing_ok=True)

    def _remove_surplus(self, count: int) -> None:
        """Take away nodes beyond those asked for."""
        for member in self.layout.known_members()[count:]:
            holder.release(self.layout, member)
            self._kubectl()("delete", "node", member.name, "--ignore-not-found")
            shutil.rmtree(member.folder)

    def _make_certificates(self, members: Sequence[Member]) -> None:
        pki.make_authority(self.layout.pki)
        for identity in pki.control_plane_identities(members[0].address):
            pki.make_certificate(self.layout.pki, identity)
        for member in members:
            pki.make_certificate(self.layout.pki, pki.kubelet_identity(member.name, member.address))

    def _components(self, count: int, port: int) -> list[Component]:
        programs = self.tools.kubernetes()
        plugins = packages.plugin_folder() or packages.PLUGIN_FOLDERS[0]
        members = [self.layout.member(index) for index in range(count)]
        guarded = [] if self.layout.unenforced.exists() else members
        return [
            *control_plane(self.layout, programs),
            api_forward(self.layout, self.tools.forward(), port),
            *(container_runtime(self.layout, member, plugins) for member in members),
            *(agent for member in members for agent in node_agents(self.layout, member, programs)),
            *(network_policies(self.layout, member, self.tools.network_policies()) for member in guarded),
        ]

    def _look_at_kernel(self) -> None:
        """Say so where this machine cannot enforce NetworkPolicies; its tests fail there."""
        try:
            run(["unshare", "--net", self.tools.network_policies(), "--check"])
        except ClusterError as lacking:
            tell(f"  ! NetworkPolicies are NOT enforced: {lacking}")
            self.layout.unenforced.write_text(f"NetworkPolicies are NOT enforced: {lacking}\n")
        else:
            self.layout.unenforced.unlink(missing_ok=True)

    def _preload(self, member: Member, archives: Sequence[Path]) -> None:
        """Import the cluster's own images, each once in the life of the node."""
        held = self.supervisor.holder(member).pid
        answers = partial(socket_accepts, held, CONTAINERD_SOCKET)
        self.supervisor.wait_until(answers, f"containerd of {member.name} does not answer")
        marks = member.folder / "images"
        marks.mkdir(exist_ok=True)
        for archive in archives:
            if not (marks / archive.stem).exists():
                self._import(member, archive)
                (marks / archive.stem).touch()

    def _import(self, member: Member, archive: Path) -> list[str]:
        """Import an archive and name each image by digest too, so that a pinned reference needs no pull."""
        held = self.supervisor.holder(member).pid
        ctr = [*enter(held, "--net", "--mount", "--pid"), "ctr", "--namespace=k8s.io", "images"]
        with archive.open("rb") as stream:
            said = run([*ctr, "import", "-"], stdin=stream)
        pinned = []
        for name, digest in UNPACKED.findall(said):
            reference = f"{name.split('@')[0].rsplit(':', 1)[0]}@{digest}"
            run([*ctr, "tag", "--force", name, reference])
            pinned.append(reference)
        if not pinned:
            raise ClusterError(f"loading {archive} gave no image; containerd said: {said.strip()[-500:]}")
        return pinned

    def _port(self) -> int:
        """The API server's port on this machine's loopback, 0 before one is chosen."""
        try:
            return int((self.layout.state / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _choose_port(self) -> int:
        """Keep the port as long as it is ours or free, so that kubeconfigs in use stay right."""
        port = self._port()
        if port and (self.supervisor.record(api_forward(self.layout, Path(), port)) or _is_free(port)):
            return port
        with listen(0) as listening:
            port = int(listening.getsockname()[1])
        (self.layout.state / "port").write_text(f"{port}\n")
        return port

    def _write_kubeconfig(self) -> None:
        target = self.settings.kubeconfig
        text = pki.admin_kubeconfig(self.layout, self._port())
        if target.exists() and target.read_text() == text:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        made = target.with_suffix(".new")
        made.touch(mode=0o600)
        made.write_text(text)
        made.replace(target)

    def _running_members(self) -> list[Member]:
        members = [m for m in self.layout.known_members() if holder.find_holder(self.layout, m)]
        if not members:
            raise ClusterError(f"cluster {self.settings.name} is not up: run `python -m e2e.cluster up`")
        return members

    def _kubectl(self) -> Kubectl:
        return Kubectl(self.tools.kubernetes() / "kubectl", self.settings.kubeconfig)


def _is_free(port: int) -> bool:
    try:
        listen(port).close()
    except ClusterError:
        return False
    return True
