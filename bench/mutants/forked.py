"""Processes forked from one that has imported no code of ours."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "operator"
_PR_SET_PDEATHSIG = 1


def quietly() -> None:
    """Of a process that was forked: writes nothing, and ends with the one that it was forked from."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def waited(pid: int) -> int:
    """The exit code of a process, below zero where a signal ended it."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def module_of(path: Path) -> str:
    """The name by which a file of the operator is imported."""
    return ".".join(path.relative_to(OPERATOR).with_suffix("").parts)
