"""An image of kind's nodes where no registry has one: Debian's packages, kind's files, Kubernetes as made."""

import hashlib
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.command import exclusive, run, step
from e2e.cluster.images import ARCHITECTURE, Layer, busybox, node_image_archives, write_archive
from e2e.cluster.node.packages import apt_install
from e2e.cluster.tools import COREDNS, KIND, KUBERNETES_VERSION, Tools
from e2e.images.base import SUITE, make_root, write_tar

FILES = Path(__file__).resolve().parent / "files"
#: What kind's Dockerfile installs, with Debian's own containerd, runc and plugins of networks.
PACKAGES = (
    *("systemd", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount", "kmod"),
    *("libseccomp2", "pigz", "e2fsprogs", "bash", "ca-certificates", "curl", "jq", "procps", "socat"),
    *("containerd", "runc", "containernetworking-plugins", "hostname"),
)
#: The image that every component of the control plane, kube-proxy and the pods' network run from.
PARTS_IMAGE = "slipway.test/kubernetes:1"
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl")
ON_THE_NODE = ("kubelet", "kubeadm", "kubectl")
IPTABLES = "usr/sbin/xtables-nft-multi"
IPTABLES_NAMES = tuple(f"ip{six}tables{verb}" for six in ("", "6") for verb in ("", "-save", "-restore"))
CONFIG = {
    "Entrypoint": ["/usr/local/bin/shielded", "/usr/local/bin/entrypoint", "/sbin/init"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=docker"],
    # systemd takes the usual one as a wish to start again.
    "StopSignal": "SIGRTMIN+3",
}
FINISH = Path("kind/finish")
# In namespaces that end with it: what the script starts ends too, and no mount stays.
INSIDE = """mount --rbind /dev "$1/dev"
exec chroot "$1" "/$2"
"""


@dataclass(frozen=True)
class NodeImage:
    """An image's name, and the archive in the cache that `docker load` takes."""

    name: str
    archive: Path


def name_node_image(cache: Path, kubernetes: str) -> NodeImage:
    """The image for a build of Kubernetes, by its folder's name; another name wherever it would differ."""
    total = hashlib.sha256()
    words = (kubernetes, SUITE, PACKAGES, COREDNS, KIND, CONFIG)
    total.update(repr(words).encode() + Path(__file__).read_bytes())
    for file in _files_of(FILES):
        total.update(str(file.relative_to(FILES)).encode() + b"\0" + file.read_bytes())
    key = total.hexdigest()[:16]
    return NodeImage(f"slipway.test/kind-node:{key}", cache / "images" / f"kind-node-{key}.tar")


def make_node_image(tools: Tools) -> NodeImage:
    """Make the image unless the cache has it; needs root, Debian or Ubuntu, and their packages."""
    kubernetes = tools.kubernetes()
    image = name_node_image(tools.cache, kubernetes.name)
    kind_files = tools.kind_files()
    folder = image.archive.parent
    with exclusive(folder / "kind-node.lock", "making the image of kind's nodes"):
        if image.archive.exists():
            return image
        if not shutil.which("debootstrap"):
            apt_install(["debootstrap"])
        with (
            step(f"image of kind's nodes: Debian {SUITE}, Kubernetes {KUBERNETES_VERSION}"),
            tempfile.TemporaryDirectory(dir=folder, prefix="kind-node-") as scratch,
        ):
            root = Path(scratch) / "root"
            make_root(root, PACKAGES)
            furnish(root, kind_files, kubernetes)
            _finish(root, tools)
            layer = Path(scratch) / "layer.tar"
            write_tar(root, layer)
            made = Path(scratch) / "image.tar"
            write_image(made, image.name, layer)
            made.rename(image.archive)
        for older in folder.glob("kind-node-*.tar"):
            if older != image.archive:
                older.unlink()
    return image


def furnish(root: Path, kind_files: Path, kubernetes: Path) -> None:
    """Put into the root of a node what no package has."""
    for source in (kind_files, FILES):
        for file in _files_of(source):
            path = file.relative_to(source)
            # As kind's Dockerfile has it.
            _put(file, root / path, executable=path.parent.name in ("bin", "sbin") or path == FINISH)
    _put(kubernetes / "program", root / "usr/bin/kubernetes", executable=True)
    for name in ON_THE_NODE:
        (root / "usr/bin" / name).symlink_to("kubernetes")
    # kind reads it to the end, a line break too.
    (root / "kind/version").write_text(KUBERNETES_VERSION)


def write_image(target: Path, name: str, layer: Path) -> None:
    """Write an archive of one layer that `docker load` takes."""
    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    facts = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{}],
    }
    config = layer.with_name("config.json")
    config.write_text(json.dumps(facts))
    config_name = f"{hashlib.sha256(config.read_bytes()).hexdigest()}.json"
    manifest = layer.with_name("manifest.json")
    manifest.write_text(
        json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}.tar"]}])
    )
    with tarfile.open(target, "w") as out:
        out.add(manifest, "manifest.json")
        out.add(config, config_name)
        out.add(layer, f"{digest}.tar")


def _finish(root: Path, tools: Tools) -> None:
    """Run what kind's Dockerfile runs, and give the node's containerd the images of Kubernetes."""
    images = root / "kind/images"
    images.mkdir()
    write_archive(images / "parts.tar", PARTS_IMAGE, _parts(root, tools.cache), ["/bin/sh"])
    names = {"PARTS": PARTS_IMAGE}
    for role, (name, archive) in node_image_archives(tools).items():
        shutil.copy(archive, images)
        names[role] = name
    inside = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
    run([*inside, f"--mount-proc={root}/proc", "sh", "-ec", INSIDE, "sh", root, FINISH], env=names)


def _parts(root: Path, cache: Path) -> Layer:
    """The program of Kubernetes and iptables, with the node's own libraries, and a shell."""
    programs = {
        "bin/kubernetes": root / "usr/bin/kubernetes",
        "bin/busybox": busybox(cache),
        IPTABLES: root / IPTABLES,
        **_libraries(root),
    }
    links = {f"bin/{part}": "kubernetes" for part in PARTS}
    links |= {f"bin/{applet}": "busybox" for applet in ("cat", "ip", "mv", "sh", "sleep")}
    links |= {f"usr/sbin/{name}": Path(IPTABLES).name for name in IPTABLES_NAMES}
    # kubeadm's manifest names it so.
    links["usr/local/bin/kube-proxy"] = "/bin/kubernetes"
    return Layer(programs, links, search="/bin:/usr/sbin")


def _libraries(root: Path) -> Mapping[str, Path]:
    """What the two programs are linked with, and iptables' extensions with what those are linked with."""
    script = f"ldd /usr/bin/kubernetes /{IPTABLES} /usr/lib/*/xtables/*.so; ls /usr/lib/*/xtables/*.so"
    said = run(["chroot", root, "sh", "-ec", script])
    paths = sorted({word for line in said.splitlines() for word in line.split() if word.startswith("/")})
    # `ldd` ends the name of each file with a colon.
    paths = [path for path in paths if not path.endswith(":") and "/bin/" not in path]
    real = run(["chroot", root, "readlink", "-f", *paths]).split()
    return {path.lstrip("/"): root / found.lstrip("/") for path, found in zip(paths, real, strict=True)}


def _files_of(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _put(source: Path, target: Path, *, executable: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable else 0o644)
