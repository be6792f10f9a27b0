"""``slipway serve`` as a process, and what it prints."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.ports import free_ports
from tests.server.running import descendants

ROOT = Path(__file__).parents[3]


class Serve:
    """The command in a folder, on ports of its own unless REST, gRPC and metrics are given theirs."""

    def __init__(self, folder: Path, *words: str, given: Sequence[int] = ()) -> None:
        self.port, self.grpc_port, self.metrics_port = given or free_ports(3)
        self.scratch = folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        ports = (
            f"--port={self.port}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={self.metrics_port}",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slipway.cli.main", "serve", *words, *ports],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'server'}",
                "TMPDIR": str(self.scratch),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def line(self, pattern: str, seconds: float = 120) -> str:
        """The first line that matches, once it is printed; AssertionError where that does not happen."""
        found: list[str] = []

        def is_there() -> bool:
            found.extend(one for one in list(self.lines) if re.search(pattern, one))
            return bool(found) or self.process.poll() is not None

        until(is_there, seconds, lambda: self.output)
        assert found, f"no {pattern!r} in:\n{self.output}"
        return found[0]

    def curl(self) -> str:
        """The command that it prints."""
        return self.line("^curl ")

    def processes(self) -> list[int]:
        return descendants(self.process.pid)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code, and what it printed is complete."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))


def until(holds: Callable[[], bool], seconds: float = 60, words: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, words()
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
