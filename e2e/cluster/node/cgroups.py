"""Cgroups of the cluster's own, in every hierarchy of version 1 or in the one of version 2."""

import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from e2e.cluster.command import wait_until
from e2e.cluster.node.layout import Layout, cluster_cgroup

UNIFIED = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
SHARES = 4096
"""Four times the default, so that builds elsewhere on the machine do not starve the control plane."""


def hierarchies() -> list[Path]:
    """Mount points that take cgroups: all of version 1, or the unified one where there is no other."""
    return _mounted("cgroup") or _mounted("cgroup2")


def create(layout: Layout, members: int) -> None:
    """Make the groups of the components and of each node's pods."""
    groups = [layout.system_cgroup, *(layout.member(index).pods_cgroup for index in range(members))]
    for root in hierarchies():
        for group in groups:
            _create(root, Path(group))
        _raise_share(root / cluster_cgroup(layout.name))
        _raise_share(root / layout.system_cgroup)


def entrances(layout: Layout) -> list[Path]:
    """The files that take a process into the components' group, one per hierarchy."""
    return [root / layout.system_cgroup / "cgroup.procs" for root in hierarchies()]


def memory_bytes(layout: Layout) -> int:
    """What the whole cluster holds now, components, pods and page cache together."""
    for file in ("memory/{}/memory.usage_in_bytes", "{}/memory.current"):
        path = UNIFIED / file.format(cluster_cgroup(layout.name))
        if path.exists():
            return int(path.read_text())
    return 0


def processes(top: Path) -> list[int]:
    """The processes in a group and in those below it, in one hierarchy."""
    found = []
    for procs in top.rglob("cgroup.procs"):
        # A group may go meanwhile.
        with suppress(OSError):
            found += [int(pid) for pid in procs.read_text().split()]
    return found


def remove(cluster: str) -> None:
    """Delete the cluster's groups; the processes in them must have ended."""
    # runc also makes groups in a unified hierarchy that stands beside those of version 1.
    for root in (*_mounted("cgroup"), *_mounted("cgroup2")):
        top = root / cluster_cgroup(cluster)
        wait_until(partial(_remove, top), 10, partial(_busy, top))
        if top.parent.exists() and not any(path.is_dir() for path in top.parent.iterdir()):
            top.parent.rmdir()


def _mounted(kind: str) -> list[Path]:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(mount) for _, mount, found, *_ in mounts if found == kind]


def _create(root: Path, group: Path) -> None:
    at = root
    for part in group.parts:
        control = at / "cgroup.subtree_control"
        if control.exists():
            offered = set((at / "cgroup.controllers").read_text().split())
            for name in offered.intersection(CONTROLLERS):
                control.write_text(f"+{name}")
        child = at / part
        child.mkdir(exist_ok=True)
        # A new cpuset of version 1 is empty, and takes no process until it has processors and memory.
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if not control.exists() and (at / setting).exists() and not (child / setting).read_text().strip():
                (child / setting).write_text((at / setting).read_text())
        at = child


def _raise_share(group: Path) -> None:
    if (group / "cpu.shares").exists():
        (group / "cpu.shares").write_text(str(SHARES))
    elif (group / "cpu.weight").exists():
        (group / "cpu.weight").write_text(str(SHARES * 100 // 1024))


def _remove(top: Path) -> bool:
    if not top.exists():
        return True
    below = [path for path in top.rglob("*") if path.is_dir()]
    try:
        for path in sorted(below, key=lambda path: len(path.parts), reverse=True):
            path.rmdir()
        top.rmdir()
    except OSError:
        time.sleep(0.1)
        return False
    return True


def _busy(top: Path) -> str:
    pids = [str(pid) for pid in processes(top)]
    return f"{top} still holds processes: {', '.join(pids[:10]) or 'none seen'}"
