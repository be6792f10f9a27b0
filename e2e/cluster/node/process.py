"""Processes inside a node: started apart from this command, known by record, ended only by a true record."""

import ctypes
import hashlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster.command import wait_until
from e2e.cluster.errors import ClusterError

CLONE_NEWNET = 0x40000000
PF_EXITING = 0x4
MAX_OPEN_FILES = 1048576
# Join the cluster's cgroups, raise the limit of open files, then leave the program behind in its own session.
LAUNCH = """set -e
log=$1; files=$2; shift 2
for entrance in $ENTRANCES; do echo 0 > "$entrance"; done
ulimit -n "$files"
setsid "$@" >> "$log" 2>&1 < /dev/null &
echo $!
"""


@dataclass(frozen=True)
class Record:
    """A process as it was seen right after its start."""

    pid: int
    started: str
    """Ticks since boot, and the boot's id: together they tell this process from a later one of its pid."""
    digest: str
    """Of the command and its configuration: a difference calls for a restart."""

    def present(self) -> bool:
        """Whether the process is still there, be it about to end."""
        return started_at(self.pid) == self.started

    def alive(self) -> bool:
        """Whether the process is there to stay: a killed one may take a while to go on a busy machine."""
        return self.present() and not _is_ending(self.pid)


def started_at(pid: int) -> str | None:
    """When the process started, or None where there is none (a zombie is none)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = text[text.rindex(")") + 2 :].split()
    return None if state in "ZX" else f"{_boot_id()}/{rest[18]}"


def _is_ending(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    flags = int(text[text.rindex(")") + 2 :].split()[6])
    pending = [
        int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))
    ]
    return bool(flags & PF_EXITING or any(mask >> (signal.SIGKILL - 1) & 1 for mask in pending))


def read_record(path: Path) -> Record | None:
    """The record of a process that is still there; a stale or unreadable one is None."""
    try:
        record = Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.present() else None


def write_record(path: Path, pid: int, digest: str) -> Record:
    started = started_at(pid)
    if started is None:
        raise ClusterError(f"{path.stem} ended at once")
    record = Record(pid, started, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(".new")
    made.write_text(json.dumps(asdict(record)))
    made.replace(path)
    return record


def digest_of(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def start_inside(
    holder: int, argv: Sequence[str], log: Path, entrances: Sequence[Path], keep: Sequence[int] = ()
) -> int:
    """Start a program in the namespaces that process `holder` holds; returns its pid as this machine sees it.

    `keep` are open sockets that the program inherits under the same numbers.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    shell = ["sh", "-c", LAUNCH, "sh", str(log), str(_open_files())]
    done = subprocess.run(
        [*enter(holder, "--net", "--mount", "--pid"), *shell, *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        pass_fds=keep,
        # Proxies and certificate settings of the caller mean nothing inside the node.
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENTRANCES": " ".join(map(str, entrances)),
        },
        check=False,
    )
    if done.returncode or not done.stdout.strip().isdigit():
        raise ClusterError(f"cannot start {argv[0]} inside the node: {done.stderr.strip()}")
    return outer_pid(holder, int(done.stdout))


def enter(holder: int, *namespaces: str) -> list[str]:
    """The words in front of a command that is to run in the namespaces of a process."""
    return ["nsenter", "--target", str(holder), *namespaces, "--"]


def outer_pid(holder: int, inner: int) -> int:
    """The pid on this machine of a process known by its pid inside the holder's pid namespace."""
    space = os.readlink(f"/proc/{holder}/ns/pid")
    for pid, status in _statuses():
        numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        with suppress(OSError):
            if numbers[-1:] == [str(inner)] and os.readlink(f"/proc/{pid}/ns/pid") == space:
                return pid
    raise ClusterError("a component ended at once; `status` names the log folder")


def strays(holder: int, program: str) -> list[int]:
    """Pids of the processes that run a program directly inside the holder's namespaces, recorded or not."""
    space = os.readlink(f"/proc/{holder}/ns/pid")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            running = path.read_bytes().split(b"\0")[0].decode(errors="replace")
            if running == program and os.readlink(path.parent / "ns/pid") == space:
                found.append(int(path.parent.name))
    return found


def end(record: Record, grace: float) -> None:
    """Ask the process to end, insist after `grace` seconds, and wait until it is gone."""
    for word, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        if record.present():
            with suppress(ProcessLookupError):
                os.kill(record.pid, word)
        until = time.monotonic() + seconds
        while record.present() and time.monotonic() < until:
            time.sleep(0.02)
    wait_until(lambda: not record.present(), 20, lambda: f"process {record.pid} does not end")


def with_arguments(argv: Sequence[str]) -> list[int]:
    """Pids of the processes that have exactly these arguments, whatever their program."""
    wanted = [word.encode() for word in argv]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().rstrip(b"\0").split(b"\0")[1:] == wanted:
                found.append(int(path.parent.name))
    return found


@contextmanager
def inside_network(holder: int) -> Iterator[None]:
    """Let this thread open sockets in the network of another process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/proc/{holder}/ns/net") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise ClusterError(f"cannot enter the node's network: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)


def resident_bytes(pid: int) -> int:
    """Memory that the process holds now."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def _statuses() -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            yield int(path.parent.name), path.read_text()


def _open_files() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
