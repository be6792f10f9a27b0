"""Work that may end its process, done in a child: what onnxruntime does with odd values and shapes.

Only on the CPU, which outlives a fork; and while no other thread runs the model, whose locks a child would
find locked for good.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)


def fork(work: Callable[[int], None]) -> tuple[int, int] | None:
    """Start a child that does ``work`` with a pipe to write to; gives its id and the end to read from."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        log.warning("a process to try the model in cannot be started", extra={"error": str(error)})
        os.close(reading)
        os.close(writing)
        return None
    if pid:
        os.close(writing)
        return pid, reading
    try:
        be_alone(writing)
        work(writing)
    finally:
        os._exit(0)


def said_by_child(work: Callable[[], str], seconds: float) -> str | None:
    """What ``work`` returns in a child; of one that dies, or takes longer, what became of it.

    None where no child can be started.
    """

    def write(pipe: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        os.write(pipe, work().encode()[:1000])

    child = fork(write)
    if child is None:
        return None
    pid, reading = child
    with open(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if said:
        return said
    number = os.waitstatus_to_exitcode(status)
    return f"ended its process ({signal.Signals(-number).name})" if number < 0 else "ended its process"


def be_alone(pipe: int) -> None:
    """Of a child: hold nothing open but ``pipe``, and leave no core and no words behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A library may call exit(), as libjpeg does; then others' ends of their work, some of it in threads that
    # are not here, would wait for ever.
    libc = ctypes.CDLL(None)
    with suppress(AttributeError):  # glibc has it
        libc.on_exit(libc._exit, None)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    for file in map(int, os.listdir("/proc/self/fd")):
        if file > 2 and file != pipe:
            with suppress(OSError):
                os.close(file)
