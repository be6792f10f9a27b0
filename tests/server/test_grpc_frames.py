"""Frames of HTTP/2 that no client of good will sends, against one connection without a network."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import hpack
import pytest

from slipway_server.errors import Reason
from slipway_server.metrics.counters import CODE_SLOTS
from slipway_server.rpc.connection import RpcConnection
from slipway_server.rpc.reflection_pb2 import ServerReflectionRequest
from slipway_server.rpc.server import RpcServer
from slipway_server.wire.frames import END_HEADERS, END_STREAM, Code, Kind, frame, settings
from tests.server.grpc_wire import (
    CALL,
    INFER,
    Transport,
    counts,
    frames,
    good_body,
    opened,
    statuses,
)
from tests.unit.router.running import eventually

PATHS = [INFER] * 4 + [
    b"/inference.GRPCInferenceService/ModelMetadata",
    b"/grpc.health.v1.Health/Watch",
    b"/grpc.health.v1.Health/Check",
    b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    b"/nothing",
]
ODD = [
    (b"grpc-timeout", b"1S"),
    (b"grpc-timeout", b"99999999999"),
    (b"content-length", b"100"),
    (b"grpc-encoding", b"gzip"),
    (b"traceparent", b"\xff\xfe"),
    (b"Upper", b"case"),
    (b"connection", b"close"),
]


def damaged(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        if changed:
            changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def request(dice: random.Random, encoder: hpack.Encoder, stream: int) -> bytes:
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", dice.choice(PATHS))]
    headers += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    if dice.random() < 0.3:
        headers.append(dice.choice(ODD))
    if dice.random() < 0.1:
        dice.shuffle(headers)
    block = encoder.encode(headers)
    if dice.random() < 0.1:
        block = damaged(dice, block)
    body = good_body() if dice.random() < 0.7 else dice.randbytes(dice.randint(0, 60))
    if dice.random() < 0.4:
        body = damaged(dice, body)
    cut = dice.randint(0, len(body))
    return b"".join(
        [
            frame(Kind.HEADERS, 0x5 if dice.random() < 0.1 else 0x4, stream, block),
            frame(Kind.DATA, 0, stream, body[:cut]),
            frame(Kind.DATA, int(dice.random() < 0.9), stream, body[cut:]),
        ]
    )


def noise(dice: random.Random, stream: int) -> bytes:
    size = dice.choice([0, 4, 5, 6, 8, 8, dice.randint(0, 40)])
    flags = dice.choice([0, 1, 4, 5, 8, 0x20, dice.randrange(256)])
    where = dice.choice([0, 1, 3, stream, max(1, stream - 2), dice.randrange(2**31)])
    return frame(dice.randrange(11), flags, where, dice.randbytes(size))


async def test_no_series_of_frames_breaks_a_connection_or_leaves_anything_behind(server: RpcServer) -> None:
    dice, found = random.Random(7), Counter[str]()
    for _ in range(1500):
        connection, transport = opened(server)
        encoder, stream = hpack.Encoder(), 1
        for _ in range(dice.randint(1, 12)):
            if dice.random() < 0.6:
                data, stream = request(dice, encoder, stream), stream + 2
            else:
                data = noise(dice, stream)
            while data and not transport.closed:
                cut = len(data) if dice.random() < 0.7 else dice.randint(1, len(data))
                connection.data_received(data[:cut])
                data = data[cut:]
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        found += statuses(transport.written)
        connection.connection_lost(None)
    frontend = server.frontend
    assert (frontend.lifecycle.in_flight, frontend.counters.in_flight, frontend.admission.bodies.used) == (
        0,
        0,
        0,
    )
    assert not server.connections
    assert "13" not in found
    # It did get to each of the places.
    assert {"0", "3", "5", "8", "12", "PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "COMPRESSION_ERROR"} <= set(found)


@pytest.mark.parametrize(
    "sent",
    [
        frame(Kind.PING, 0, 0, bytes(7)),
        frame(Kind.DATA, 0, 7, b""),
        frame(Kind.HEADERS, 0x4, 2, CALL),
        frame(Kind.HEADERS, 0x5, 1, b"\xff\xff\xff"),
        frame(Kind.HEADERS, 0x5, 1, hpack.Encoder().encode([(b"connection", b"close")])),
        frame(Kind.WINDOW_UPDATE, 0, 0, bytes(4)),
        (2**20).to_bytes(3, "big") + bytes(6),
    ],
    ids=[
        "frame size",
        "no stream",
        "even stream",
        "no HPACK",
        "no headers of HTTP/2",
        "window",
        "huge frame",
    ],
)
async def test_a_fault_of_the_connection_or_of_a_stream_is_counted_once(
    server: RpcServer, sent: bytes
) -> None:
    connection, transport = opened(server)
    assert counts(server) == {}
    connection.data_received(sent)
    assert counts(server) == {Reason.MALFORMED: 1}
    if transport.closed:
        connection.data_received(sent)
        connection.late()
    connection.connection_lost(None)
    assert counts(server) == {Reason.MALFORMED: 1}


async def test_a_call_that_breaks_the_protocol_is_malformed_and_answered_with_400(server: RpcServer) -> None:
    connection, _ = opened(server)
    connection.data_received(frame(Kind.HEADERS, 0x4, 1, CALL))
    connection.data_received(frame(Kind.WINDOW_UPDATE, 0, 1, bytes(4)))
    assert counts(server) == {Reason.MALFORMED: 1}
    assert server.frontend.counters._row[CODE_SLOTS[400]] == 1
    connection.connection_lost(None)
    assert (counts(server), server.frontend.counters.in_flight) == ({Reason.MALFORMED: 1}, 0)


async def test_what_is_no_http_2_is_malformed_and_what_does_not_go_on_is_a_slow_client(
    server: RpcServer,
) -> None:
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\0"):
        connection, transport = RpcConnection(server), Transport()
        connection.connection_made(transport)
        connection.data_received(sent)
        assert transport.closed
    assert counts(server) == {Reason.MALFORMED: 2}
    connection, transport = opened(server)
    connection.data_received(frame(Kind.PING, 0, 0, bytes(8))[:5])
    connection.late()
    connection.late()
    assert counts(server) == {Reason.MALFORMED: 2, Reason.SLOW_CLIENT: 1}


async def test_an_answer_waits_for_the_clients_window_and_goes_on_with_it(server: RpcServer) -> None:
    connection, transport = opened(server)
    connection.data_received(settings({4: 7}))  # type: ignore[dict-item]
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", INFER)]
    block = hpack.Encoder().encode([*headers, (b"content-type", b"application/grpc")])
    connection.data_received(frame(1, 4, 1, block) + frame(0, 1, 1, good_body()))
    await asyncio.sleep(0.01)

    def sent() -> bytes:
        return b"".join(
            payload for kind, _, stream, payload in frames(transport.written) if (kind, stream) == (0, 1)
        )

    assert len(sent()) == 7
    assert statuses(transport.written)["0"] == 0
    connection.data_received(frame(8, 0, 1, (5).to_bytes(4, "big")))
    assert len(sent()) == 12
    connection.data_received(settings({4: 1000}))  # type: ignore[dict-item]
    assert len(sent()) == 5 + int.from_bytes(sent()[1:5], "big")
    assert statuses(transport.written)["0"] == 1


@pytest.mark.parametrize(
    ("kind", "payload"),
    [(Kind.PING, bytes(8)), (Kind.SETTINGS, b""), (Kind.RST_STREAM, bytes(4)), (Kind.PRIORITY, bytes(5))],
)
async def test_frames_without_end_that_ask_for_nothing_end_the_connection(
    server: RpcServer, kind: Kind, payload: bytes
) -> None:
    connection, transport = opened(server)
    block = hpack.Encoder().encode([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x")])
    connection.data_received(frame(Kind.HEADERS, 0x5, 1, block))
    stream = 1 if kind in (Kind.RST_STREAM, Kind.PRIORITY) else 0
    for _ in range(3000):
        connection.data_received(frame(kind, 0, stream, payload))
    assert transport.closed
    assert statuses(transport.written)["ENHANCE_YOUR_CALM"] == 1


async def test_a_client_that_asks_on_and_reads_nothing_is_dropped(server: RpcServer) -> None:
    connection, transport = opened(server)
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", PATHS[-2])]
    block = hpack.Encoder().encode([*headers, (b"content-type", b"application/grpc")])
    connection.data_received(frame(Kind.HEADERS, 0x4, 1, block))
    asked = ServerReflectionRequest(
        file_containing_symbol="inference.GRPCInferenceService"
    ).SerializeToString()
    message = b"\0" + len(asked).to_bytes(4, "big") + asked
    for _ in range(400):
        connection.data_received(frame(Kind.DATA, 0, 1, message))
    ends = [
        Code(int.from_bytes(rest, "big"))
        for kind, *_, rest in frames(transport.written)
        if kind == Kind.RST_STREAM
    ]
    assert ends == [Code.CANCEL]
    assert not connection.calls
    assert server.frontend.lifecycle.in_flight == 0


async def test_a_large_frame_has_its_own_time_to_arrive_and_half_a_frame_no_more(server: RpcServer) -> None:
    connection, _ = opened(server)
    assert connection.reading_since == 0.0
    ping = frame(Kind.PING, 0, 0, bytes(8))
    connection.data_received(ping[:5])
    began = connection.reading_since
    assert began > 0
    connection.data_received(ping[5:7])
    assert connection.reading_since == began
    connection.data_received(ping[7:] + ping[:3])
    assert connection.reading_since > began


async def test_headers_that_go_on_without_end_are_cut_off(server: RpcServer) -> None:
    connection, transport = opened(server)
    connection.data_received(frame(Kind.HEADERS, 0, 1, b""))
    for _ in range(100):
        connection.data_received(frame(Kind.CONTINUATION, 0, 1, bytes(1000)))
    assert transport.closed
    assert statuses(transport.written)["ENHANCE_YOUR_CALM"] == 1


async def test_calls_beyond_the_limit_are_refused_and_may_be_sent_again(server: RpcServer) -> None:
    connection, transport = opened(server)
    encoder = hpack.Encoder()
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", INFER)]
    for number in range(258):
        block = encoder.encode([*headers, (b"content-type", b"application/grpc")])
        connection.data_received(frame(Kind.HEADERS, 0x4, 2 * number + 1, block))
    refused = [stream for kind, _, stream, payload in frames(transport.written) if kind == Kind.RST_STREAM]
    assert refused == [513, 515]
    assert counts(server) == {Reason.OVERLOAD: 2}
    connection.connection_lost(None)
    assert server.frontend.counters.in_flight == 0


async def test_each_call_of_a_router_gets_its_own_id_back_and_whoever_asks_for_it_reads_it(
    server: RpcServer,
) -> None:
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    encoder.header_table_size = 0
    connection, transport = opened(server)
    fixed = hpack.Decoder().decode(CALL)
    # What is no text, or too long, is nobody's name.
    values = [f"{number:08x}-5408-4ccd" for number in range(20)] + ["a\x7f", "1" * 129, "{7}", "", "last"]
    for number, value in enumerate(values):
        stream = 2 * number + 1
        block = encoder.encode([*fixed, ("x-request-id", value)])
        connection.data_received(frame(Kind.HEADERS, END_HEADERS, stream, block))
        assert connection.calls[stream].header(b"x-request-id") == value.encode()
        transport.written.clear()
        connection.data_received(frame(Kind.DATA, END_STREAM, stream, good_body()))
        await eventually(lambda: not connection.calls)
        (start, *_) = [
            decoder.decode(payload)
            for kind, _, answered, payload in frames(transport.written)
            if kind == Kind.HEADERS and answered == stream
        ]
        fits = value.isprintable() and 0 < len(value) <= 128
        assert dict(start).get("x-request-id") == (value if fits else None)
