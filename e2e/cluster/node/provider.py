"""The `node` provider: bring the components up, find out what is broken, take all of it away."""

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from e2e.cluster import images
from e2e.cluster.addons import Kubectl
from e2e.cluster.command import exclusive, run, step, tell, wait_until
from e2e.cluster.errors import ClusterError
from e2e.cluster.node import cgroups, holder, packages, pki
from e2e.cluster.node.components import (
    CONTAINERD_SOCKET,
    Component,
    container_runtime,
    control_plane,
    node_agents,
)
from e2e.cluster.node.layout import API_PORT, DNS_ADDRESS, Layout, Member
from e2e.cluster.node.probe import dns_answers, http_ok, socket_accepts
from e2e.cluster.node.process import (
    Record,
    digest_of,
    end,
    enter,
    read_record,
    resident_bytes,
    start_inside,
    write_record,
)
from e2e.cluster.settings import Settings
from e2e.cluster.tools import Tools

READY_SECONDS = 90
SICK_SECONDS = 10


class NodeProvider:
    """A cluster of this machine's own processes; see `e2e.cluster.provider.Provider`."""

    kind = "node"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.layout = Layout(settings)
        self.tools = Tools(settings.cache)

    def up(self) -> None:
        packages.require_root()
        with self._alone():
            packages.install_packages()
            self.tools.expose()
            before = self.layout.pki.exists()
            try:
                self._reconcile()
            except ClusterError as broken:
                if not before:
                    raise
                tell(f"  the cluster cannot be repaired ({str(broken)[:300]}); it is made anew")
                self._remove()
                self._reconcile()

    def down(self) -> None:
        packages.require_root()
        with self._alone(), step(f"removing cluster {self.settings.name}"):
            self._remove()

    def status(self) -> bool:
        well = True
        for member in self.layout.known_members():
            held = holder.find_holder(self.layout, member)
            print(f"{member.name:<24} {'up, pid ' + str(held.pid) if held else 'down'}")
            well = well and held is not None
        for component in self._components(len(self.layout.known_members())):
            record = read_record(self._record_path(component))
            state = "down" if record is None else "well" if self._is_well(component) else "not well"
            memory = f"{resident_bytes(record.pid) / 1e6:5.0f} MB" if record else ""
            print(f"  {component.label:<26} {state:<10} {memory}")
            well = well and state == "well"
        answers = self.settings.kubeconfig.exists() and self._kubectl().answers()
        print(f"API server at {self.settings.kubeconfig}: {'answers' if answers else 'no answer'}")
        print(f"memory of the whole cluster: {cgroups.memory_bytes(self.layout) / 1e6:.0f} MB")
        print(f"logs: {self.layout.logs}")
        return well and answers

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
        return subprocess.call([*enter(self._holder(first).pid, "--net"), *argv])

    def _alone(self):  # type: ignore[no-untyped-def]
        lock = self.settings.cache / "clusters" / f"{self.settings.name}.lock"
        return exclusive(lock, f"changing cluster {self.settings.name}")

    def _reconcile(self) -> None:
        """Bring every part to what it should be; parts that are stay untouched."""
        count = self.settings.nodes or max(len(self.layout.known_members()), 1)
        members = [self.layout.member(index) for index in range(count)]
        archives = images.node_images(self.tools)
        with step("certificates, namespaces and network"):
            self._make_certificates(members)
            cgroups.create(self.layout, count)
            entrances = cgroups.entrances(self.layout)
            pause = self.tools.pause()
            holders = [holder.hold(self.layout, member, pause, entrances) for member in members]
            holder.connect(members, holders)
        components = self._components(count)
        early = [c for c in components if c.name in ("etcd", "containerd", "kube-apiserver", "forward")]
        with step("container runtime and API server"):
            port = self._write_kubeconfig()
            self._heal(early)
            for component in early:
                self._ensure(component, port)
            for member in members:
                self._preload(member, archives)
            self._await(lambda: self._kubectl().answers(), "the API server does not answer")
        with step("components"):
            late = [c for c in components if c not in early]
            self._heal(late)
            for component in late:
                self._ensure(component, port)
            for component in components:
                self._await(lambda component=component: self._is_well(component), f"{component.label} is not well")
        kubectl = self._kubectl()
        self._remove_surplus(count)
        with step("nodes, DNS and metrics"):
            values = {
                "COREDNS_IMAGE": images.COREDNS_IMAGE,
                "METRICS_SERVER_IMAGE": images.METRICS_SERVER_IMAGE,
                "DNS_ADDRESS": DNS_ADDRESS,
                "KUBELET_TRUST": "--kubelet-certificate-authority=/etc/authority/ca.crt",
            }
            kubectl.apply("coredns", values)
            kubectl.apply("metrics-server", values)
            kubectl.wait_for_nodes([member.name for member in members], READY_SECONDS)
            for name in ("coredns", "metrics-server"):
                kubectl.wait_for_deployment("kube-system", name, READY_SECONDS)
            self._await(lambda: dns_answers(holders[0].pid), "the cluster's DNS does not answer")
            kubectl.wait_for_metrics(count, READY_SECONDS)

    def _remove(self) -> None:
        for member in {*self.layout.known_members(), self.layout.member(0)}:
            holder.release(self.layout, member)
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

    def _components(self, count: int) -> list[Component]:
        programs = self.tools.kubernetes()
        plugins = packages.plugin_folder() or packages.PLUGIN_FOLDERS[0]
        members = [self.layout.member(index) for index in range(count)]
        api = f"{self.layout.member(0).address}:{API_PORT}"
        return [
            *control_plane(self.layout, programs),
            Component("forward", 0, (str(self.tools.forward()), "FD", api)),
            *(container_runtime(self.layout, member, plugins) for member in members),
            *(agent for member in members for agent in node_agents(self.layout, member, programs)),
        ]

    def _ensure(self, component: Component, port: int) -> None:
        """Start the component unless it runs as it should."""
        texts = [part for path, text in sorted(component.files.items()) for part in (str(path), text)]
        digest = digest_of(*component.argv, *texts, str(port) if component.name == "forward" else "")
        path = self._record_path(component)
        running = read_record(path)
        if running and running.digest == digest:
            return
        if running:
            end(running, component.grace)
        for file, text in component.files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        log = self.layout.logs / f"{component.label}.log"
        held = self._holder(self.layout.member(component.member)).pid
        entrances = cgroups.entrances(self.layout)
        if component.name == "forward":
            with _listener(port) as listening:
                number = listening.fileno()
                argv = [str(number) if word == "FD" else word for word in component.argv]
                pid = start_inside(held, argv, log, entrances, [number])
        else:
            pid = start_inside(held, component.argv, log, entrances, [])
        write_record(path, pid, digest)

    def _heal(self, components: Sequence[Component]) -> None:
        """End components that run but do not answer, so that they are started anew."""
        records = {c.label: read_record(self._record_path(c)) for c in components}
        sick = [c for c in components if records[c.label] and not self._is_well(c)]
        if not sick:
            return
        with suppress(ClusterError):
            wait_until(lambda: all(self._is_well(c) for c in sick), SICK_SECONDS, lambda: "", pause=0.5)
        for component in sick:
            record = read_record(self._record_path(component))
            if record and not self._is_well(component):
                tell(f"  {component.label} runs but does not answer: it is started anew")
                end(record, component.grace)

    def _is_well(self, component: Component) -> bool:
        if read_record(self._record_path(component)) is None:
            return False
        if component.health is None:
            return True
        held = holder.find_holder(self.layout, self.layout.member(component.member))
        if held is None:
            return False
        if component.health.startswith("/"):
            return socket_accepts(held.pid, component.health)
        return http_ok(held.pid, component.health)

    def _await(self, check, failure: str) -> None:  # type: ignore[no-untyped-def]
        wait_until(check, READY_SECONDS, lambda: f"{failure} after {READY_SECONDS} s; logs are in {self.layout.logs}")

    def _preload(self, member: Member, archives: Sequence[Path]) -> None:
        """Import the cluster's own images, each once in the life of the node."""
        marks = member.folder / "images"
        marks.mkdir(exist_ok=True)
        self._await(lambda: socket_accepts(self._holder(member).pid, CONTAINERD_SOCKET), "containerd does not answer")
        for archive in archives:
            if not (marks / archive.stem).exists():
                self._import(member, archive)
                (marks / archive.stem).touch()

    def _import(self, member: Member, archive: Path) -> list[str]:
        """Import an archive and name each image by digest too, so that a pinned reference needs no pull."""
        ctr = [*enter(self._holder(member).pid, "--net", "--mount", "--pid"), "ctr", "--namespace=k8s.io", "images"]
        with archive.open("rb") as stream:
            done = subprocess.run([*ctr, "import", "-"], stdin=stream, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"cannot load {archive}: {done.stderr.strip()[-500:]}")
        pinned = []
        for name, digest in re.findall(r"^unpacking (\S+) \((sha256:[0-9a-f]{64})\)", done.stdout, re.MULTILINE):
            reference = f"{name.split('@')[0].rsplit(':', 1)[0]}@{digest}"
            run([*ctr, "tag", "--force", name, reference])
            pinned.append(reference)
        if not pinned:
            raise ClusterError(f"loading {archive} named no image; containerd said: {done.stdout.strip()[-500:]}")
        return pinned

    def _write_kubeconfig(self) -> int:
        """Write the administrator's kubeconfig; returns the port of the API server on this machine's loopback."""
        chosen = self.layout.state / "port"
        forward = read_record(self.layout.records / "forward-0.json")
        port = int(chosen.read_text()) if chosen.exists() else 0
        if not port or (forward is None and not _is_free(port)):
            with _listener(0) as listening:
                port = int(listening.getsockname()[1])
        chosen.write_text(f"{port}\n")
        target = self.settings.kubeconfig
        target.parent.mkdir(parents=True, exist_ok=True)
        text = pki.admin_kubeconfig(self.layout, port)
        if not target.exists() or target.read_text() != text:
            made = target.with_suffix(".new")
            made.touch(mode=0o600)
            made.write_text(text)
            made.replace(target)
        return port

    def _running_members(self) -> list[Member]:
        members = [m for m in self.layout.known_members() if holder.find_holder(self.layout, m)]
        if not members:
            raise ClusterError(f"cluster {self.settings.name} is not up: run `python -m e2e.cluster up` first")
        return members

    def _holder(self, member: Member) -> Record:
        held = holder.find_holder(self.layout, member)
        if held is None:
            raise ClusterError(f"node {member.name} is not up: run `python -m e2e.cluster up` first")
        return held

    def _kubectl(self) -> Kubectl:
        return Kubectl(self.tools.kubernetes() / "kubectl", self.settings.kubeconfig)

    def _record_path(self, component: Component) -> Path:
        return self.layout.records / f"{component.label}.json"


def _listener(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as taken:
        listening.close()
        raise ClusterError(f"port {port} of 127.0.0.1 is taken by another program: {taken.strerror}") from taken
    listening.listen(128)
    return listening


def _is_free(port: int) -> bool:
    try:
        _listener(port).close()
    except ClusterError:
        return False
    return True
