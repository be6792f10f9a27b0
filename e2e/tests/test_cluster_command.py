"""What the cluster command answers to what it cannot do; no cluster is needed."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.images import image_names
from e2e.cluster.node import packages
from e2e.cluster.node.process import Record, end, read_record, started_at, write_record


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "e2e.cluster", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("variable", "value", "advice"),
    [
        ("SLIPWAY_CLUSTER", "minikube", "use kind or node"),
        ("SLIPWAY_NODES", "0", "use a whole number from 1 to 8"),
        ("SLIPWAY_NODES", "two", "use a whole number from 1 to 8"),
        ("SLIPWAY_CLUSTER_NAME", "../other", "use 2 to 20 of"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_what_can(
    variable: str, value: str, advice: str
) -> None:
    done = command("status", **{variable: value})
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {variable}={value!r}")
    assert advice in done.stderr


def test_a_load_without_a_cluster_names_the_way_to_one(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as out:
        manifest = tmp_path / "manifest.json"
        manifest.write_text('[{"RepoTags": ["slipway.test/nothing:1"]}]')
        out.add(manifest, "manifest.json")
    done = command("load", str(archive), SLIPWAY_CLUSTER_NAME="absent", SLIPWAY_CLUSTER="node")
    assert done.returncode == 1
    assert "cluster absent is not up: run `python -m e2e.cluster up`" in done.stderr


def test_down_without_a_cluster_succeeds() -> None:
    assert command("down", SLIPWAY_CLUSTER_NAME="absent", SLIPWAY_CLUSTER="node").returncode == 0


def test_kubectl_without_a_cluster_names_the_way_to_one() -> None:
    done = command("kubectl", "get", "pods", SLIPWAY_CLUSTER_NAME="absent")
    assert done.returncode == 1
    assert "cluster absent is not up: run `python -m e2e.cluster up`" in done.stderr


def test_the_environment_can_be_taken_over_by_a_shell() -> None:
    lines = command("env", SLIPWAY_CLUSTER_NAME="absent").stdout
    script = f'{lines}\nprintf \'%s %s\' "$KUBECONFIG" "${{PATH%%:*}}"'
    config, folder = subprocess.check_output(["sh", "-c", script], text=True).split()
    assert config.endswith("/.cluster/absent.kubeconfig")
    assert folder.endswith("/bin")


def test_a_file_that_is_no_image_archive_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not an archive")
    with pytest.raises(ClusterError, match=r"notes\.txt is not an image archive"):
        image_names(text)


def test_an_archive_whose_image_has_no_name_is_refused_with_the_way_to_name_it(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as out:
        manifest = tmp_path / "manifest.json"
        manifest.write_text('[{"RepoTags": null}]')
        out.add(manifest, "manifest.json")
    with pytest.raises(ClusterError, match="names no image: write it with `buildah push"):
        image_names(archive)


def test_without_root_the_node_provider_says_so_before_it_touches_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        ClusterError, match="needs root: run the command with sudo, or use SLIPWAY_CLUSTER=kind"
    ):
        packages.require_root()


def test_without_apt_the_node_provider_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ClusterError, match=r"needs Debian or Ubuntu.*containerd.*iptables.*runc"):
        packages.install_packages()


def test_a_record_of_an_ended_process_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "sleep.json"
    with subprocess.Popen(["sleep", "600"]) as process:
        record = write_record(path, process.pid, "digest")
        assert read_record(path) == record
        assert record.alive()
        process.kill()
    assert read_record(path) is None


def test_a_record_whose_pid_belongs_to_another_process_ends_nothing() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            started = started_at(process.pid)
            assert started is not None
            boot, ticks = started.split("/")
            end(Record(process.pid, f"{boot}/{int(ticks) - 1}", "digest"), grace=1)
            assert process.poll() is None
        finally:
            process.kill()
