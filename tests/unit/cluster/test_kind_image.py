"""The image of kind's nodes that is made without a registry: its name, its files and its archive."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from e2e.cluster.kind import image
from e2e.cluster.kind.image import FILES, PARTS_IMAGE, furnish, name_node_image, write_image
from e2e.cluster.tools import KUBERNETES_VERSION


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_the_name_stays_while_nothing_changes(tmp_path: Path) -> None:
    made = name_node_image(tmp_path, "kubernetes-v1-a")
    assert made == name_node_image(tmp_path, "kubernetes-v1-a")
    key = made.name.removeprefix("slipway.test/kind-node:")
    assert made.archive == tmp_path / "images" / f"kind-node-{key}.tar"


def test_another_build_of_kubernetes_makes_another_image(tmp_path: Path) -> None:
    assert name_node_image(tmp_path, "kubernetes-v1-a") != name_node_image(tmp_path, "kubernetes-v1-b")


def test_another_package_makes_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = name_node_image(tmp_path, "kubernetes")
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "one-more"))
    assert name_node_image(tmp_path, "kubernetes") != before


@pytest.mark.parametrize("change", [{"etc/one": "two"}, {"etc/other": "one"}, {"etc/one": "one", "b": ""}])
def test_a_change_of_a_file_makes_another_image(
    change: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "FILES", write(tmp_path / "before", {"etc/one": "one"}))
    before = name_node_image(tmp_path, "kubernetes")
    monkeypatch.setattr(image, "FILES", write(tmp_path / "after", change))
    assert name_node_image(tmp_path, "kubernetes") != before


def test_a_node_gets_kind_s_files_and_ours_over_them_with_programs_that_run(tmp_path: Path) -> None:
    theirs = write(
        tmp_path / "kind",
        {
            "usr/local/bin/entrypoint": "#!",
            "etc/crictl.yaml": "a: b",
            "kind/manifests/default-cni.yaml": "kindnet",
        },
    )
    kubernetes = write(tmp_path / "kubernetes", {"program": "program"})
    root = write(tmp_path / "root", {"usr/bin/bash": "", "etc/crictl.yaml": "of a package"})
    furnish(root, theirs, kubernetes)
    runs = {
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.stat().st_mode & 1
    }
    assert runs >= {
        "usr/local/bin/entrypoint",
        "usr/local/bin/shielded",
        "usr/local/sbin/runc",
        "kind/finish",
    }
    assert runs >= {"usr/bin/kubelet", "usr/bin/kubeadm", "usr/bin/kubectl"}
    assert "etc/crictl.yaml" not in runs
    assert (root / "etc/crictl.yaml").read_text() == "a: b"
    assert (root / "usr/bin/kubeadm").read_text() == "program"
    assert "node-network" in (root / "kind/manifests/default-cni.yaml").read_text()
    assert (root / "kind/version").read_text() == KUBERNETES_VERSION


def test_the_pods_network_runs_from_the_image_that_a_node_has() -> None:
    objects = list(yaml.safe_load_all((FILES / "kind/manifests/default-cni.yaml").read_text()))
    (daemons,) = [one for one in objects if one["kind"] == "DaemonSet"]
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    assert container["image"] == PARTS_IMAGE
    assert container["imagePullPolicy"] == "Never"


def test_the_archive_is_one_layer_whose_entrypoint_shields_the_machine_first(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(b"layer")
    write_image(tmp_path / "image.tar", "slipway.test/kind-node:key", layer)
    with tarfile.open(tmp_path / "image.tar") as archive:

        def read(name: str) -> bytes:
            found = archive.extractfile(name)
            assert found is not None
            return found.read()

        (manifest,) = json.loads(read("manifest.json"))
        assert manifest["RepoTags"] == ["slipway.test/kind-node:key"]
        assert [read(name) for name in manifest["Layers"]] == [b"layer"]
        config = json.loads(read(manifest["Config"]))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(b'layer').hexdigest()}"]
    assert config["config"]["Entrypoint"][:2] == ["/usr/local/bin/shielded", "/usr/local/bin/entrypoint"]
    assert config["config"]["StopSignal"] == "SIGRTMIN+3"
