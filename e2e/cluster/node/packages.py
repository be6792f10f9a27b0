"""What this machine must have: root, Debian or Ubuntu, and a few of its packages."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from e2e.cluster.command import run, step
from e2e.cluster.errors import ClusterError

PACKAGE_OF = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
    "cc": "gcc",
}
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
PLUGINS = ("ptp", "host-local", "portmap", "loopback")


def require_root() -> None:
    """The node needs namespaces, cgroups and mounts: say so before anything is touched."""
    if not sys.platform.startswith("linux"):
        raise ClusterError(
            "the node provider needs Linux: use SLIPWAY_CLUSTER=kind with a running Docker here"
        )
    if os.geteuid() != 0:
        raise ClusterError(
            "the node provider needs root: run the command with sudo, or use SLIPWAY_CLUSTER=kind"
        )


def install_packages() -> None:
    """Install with apt what is missing; nothing is called where all is there."""
    missing = sorted({package for command, package in PACKAGE_OF.items() if not shutil.which(command)})
    if not any(Path(folder, "libc.a").exists() for folder in _library_folders()):
        missing.append("libc6-dev")
    if plugin_folder() is None:
        missing.append("containernetworking-plugins")
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise ClusterError(
            f"the node provider needs Debian or Ubuntu, for apt-get: elsewhere install {', '.join(missing)}"
        )
    apt_install(missing)


def apt_install(packages: Sequence[str]) -> None:
    """Install packages of Debian's or Ubuntu's; needs root."""
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {' '.join(packages)}"):
        try:
            run(install, env=quiet)
        except ClusterError:
            run(["apt-get", "update", "-q"], env=quiet)
            run(install, env=quiet)


def plugin_folder() -> Path | None:
    """Where the CNI plugins are, or None."""
    complete = (folder for folder in PLUGIN_FOLDERS if all((folder / plugin).exists() for plugin in PLUGINS))
    return next(complete, None)


def _library_folders() -> list[Path]:
    return [Path("/usr/lib"), Path("/usr/lib64"), *Path("/usr/lib").glob("*-linux-gnu")]
