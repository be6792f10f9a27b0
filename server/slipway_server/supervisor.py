"""The server's processes: begun, watched, begun again, and told to leave together.

This process holds the listening sockets, so that no port closes when one of the others dies; it answers
nothing, and imports neither numpy nor onnxruntime. Each worker is a fork of it with a socket of its own for
each port (``SO_REUSEPORT``, by which the kernel deals connections out); what comes while a worker is away
waits for the next one.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from slipway.names import ModelFault
from slipway_server.board import Board
from slipway_server.door.listen import Sockets
from slipway_server.last_words import say_last_words
from slipway_server.metrics.counters import DIED, IN_FLIGHT, LOADED, PID
from slipway_server.settings import Settings

log = logging.getLogger("slipway_server")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 5.0
#: A worker that lived so long was sound, and the next one may start at once.
_SOUND_SECONDS = 30.0
#: Deaths of workers within so many seconds that end the server, and as many while the model is being loaded.
_MOST_DEATHS, _DEATHS_SECONDS = 6, 60.0
_MOST_LOADING = 2
_WATCHED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
#: By which a process dies of its own faults, or of those of a native library.
_FAULTS = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGFPE,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)
_KILLED = 137
#: How often it is looked whether whoever started this server is still there.
_STARTER_SECONDS = 1.0
#: Of a worker that ends by an error that nobody foresaw.
_FAILED = 70
#: Where the kernel counts them: control groups of version 2, and of version 1.
_MEMORY_EVENTS = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)

#: Serves at a place until told to stop; whether it replaces a worker that died.
Work = Callable[[int, bool], int]


@dataclass
class _Place:
    """Of one worker: its sockets, its process, and what came of it before."""

    sockets: Sockets
    pid: int = 0
    began: float = 0.0
    #: When it is to be started again.
    due: float = 0.0
    pause: float = _FIRST_PAUSE
    died_loading: int = 0
    deaths: list[float] = field(default_factory=list)


class Supervisor:
    """Keeps a worker at each of the board's rows."""

    def __init__(self, board: Board, sockets: list[Sockets], work: Work, settings: Settings) -> None:
        self._board = board
        self._places = [_Place(each) for each in sockets]
        self._work = work
        self._termination_path = settings.termination_path
        self._model_dir = settings.model_dir
        self._leaving = False
        self._code = 0
        self._killed = _killed_for_memory()
        #: Whoever started this server with sockets of its own, and is to be followed to its end.
        self._starter = os.getppid() if settings.inherited is not None else None

    def run(self) -> int:
        """Serve until told to stop; the exit code is 1 if the model cannot be served."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        # A worker that has yet to listen to it sees on the board what it says.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        for position in range(len(self._places)):
            self._start(position, replaces=False)
        while any(place.pid or (place.due and not self._leaving) for place in self._places):
            found = signal.sigtimedwait(_WATCHED, self._seconds())
            if found is not None and found.si_signo != signal.SIGCHLD:
                self._leave(found.si_signo)
            self._bury()
            if self._starter is not None and os.getppid() != self._starter and not self._leaving:
                self._leave(signal.SIGINT)
            now = time.monotonic()
            for position, place in enumerate(self._places):
                if place.due and place.due <= now and not self._leaving:
                    self._start(position, replaces=True)
        return self._code

    def _seconds(self) -> float:
        now, most = time.monotonic(), 60.0 if self._starter is None else _STARTER_SECONDS
        return max(0.0, min((place.due - now for place in self._places if place.due), default=most))

    def _start(self, position: int, replaces: bool) -> None:
        place = self._places[position]
        place.due = 0.0
        pid = os.fork()
        if pid:
            place.pid, place.began = pid, time.monotonic()
            return
        code = _FAILED
        try:
            for other in self._places:
                if other is not place:
                    for each in other.sockets:
                        each.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            code = self._work(position, replaces)
            logging.shutdown()
        except Exception:
            log.exception("a worker process failed")
        finally:
            # Not by an exception: a thread deep in native code, past its deadline, must not hold up the end.
            os._exit(code)

    def _bury(self) -> None:
        """Take note of all processes that ended; some are of processes that ended before them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for position, place in enumerate(self._places):
                if place.pid == pid:
                    place.pid = 0
                    self._ended(position, os.waitstatus_to_exitcode(status))

    def _ended(self, position: int, code: int) -> None:
        if self._leaving:
            return
        if code in (1, 2):
            # It left its last words: the model, not the process, is what is wrong.
            self._give_up(code)
            return
        place, row, now = self._places[position], self._board.row(position), time.monotonic()
        row[IN_FLIGHT] = row[PID] = 0
        row[DIED] += 1
        by = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        log.error("a worker process died and is started again", extra={"worker": position, "by": by})
        if -code in _FAULTS:
            self._guard()
        lost_all = len(self._places) == 1 or not row[LOADED]
        if code == -signal.SIGKILL and lost_all and _killed_for_memory() > self._killed:
            # The container's end is what tells Kubernetes, and people, that its memory did not do.
            self._give_up(_KILLED)
            return
        if not row[LOADED] and not place.deaths:
            place.died_loading += 1
        if place.died_loading >= _MOST_LOADING:
            self._crashed(f"loading the model ended the server's process {_MOST_LOADING} times ({by})", code)
            return
        place.deaths = [then for then in place.deaths if now - then < _DEATHS_SECONDS]
        if row[LOADED] or place.deaths:
            place.deaths.append(now)
        if len(place.deaths) >= _MOST_DEATHS:
            self._crashed(
                f"the server's process ended {len(place.deaths)} times within a minute ({by})", code
            )
            return
        if len(place.deaths) > 1:
            # One death may be anybody's. From the second on the pod is not ready until its worker is back.
            row[LOADED] = 0
        sound = now - place.began > _SOUND_SECONDS
        place.pause = _FIRST_PAUSE if sound else min(place.pause * 2, _LONGEST_PAUSE)
        place.due = now + place.pause

    def _guard(self) -> None:
        """A native library ended a worker: from now on what runs the model is not what serves."""
        if not self._board.guarded:
            self._board.guarded = True
            self._tell(signal.SIGUSR1)

    def _crashed(self, what: str, code: int) -> None:
        if code == -signal.SIGKILL:
            # No library ends its process so: the kernel did, or somebody, and no model is to blame.
            self._give_up(_KILLED)
            return
        # Only now: they bring numpy.
        from slipway_server.runtime.doubts import doubts, named
        from slipway_server.runtime.load import LoadError, find_model

        try:
            culprit = named(doubts(find_model(self._model_dir)))
        except LoadError as error:
            culprit = error.message
        words = f"{what}, {culprit}: look at its log, and export the model again without what ends it"
        say_last_words(self._termination_path, ModelFault.MODEL_CRASHED, words)
        self._give_up(1)

    def _give_up(self, code: int) -> None:
        self._code = code
        self._leave(signal.SIGINT)

    def _leave(self, number: int) -> None:
        self._leaving = True
        for place in self._places:
            # A worker that leaves closes its own, and nobody is to wait at the other end.
            for each in place.sockets:
                each.close()
        self._tell(number)

    def _tell(self, number: int) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)


def _killed_for_memory() -> int:
    """How many processes of this container the kernel ended since its memory ran out."""
    for path in _MEMORY_EVENTS:
        try:
            return int(dict(line.split() for line in path.read_text().splitlines())["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0
