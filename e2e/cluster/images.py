"""The cluster's own images: one-layer archives written by hand, no builder and no registry needed."""

import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.cluster.command import exclusive, run, step
from e2e.cluster.errors import ClusterError
from e2e.cluster.tools import COREDNS, METRICS_SERVER, Tools

PAUSE_IMAGE = "slipway.test/pause:1"
BUSYBOX_IMAGE = "slipway.test/busybox:1"
COREDNS_IMAGE = f"slipway.test/coredns:{COREDNS.version}"
METRICS_SERVER_IMAGE = f"slipway.test/metrics-server:{METRICS_SERVER.version}"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI_NAME = "io.containerd.image.name"
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\n",
}


@dataclass(frozen=True)
class Layer:
    """What one image holds, by path without a leading slash."""

    programs: Mapping[str, Path]
    links: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def node_images(tools: Tools) -> list[Path]:
    """Archives of the images that a node needs to run pods at all, CoreDNS among them."""
    return [
        _archive(tools, PAUSE_IMAGE, Layer({"pause": tools.pause()}), ["/pause"]),
        _archive(tools, COREDNS_IMAGE, Layer({"coredns": tools.install(COREDNS)}), ["/coredns"]),
        *shared_images(tools),
    ]


def shared_images(tools: Tools) -> list[Path]:
    """Archives of the images that every provider gets: metrics-server, and busybox for the tests."""
    metrics_server = Layer({"metrics-server": tools.install(METRICS_SERVER)})
    busybox = _busybox(tools.cache)
    applets = run([busybox, "--list"]).split()
    shell = Layer(
        {"bin/busybox": busybox},
        {f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"},
        ACCOUNTS,
    )
    return [
        _archive(tools, METRICS_SERVER_IMAGE, metrics_server, ["/metrics-server"]),
        _archive(tools, BUSYBOX_IMAGE, shell, ["/bin/sh"]),
    ]


def image_names(archive: Path) -> list[str]:
    """The names an image archive carries (docker or OCI form); ClusterError where it has none."""
    try:
        with tarfile.open(archive) as opened:
            members = set(opened.getnames())
            if "manifest.json" in members:
                entries = json.load(_member(opened, "manifest.json"))
                names = [name for entry in entries for name in entry.get("RepoTags") or []]
            elif "index.json" in members:
                index = json.load(_member(opened, "index.json"))
                notes = [manifest.get("annotations", {}) for manifest in index["manifests"]]
                names = [note[OCI_NAME] for note in notes if OCI_NAME in note]
            else:
                names = []
    except (OSError, tarfile.TarError, ValueError, KeyError) as broken:
        raise ClusterError(f"{archive} is not an image archive: {broken}") from broken
    if not names:
        raise ClusterError(
            f"{archive} names no image: write it with `buildah push X docker-archive:FILE:NAME:TAG`"
        )
    return names


def _member(archive: tarfile.TarFile, name: str) -> io.BufferedIOBase:
    stream = archive.extractfile(name)
    if stream is None:
        raise ClusterError(f"{archive.name!r} holds {name}, but not as a file")
    return stream  # type: ignore[return-value]


def _archive(tools: Tools, name: str, layer: Layer, entrypoint: Sequence[str]) -> Path:
    """Write the archive unless the cache has it; its file name carries a digest of what went in."""
    described = [name, list(entrypoint), dict(layer.links), dict(layer.texts)]
    total = hashlib.sha256(json.dumps(described).encode())
    for path, program in sorted(layer.programs.items()):
        total.update(path.encode() + hashlib.sha256(program.read_bytes()).digest())
    short = name.split("/")[-1].split(":")[0]
    target = tools.cache / "images" / f"{short}-{total.hexdigest()[:12]}.tar"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        made = target.with_name(f".{target.name}.{os.getpid()}")
        _write_archive(made, name, _write_layer(layer), entrypoint)
        made.replace(target)
    return target


def _write_layer(layer: Layer) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        scratch = tarfile.TarInfo("tmp")
        scratch.type, scratch.mode = tarfile.DIRTYPE, 0o1777
        out.addfile(scratch)
        for path, program in sorted(layer.programs.items()):
            _add(out, path, program.read_bytes(), 0o755)
        for path, text in sorted(layer.texts.items()):
            _add(out, path, text.encode(), 0o644)
        for path, target in sorted(layer.links.items()):
            link = tarfile.TarInfo(path)
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, target, 0o777
            out.addfile(link)
    return buffer.getvalue()


def _write_archive(target: Path, name: str, layer: bytes, entrypoint: Sequence[str]) -> None:
    layer_digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{}],
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    entry = {"Config": config_name, "RepoTags": [name], "Layers": [f"{layer_digest}.tar"]}
    manifest = json.dumps([entry]).encode()
    with tarfile.open(target, "w") as out:
        _add(out, config_name, config, 0o644)
        _add(out, f"{layer_digest}.tar", layer, 0o644)
        _add(out, "manifest.json", manifest, 0o644)


def _add(out: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    out.addfile(entry, io.BytesIO(content))


def _busybox(cache: Path) -> Path:
    """Debian's static busybox, unpacked into the cache, not installed among this machine's programs."""
    target = cache / "tools" / "busybox-static"
    with exclusive(cache / "tools.lock", "building"):
        if not target.exists():
            with step("fetching busybox-static"), tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                folder.chmod(0o755)
                try:
                    run(["apt-get", "download", "-q", "busybox-static"], cwd=folder)
                except ClusterError:
                    run(["apt-get", "update", "-q"])
                    run(["apt-get", "download", "-q", "busybox-static"], cwd=folder)
                run(["dpkg-deb", "-x", next(folder.glob("*.deb")), folder / "unpacked"])
                found = next(path for path in folder.glob("unpacked/**/bin/busybox") if path.is_file())
                made = target.with_name(".busybox-static")
                made.write_bytes(found.read_bytes())
                made.chmod(0o755)
                made.replace(target)
    return target
