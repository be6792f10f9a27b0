from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import slipway_server  # noqa: F401  before onnxruntime, whose telemetry it turns off
from tests.server import onnx_models
from tests.server.grpc_wire import rpc_server  # noqa: F401  a fixture
from tests.server.running import Server

Start = Callable[..., Server]


@pytest.fixture(scope="session")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a model of :mod:`onnx_models` by its name, made once."""
    root = tmp_path_factory.mktemp("models")

    def directory(name: str) -> Path:
        path = root / name / "model"
        if not path.exists():
            onnx_models.save(getattr(onnx_models, name)(), path)
        return path

    return directory


@pytest.fixture(scope="session", params=["own", "asgi"])
def stack(request: pytest.FixtureRequest) -> str:
    """Which of the two HTTP sides serves: our own, or the ASGI twin on uvicorn."""
    return str(request.param)


@pytest.fixture(scope="session")
def servers(model_dirs: Callable[[str], Path], stack: str) -> Iterator[Callable[[str], Server]]:
    """A server of a model by its name, started once and shared by all tests that do not change it."""
    running: dict[str, Server] = {}

    def server(name: str) -> Server:
        if name not in running:
            running[name] = Server(model_dirs(name), stack, threads=1)
        return running[name].wait_until_ready()

    yield server
    for each in running.values():
        each.__exit__(None, None, None)


@pytest.fixture
def start(model_dirs: Callable[[str], Path], stack: str) -> Iterator[Start]:
    """Start a server of its own for one test, of a model's name or a directory."""
    running: list[Server] = []

    def begin(model: str | Path, **config: Any) -> Server:
        running.append(Server(model_dirs(model) if isinstance(model, str) else model, stack, **config))
        return running[-1]

    yield begin
    for each in running:
        each.__exit__(None, None, None)
