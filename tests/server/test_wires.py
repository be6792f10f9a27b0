"""Both wires against other people's: h11 and h2 read the same bytes, and have to make the same of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import h11
import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway_server.wire import huffman
from slipway_server.wire.events import Broken, Ended, Event, Fault, Left, Opened, Part, State, Wire
from slipway_server.wire.frames import PREFACE, ConnectionFaultError, Kind, frame
from slipway_server.wire.head import REQUEST_ID, Head, without_id
from slipway_server.wire.headers import HeaderReader, MalformedError, block, literal
from slipway_server.wire.http1 import Http1
from slipway_server.wire.http2 import Http2
from slipway_server.wire.kept import Kept, value_of
from slipway_server.wire.limits import Limits

#: Method, target, headers and body.
Asked = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """``data`` cut at these places, each taken modulo its size."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, stop in pairwise(places):
        yield data[start:stop]


def by_ours(parts: list[bytes]) -> tuple[list[Asked], bool]:
    """The requests that are complete, and whether the rest was refused."""
    wire, found = Http1(Limits()), []
    head, body = None, b""
    for part in parts:
        for event in wire.feed(part):
            if isinstance(event, Opened):
                head, body = event.head, b""
            elif isinstance(event, Part):
                body += event.data
            elif isinstance(event, Ended):
                assert head is not None
                found.append((head.method.encode(), head.target, tuple(sorted(head.headers.items())), body))
            else:
                return found, True
    return found, False


def by_h11(parts: list[bytes]) -> tuple[list[Asked], bool]:
    connection, found = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024), []
    request, body = None, b""
    try:
        for part in parts:
            connection.receive_data(part)
            while True:
                event = connection.next_event()
                if event in (h11.NEED_DATA, h11.PAUSED):
                    break
                if isinstance(event, h11.Request):
                    request, body = event, b""
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    assert request is not None
                    headers: dict[bytes, bytes] = {}
                    for name, value in request.headers:
                        headers.setdefault(name, value)
                    found.append(
                        (request.method, request.target, tuple(sorted(headers.items())), bytes(body))
                    )
                    connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is not h11.DONE:
                        return found, False
                    connection.start_next_cycle()
    except h11.RemoteProtocolError:
        return found, True
    return found, False


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
VALUE = st.text("abc XYZ=;,/0189\"'", max_size=12).map(str.strip)


@st.composite
def request(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"]))
    target = "/" + draw(st.text("abc/%20?=&.-_~", max_size=12))
    version = draw(st.sampled_from(["1.1"] * 6 + ["1.0"]))
    lines = [f"{method} {target} HTTP/{version}", "Host: a"]
    for name, value in draw(st.lists(st.tuples(TOKEN, VALUE), max_size=4)):
        lines.append(f"X-{name}:{draw(st.sampled_from(['', ' ', '  ', chr(9)]))}{value}")
    if draw(st.integers(0, 9)) == 0:
        lines.append("Connection: close")
    body = draw(st.binary(max_size=40))
    how = draw(st.sampled_from(["none", "length", "chunks"]))
    if how == "length":
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
    if how == "chunks" and version == "1.1":
        cut = draw(st.integers(0, len(body)))
        chunks = b"".join(
            b"%x%b\r\n%b\r\n" % (len(each), draw(st.sampled_from([b"", b";a=b"])), each)
            for each in (body[:cut], body[cut:])
            if each
        )
        trailer = draw(st.sampled_from([b"", b"X-Trailer: 1\r\n"]))
        head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
        return head + chunks + b"0\r\n" + trailer + b"\r\n"
    return "\r\n".join([*lines, "", ""]).encode()


@settings(max_examples=40, deadline=None)
@given(st.lists(request(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=6))
def test_requests_of_http_1_mean_the_same_to_h11_however_they_are_cut(
    requests: list[bytes], cuts: list[int]
) -> None:
    parts = list(pieces(b"".join(requests), cuts))
    theirs = by_h11(parts)
    assert by_ours(parts) == theirs
    assert theirs[0] or theirs[1]


ODD = [b"\r", b"\n", b" ", b"\t", b":", b"\0", b"0", b"+", b"x", b"\r\n", b"\x80", b";"]
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n0\r\n\r\n"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(b"".join(draw(st.lists(request(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(["replace", "insert", "delete"]))
        odd = draw(
            st.sampled_from(
                [b"\r", b"\n", b" ", b"\t", b":", b"\0", b"0", b"+", b"x", b"\r\n", b"\x80", b";"]
            )
        )
        if how == "delete" and len(data) > 1:
            del data[place]
        elif how == "insert":
            data[place:place] = odd
        else:
            data[place : place + 1] = odd
    return bytes(data)


@settings(max_examples=40, deadline=None)
@given(damaged(), st.lists(st.integers(0, 2000), max_size=4))
@example(
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET", []
)
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc", [])
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", [])
@example(CHUNKED % b"Transfer-Encoding: xchunked", [])
@example(CHUNKED % b"Transfer-Encoding : chunked", [])
def test_where_h11_and_ours_both_go_on_they_agree_where_each_request_ends(
    data: bytes, cuts: list[int]
) -> None:
    """One of them may refuse what the other takes; what both take has to be the same, or it smuggles."""
    parts = list(pieces(data, cuts))
    (ours, _), (theirs, _) = by_ours(parts), by_h11(parts)
    both = min(len(ours), len(theirs))
    assert [each[:2] + each[3:] for each in ours[:both]] == [each[:2] + each[3:] for each in theirs[:both]]


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(request(), damaged()),
    st.integers(0, 9),
    st.text("0123456789abcdef-", min_size=1, max_size=40),
)
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 2, "7")
@example(b"POST / HTTP/1.1\r\nHost: a\r\n Content-Length: 0\r\n\r\n", 1, "7")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0, "7")
def test_a_head_without_the_id_that_a_router_gave_it_means_the_same_but_for_the_id(
    data: bytes, place: int, value: str
) -> None:
    lines = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    at = 1 + place % len(lines)
    text = b"\r\n".join([*lines[:at], f"x-request-id: {value}".encode(), *lines[at:], b"", b""])
    found = without_id(text)
    assert found is not None
    rest, request_id = found
    (plain, plain_broken), (whole, broken) = heads_of(rest), heads_of(text)
    assert (broken, len(whole)) == (plain_broken, len(plain))
    for ours, theirs in zip(plain, whole, strict=True):
        assert theirs.headers.get(b"x-request-id") == request_id
        assert (ours.method, ours.target, ours.framing, ours.keep_alive) == (
            *(theirs.method, theirs.target, theirs.framing, theirs.keep_alive),
        )
        assert {**ours.headers, b"x-request-id": request_id} == theirs.headers


def test_heads_that_differ_by_the_id_of_a_router_alone_come_of_one_template() -> None:
    text = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n%bx-request-id: %b\r\n\r\n"
    templates = [heads_of(text % (b"", each))[0][0].as_template(Limits()) for each in (b"1-a", b"22")]
    assert templates[0] is not None
    assert templates[1] is not None
    assert templates[0][0] == templates[1][0] == text.replace(b"%bx-request-id: %b\r\n", b"")
    assert b"x-request-id" not in templates[0][1].headers
    own = (b"traceparent: 1\r\n", b"timeout: 1\r\n", b"expect: 100-continue\r\n", b"connection: close\r\n")
    most = b"".join(b"x-%d: 1\r\n" % number for number in range(125))
    for more in (*own, most):
        assert heads_of(text % (more, b"1"))[0][0].as_template(Limits()) is None


def heads_of(data: bytes) -> tuple[list[Head], bool]:
    """The heads in ``data``, and whether something in it was refused."""
    events = Http1(Limits()).feed(data)
    return [each.head for each in events if isinstance(each, Opened)], isinstance(
        events and events[-1], Fault
    )


HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
    (b":authority", b"a"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 3)),
        st.tuples(st.just("data"), st.integers(0, 5), st.integers(0, 900), st.booleans(), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("reset"), st.integers(0, 5)),
        st.tuples(st.just("ping")),
        st.tuples(st.just("window"), st.integers(0, 5), st.integers(1, 5000)),
        st.tuples(st.just("settings"), st.sampled_from([0, 1, 7, 100, 65_535]), st.integers(16_384, 40_000)),
        st.tuples(st.just("answer"), st.integers(0, 5), st.integers(0, 70_000)),
    ),
    max_size=30,
)


class Client:
    """h2's client, and what it was told."""

    def __init__(self) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.open: list[int] = []
        self.body: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.faults: list[Any] = []

    def hear(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                assert event.stream_id is not None
                assert event.data is not None
                self.body[event.stream_id] = self.body.get(event.stream_id, b"") + event.data
            elif isinstance(event, h2.events.StreamEnded):
                assert event.stream_id is not None
                self.ended.add(event.stream_id)
                self._close(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                assert event.stream_id is not None
                if event.error_code != h2.errors.ErrorCodes.NO_ERROR:
                    self.faults.append(event)
                self._close(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.faults.append(event)

    def _close(self, stream: int) -> None:
        if stream in self.open:
            self.open.remove(stream)

    def step(self, step: tuple[Any, ...]) -> None:
        what, connection = step[0], self.connection
        stream = self.open[step[1] % len(self.open)] if self.open and len(step) > 1 else None
        if what == "open":
            number = connection.get_next_available_stream_id()
            own = [(b"x-own", b"%d" % number)] if step[1] else []
            connection.send_headers(number, [*HEADERS, *own])
            self.open.append(number)
        elif what == "ping":
            connection.ping(b"12345678")
        elif what == "settings":
            codes = h2.settings.SettingCodes
            connection.update_settings({codes.INITIAL_WINDOW_SIZE: step[1], codes.MAX_FRAME_SIZE: step[2]})
        elif stream is None:
            return
        elif what == "data" and connection.local_flow_control_window(stream) > step[2] + 20:
            connection.send_data(stream, bytes(step[2]), end_stream=step[3], pad_length=step[4] or None)
            if step[3]:
                self.open.remove(stream)
        elif what == "end":
            connection.end_stream(stream)
            self.open.remove(stream)
        elif what == "reset":
            connection.reset_stream(stream)
            self.open.remove(stream)
        elif what == "window":
            connection.increment_flow_control_window(step[2], stream)
            connection.increment_flow_control_window(step[2])


def of_ours(events: list[Event]) -> list[tuple[Any, ...]]:
    """Events in the words that both share; pieces of one body are put together."""
    found: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, Opened):
            found.append(("open", event.id, event.head.target, event.head.headers.get(b"x-own")))
        elif isinstance(event, Part):
            found.append(("data", event.id, event.data))
        elif isinstance(event, Ended):
            found.append(("end", event.id))
        elif isinstance(event, Left):
            found.append(("reset", event.id))
        elif isinstance(event, Broken | Fault):
            found.append(("fault",))
    return found


def of_h2(events: list[h2.events.Event]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, h2.events.RequestReceived):
            headers = {bytes(name): bytes(value) for name, value in event.headers or []}
            found.append(("open", event.stream_id, headers[b":path"], headers.get(b"x-own")))
        elif isinstance(event, h2.events.DataReceived) and event.data:
            found.append(("data", event.stream_id, bytes(event.data)))
        elif isinstance(event, h2.events.StreamEnded):
            found.append(("end", event.stream_id))
        elif isinstance(event, h2.events.StreamReset):
            found.append(("reset", event.stream_id))
        elif isinstance(event, h2.events.ConnectionTerminated):
            found.append(("fault",))
    return found


@settings(max_examples=40, deadline=None)
@given(STEPS, st.lists(st.integers(0, 5000), max_size=5))
def test_frames_of_a_client_mean_the_same_to_h2_and_answers_keep_to_its_windows(
    steps: list[tuple[Any, ...]], cuts: list[int]
) -> None:
    client, wire = Client(), Http2(Limits(idle_frames=10_000))
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    server.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**20})
    ours: list[Event] = []
    theirs: list[h2.events.Event] = []
    said: dict[int, bytes] = {}
    start, end = block([(b"content-type", b"application/grpc")]), literal(b"grpc-status", b"0")

    def exchange() -> None:
        data = client.connection.data_to_send()
        for part in pieces(data, cuts):
            ours.extend(wire.feed(part))
        theirs.extend(server.receive_data(data))
        client.hear(wire.take())

    exchange()
    # What one acknowledges the other has not said; h2's server takes what the client was told by ours.
    server.clear_outbound_data_buffer()
    for step in steps:
        if step[0] == "answer":
            if wire.streams:
                stream = list(wire.streams)[step[1] % len(wire.streams)]
                if stream not in said:
                    said[stream] = bytes([stream % 251]) * step[2]
                    wire.send(stream, start, said[stream], end)
                    client.hear(wire.take())
            continue
        client.step(step)
        exchange()
    client.connection.increment_flow_control_window(2**20)
    for stream in list(wire.waiting):
        client.connection.increment_flow_control_window(2**20, stream)
    exchange()
    assert not client.faults
    mine, other = of_ours(ours), of_h2(theirs)
    assert ("fault",) not in mine
    assert mine == other
    for stream, body in said.items():
        got = client.body.get(stream, b"")
        assert body.startswith(got)
        assert stream not in client.ended or got == body
    assert not wire.waiting
    assert wire.waiting_bytes == 0


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(0, 3000), st.integers(0, 255), st.lists(st.integers(0, 3000), max_size=3))
def test_where_h2_and_ours_both_go_on_after_a_flipped_byte_they_agree(
    steps: list[tuple[Any, ...]], place: int, value: int, cuts: list[int]
) -> None:
    client, server = (
        Client(),
        h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None)),
    )
    server.initiate_connection()
    for step in steps:
        if step[0] != "answer":
            client.step(step)
    data = bytearray(client.connection.data_to_send())
    place = 24 + place % (len(data) - 24)
    data[place] = value
    wire, ours, theirs = Http2(Limits(idle_frames=10_000)), [], []
    for part in pieces(bytes(data), cuts):
        ours += list(wire.feed(part))
    # A frame at a time: h2 gives no events of a piece with an error.
    position = 24
    try:
        theirs += server.receive_data(bytes(data[:24]))
        while position < len(data):
            stop = position + 9 + int.from_bytes(data[position : position + 3], "big")
            theirs += server.receive_data(bytes(data[position:stop]))
            position = stop
    except (h2.exceptions.ProtocolError, ValueError):
        pass
    mine, other = of_ours(ours), of_h2(theirs)
    both = min(
        len(mine), len(other), *(found.index(("fault",)) for found in (mine, other) if ("fault",) in found)
    )
    # h2 ends a stream where ours ends it too, but tells of it as of a reset.
    for one, two in zip(mine[:both], other[:both], strict=True):
        if "reset" in (one[0], two[0]) and one != two:
            break
        assert one == two


async def test_wires_need_neither_loop_nor_socket_nor_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((socket, "socket"), (asyncio, "get_running_loop")):
        monkeypatch.setattr(module, name, None)
    monkeypatch.setattr("time.perf_counter", None)
    assert len(Http1(Limits()).feed(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")) == 2
    client, wire = Client(), Http2(Limits())
    client.step(("open", 0))
    assert [type(event) for event in wire.feed(client.connection.data_to_send())] == [Opened]


def encoded(headers: list[tuple[bytes, bytes]], is_indexed: bool, is_huffman: bool) -> bytes:
    """A block of a client that keeps no table."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    encoder.table_size_changes.clear()
    return encoder.encode(
        [
            hpack.HeaderTuple(*each) if is_indexed else hpack.NeverIndexedHeaderTuple(*each)
            for each in headers
        ],
        huffman=is_huffman,
    )


OWN = st.tuples(
    st.sampled_from([b"x-request-id", b"traceparent", b"grpc-timeout", b"x-other"]),
    st.one_of(st.binary(max_size=3), st.text("0123456789abcdef-", max_size=150).map(str.encode)),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.lists(OWN, max_size=3), st.booleans(), st.booleans()), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 300), st.integers(0, 255)), max_size=4),
)
@example([([(b"x-request-id", b"7")], True, True), ([(b"x-request-id", b"8")], True, True)], [])
@example([([(b"x-request-id", b"77")], True, True)] * 2, [(1, -1, 0)])
def test_blocks_like_those_before_mean_what_the_hpack_library_makes_of_each(
    sent: list[tuple[list[tuple[bytes, bytes]], bool, bool]], damage: list[tuple[int, int, int]]
) -> None:
    blocks = [bytearray(encoded([*HEADERS, *own], *how)) for own, *how in sent]
    for which, place, byte in damage:
        found = blocks[which % len(blocks)]
        found[place % len(found)] = byte
    kept = Kept()
    for reader in (stateless(kept), stateless(kept)):
        for found in blocks:
            alone = stateless(Kept())
            assert outcome(reader, bytes(found)) == outcome(alone, bytes(found))
            if alone._decoder.header_table_size:
                break  # the damage made a table, which means that others may be read otherwise


def test_a_head_with_other_values_has_all_that_a_head_has_and_nothing_of_the_call_before() -> None:
    first = Head("POST", b"/", [(b"a", b"1"), (b"x-request-id", b"1")])
    plain = {name: getattr(first, name) for name in Head.__slots__}
    first.caller, first.payer, first.seconds = object(), None, 1.0
    second = first.with_own({b"x-request-id": b"2"})
    own = {"headers": {b"a": b"1", b"x-request-id": b"2"}}
    assert {name: getattr(second, name) for name in Head.__slots__} == {**plain, **own}
    third = first.without(b"x-request-id")
    assert {name: getattr(third, name) for name in Head.__slots__} == {**plain, "headers": {b"a": b"1"}}
    assert first.headers[b"x-request-id"] == b"1"


def stateless(kept: Kept) -> HeaderReader:
    """A reader whose client has said that it keeps no table."""
    reader = HeaderReader(Limits(), kept)
    assert reader.skip(b"\x20")
    return reader


def outcome(reader: HeaderReader, data: bytes) -> Any:
    try:
        head, coded = reader.read(data)
    except (ConnectionFaultError, MalformedError) as error:
        return type(error)
    if coded is not None:
        # It is not read here, but it has to be what may be said back.
        assert REQUEST_ID not in head.headers
        head = head.with_own({REQUEST_ID: value_of(coded) or b""})
        assert head.request_id is not None
    return head.method, head.target, head.headers, head.content_length, head.request_id


def test_a_block_that_differs_by_the_ids_of_a_router_is_not_decoded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = Kept()
    one, two = stateless(kept), stateless(kept)
    both = [*HEADERS, (b"grpc-timeout", b"99m"), (b"x-request-id", b"3ea7a6c6-5408")]
    for reader in (one, two):
        assert reader.read(encoded(both, True, True))[0].headers[b"grpc-timeout"] == b"99m"
        assert reader.read(encoded(HEADERS, True, True))[0].request_id is None
    monkeypatch.setattr(hpack.Decoder, "decode", None)
    for reader in (one, two):
        for number in range(50):
            own = [(b"grpc-timeout", b"%du" % number), (b"x-request-id", b"%x-0" % number)]
            head, coded = reader.read(encoded([*HEADERS, *own], True, True))
            assert head.headers[b"grpc-timeout"] == b"%du" % number
            assert coded is not None
            assert value_of(coded) == b"%x-0" % number
        assert reader.read(encoded(HEADERS, True, True))[0].request_id is None


def test_an_id_of_a_router_is_never_decoded_where_nobody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def block(number: int) -> bytes:
        return encoded([*HEADERS, (b"x-request-id", b"%032x" % (number * 0x9E3779B97F4A7C15))], True, True)

    kept = Kept()
    reader = stateless(kept)
    first, _ = reader.read(block(1))
    monkeypatch.setattr(hpack.Decoder, "decode", None)
    monkeypatch.setattr(huffman, "decode", None)
    heads = {reader.read(block(number)) for number in range(2, 40)}
    assert len(heads) == 38
    ((shared,),) = ({head for head, _ in heads},)
    assert shared.headers == {name: value for name, value in first.headers.items() if name != REQUEST_ID}


def test_a_client_may_begin_to_keep_a_table_again() -> None:
    kept, encoder = Kept(), hpack.Encoder()
    encoder.header_table_size = 0
    reader = HeaderReader(Limits(), kept)
    both = [*HEADERS, (b"x-request-id", b"1")]
    sizes = [0, 0, 4096, 4096, 4096, 0, 0, 100, 4096, 4096]
    for number, size in enumerate(sizes):
        if encoder.header_table_size != size:
            encoder.header_table_size = size
        both[-1] = (b"x-request-id", b"%d" % (number // 2))
        head, coded = reader.read(encoder.encode(both))
        assert dict(both[4:-1]).items() <= head.headers.items()
        value = head.headers[REQUEST_ID] if coded is None else value_of(coded)
        assert value == both[-1][1]


@given(st.binary(max_size=20))
@example(b"")
@example(b"\x1f")
@example(b"\xff")
@example(b"\xff\xff\xff\xff")
def test_huffman_codes_say_what_they_say_to_the_hpack_library(data: bytes) -> None:
    try:
        theirs = decode_huffman(data)
    except hpack.HPACKDecodingError:
        theirs = None
    assert huffman.decode(data) == theirs
    assert huffman.is_printable(data) == is_printable(theirs)
    code = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(data)
    assert huffman.decode(code) == data
    assert huffman.is_printable(code) == is_printable(data)


def is_printable(text: bytes | None) -> bool:
    return bool(text) and text is not None and all(0x20 <= byte < 0x7F for byte in text)


@pytest.mark.parametrize("count", [0, 1, 126, 127, 128, 129, 200])
def test_an_id_is_taken_as_it_came_only_where_it_may_be_said_back(count: int) -> None:
    for letter in (b"0", b"a", b"\x7f", b"{", b"\n", b"\xc3"):
        for is_huffman in (False, True):
            reader = stateless(Kept())
            for value in (b"1", letter * count):
                block = encoded([*HEADERS, (REQUEST_ID, value)], True, is_huffman)
                head, coded = reader.read(block)
                known = head.request_id if coded is None else value_of(coded)
                fits = 0 < len(value) <= 128 and is_printable(value)
                assert known == (value if fits else None)


_POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n%b\r\nab"
_FIELDS = block([(b":method", b"POST"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"a")])
_CALL = frame(Kind.HEADERS, 0, 1, _FIELDS[:3]) + frame(Kind.CONTINUATION, 0x4, 1, _FIELDS[3:])
_BEGUN = PREFACE + frame(Kind.SETTINGS, 0, 0)


@pytest.mark.parametrize(
    ("wire", "data", "expected"),
    [
        (Http1(Limits()), _POST % b"", "READY HEAD BODY READY"),
        (Http1(Limits()), _POST % b"" * 2, "READY HEAD BODY READY HEAD BODY READY"),
        (Http1(Limits()), _POST % b"connection: close\r\n", "READY HEAD BODY CLOSED"),
        (Http1(Limits()), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "READY HEAD READY"),
        (Http1(Limits()), b"GET / HTTP/1.1\r\n\r\n", "READY HEAD CLOSED"),
        (Http1(Limits()), b"\0", "READY CLOSED"),
        (Http2(Limits()), _BEGUN, "PREFACE SETTINGS READY"),
        (Http2(Limits()), _BEGUN + _CALL, "PREFACE SETTINGS READY HEAD READY"),
        (
            Http2(Limits()),
            _BEGUN + _CALL + frame(Kind.PING, 0, 1, bytes(8)),
            "PREFACE SETTINGS READY HEAD READY CLOSED",
        ),
        (Http2(Limits()), PREFACE + _CALL, "PREFACE SETTINGS CLOSED"),
        (Http2(Limits()), b"GET / HTTP/1.1", "PREFACE CLOSED"),
    ],
)
def test_both_wires_name_what_they_read_next_and_read_nothing_once_they_are_closed(
    wire: Wire, data: bytes, expected: str
) -> None:
    seen = [wire.state]
    for at in range(len(data)):
        for _ in wire.feed(data[at : at + 1]):
            pass
        if wire.state is not seen[-1]:
            seen.append(wire.state)
    assert " ".join(state.name for state in seen) == expected
    wire.close()
    assert wire.state is State.CLOSED
    assert not list(wire.feed(data))
