"""What the kind provider does with the containers that it finds; docker, kind and kubectl are acted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import tools
from e2e.cluster.errors import ClusterError
from e2e.cluster.kind.docker import NODE_IMAGE
from e2e.cluster.kind.provider import KindProvider
from e2e.cluster.provider import choose_provider
from e2e.cluster.settings import Settings, read_settings
from e2e.cluster.tools import HELM, KIND, KUBERNETES_VERSION, METRICS_SERVER
from tests.unit.cluster.fake_programs import Machine

FIRST, WORKER = "slipway-control-plane", "slipway-worker"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(registry=[NODE_IMAGE])
    built = tmp_path / "cache" / "tools"
    source = Path(tools.__file__).parent / "node" / "kubernetes"
    sources = sorted(path for path in source.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    kubernetes = f"kubernetes-{KUBERNETES_VERSION}-{tools._digest(sources)}/program"
    names = [f"{one.name}-{one.version}" for one in (KIND, HELM, METRICS_SERVER)]
    for path in ("../bin/docker", "busybox-static", kubernetes, *names):
        (built / path).parent.mkdir(parents=True, exist_ok=True)
        (built / path).touch(mode=0o755)
    monkeypatch.setattr("subprocess.run", made.run)
    monkeypatch.setenv("PATH", str(tmp_path / "cache" / "bin"))
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SLIPWAY_CLUSTER_DIR", str(tmp_path / "clusters"))
    for name in ("SLIPWAY_NODES", "SLIPWAY_CLUSTER", "SLIPWAY_CLUSTER_NAME", "SLIPWAY_KIND_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    return made


def read(tmp_path: Path) -> Settings:
    return replace(read_settings(), kubeconfig=tmp_path / "kubeconfig")


@pytest.fixture
def kind(machine: Machine, tmp_path: Path) -> KindProvider:
    assert machine.state
    return KindProvider(read(tmp_path))


@pytest.fixture
def two(machine: Machine, kind: KindProvider) -> KindProvider:
    """A cluster of two nodes that is up."""
    replace_settings(kind, nodes=2)
    kind.up()
    replace_settings(kind, nodes=None)
    machine.set(calls=[])
    return kind


def replace_settings(kind: KindProvider, **facts: Any) -> None:
    kind.settings = replace(kind.settings, **facts)


def image_of_creation(machine: Machine) -> str:
    (call,) = machine.called("kind", "create", "cluster")
    return call[call.index("--image") + 1]


def test_a_cluster_is_made_of_the_image_that_kind_is_released_with(
    machine: Machine, kind: KindProvider
) -> None:
    kind.up()
    assert image_of_creation(machine) == NODE_IMAGE
    assert kind.status()


def test_a_variable_names_another_node_image(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.set(images=["own/node:1"], registry=[])
    monkeypatch.setenv("SLIPWAY_KIND_IMAGE", "own/node:1")
    provider = choose_provider(read(tmp_path))
    assert provider.kind == "kind"
    provider.up()
    assert image_of_creation(machine) == "own/node:1"


@pytest.mark.usefixtures("machine")
def test_a_named_node_image_that_is_nowhere_is_an_error_and_no_reason_for_another_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_KIND_IMAGE", "own/node:2")
    with pytest.raises(ClusterError, match=r"SLIPWAY_KIND_IMAGE=own/node:2 is not in Docker"):
        choose_provider(read(tmp_path))


@pytest.mark.parametrize("name", ["--help", "two words", "a" * 300])
def test_a_node_image_that_is_no_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_KIND_IMAGE", name)
    with pytest.raises(ClusterError, match="SLIPWAY_KIND_IMAGE="):
        read_settings()


def test_a_node_image_that_was_loaded_from_a_file_is_found_by_its_tag(
    machine: Machine, kind: KindProvider
) -> None:
    loaded = NODE_IMAGE.split("@")[0]
    machine.set(images=[loaded], registry=[])
    kind.up()
    assert image_of_creation(machine) == loaded


def test_without_a_node_image_up_says_the_ways_to_one(machine: Machine, kind: KindProvider) -> None:
    machine.set(registry=[])
    with pytest.raises(ClusterError, match=r"docker load.*SLIPWAY_KIND_IMAGE.*SLIPWAY_CLUSTER=node"):
        kind.up()


def test_a_cluster_that_is_there_needs_no_node_image(machine: Machine, two: KindProvider) -> None:
    machine.set(images=[], registry=[])
    two.up()
    assert not machine.called("docker", "pull")


@pytest.mark.parametrize("stopped", [FIRST, WORKER])
def test_up_waits_for_the_container_runtime_of_every_node(
    machine: Machine, two: KindProvider, stopped: str
) -> None:
    machine.set(runtime_after=3)
    machine.change(stopped, state="exited")
    two.up()
    assert two.status()
    assert machine.state["containers"][stopped]["runtime_after"] == 0


@pytest.mark.parametrize("bare", [FIRST, WORKER])
def test_up_loads_the_images_that_any_node_lacks(machine: Machine, two: KindProvider, bare: str) -> None:
    machine.change(bare, images=[])
    two.up()
    assert len(machine.called("kind", "load", "image-archive")) == 2


@pytest.mark.parametrize("paused", [FIRST, WORKER])
def test_a_paused_node_is_not_up_and_up_resumes_it(
    machine: Machine, two: KindProvider, paused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.change(paused, state="paused")
    assert not two.status()
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if paused in line] == ["paused"]
    two.up()
    assert two.status()
    assert not machine.called("kind", "delete")


def test_a_node_that_is_not_ready_is_not_up(
    machine: Machine, two: KindProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.change(WORKER, ready=False)
    assert not two.status()
    assert f"{WORKER:<24} not ready" in capsys.readouterr().out


def test_nothing_is_loaded_onto_a_paused_node(machine: Machine, two: KindProvider, tmp_path: Path) -> None:
    machine.change(FIRST, state="paused")
    machine.change(WORKER, state="paused")
    with pytest.raises(ClusterError, match="is not up"):
        two.load([tmp_path / "image.tar"])


def test_more_nodes_than_there_are_cost_no_workload(machine: Machine, two: KindProvider) -> None:
    replace_settings(two, nodes=3)
    with pytest.raises(ClusterError, match=r"has 2 nodes.*SLIPWAY_NODES=3.*unset SLIPWAY_NODES.*down"):
        two.up()
    assert not machine.called("kind", "delete")
    assert two.status()


def test_fewer_nodes_than_there_are_leave_the_others_as_they_are(machine: Machine, two: KindProvider) -> None:
    replace_settings(two, nodes=1)
    two.up()
    assert list(machine.state["containers"]) == [FIRST]
    assert not machine.called("kind", "delete")
    deleted = [call for call in machine.state["calls"] if call[2:5] == ["delete", "node", WORKER]]
    assert len(deleted) == 1


def test_a_cluster_whose_api_server_never_answers_is_made_again(
    machine: Machine, two: KindProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2e.cluster.kind.provider.API_SECONDS", 0.5)
    machine.set(api=False)
    with pytest.raises(ClusterError):
        two.up()
    assert len(machine.called("kind", "create", "cluster")) == 1


@pytest.mark.parametrize(
    ("cgroup", "pid"),
    [("0::/user.slice\n", 77), ("0::/docker/{other}\n", 77), (None, 4000000)],
)
def test_a_command_enters_no_process_but_the_nodes_own(
    machine: Machine,
    two: KindProvider,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cgroup: str | None,
    pid: int,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    pretend(tmp_path, monkeypatch, pid, cgroup and cgroup.format(other="d00d" * 16))
    machine.change(FIRST, pid=pid)
    with pytest.raises(ClusterError, match="kubectl port-forward"):
        two.run(["true"])


@pytest.mark.parametrize(
    "cgroup", ["0::/docker/{id}/init.scope\n", "5:cpu:/kind/{id}\n", "0::/../docker-{id}.scope\n"]
)
def test_a_command_enters_the_network_of_the_first_node(
    machine: Machine, two: KindProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cgroup: str
) -> None:
    entered: list[list[str]] = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("subprocess.call", lambda argv: entered.append(argv) or 7)
    pretend(tmp_path, monkeypatch, 77, cgroup.format(id=machine.state["containers"][FIRST]["id"]))
    machine.change(FIRST, pid=77)
    assert two.run(["true"]) == 7
    assert entered == [["nsenter", "--target", "77", "--net", "--", "true"]]


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int, cgroup: str | None) -> None:
    """Let a process be of this cgroup."""
    proc = tmp_path / "proc"
    if cgroup is not None:
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "cgroup").write_text(cgroup)
    monkeypatch.setattr("e2e.cluster.kind.provider.PROC", proc)


def test_the_control_plane_of_several_nodes_runs_pods_too(machine: Machine, two: KindProvider) -> None:
    assert machine.state["containers"][FIRST]["taints"] == []
    two.up()


@pytest.mark.parametrize("create", ["fails", "leaves nodes"])
def test_after_a_failed_creation_the_error_is_the_creations(
    machine: Machine, kind: KindProvider, create: str
) -> None:
    machine.set(create=create)
    with pytest.raises(ClusterError, match="failed to create cluster"):
        kind.up()


def test_after_a_failed_creation_another_provider_may_be_chosen(
    machine: Machine, kind: KindProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.set(create="fails")
    with pytest.raises(ClusterError):
        kind.up()
    monkeypatch.setenv("SLIPWAY_CLUSTER", "node")
    assert choose_provider(read(tmp_path)).kind == "node"
    monkeypatch.setenv("SLIPWAY_CLUSTER", "kind")
    assert choose_provider(read(tmp_path)).kind == "kind"


def test_a_failed_creation_that_left_nodes_is_still_kinds_to_remove(
    machine: Machine, kind: KindProvider, tmp_path: Path
) -> None:
    machine.set(create="leaves nodes")
    with pytest.raises(ClusterError):
        kind.up()
    assert choose_provider(read(tmp_path)).kind == "kind"
    machine.set(create="works")
    kind.down()
    assert machine.state["containers"] == {}
    assert not kind.config.exists()


@pytest.mark.usefixtures("two")
def test_names_outside_of_the_cluster_are_answered_as_on_the_other_provider(machine: Machine) -> None:
    assert any("rcode NXDOMAIN" in text for text in machine.state["applied"])
