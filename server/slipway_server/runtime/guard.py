"""Runs a model in processes of their own, which may die of it: of a kernel's fault nothing else remains.

A *template* is forked from the server once the model is loaded. It does nothing but fork *runners*, some
milliseconds each, since the model is in their memory already. A runner runs one call after the other; when
one ends it, the server, its connections and all other requests go on.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Protocol

from slipway_server.protocol.tensors import Array
from slipway_server.runtime.forked import be_alone
from slipway_server.runtime.run import Run

log = logging.getLogger(__name__)

#: How often a call that waits for a runner looks whether it was told to stop.
_LOOK_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_SIZE = 8
_PIECE = 1024 * 1024
_FORK = b"\0\0\0\0"


class StopRunError(Exception):
    """The run was told to stop; its runner is gone."""


class CrashError(Exception):
    """A run ended its process, by the signal ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def by(self) -> str:
        """The signal's name, or the exit code."""
        return signal.Signals(self.number).name if self.number > 0 else f"exit code {-self.number}"


class Guarded(Protocol):
    """A model, as far as its runners need it."""

    guard: Guard | None

    def run_raw(self, inputs: Mapping[str, Array], names: Sequence[str], run: Run) -> list[Any]:
        """What onnxruntime answers; raises what a client is to be told."""


class Guard:
    """Runs calls in runners, as many at once as there are callers; any thread may call."""

    def __init__(self, model: Guarded, load: Callable[[], Guarded] | None = None) -> None:
        """With ``load`` each runner loads the model by itself: its threads, say, would not outlive a fork."""
        self._control, theirs = socket.socketpair()
        #: Held by whoever speaks with the template.
        self._lock = threading.Lock()
        self._free: list[_Runner] = []
        pid = os.fork()
        if not pid:
            _be_template(theirs, model, load)
        theirs.close()

    def run(self, names: Sequence[str], inputs: Mapping[str, Array], run: Run) -> list[Any]:
        """As :meth:`Guarded.run_raw`, whose exceptions it raises.

        Raises also :class:`CrashError` where the call ended its process, and :class:`StopRunError` after
        ``run.stop()``: whatever it does, it is over then.
        """
        runner = self._take()
        try:
            runner.send((list(names), dict(inputs), run.shrinks))
            found = runner.receive(run)
        except (EOFError, OSError):
            raise CrashError(self._end(runner)) from None
        if found is None:
            self._end(runner)
            raise StopRunError
        self._free.append(runner)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    def _take(self) -> _Runner:
        with suppress(IndexError):
            return self._free.pop()
        own, theirs = socket.socketpair()
        with theirs, self._lock:
            socket.send_fds(self._control, [_FORK], [theirs.fileno()])
            pid = self._heard()
        return _Runner(own, pid)

    def _end(self, runner: _Runner) -> int:
        """End a runner that may have ended already; the signal that ended it, or its exit code below 0."""
        with suppress(ProcessLookupError):
            os.kill(runner.pid, signal.SIGKILL)
        runner.close()
        with self._lock:
            self._control.sendall(runner.pid.to_bytes(4, "little"))
            return self._heard()

    def _heard(self) -> int:
        with suppress(OSError):
            if answer := self._control.recv(4):
                return int.from_bytes(answer, "little", signed=True)
        # Nothing can run the model any more. Whoever started this process starts it again.
        log.critical("the process that the model's runners come from has ended")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class _Runner:
    """The server's end of a runner."""

    def __init__(self, end: socket.socket, pid: int) -> None:
        self._end = end
        self._end.settimeout(_LOOK_SECONDS)
        self.pid = pid

    def send(self, message: Any) -> None:
        self._end.settimeout(None)
        _send(self._end, message)
        self._end.settimeout(_LOOK_SECONDS)

    def receive(self, run: Run) -> Any:
        """The answer; None once the run is told to stop. Raises ``EOFError`` and ``OSError``."""
        return _receive(self._end, lambda: run.stopped)

    def close(self) -> None:
        self._end.close()


def _be_template(control: socket.socket, model: Guarded, load: Callable[[], Guarded] | None) -> NoReturn:
    try:
        # Before any fork: a runner has nothing to import.
        libc = ctypes.CDLL(None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        be_alone(control.fileno())
        while True:
            message, files, _, _ = socket.recv_fds(control, 4, 1)
            if not message:
                os._exit(0)
            if not files:
                _, status = os.waitpid(int.from_bytes(message, "little"), 0)
                control.sendall((-os.waitstatus_to_exitcode(status)).to_bytes(4, "little", signed=True))
                continue
            pid = os.fork()
            if not pid:
                # In the middle of a run it would not see that nobody waits for it any more.
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                be_alone(files[0])
                _be_runner(socket.socket(fileno=files[0]), model, load)
            os.close(files[0])
            control.sendall(pid.to_bytes(4, "little"))
    finally:
        os._exit(0)


def _be_runner(end: socket.socket, model: Guarded, load: Callable[[], Guarded] | None) -> None:
    # Where memory runs out, the kernel ends this process rather than the server.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if load is not None:
        model = load()
    model.guard = None
    with suppress(EOFError, OSError):
        while True:
            names, inputs, shrinks = _receive(end, lambda: False)
            run = Run()
            if shrinks:
                run.shrink_after()
            try:
                found: Any = model.run_raw(inputs, names, run)
            except Exception as error:
                found = error
            _send(end, found)
            # Both may be large, and the next one may be long in coming.
            del found, inputs


def _send(end: socket.socket, message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    if len(data) < _PIECE:
        end.sendall(len(data).to_bytes(_SIZE, "little") + data)
    else:
        end.sendall(len(data).to_bytes(_SIZE, "little"))
        end.sendall(data)


def _receive(end: socket.socket, stops: Callable[[], bool]) -> Any:
    head = _read(end, _SIZE, stops)
    data = None if head is None else _read(end, int.from_bytes(head, "little"), stops)
    return None if data is None else pickle.loads(data)


def _read(end: socket.socket, size: int, stops: Callable[[], bool]) -> bytearray | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        try:
            count = end.recv_into(view[at:])
        except TimeoutError:
            if stops():
                return None
            continue
        if not count:
            raise EOFError
        at += count
    return data
