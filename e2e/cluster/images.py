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
    search: str = "/bin"
    """Where programs are looked for."""


def node_images(tools: Tools) -> list[Path]:
    """Archives of the images that a node needs to run pods at all, CoreDNS among them."""
    return [*(archive for _, archive in node_image_archives(tools).values()), *shared_images(tools)]


def node_image_archives(tools: Tools) -> dict[str, tuple[str, Path]]:
    """Name and archive of the images of a pod's sandbox and of CoreDNS."""
    coredns = Layer({"coredns": tools.install(COREDNS)})
    return {
        "PAUSE": (PAUSE_IMAGE, _archive(tools, PAUSE_IMAGE, Layer({"pause": tools.pause()}), ["/pause"])),
        "COREDNS": (COREDNS_IMAGE, _archive(tools, COREDNS_IMAGE, coredns, ["/coredns"])),
    }


def shared_images(tools: Tools) -> list[Path]:
    """Archives of the images that every provider gets: metrics-server, and busybox for the tests."""
    metrics_server = Layer({"metrics-server": tools.install(METRICS_SERVER)})
    program = busybox(tools.cache)
    applets = run([program, "--list"]).split()
    shell = Layer(
        {"bin/busybox": program},
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
        write_archive(made, name, layer, entrypoint)
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


def write_archive(target: Path, name: str, layer: Layer, entrypoint: Sequence[str]) -> None:
    """Write an image of one layer as an archive that Docker and containerd take."""
    content = _write_layer(layer)
    layer_digest = hashlib.sha256(content).hexdigest()
    config = json.dumps(
        {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": [f"PATH={layer.search}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{}],
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    entry = {"Config": config_name, "RepoTags": [name], "Layers": [f"{layer_digest}.tar"]}
    manifest = json.dumps([entry]).encode()
    with tarfile.open(target, "w") as out:
        _add(out, config_name, config, 0o644)
        _add(out, f"{layer_digest}.tar", content, 0o644)
        _add(out, "manifest.json", manifest, 0o644)


def _add(out: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    out.addfile(entry, io.BytesIO(content))


def busybox(cache: Path) -> Path:
    """Debian's static busybox, unpacked into the cache, not installed among this machine's programs."""
    target = cache / "tools" / "busybox-static"
    with exclusive(cache / "tools.lock", "building"):
        if not target.exists():
            with step("fetching busybox-static"), tempfile.TemporaryDirectory() as scratch:
                unpack_packages(["busybox-static"], Path(scratch))
                found = next(path for path in Path(scratch).glob("**/bin/busybox") if path.is_file())
                made = target.with_name(".busybox-static")
                made.write_bytes(found.read_bytes())
                made.chmod(0o755)
                made.replace(target)
    return target


def unpack_packages(names: Sequence[str], folder: Path) -> None:
    """Fetch Debian's packages and unpack them into a folder, among none of this machine's programs."""
    with tempfile.TemporaryDirectory() as scratch:
        fetched = Path(scratch)
        fetched.chmod(0o755)
        try:
            run(["apt-get", "download", "-q", *names], cwd=fetched)
        except ClusterError:
            run(["apt-get", "update", "-q"])
            run(["apt-get", "download", "-q", *names], cwd=fetched)
        for package in sorted(fetched.glob("*.deb")):
            run(["dpkg-deb", "-x", package, folder])
