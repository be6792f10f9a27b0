"""What a run may not change on the machine: its settings, packet rules, addresses, routes and mounts."""

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from e2e.cluster.command import run

PROC = Path("/proc")
#: Entries that the kernel itself keeps changing.
RESTLESS = frozenset({"kernel/ns_last_pid", "kernel/random/uuid"})
#: What is there, sorted, by kind.
Facts = Mapping[str, frozenset[str]]


def look(apart: Path) -> Facts:
    """The machine as it is now; what is mounted below `apart` comes and goes with other commands."""
    return {
        "settings": frozenset(_settings(PROC / "sys")),
        "packet rules": frozenset(_rules()),
        "addresses and routes": frozenset(_addresses()),
        "mounts": frozenset(_mounts((PROC / "self/mountinfo").read_text(), apart)),
    }


def compare(before: Facts, after: Facts) -> tuple[list[str], bool]:
    """One line for each kind, then for each difference; and whether there is none."""
    lines, same = [], True
    for kind, was in before.items():
        gone, new = sorted(was - after[kind]), sorted(after[kind] - was)
        lines.append(f"{kind}: {len(was)} before, {len(after[kind])} after, {len(gone) + len(new)} differ")
        lines += [f"  - {one}" for one in gone] + [f"  + {one}" for one in new]
        same = same and not (gone or new)
    return lines, same


def _settings(root: Path) -> list[str]:
    """Those that can be written; what only reports is no setting."""
    found = []
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        with suppress(OSError):
            if path.is_file() and path.stat().st_mode & 0o222 and name not in RESTLESS:
                found.append(f"{name} = {' '.join(path.read_text(errors='replace').split())}")
    return found


def _rules() -> list[str]:
    found = []
    for program in ("iptables-save", "ip6tables-save"):
        if shutil.which(program):
            # Counters of packets are in brackets.
            rules = re.sub(r"\[\d+:\d+\]", "", run([program])).splitlines()
            found += [f"{program}: {rule.strip()}" for rule in rules if not rule.startswith("#")]
    return found


def _addresses() -> list[str]:
    links = run(["ip", "-oneline", "address"])
    # How long an address is valid counts down.
    lines = [re.sub(r"\d+sec", "", line.split(":", 1)[1]) for line in links.splitlines()]
    return [" ".join(line.replace("\\", "").split()) for line in lines] + run(["ip", "route"]).splitlines()


def _mounts(table: str, apart: Path) -> list[str]:
    """Place, type and source of each mount."""
    found = []
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        place = left.split()[4]
        if not Path(place).is_relative_to(apart):
            found.append(f"{place} {' '.join(right.split()[:2])}")
    return found
