"""Ports for the processes that tests start, no port to two of them."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

# Below the range from which the kernel deals out ports: there, a port that was free a moment ago
# may be a client's by the time a server binds it.
_FIRST, _LAST = 12_000, 29_999


def free_port() -> int:
    """A port that nothing listens on, and that no other test of this machine is given soon.

    The processes of tests that run next to each other take their ports from one counter.
    """
    with (Path(tempfile.gettempdir()) / f"slipway-tests-port.{os.getuid()}").open("a+") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        last = int(counter.read() or _LAST)
        while True:
            last = last + 1 if _FIRST <= last < _LAST else _FIRST
            with suppress(OSError), socket.socket() as found:
                found.bind(("", last))
                break
        counter.truncate(0)
        counter.write(str(last))
    return last


def free_ports(count: int) -> list[int]:
    """As many ports, each another one."""
    return [free_port() for _ in range(count)]
