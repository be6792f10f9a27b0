"""The ``slipway-server`` command: one model behind the Open Inference Protocol."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import uvloop

from slipway.contract import Failed, Failure, ModelFault, Outcome
from slipway_server.inference import Served
from slipway_server.lifecycle import Lifecycle
from slipway_server.listen import bind, listener
from slipway_server.load import LoadError, load
from slipway_server.logs import set_up
from slipway_server.metrics import Metrics
from slipway_server.model import Model
from slipway_server.settings import Settings, SettingsError, read_settings
from slipway_server.web import Frontend, admin_app

log = logging.getLogger("slipway_server")

#: On top of the longest request, for writing the answer.
_GRACE_SECONDS = 5


def main() -> None:
    """Serve until SIGTERM, then exit with 0; with 1 for a model that cannot be served, 2 for bad settings."""
    try:
        settings = read_settings()
        set_up(settings.log_level)
        sockets = [bind(settings.host, settings.http_port), bind(settings.host, settings.admin_port)]
    except (SettingsError, ValueError) as error:
        _give_up(f"{error}")
    except OSError as error:
        _give_up(f"cannot listen on ports {settings.http_port} and {settings.admin_port}: {error}")
    code = uvloop.run(_serve(settings, *sockets))
    logging.shutdown()
    # Not sys.exit: a thread deep in native code, past its deadline, must not hold up the pod's end.
    os._exit(code)


async def _serve(settings: Settings, http: socket.socket, admin: socket.socket) -> int:
    """Answer probes at once, load the model, serve until told to stop; returns the exit code."""
    config = settings.serving
    lifecycle, metrics = Lifecycle(config.drainSeconds), Metrics(config)
    frontend = Frontend(config, lifecycle, metrics)
    grace = config.requestTimeoutMilliseconds // 1000 + _GRACE_SECONDS
    servers = [listener(frontend.app(), grace), listener(admin_app(lifecycle, metrics), 1)]
    running = [
        asyncio.create_task(server.serve(sockets=[sock]))
        for server, sock in zip(servers, (http, admin), strict=True)
    ]
    terminated, interrupted = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, terminated.set)
    loop.add_signal_handler(signal.SIGINT, interrupted.set)

    code = 0
    began = time.perf_counter()
    loading = _in_a_daemon_thread(settings)
    stopping = [asyncio.create_task(terminated.wait()), asyncio.create_task(interrupted.wait())]
    ends: list[asyncio.Future[Any]] = [*stopping, *running]
    await asyncio.wait([loading, *ends], return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        try:
            frontend.served = Served(loading.result(), config.modelName, config.modelVersion)
        except LoadError as error:
            _say_last_words(settings.termination_path, error.failure)
            code = 1
        except Exception as error:
            log.exception("the model failed to load unexpectedly")
            message = f"loading failed: {type(error).__name__}: {error}"[:900]
            failure = Failure(reason=ModelFault.MODEL_LOAD_FAILED, message=message)
            _say_last_words(settings.termination_path, failure)
            code = 1
        else:
            seconds = time.perf_counter() - began
            metrics.load_seconds.set(seconds)
            metrics.info.set(1)
            lifecycle.loaded = True
            log.info(
                "ready",
                extra={
                    "model": config.modelName,
                    "version": config.modelVersion,
                    "digest": config.digest,
                    "seconds": round(seconds, 3),
                },
            )
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if terminated.is_set():
                log.info("drained", extra={"seconds": round(await lifecycle.drain(), 3)})
    # The admin port goes last, so that the final figures can still be read.
    for server, task in zip(servers, running, strict=True):
        server.should_exit = True
        await task
    frontend.workers.close()
    return code


def _in_a_daemon_thread(settings: Settings) -> asyncio.Future[Model]:
    """Load the model without holding up the loop, nor the exit of a server that is told to stop meanwhile."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Model] = loop.create_future()

    def settle(model: Model | None, error: Exception | None) -> None:
        if future.done():
            return
        if model is not None:
            future.set_result(model)
        elif error is not None:
            future.set_exception(error)

    def work() -> None:
        model, failure = None, None
        try:
            model = load(settings.model_dir, settings.serving)
        except Exception as error:
            failure = error
        loop.call_soon_threadsafe(settle, model, failure)

    threading.Thread(target=work, name="load", daemon=True).start()
    return future


def _say_last_words(path: Path, failure: Failure) -> None:
    """Leave the reason where Kubernetes and the operator look for it, and in the log."""
    log.error("the model cannot be served", extra={"reason": failure.reason, "detail": failure.message})
    try:
        path.write_text(Outcome(outcome=Failed(failure=failure)).model_dump_json(), encoding="utf-8")
    except OSError as error:
        log.error("the termination log cannot be written", extra={"path": str(path), "error": str(error)})


def _give_up(message: str) -> NoReturn:
    print(f"slipway-server: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
