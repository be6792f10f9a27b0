"""Frames that cost a server more than their sender, by the bound that each of them has."""

from __future__ import annotations

import asyncio
import time

import hpack
import pytest

from slipway_server.rpc.connection import RpcConnection
from slipway_server.rpc.server import RpcServer
from slipway_server.wire.frames import Kind, Setting, frame, settings, window_update
from slipway_server.wire.headers import literal
from slipway_server.wire.limits import LIMITS
from tests.server.grpc_wire import (
    CALL,
    Transport,
    frames,
    good_body,
    opened,
    statuses,
)

#: As many calls as a connection may have, none of them ended.
CALLS = b"".join(frame(Kind.HEADERS, 0x4, stream, CALL) for stream in range(1, 2 * LIMITS.streams, 2))
RESET = frame(Kind.RST_STREAM, 0, 1, bytes(4))


def setting(name: int, value: int) -> bytes:
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def ends(transport: Transport) -> str:
    """Why the connection was ended, or an empty text."""
    found = [name for name in statuses(transport.written) if name.isupper()]
    assert transport.closed == bool(found)
    return " ".join(found)


async def test_a_frame_with_more_than_32_settings_ends_the_connection(server: RpcServer) -> None:
    connection, transport = opened(server)
    connection.data_received(frame(Kind.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 9) * 32))
    assert not transport.closed
    connection.data_received(frame(Kind.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 9) * 33))
    assert ends(transport) == "ENHANCE_YOUR_CALM"


async def test_of_settings_with_one_name_the_last_alone_is_applied(server: RpcServer) -> None:
    connection, transport = opened(server)
    connection.data_received(frame(Kind.HEADERS, 0x4, 1, CALL))
    # Taken one after the other, the first would overflow the window of the call.
    payload = setting(Setting.INITIAL_WINDOW_SIZE, 2**31) + setting(Setting.INITIAL_WINDOW_SIZE, 7)
    connection.data_received(frame(Kind.SETTINGS, 0, 0, payload))
    assert not transport.closed
    assert connection.wire.streams[1].window == 7


async def test_a_flood_of_settings_takes_little_time_however_many_calls_are_open(server: RpcServer) -> None:
    connection, transport = opened(server)
    connection.data_received(CALLS)
    flood = frame(Kind.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 65_535) * 10_922)
    began = time.thread_time()
    for _ in range(50):
        connection.data_received(flood)
    assert time.thread_time() - began < 0.1
    assert ends(transport) == "ENHANCE_YOUR_CALM"


@pytest.mark.parametrize(
    "repeated",
    [
        window_update(0, 1),
        window_update(1, 1),
        frame(Kind.PING, 0, 0, bytes(8)),
        frame(Kind.PING, 0x1, 0, bytes(8)),
        frame(Kind.DATA, 0, 1, b""),
        frame(Kind.DATA, 0x8, 1, b"\x05" + bytes(5)),
        frame(Kind.PRIORITY, 0, 1, bytes(5)),
        frame(Kind.SETTINGS, 0, 0, b""),
        frame(Kind.SETTINGS, 0x1, 0, b""),
        frame(Kind.GOAWAY, 0, 0, bytes(8)),
        frame(0xEE, 0, 0, b"unknown"),
    ],
    ids=[
        "window of the connection",
        "window of a call",
        "ping",
        "answer to a ping",
        "empty data",
        "padding alone",
        "priority",
        "settings",
        "acknowledged settings",
        "goaway",
        "unknown frame",
    ],
)
async def test_every_frame_that_carries_no_work_is_counted(server: RpcServer, repeated: bytes) -> None:
    connection, transport = opened(server)
    connection.data_received(frame(Kind.HEADERS, 0x4, 1, CALL))
    for _ in range(LIMITS.idle_frames + 1):
        assert not transport.closed or ends(transport)
        connection.data_received(repeated)
    assert ends(transport) == "ENHANCE_YOUR_CALM"


async def test_headers_in_pieces_of_nothing_end_the_connection(server: RpcServer) -> None:
    connection, transport = opened(server)
    connection.data_received(frame(Kind.HEADERS, 0, 1, b""))
    for _ in range(LIMITS.idle_frames + 1):
        connection.data_received(frame(Kind.CONTINUATION, 0, 1, b""))
    assert ends(transport) == "ENHANCE_YOUR_CALM"


async def _reset_all(connection: RpcConnection, calls: int, end: bytes) -> None:
    for number in range(calls):
        stream = 2 * number + 1
        moved = end[:5] + stream.to_bytes(4, "big") + end[9:]
        connection.data_received(frame(Kind.HEADERS, 0x4, stream, CALL) + moved)
        if number % 64 == 0:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "end",
    [RESET, window_update(1, 0), frame(Kind.PRIORITY, 0, 1, (1).to_bytes(4, "big") + b"\0")],
    ids=["reset by the client", "window that cannot be", "depends on nothing"],
)
async def test_calls_that_are_begun_and_reset_at_once_end_the_connection(
    server: RpcServer, end: bytes
) -> None:
    if end[3] == Kind.PRIORITY:
        end = frame(Kind.PRIORITY, 0, 1, b"short")[:9] + bytes(5)
    connection, transport = opened(server)
    await _reset_all(connection, LIMITS.idle_frames + 2, end)
    assert ends(transport) == "ENHANCE_YOUR_CALM"
    connection.connection_lost(None)
    assert server.frontend.counters.in_flight == 0


async def test_a_client_that_is_answered_may_send_pings_and_windows_along(server: RpcServer) -> None:
    connection, transport = opened(server)
    for number in range(LIMITS.idle_frames):
        stream = 2 * number + 1
        call = frame(Kind.HEADERS, 0x4, stream, CALL) + frame(Kind.DATA, 0x1, stream, good_body())
        connection.data_received(call)
        await asyncio.sleep(0)
        connection.data_received(window_update(0, 60) + frame(Kind.PING, 0, 0, bytes(8)))
    await asyncio.sleep(0)
    assert not transport.closed
    assert statuses(transport.written)["0"] == LIMITS.idle_frames


@pytest.mark.parametrize("size", [LIMITS.header_bytes + 1, 20_000, LIMITS.frame_bytes])
async def test_headers_are_held_to_their_size_before_they_are_decoded(
    server: RpcServer, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, transport = opened(server)
    monkeypatch.setattr(hpack.Decoder, "decode", None)
    connection.data_received(frame(Kind.HEADERS, 0x5, 1, bytes(size)))
    assert ends(transport) == "FRAME_SIZE_ERROR"


async def test_a_block_changes_the_table_of_headers_twice_at_most(server: RpcServer) -> None:
    connection, transport = opened(server)
    connection.data_received(frame(Kind.HEADERS, 0x4, 1, b"\x20\x3f\xe1\x1f" + CALL))
    assert not transport.closed
    began = time.thread_time()
    connection.data_received(frame(Kind.HEADERS, 0x4, 3, b"\x20" * 16_000 + CALL))
    assert time.thread_time() - began < 0.01
    assert ends(transport) == "COMPRESSION_ERROR"


async def test_malformed_headers_count_by_their_size(server: RpcServer) -> None:
    connection, transport = opened(server)
    block = b"".join(literal(b"UPPER%d" % number, b"x" * 900) for number in range(15))
    sent = 0
    while not transport.closed:
        connection.data_received(frame(Kind.HEADERS, 0x5, 2 * sent + 1, block))
        sent += 1
    assert sent < LIMITS.idle_frames // 20
    assert ends(transport) == "ENHANCE_YOUR_CALM"


@pytest.mark.parametrize("way", ["window of the connection", "window of each call", "settings"])
async def test_an_answer_that_is_taken_byte_by_byte_ends_the_connection(server: RpcServer, way: str) -> None:
    connection, transport = opened(server)
    window = 0 if way == "settings" else 1
    connection.data_received(settings({Setting.INITIAL_WINDOW_SIZE: window}))
    for stream in range(1, 41, 2):
        connection.data_received(
            frame(Kind.HEADERS, 0x4, stream, CALL) + frame(Kind.DATA, 0x1, stream, good_body())
        )
    await asyncio.sleep(0.05)
    steps = 0
    while not transport.closed and steps < 3000:
        steps += 1
        if way == "settings":
            connection.data_received(settings({Setting.INITIAL_WINDOW_SIZE: steps}))
        elif way == "window of each call":
            connection.data_received(window_update(2 * (steps % 20) + 1, 1))
        else:
            connection.data_received(window_update(0, 1) + window_update(1, 1))
    pieces = [each for each in frames(transport.written) if each[0] == Kind.DATA]
    assert len(pieces) <= LIMITS.idle_frames + 40
    if len(pieces) > LIMITS.idle_frames // 2 or way == "window of the connection":
        assert ends(transport) == "ENHANCE_YOUR_CALM"


async def test_a_window_of_one_costs_the_same_however_many_answers_wait(server: RpcServer) -> None:
    """All calls wait for the connection's window, and each byte of it lets one of them go on."""
    connection, transport = opened(server)
    connection.data_received(settings({Setting.INITIAL_WINDOW_SIZE: 2**30}))
    connection.wire.windows.connection = 0
    for stream in range(1, 2 * LIMITS.streams, 2):
        connection.data_received(
            frame(Kind.HEADERS, 0x4, stream, CALL) + frame(Kind.DATA, 0x1, stream, good_body())
        )
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert len(connection.calls) == LIMITS.streams
    flood = window_update(0, 1) * (LIMITS.idle_frames // 3)
    began = time.thread_time()
    connection.data_received(flood)
    assert time.thread_time() - began < 0.05
    assert not transport.closed
    connection.data_received(window_update(0, 2**20))
    assert statuses(transport.written)["0"] == LIMITS.streams


async def test_a_client_that_reads_much_in_small_windows_is_no_flood(server: RpcServer) -> None:
    """60 MB of an answer, which is more window updates than there may be idle frames."""
    connection, transport = opened(server)
    connection.data_received(frame(Kind.HEADERS, 0x4, 1, CALL))
    rpc = connection.calls[1]
    rpc.unanswered = False
    server.frontend.counters.answered(200, 0.0)
    rpc.send(bytes(60_000_000), last=True)
    updates = 0
    while connection.calls and not transport.closed:
        connection.data_received(window_update(0, 16_384) + window_update(1, 16_384))
        updates += 2
    assert updates > 2 * LIMITS.idle_frames
    assert not transport.closed
