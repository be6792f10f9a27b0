"""How many CPUs this container may use: the machine's, less what affinity and the cgroup take away."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import ceil
from pathlib import Path


def usable_cpus(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> int:
    """Whole CPUs, at least 1; a limit of 1.5 CPUs counts as 2, since the second one does half of its time."""
    cpus = len(os.sched_getaffinity(0))
    limit = cpu_limit(proc, sys)
    return cpus if limit is None else max(1, min(cpus, ceil(limit)))


def cpu_limit(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> float | None:
    """The tightest CPU quota of this process's cgroup and those above it, in CPUs; ``None`` without one."""
    limits = []
    for line in _text(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _upwards(sys / "fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            limits += _upwards(sys / "fs/cgroup/cpu", path, _quota_v1)
    return min(limits, default=None)


def _upwards(root: Path, path: str, quota: Callable[[Path], float | None]) -> list[float]:
    # In a container with a cgroup namespace of its own the path is "/", and the limit stands at the root.
    group = root / path.lstrip("/")
    found = [quota(each) for each in (group, *group.parents) if each.is_relative_to(root)]
    return [value for value in (*found, quota(root)) if value is not None]


def _quota_v2(group: Path) -> float | None:
    words = _text(group / "cpu.max").split()
    if len(words) != 2 or words[0] == "max":
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(group: Path) -> float | None:
    quota, period = _text(group / "cpu.cfs_quota_us").strip(), _text(group / "cpu.cfs_period_us").strip()
    if not quota or not period or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
