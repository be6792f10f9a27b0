"""An engine of Docker's for one run, on a machine that has none: in namespaces and a cgroup of its own."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.cluster.command import exclusive, run, step, wait_until
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import unpack_packages
from e2e.cluster.kind.docker import ANSWER_SECONDS, engine_answers
from e2e.cluster.node import cgroups
from e2e.cluster.node.layout import Layout, cluster_cgroup
from e2e.cluster.node.packages import install_packages
from e2e.cluster.settings import Settings

RUNC = Path(__file__).resolve().parent / "files/usr/local/sbin/runc"
START_SECONDS, END_SECONDS = 60.0, 60.0
# Its bridges, rules and mounts stay in here. It counts pids as the machine does: `run` looks for a node's.
START = """for entrance in $ENTRANCES; do echo 0 > "$entrance"; done
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
exec dockerd --config-file "$1/daemon.json" --host "unix://$1/docker.sock" --data-root "$1/data" \\
  --exec-root /run/docker --pidfile /run/docker.pid --storage-driver overlay2 --oom-score-adjust 0 \\
  --cgroup-parent "/$2" --ip6tables=false
"""


@dataclass(frozen=True)
class Engine:
    """How commands reach an engine and what its containers listen on."""

    own: bool
    """Whether it is one for this run; it has no way out, so nothing can be pulled."""
    entrance: Sequence[str] = ()
    """The words in front of a command."""
    environment: Mapping[str, str] | None = None
    """What a command has in its environment besides this machine's."""

    def call(self, argv: Sequence[str | Path], environment: Mapping[str, str]) -> int:
        """Run a command that prints for itself; returns its exit code."""
        words = [*self.entrance, *map(str, argv)]
        return subprocess.call(words, env={**os.environ, **(self.environment or {}), **environment})

    def docker(self, *words: str | Path, seconds: float) -> str:
        """Run Docker's client and return what it printed."""
        return run([*self.entrance, "docker", *words], env=self.environment, timeout=seconds)


def prepare(cache: Path) -> None:
    """Fetch what `engine_for` starts where this machine has no engine; in there is no network to do so."""
    if os.geteuid() != 0:
        raise ClusterError(
            "Docker does not answer, and an engine for one run needs root: start Docker, or be root"
        )
    install_packages()
    with exclusive(cache / "tools.lock", "installing"):
        if not (programs := _programs(cache)).exists():
            with step("fetching docker.io"):
                made = programs.with_name(f".{programs.name}")
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir(parents=True)
                unpack_packages(["docker.io", "tini"], made)
                made.rename(programs)


@contextmanager
def engine_for(settings: Settings) -> Iterator[Engine]:
    """This machine's engine where it answers, else one that ends with this context, and what ran in it."""
    if engine_answers():
        yield Engine(own=False)
        return
    layout = Layout(replace(settings, name=f"{settings.name}-engine"))
    folder = settings.state.with_name(layout.name)
    # What a run left that was killed.
    _end(layout, folder)
    try:
        yield _start(layout, folder)
    finally:
        with step("ending the engine"):
            _end(layout, folder)


def _start(layout: Layout, folder: Path) -> Engine:
    folder.mkdir(parents=True)
    cgroups.create(layout, 0)
    shutil.copy(RUNC, folder / "runc")
    runtimes = {"runtimes": {"here": {"path": str(folder / "runc")}}, "default-runtime": "here"}
    (folder / "daemon.json").write_text(json.dumps(runtimes))
    programs = _programs(layout.settings.cache)
    path = f"{programs}/usr/sbin:{programs}/usr/bin:{os.environ['PATH']}"
    log = folder / "engine.log"
    with log.open("w") as said:
        words = ("unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", START, "sh")
        entrances = " ".join(map(str, cgroups.entrances(layout)))
        engine = subprocess.Popen(
            [*words, folder, cluster_cgroup(layout.name)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, "PATH": path, "ENTRANCES": entrances},
            start_new_session=True,
        )
    environment = {"PATH": path, "DOCKER_HOST": f"unix://{folder}/docker.sock"}
    made = Engine(True, ("nsenter", f"--net=/proc/{engine.pid}/ns/net", "--"), environment)

    def answers() -> bool:
        if engine.poll() is not None:
            raise ClusterError(f"Docker's engine ended: {log.read_text()[-800:]}")
        with suppress(ClusterError):
            made.docker("info", seconds=ANSWER_SECONDS)
            return True
        return False

    with step("starting an engine of Docker's"):
        wait_until(answers, START_SECONDS, lambda: f"Docker's engine is silent: {log.read_text()[-800:]}")
    return made


def _end(layout: Layout, folder: Path) -> None:
    """End all that is in the engine's cgroup, which nothing else is in, and remove what it wrote."""
    top = cluster_cgroup(layout.name)
    # The engine first: it ends its containers and takes down their mounts.
    system = {pid for root in cgroups.hierarchies() for pid in cgroups.processes(root / layout.system_cgroup)}
    _signal(system, signal.SIGTERM)
    until = time.monotonic() + END_SECONDS
    while found := {pid for root in cgroups.hierarchies() for pid in cgroups.processes(root / top)}:
        if time.monotonic() > until - END_SECONDS / 2:
            _signal(found, signal.SIGKILL)
        if time.monotonic() > until:
            raise ClusterError(f"the engine's processes do not end: {sorted(found)}")
        _reap()
        time.sleep(0.2)
    cgroups.remove(layout.name)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise ClusterError(f"{folder} cannot be removed")


def _signal(pids: set[int], word: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, word)


def _reap() -> None:
    """Let the engine go where it is this process's own child."""
    with suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _programs(cache: Path) -> Path:
    return cache / "tools" / "docker.io"
