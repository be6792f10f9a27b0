"""One process that serves: probes from the first moment, the model once it is loaded, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slipway.names import ModelFault
from slipway_server.board import Board
from slipway_server.door.listen import Sockets, Tls
from slipway_server.engine.crashes import Crashes
from slipway_server.engine.served import Served
from slipway_server.http.server import HttpServer
from slipway_server.last_words import say_last_words
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import LOADED, Counters
from slipway_server.metrics.tracing import make_tracing
from slipway_server.monitoring.answers import Recorder
from slipway_server.monitoring.cohorts import count_cohorts
from slipway_server.monitoring.counting import BinCounter
from slipway_server.monitoring.outcomes import OutcomeReader
from slipway_server.monitoring.reference import Reference
from slipway_server.monitoring.rules import RulesError
from slipway_server.runtime.cpus import usable_cpus
from slipway_server.runtime.load import LoadError, find_model, guard, load_profiled
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile
from slipway_server.settings import Settings
from slipway_server.site.admin import Admin
from slipway_server.site.frontend import Frontend

if TYPE_CHECKING:
    from slipway_server.rpc.server import RpcServer

log = logging.getLogger("slipway_server")

#: On top of the longest request, for writing the answer.
_GRACE_SECONDS = 5.0
_PULSE_SECONDS = 0.25
#: A model that is loaded sooner is there before gRPC is answered.
_EARLY_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place among its peers: its row of the board, and whether it replaces one that died.

    One that ``takes_over`` has ports that another server answers until it is ready.
    """

    board: Board
    position: int = 0
    replaces: bool = False
    reference: Reference = field(default_factory=Reference)
    takes_over: bool = False


async def serve(settings: Settings, sockets: Sockets, admin: socket.socket, place: Place) -> int:
    """Answer probes at once, load the model, serve until told to stop; returns the exit code.

    A worker that replaces another, or takes over, accepts only when it is ready: clients already
    count on the port, and wait.
    """
    worker = _Worker(settings, place)
    await worker.admin.start(admin)
    if not (place.replaces or place.takes_over):
        await worker.open(*sockets)
    return await worker.live(sockets)


class _Worker:
    def __init__(self, settings: Settings, place: Place) -> None:
        config = settings.serving
        self._settings, self._place = settings, place
        self.lifecycle = Lifecycle(config.drainSeconds)
        self.lifecycle.peers_ready = lambda: all(place.board.all(LOADED))
        self.counters = Counters(place.board.row(place.position))
        threads = usable_cpus() // config.threads // place.board.rows
        self.frontend = Frontend(config, self.lifecycle, self.counters, threads)
        self.frontend.tracing = make_tracing(config)
        if config.access is not None:
            from slipway_server.access.gate import Gate

            self.frontend.gate = Gate(
                config.access, settings.access_keys, settings.access_issuers, self.counters.refused, time.time
            )
        admin = Admin(place.board, config, place.reference)
        admin.before_reading = self._count
        admin.admission = self.frontend.admission
        self.admin = HttpServer(admin)
        self._http: _Door | None = None
        self._load_seconds = 0.0
        self._grpc: RpcServer | None = None
        self._grpc_socket: socket.socket | None = None
        self._grace = config.requestTimeoutMilliseconds / 1000 + _GRACE_SECONDS
        self._ends: list[asyncio.Task[Any]] = []

    async def open(self, http: socket.socket, grpc: socket.socket) -> None:
        """Listen to clients; those of gRPC are answered a little later, see :meth:`_answer_grpc_early`."""
        self._http = (_AsgiDoor if self._settings.twin else _OwnDoor)(self.frontend, self._settings)
        self._grpc_socket = grpc
        await self._http.start(http)

    async def live(self, sockets: Sockets) -> int:
        terminated, interrupted = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, terminated.set)
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
        loop.add_signal_handler(signal.SIGUSR1, self._guard)
        self._ends = [asyncio.create_task(terminated.wait()), asyncio.create_task(interrupted.wait())]
        pulse = asyncio.create_task(self._pulse(os.getppid(), terminated))
        peers = self._follow_peers()
        loaded = asyncio.Event()
        early = asyncio.create_task(self._answer_grpc_early(loaded))
        code = await self._load()
        loaded.set()
        if code == 0 and self.frontend.served is not None:
            await early
            await self._begin(*sockets)
            await asyncio.wait(self._ends, return_when=asyncio.FIRST_COMPLETED)
            if terminated.is_set():
                log.info("drained", extra={"seconds": round(await self.lifecycle.drain(), 3)})
        self.lifecycle.draining = True
        early.cancel()
        pulse.cancel()
        if peers is not None:
            peers.cancel()
        await asyncio.gather(
            *(door.stop(self._grace) for door in (self._http, self._grpc) if door is not None)
        )
        self._count()
        # The admin port goes last, so that the final figures can still be read.
        await self.admin.stop(1.0)
        self.frontend.engine.close()
        if self.frontend.tracing is not None:
            await asyncio.to_thread(self.frontend.tracing.close)
        return code

    async def _load(self) -> int:
        """Load the model and take requests; the exit code, 1 for a model that cannot be served."""
        config, path = self._settings.serving, self._settings.termination_path
        gate = self.frontend.gate
        if gate is not None and not gate.admits_anybody and not self._place.replaces:
            say_last_words(path, ModelFault.ACCESS_KEYS_MISSING, gate.why_nobody)
            return 1
        began = time.perf_counter()
        reference = self._place.reference
        example = reference.example
        guarded = self._place.board.guarded
        loading = _in_a_daemon_thread(
            lambda: load_profiled(self._settings.model_dir, config, example, guarded)
        )
        await asyncio.wait([loading, *self._ends], return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return 0
        try:
            model, profile = loading.result()
        except LoadError as error:
            say_last_words(path, error.fault, error.message)
            return 1
        except Exception as error:
            log.exception("the model failed to load unexpectedly")
            message = f"loading failed: {type(error).__name__}: {error}"
            say_last_words(path, ModelFault.MODEL_LOAD_FAILED, message)
            return 1
        served = Served(model, config.modelName, config.modelVersion, profile)
        if not reference.is_empty:
            counts = self._place.board.counts(self._place.position)
            try:
                cohorts = count_cohorts(config, reference)
                served.monitor = BinCounter(reference, model.inputs, counts, cohorts)
            except RulesError as error:
                message = f"spec.inputs does not fit the model: {error}"
                say_last_words(path, ModelFault.MODEL_LOAD_FAILED, message)
                return 1
        if config.feedbackMaxAgeDays or config.sensitiveAttributes or config.freshness is not None:
            from slipway_server.feedback.opening import FeedbackKeyError, FreshnessError, open_feedback

            try:
                board = self._place.board
                page = board.page(self._place.position)
                feedback = open_feedback(self._settings, model, reference, page, board.seen)
            except FeedbackKeyError as error:
                say_last_words(path, ModelFault.MODEL_LOAD_FAILED, str(error))
                return 1
            except FreshnessError as error:
                message = f"spec.monitoring.freshness does not fit the model: {error}"
                say_last_words(path, ModelFault.MODEL_LOAD_FAILED, message)
                return 1
            served.witness, self.frontend.desk = feedback
        if config.suspectInputs:
            self._watch_for_suspects(served)
        board, position = self._place.board, self._place.position
        served.recorder = Recorder(board.ring(position), board.wanted, OutcomeReader(model.outputs))
        served.crashes = Crashes(
            board.blocklist(position), model.doubts, self.counters.run_died, bool(model.pictures)
        )
        if board.guarded:
            self._guard_model(model)
        self.frontend.engine.start(served)
        self._load_seconds = time.perf_counter() - began
        return 0

    def _watch_for_suspects(self, served: Served) -> None:
        from slipway_server.monitoring.suspects import SuspectCounter

        model, wanted = served.model, self._settings.serving.suspectInputs
        page = self._place.board.page(self._place.position)
        of = {"model": served.name, "model_version": served.version}
        counter = SuspectCounter(self._place.reference.scales, model.inputs, model.outputs, wanted, page, of)
        if counter.lacks:
            log.warning(
                "suspect inputs are not counted: Nearby and Turned need a profile with columns of numbers, "
                "Turned also a model that answers with classes",
                extra={"detectors": counter.lacks},
            )
        if len(counter.lacks) < len(wanted):
            served.suspects = counter

    def _guard(self) -> None:
        """A native library ended another worker."""
        if self.frontend.served is not None:
            self._guard_model(self.frontend.served.model)

    def _guard_model(self, model: Model) -> None:
        directory, threads = self._settings.model_dir, self._settings.serving.threads
        guard(model, find_model(directory), threads, fresh=True)

    async def _begin(self, http: socket.socket, grpc: socket.socket) -> None:
        """Say that all is ready; a worker that replaces another listens only now."""
        if self._grpc_socket is not None:
            self._ready()
            return
        await self._start_grpc(grpc)
        self._ready()
        await self.open(http, grpc)
        inherited = self._settings.inherited
        if inherited is not None and self.lifecycle.ready:
            with contextlib.suppress(OSError):  # nobody waits for it any more
                os.write(inherited.ready, b"r")

    async def _answer_grpc_early(self, loaded: asyncio.Event) -> None:
        """Answer gRPC before the model is there, with UNAVAILABLE; at once where it is there already.

        Not from the first moment on: its imports would keep the first REST client waiting.
        """
        if self._grpc_socket is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loaded.wait(), _EARLY_SECONDS)
        await self._start_grpc(self._grpc_socket)

    async def _start_grpc(self, sock: socket.socket) -> None:
        self._grpc = await _in_a_daemon_thread(lambda: _rpc_server(self.frontend))
        if self.frontend.gate is not None:
            self.frontend.gate.on_change.append(self._grpc.kept.clear)
        tls = None if self._settings.tls is None else Tls(self._settings.tls, "h2")
        await self._grpc.start(sock, tls)

    def _ready(self) -> None:
        config, served = self._settings.serving, self.frontend.served
        reference = self._place.reference
        # What is there now stays for good; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self.counters.loaded(self._load_seconds)
        self.lifecycle.loaded = True
        profile = Profile() if served is None else served.profile
        log.info(
            "ready",
            extra={
                "model": config.modelName,
                "version": config.modelVersion,
                "digest": config.digest,
                "seconds": round(self._load_seconds, 3),
                "batches": profile.batches,
                "inline": profile.inline,
                "batching": profile.why,
                "guarded": served is not None and served.model.guard is not None,
                "doubts": [] if served is None else list(served.model.doubts[:5]),
                "monitored": len(reference.features),
                "beyond_budget": len(reference.left_out),
            },
        )

    def _count(self) -> None:
        served = self.frontend.engine.served
        if served is None:
            return
        if served.monitor is not None:
            served.monitor.flush()
        if served.witness is not None:
            served.witness.flush()
        if served.suspects is not None:
            served.suspects.flush()

    def _follow_peers(self) -> asyncio.Task[None] | None:
        """Divide limits among the processes of all pods of the revision, where there are limits."""
        gate, access = self.frontend.gate, self._settings.serving.access
        if gate is None or access is None or access.limits is None:
            return None
        share, processes = gate.share, self._place.board.rows
        share.divide(processes)
        share.follow(time.time())
        if not access.peers:
            return None
        from slipway_server.peers import follow_peers

        def told(pods: int) -> None:
            share.divide(pods * processes)

        return asyncio.create_task(follow_peers(access.peers, told))

    async def _pulse(self, parent: int, terminated: asyncio.Event) -> None:
        """Show counts that wait to whoever reads them, and end with the supervisor."""
        while True:
            self._count()
            if self.frontend.gate is not None:
                self.frontend.gate.follow(time.time())
            if os.getppid() != parent:
                terminated.set()
            await asyncio.sleep(_PULSE_SECONDS)


class _OwnDoor:
    """The serving port by our own HTTP side."""

    def __init__(self, frontend: Frontend, settings: Settings) -> None:
        self._server = HttpServer(frontend)
        if frontend.gate is not None:
            frontend.gate.on_change.append(self._server.forget)
        self._tls = None if settings.tls is None else Tls(settings.tls)

    async def start(self, sock: socket.socket) -> None:
        await self._server.start(sock, self._tls)

    async def stop(self, grace: float) -> None:
        await self._server.stop(grace)


class _AsgiDoor:
    """The serving port by uvicorn and the ASGI twin."""

    def __init__(self, frontend: Frontend, settings: Settings) -> None:
        from slipway_server.http.asgi import AsgiApp, listener

        grace = settings.serving.requestTimeoutMilliseconds // 1000 + int(_GRACE_SECONDS)
        self._server = listener(AsgiApp(frontend), grace)
        self._task: asyncio.Task[None] | None = None

    async def start(self, sock: socket.socket) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]))

    async def stop(self, grace: float) -> None:  # noqa: ARG002
        self._server.should_exit = True
        if self._task is not None:
            await self._task


_Door = _OwnDoor | _AsgiDoor


def _rpc_server(frontend: Frontend) -> RpcServer:
    from slipway_server.rpc.server import RpcServer

    return RpcServer(frontend)


def _in_a_daemon_thread(work: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run without holding up the loop, nor the exit of a server that is told to stop meanwhile."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def body() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server was told to stop
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=body, name="load", daemon=True).start()
    return future
