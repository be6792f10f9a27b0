"""One connection of gRPC without a network: bytes go in, and what it sends is kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hpack
import pytest

from slipway_server.board import Board
from slipway_server.engine.served import Served
from slipway_server.errors import Reason
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import REASON_SLOTS, Counters
from slipway_server.rpc.connection import RpcConnection
from slipway_server.rpc.open_inference_pb2 import ModelInferRequest
from slipway_server.rpc.server import RpcServer
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile
from slipway_server.settings import Serving
from slipway_server.site.frontend import Frontend
from slipway_server.wire.frames import PREFACE, Code, Kind, settings
from tests.server import onnx_models

INFER = b"/inference.GRPCInferenceService/ModelInfer"
CALL = hpack.Encoder().encode(
    [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", INFER)),
        (b"content-type", b"application/grpc"),
    ]
)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def good_body() -> bytes:
    tensor = ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    tensor.contents.fp32_contents.extend([1, 2, 3])
    message = ModelInferRequest(model_name="fraud", inputs=[tensor]).SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


@pytest.fixture(name="server")
async def rpc_server(tmp_path: Path) -> AsyncIterator[RpcServer]:
    onnx_models.save(onnx_models.identity(), tmp_path)
    model = Model(tmp_path / "model.onnx", 1)
    config = Serving("fraud", "3", "sha256:" + "0" * 64, maxBodyBytes=200_000)
    frontend = Frontend(config, Lifecycle(0), Counters(Board(1).row(0)))
    frontend.engine.start(Served(model, "fraud", "3", Profile(True, True, 128, {1: 1e-6})))
    frontend.lifecycle.loaded = True
    yield RpcServer(frontend)
    frontend.engine.close()


def opened(server: RpcServer) -> tuple[RpcConnection, Transport]:
    connection, transport = RpcConnection(server), Transport()
    connection.connection_made(transport)
    connection.data_received(PREFACE + settings({}))
    return connection, transport


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame, all of them whole."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 3], "big")
        stream = int.from_bytes(data[position + 5 : position + 9], "big")
        payload = bytes(data[position + 9 : position + 9 + size])
        assert len(payload) == size
        yield data[position + 3], data[position + 4], stream, payload
        position += 9 + size


def statuses(data: bytes) -> Counter[str]:
    """How often each status of gRPC and each reason to end the connection was given."""
    found: Counter[str] = Counter()
    decoder = hpack.Decoder()
    for kind, _, _, payload in frames(data):
        if kind == Kind.HEADERS:
            found.update(str(value) for name, value in decoder.decode(payload) if name == "grpc-status")
        elif kind == Kind.GOAWAY:
            found[Code(int.from_bytes(payload[4:8], "big")).name] += 1
    return found


def counts(server: RpcServer) -> dict[Reason, int]:
    """How often each reason was counted, those that were not left out."""
    row = server.frontend.counters._row
    return {reason: int(row[slot]) for reason, slot in REASON_SLOTS.items() if row[slot]}
