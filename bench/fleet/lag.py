"""How late the operator's event loop is, as whoever asks it for ``/healthz`` sees it."""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bench.fleet.processes import METRICS_PORT

_PAUSE = 0.1
_PATIENCE = 30.0


@dataclass(frozen=True)
class Answers:
    """Seconds of all answers, in order of length."""

    seconds: Sequence[float]

    def quantile(self, share: float) -> float:
        """The answer that a share of all were not slower than; 0 where there was none."""
        return (
            self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))] if self.seconds else 0.0
        )


class Prober:
    """Asks ten times a second while it is open; a loop that does nothing answers within a millisecond.

    It asks from a process of its own, for the bench's own work is to delay no question.
    """

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def __enter__(self) -> Self:
        self._found = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.fleet.lag"], stdin=subprocess.DEVNULL, stdout=self._found
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE + 1)
        with self._found as found:
            found.seek(0)
            self._seconds = [float(line) for line in found]

    @property
    def answers(self) -> Answers:
        """What was measured until it was closed."""
        return Answers(sorted(self._seconds))


def metrics_page() -> float:
    """Seconds until the operator has answered ``/metrics``."""
    return seconds_of("/metrics")


def seconds_of(path: str) -> float:
    """Seconds until the operator has answered; OSError where it does not."""
    connection = http.client.HTTPConnection("127.0.0.1", METRICS_PORT, timeout=_PATIENCE)
    try:
        began = time.perf_counter()
        connection.request("GET", path)
        connection.getresponse().read()
        return time.perf_counter() - began
    finally:
        connection.close()


def _ask() -> None:
    while True:
        time.sleep(_PAUSE)
        try:
            print(seconds_of("/healthz"), flush=True)
        except OSError:
            # It has not begun to listen.
            continue


if __name__ == "__main__":
    _ask()
