"""Run other programs, and say what takes long."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO, Any

from e2e.cluster.errors import ClusterError

REMIND_SECONDS = 10


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program to its end and return what it printed; ClusterError carries its last words."""
    words = [str(word) for word in argv]
    fed: dict[str, Any] = (
        {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    )
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            words,
            **fed,
            capture_output=True,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as missing:
        raise ClusterError(f"{words[0]} is not installed") from missing
    except subprocess.TimeoutExpired as slow:
        raise ClusterError(f"{' '.join(words[:4])} did not end within {timeout:.0f} s") from slow
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-1500:]
        raise ClusterError(f"{' '.join(words)[:200]} failed with exit code {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def tell(line: str) -> None:
    """Print one line of progress to stderr, so that stdout stays for results."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Name what is done, say so again while it lasts, and how long it took."""
    started = time.monotonic()
    ended = threading.Event()

    def remind() -> None:
        while not ended.wait(REMIND_SECONDS):
            tell(f"  … {title} ({time.monotonic() - started:.0f} s)")

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    except BaseException:
        ended.set()
        tell(f"  ✗ {title} ({time.monotonic() - started:.1f} s)")
        raise
    ended.set()
    tell(f"  ✓ {title} ({time.monotonic() - started:.1f} s)")


def wait_until(
    check: Callable[[], bool], seconds: float, otherwise: Callable[[], str], pause: float = 0.2
) -> None:
    """Wait for `check`; after `seconds` raise ClusterError with what `otherwise` says."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise ClusterError(otherwise())
        time.sleep(pause)


@contextmanager
def exclusive(lock: Path, why: str) -> Iterator[None]:
    """Hold a lock file, so that two commands do not build or repair the same thing at once."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        try:
            flock(held, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            with step(f"waiting for another command that is {why}"):
                flock(held, LOCK_EX)
        yield
