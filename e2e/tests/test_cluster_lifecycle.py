"""A cluster comes up, is repaired and goes without a trace: seen on a spare one, beside the main."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.images import BUSYBOX_IMAGE
from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings, read_settings
from e2e.kube import Kube
from e2e.ledger import hold

NAME = "spare"


@dataclass(frozen=True)
class Spare:
    """A cluster of two nodes under a name of its own."""

    settings: Settings
    untouched: dict[str, str]
    """The machine's network and settings before the cluster was made."""

    @property
    def kube(self) -> Kube:
        return Kube.of(self.settings)

    def up(self) -> float:
        """Run the command; returns the seconds it took."""
        started = time.monotonic()
        cluster("up")
        return time.monotonic() - started

    def pids(self) -> dict[str, int]:
        """The pids of the cluster's own processes, by component and node."""
        records = (self.settings.state / "pids").glob("*.json")
        return {path.stem: int(json.loads(path.read_text())["pid"]) for path in records}


def cluster(verb: str) -> None:
    environment = {**os.environ, "SLIPWAY_CLUSTER_NAME": NAME, "SLIPWAY_NODES": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "e2e.cluster", verb],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    print(done.stderr)
    assert done.returncode == 0, done.stderr


def machine() -> dict[str, str]:
    """Addresses, routes, firewall and kernel settings of this machine."""
    asked = {
        "addresses": "ip -brief address",
        "routes": "ip route show table all",
        "firewall": "iptables-save",
        "settings": "sysctl net.ipv4.ip_forward vm.overcommit_memory kernel.panic kernel.panic_on_oops "
        "kernel.keys.root_maxkeys net.netfilter.nf_conntrack_max",
    }
    found = {name: subprocess.check_output(command.split(), text=True) for name, command in asked.items()}
    # Counters and the time of the listing differ from call to call.
    found["firewall"] = re.sub(r"^#.*\n|\[\d+:\d+\]", "", found["firewall"], flags=re.MULTILINE)
    return found


def processes() -> set[int]:
    """Every process in a cgroup of the spare cluster, pods included."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            if f"/slipway/{NAME}/" in path.read_text():
                found.add(int(path.parent.name))
    return found


def cgroups() -> list[Path]:
    # Groups of other clusters come and go meanwhile, which `walk` passes by and `glob` fails at.
    return [Path(path) for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"/slipway/{NAME}")]


@pytest.fixture(scope="module")
def spare() -> Iterator[Spare]:
    if choose_provider(read_settings()).kind != "node":
        pytest.skip("kind makes and removes its own containers; these are the node provider's promises")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CLUSTER_NAME", NAME)
        settings = read_settings()
    cluster("down")
    made = Spare(settings, machine())
    try:
        made.up()
        yield made
    finally:
        cluster("down")


@pytest.fixture(scope="module")
def pods(spare: Spare) -> tuple[str, str]:
    """A web server on each node, with a Service of the same name."""
    kube = spare.kube
    for index in (0, 1):
        command = ["httpd", "-f", "-p", "8080", "-h", "/etc"]
        container = {"name": "main", "image": BUSYBOX_IMAGE, "command": command}
        spec = {"nodeName": f"{NAME}-{index}", "terminationGracePeriodSeconds": 0, "containers": [container]}
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pod-{index}", "namespace": "default", "labels": {"pod": str(index)}},
                "spec": spec,
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"pod-{index}", "namespace": "default"},
                "spec": {"selector": {"pod": str(index)}, "ports": [{"port": 8080}]},
            },
        )
    kube.kubectl("wait", "--for=condition=Ready", "pod/pod-0", "pod/pod-1", "--timeout=240s", seconds=270)
    return ("pod-0", "pod-1")


def test_the_machines_own_network_and_settings_stay_as_they_are(spare: Spare) -> None:
    assert machine() == spare.untouched


@pytest.mark.timed
def test_a_second_up_changes_nothing_and_takes_seconds(spare: Spare) -> None:
    before = spare.pids()
    assert len(before) == 15
    took = spare.up()
    assert spare.pids() == before
    hold("a second `up` of two nodes", took, 15)


def test_pods_on_two_nodes_reach_each_other(spare: Spare, pods: tuple[str, str]) -> None:
    for here, there in (pods, pods[::-1]):
        ask = f"timeout 20 wget -qO- http://{there}:8080/passwd"
        assert "root" in spare.kube.kubectl("exec", here, "--", "/bin/sh", "-c", ask)


def test_killed_and_hung_components_are_replaced_and_the_rest_stays(
    spare: Spare, pods: tuple[str, str]
) -> None:
    before = spare.pids()
    os.kill(before["kubelet-1"], signal.SIGKILL)
    os.kill(before["etcd-0"], signal.SIGKILL)
    os.kill(before["kube-scheduler-0"], signal.SIGSTOP)
    spare.up()
    after = spare.pids()
    changed = {name for name in before if before[name] != after[name]}
    # An API server that lost its store may have ended by itself.
    assert changed - {"kube-apiserver-0"} == {"kubelet-1", "etcd-0", "kube-scheduler-0"}
    assert spare.kube.get("pod", pods[0], "default") is not None


def test_a_stale_record_ends_no_process_of_somebody_else(spare: Spare) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            path = spare.settings.state / "pids" / "kube-proxy-0.json"
            record = json.loads(path.read_text())
            path.write_text(json.dumps({**record, "pid": stranger.pid}))
            spare.up()
            assert stranger.poll() is None
            # The proxy whose record was lost has made room for one that is known.
            assert not Path(f"/proc/{record['pid']}").exists()
        finally:
            stranger.kill()


def test_after_a_node_has_died_whole_its_pods_run_again(spare: Spare, pods: tuple[str, str]) -> None:
    spare.kube.kubectl("create", "configmap", "kept", "-n", "default")
    os.kill(spare.pids()["holder-0"], signal.SIGKILL)
    with pytest.raises(ClusterError):
        spare.kube.kubectl("get", "nodes", "--request-timeout=2s")
    spare.up()
    assert spare.kube.get("configmap", "kept", "default") is not None
    both = [f"pod/{name}" for name in pods]
    spare.kube.kubectl("wait", "--for=condition=Ready", *both, "--timeout=240s", seconds=270)


def test_a_cluster_beyond_repair_is_made_anew(spare: Spare) -> None:
    os.kill(spare.pids()["etcd-0"], signal.SIGKILL)
    for path in (spare.settings.state / "etcd" / "member").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    spare.up()
    assert len(spare.kube.items("nodes")) == 2
    assert spare.kube.get("configmap", "kept", "default") is None


def test_down_leaves_nothing_behind(spare: Spare) -> None:
    holders = {pid for name, pid in spare.pids().items() if name.startswith("holder")}
    before = processes()
    assert len(before) > 12
    assert cgroups()
    state = str(spare.settings.state)
    assert state in Path(f"/proc/{min(holders)}/mounts").read_text()
    cluster("down")
    # What has ended stays listed until the machine's first process has taken note.
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in before | holders):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert processes() == set()
    assert cgroups() == []
    assert state not in Path("/proc/self/mounts").read_text()
    assert not spare.settings.state.exists()
    assert not spare.settings.kubeconfig.exists()
    assert machine() == spare.untouched


def test_down_where_there_is_no_cluster_is_fine(spare: Spare) -> None:
    cluster("down")
    assert not spare.settings.state.exists()
