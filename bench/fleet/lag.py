"""How late the operator's event loop is, as whoever asks it for ``/healthz`` sees it."""

from __future__ import annotations

import http.client
import threading
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
    """Asks ten times a second while it is open; a loop that does nothing answers within a millisecond."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._seconds: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE + 1)

    @property
    def answers(self) -> Answers:
        """What was measured so far."""
        return Answers(sorted(self._seconds))

    def _ask(self) -> None:
        while not self._stop.wait(_PAUSE):
            try:
                self._seconds.append(seconds_of("/healthz"))
            except OSError:
                # It has not begun to listen.
                continue


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
