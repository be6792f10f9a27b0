"""One model on this machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol

from slipway.local.asking import ask
from slipway.local.console import address, say, say_now
from slipway.local.monitor import Monitor
from slipway.local.request import curl, example
from slipway.local.server import listen
from slipway.local.serving import Reader, Serving
from slipway.local.stand_ins import StandIns
from slipway.names import METRICS_PATH, PROFILE_FILE

STEP_SECONDS = 0.2
#: Between two looks at what was counted.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Listening:
    """Where to answer: the address, and ports of REST, gRPC and metrics."""

    host: str
    http: int
    grpc: int
    metrics: int
    stand_ins: StandIns = field(default_factory=StandIns)


class Running(Protocol):
    """Something with processes of its own."""

    def stop(self) -> None:
        """End it once it has answered what is under way."""

    def kill(self) -> None:
        """End it at once."""


@contextlib.contextmanager
def ending(running: Running) -> Iterator[None]:
    """End it however this ends; at once where somebody cannot wait."""
    try:
        yield
    finally:
        try:
            running.stop()
        except KeyboardInterrupt:
            running.kill()


def serve_one(reader: Reader, where: Listening, folder: Path) -> NoReturn:
    """Serve a model, and what becomes of it, until interrupted.

    Args:
        reader: of what is wanted.
        where: to answer.
        folder: an empty one.

    Raises:
        LocalError: where it cannot be served.
    """
    ports = listen(
        where.host, {"--port": where.http, "--grpc-port": where.grpc, "--metrics-port": where.metrics}
    )
    with contextlib.closing(ports):
        serving = Serving(reader, ports, folder, where.stand_ins, say_now)
        with ending(serving):
            serving.start()
            rest, grpc, metrics = (address(where.host, port) for port in ports.numbers)
            say(serving.called)
            say(f"  REST     {rest}/v2/models/{serving.wanted.name}")
            say(f"  gRPC     {grpc.removeprefix('http://')}")
            say(f"  metrics  {metrics}/metrics")
            for remark in remarks(serving):
                say(f"  {remark}")
            print_request(serving, (where.host, ports.numbers[0]), rest, folder)
            _watch(serving, (where.host, ports.numbers[2]))


def _watch(serving: Serving, metrics: tuple[str, int]) -> NoReturn:
    """Follow what becomes of the model, and say what an operator would find in what is counted."""
    monitor: Monitor | None = None
    look_at = 0.0
    while True:
        if serving.step():
            say_now(f"{serving.called} serves from now on")
            monitor = None
        monitor = monitor or _monitor(serving)
        if serving.is_settled and time.monotonic() >= look_at:
            look_at = time.monotonic() + _LOOK_SECONDS
            # One that has ended is told of by the next step; what cannot be read now may be later.
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                _, page = ask(metrics, "GET", METRICS_PATH)
                for found in monitor.judge(page, datetime.now(UTC)):
                    say_now(f"{found.condition} is {found.status}: {found.reason}: {found.message}")
        time.sleep(STEP_SECONDS)


def _monitor(serving: Serving) -> Monitor:
    return Monitor(serving.wanted.spec, serving.serves.revision.model.version, datetime.now(UTC))


def remarks(serving: Serving) -> Iterator[str]:
    """What is otherwise than in a cluster, and what is not but could be missed."""
    spec = serving.wanted.spec
    if spec.access is not None:
        yield "spec.access is not checked here: whoever reaches this address may ask"
    if spec.runtime.image:
        yield "spec.runtime.image is not used here: the server is the installed one"
    if spec.runtime.device != "CPU":
        yield f"spec.runtime.device: {spec.runtime.device} is not used here: the model runs on the CPU"
    if serving.serves.has_profile:
        yield f"{PROFILE_FILE} is used: inputs and predictions are counted in its bins"


def print_request(serving: Serving, server: tuple[str, int], url: str, folder: Path) -> None:
    """Print a request that the server has answered.

    Args:
        serving: the model.
        server: that answers for it.
        url: by which clients reach it.
        folder: for a request that is too long for a line.
    """
    name, brought = serving.wanted.name, serving.serves
    path = f"/v2/models/{name}"
    _, metadata = ask(server, "GET", path)
    found = example(
        serving.wanted.spec.inputs,
        brought.folder,
        brought.revision.model.digest,
        json.loads(metadata),
        lambda body: ask(server, "POST", f"{path}/infer", body),
    )
    if found.refusal:
        say(f"  the model refuses rows that are made up; put one of yours into this: {found.refusal[:300]}")
    say(curl(f"{url}{path}/infer", found.body, folder))
