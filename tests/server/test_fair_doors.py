"""One account for both ports: whoever holds most gives way, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_server.board import Board
from slipway_server.door.admission import Guests, Pool, owner_of
from slipway_server.door.listen import bind
from slipway_server.door.pace import Pace
from slipway_server.door.server import Door
from slipway_server.engine.served import Served
from slipway_server.errors import RequestError
from slipway_server.http.server import HttpServer
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import Counters
from slipway_server.rpc.server import RpcServer
from slipway_server.runtime.model import Model
from slipway_server.runtime.profile import Profile
from slipway_server.settings import Serving
from slipway_server.site.frontend import Frontend
from slipway_server.wire.frames import PREFACE, Kind, frame, settings
from slipway_server.wire.limits import Limits
from tests.server.grpc_wire import CALL, good_body
from tests.server.running import ROOT, tensor

KIB, MIB = 1024, 1024 * 1024
BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Doors:
    """Both ports of one process, in this one."""

    def __init__(self, frontend: Frontend, servers: list[Door], http: int, rpc: int) -> None:
        self.frontend, self.servers, self.http, self.rpc = frontend, servers, http, rpc
        self.admission = frontend.admission

    async def connect(self, port: int, address: str = "127.0.0.1") -> Connected:
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))

    async def ask(self, request: bytes, address: str = "127.0.0.1") -> bytes:
        """The whole answer on a connection of its own."""
        reader, writer = await self.connect(self.http, address)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    async def call(self, address: str = "127.0.0.1") -> Connected:
        """A connection of gRPC with a call that has begun and does not go on."""
        reader, writer = await self.connect(self.rpc, address)
        writer.write(PREFACE + settings({}) + frame(Kind.HEADERS, 0x4, 1, CALL))
        return reader, writer


@asynccontextmanager
async def doors(
    model_dirs: Callable[[str], Path], limits: Limits, body_bytes: int = MIB
) -> AsyncIterator[Doors]:
    model = Model(model_dirs("identity") / "model.onnx", 1)
    serving = Serving("fraud", "3", "sha256:" + "0" * 64, maxBodyBytes=body_bytes)
    frontend = Frontend(serving, Lifecycle(0), Counters(Board(1).row(0)), limits=limits)
    frontend.engine.start(Served(model, "fraud", "3", Profile(True, True, 128, {1: 1e-6})))
    frontend.lifecycle.loaded = True
    started: list[Door] = []
    ports: list[int] = []
    servers: tuple[Door, ...] = (HttpServer(frontend), RpcServer(frontend))
    for server in servers:
        sock = bind("127.0.0.1", 0)
        await server.start(sock)
        started.append(server)
        ports.append(sock.getsockname()[1])
    try:
        yield Doors(frontend, started, *ports)
    finally:
        for server in started:
            await server.stop(0.1)
        frontend.engine.close()


def post(body: bytes, *lines: bytes) -> bytes:
    head = [b"POST /v2/models/fraud/infer HTTP/1.1", b"host: a", b"content-length: %d" % len(body), *lines]
    return b"\r\n".join([*head, b"", body])


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"], ids=["same address", "another address"])
async def test_four_slow_uploads_refuse_nobody_else(model_dirs: Callable[[str], Path], address: str) -> None:
    """As behind a router, whose requests carry an id: they do not come by the way of heads that are known."""
    async with doors(model_dirs, Limits()) as there:
        slow = [await there.connect(there.http) for _ in range(4)]
        for _, writer in slow:
            writer.write(post(bytes(MIB))[:-1])
        await until(lambda: there.admission.bodies.used == 4 * (MIB - 1))
        for number in range(20):
            request = post(BODY, b"connection: close", b"x-request-id: %d" % number)
            assert (await there.ask(request, address)).startswith(b"HTTP/1.1 200 ")
        # One of the four made room, and was told so.
        await until(lambda: there.admission.bodies.used < 4 * (MIB - 1))
        ends = [asyncio.create_task(reader.readline()) for reader, _ in slow]
        done, open_ = await asyncio.wait(ends, timeout=1)
        assert [end.result()[:13] for end in done] == [b"HTTP/1.1 503 "]
        assert len(open_) == 3
        for end in open_:
            end.cancel()


async def test_a_call_of_grpc_gets_room_for_its_message_and_the_largest_upload_an_answer(
    model_dirs: Callable[[str], Path],
) -> None:
    async with doors(model_dirs, Limits(bodies=1), 100 * KIB) as there:
        reader, writer = await there.connect(there.http)
        writer.write(post(bytes(100 * KIB))[:-1])
        await until(lambda: there.admission.bodies.used > 100_000)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{there.rpc}") as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            assert await infer(good_body()[5:], timeout=5)
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        writer.close()


async def test_the_largest_call_of_grpc_is_unavailable_when_a_request_of_rest_needs_the_memory(
    model_dirs: Callable[[str], Path],
) -> None:
    async with doors(model_dirs, Limits(bodies=1), 60 * KIB) as there:
        reader, writer = await there.call()
        size = 60 * KIB - 10
        writer.write(frame(Kind.DATA, 0, 1, b"\0" + size.to_bytes(4, "big") + bytes(size - 1)))
        await until(lambda: there.admission.bodies.used >= size)
        assert (await there.ask(post(BODY, b"connection: close", b"x-request-id: 1"))).startswith(
            b"HTTP/1.1 200"
        )
        assert b"grpc-status\x0214" in await asyncio.wait_for(reader.readuntil(b"grpc-status\x0214"), 5)
        writer.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"], ids=["same address", "another address"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in the middle of a call"])
async def test_600_connections_of_grpc_do_not_end_the_liveness_of_rest(
    model_dirs: Callable[[str], Path], address: str, busy: bool
) -> None:
    async with doors(model_dirs, Limits(connections=144)) as there:
        calls = [await (there.call() if busy else there.connect(there.rpc)) for _ in range(600)]
        for _ in range(20):
            assert (await there.ask(LIVE, address)).endswith(b'{"live":true}')
        assert len(there.admission.guests) <= 144
        for _, writer in calls:
            writer.close()


async def test_a_connection_too_many_from_whoever_has_most_is_told_so(
    model_dirs: Callable[[str], Path],
) -> None:
    async with doors(model_dirs, Limits(connections=5)) as there:
        calls = [await there.call() for _ in range(5)]
        await until(lambda: there.admission.calls.used == 5)
        reader, writer = await there.connect(there.rpc)
        assert b"no room for more connections" in await asyncio.wait_for(reader.read(), 5)
        assert there.admission.calls.used == 5
        for _, each in [*calls, (reader, writer)]:
            each.close()


def test_connections_leave_room_for_the_other_files_of_the_process() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400));"
        "from slipway_server.door.listen import most_connections; print(most_connections())"
    )
    path = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'server'}"}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 144


async def test_a_client_that_asks_on_and_reads_nothing_holds_bounded_memory(
    model_dirs: Callable[[str], Path],
) -> None:
    """Answers are as large as their requests; one connection asks for far more than all may keep."""
    rows = 20_000
    x = {"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": [0.5] * (3 * rows)}
    request = post(json.dumps({"inputs": [x]}).encode(), b"x-request-id: 1")
    most = 2 * MIB
    async with doors(model_dirs, Limits(unread_bytes=most, pipelined=64)) as there:
        greedy = [await there.connect(there.http, "127.0.0.1") for _ in range(4)]
        feeds = [asyncio.create_task(_feed(writer, request * 200)) for _, writer in greedy]
        highest, served = 0, 0
        for number in range(30):
            answer = await there.ask(
                post(BODY, b"connection: close", b"x-request-id: %d" % number), "127.0.0.2"
            )
            served += answer.startswith(b"HTTP/1.1 200 ")
            highest = max(highest, sum(each.unread_bytes() for each in there.servers[0].connections))
            await asyncio.sleep(0.05)
        assert served == 30
        assert 0 < highest <= most + len(request) * len(greedy)
        for feed in feeds:
            feed.cancel()
        await asyncio.gather(*feeds, return_exceptions=True)
        for _, writer in greedy:
            writer.transport.abort()


async def _feed(writer: asyncio.StreamWriter, data: bytes) -> None:
    for start in range(0, len(data), 256 * KIB):
        writer.write(data[start : start + 256 * KIB])
        await writer.drain()


async def test_one_answer_larger_than_the_limit_is_given_where_nobody_else_waits(
    model_dirs: Callable[[str], Path],
) -> None:
    rows = 200_000
    given = json.dumps({"inputs": [tensor("x", "FP32", [rows, 3], binary_data_size=rows * 12)]}).encode()
    lines = (b"content-type: application/octet-stream", b"inference-header-content-length: %d" % len(given))
    request = post(given + bytes(rows * 12), *lines, b"connection: close")
    async with doors(model_dirs, Limits(unread_bytes=64 * KIB), 8 * MIB) as there:
        answer = await there.ask(request)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(answer) > 10 * 64 * KIB


async def test_calls_beyond_the_limit_are_taken_from_whoever_has_most(
    model_dirs: Callable[[str], Path],
) -> None:
    async with doors(model_dirs, Limits(calls=10)) as there:
        reader, writer = await there.connect(there.rpc)
        writer.write(PREFACE + settings({}))
        for stream in range(1, 23, 2):
            writer.write(frame(Kind.HEADERS, 0x4, stream, CALL))
        await until(lambda: there.admission.calls.used == 10)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{there.rpc}") as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for _ in range(5):
                assert await infer(good_body()[5:], timeout=5)
        assert b"no room for more calls" in await asyncio.wait_for(reader.readuntil(b"more calls"), 5)
        writer.close()


FAST = Limits(pace_seconds=0.4, bytes_per_second=KIB, sweep_seconds=0.05, linger_seconds=0.1)


async def test_a_body_that_stops_in_the_middle_is_cut_off_however_fast_it_began(
    model_dirs: Callable[[str], Path],
) -> None:
    async with doors(model_dirs, FAST) as there:
        reader, writer = await there.connect(there.http)
        writer.write(post(bytes(MIB))[: MIB // 2])
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408 ")
        assert there.admission.bodies.used == 0
        writer.close()


async def test_a_body_that_arrives_at_the_least_rate_is_waited_for(model_dirs: Callable[[str], Path]) -> None:
    async with doors(model_dirs, FAST) as there:
        reader, writer = await there.connect(there.http)
        request = post(BODY.ljust(4 * KIB))
        for start in range(0, len(request), 256):
            writer.write(request[start : start + 256])
            await asyncio.sleep(0.08)
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_message_of_grpc_that_does_not_go_on_is_cut_off(model_dirs: Callable[[str], Path]) -> None:
    async with doors(model_dirs, FAST) as there:
        reader, writer = await there.call()
        writer.write(frame(Kind.DATA, 0, 1, good_body()[:-1]))
        await asyncio.wait_for(reader.readuntil(b"grpc-status\x014"), 5)
        assert there.admission.calls.used == 0
        writer.close()


@pytest.mark.parametrize("trickle", [0, 10], ids=["nothing", "ten bytes at a time"])
async def test_an_answer_of_grpc_that_is_not_taken_is_dropped(
    model_dirs: Callable[[str], Path], trickle: int
) -> None:
    async with doors(model_dirs, FAST) as there:
        _, writer = await there.connect(there.rpc)
        writer.write(PREFACE + settings({4: 5}) + frame(Kind.HEADERS, 0x4, 1, CALL))  # type: ignore[dict-item]
        writer.write(frame(Kind.DATA, 0x1, 1, good_body()))
        await until(lambda: there.admission.answers.used > 0)
        for _ in range(40):
            if not there.admission.answers.used:
                break
            if trickle:
                writer.write(frame(Kind.WINDOW_UPDATE, 0, 1, (1).to_bytes(4, "big")))
            await asyncio.sleep(0.1)
        assert there.admission.answers.used == there.admission.calls.used == 0
        writer.close()


async def test_a_client_of_rest_that_reads_nothing_is_cut_off(model_dirs: Callable[[str], Path]) -> None:
    rows = 20_000
    x = {"name": "x", "datatype": "FP32", "shape": [rows, 3], "data": [0.5] * (3 * rows)}
    request = post(json.dumps({"inputs": [x]}).encode(), b"x-request-id: 1")
    async with doors(model_dirs, FAST) as there:
        reader, writer = await there.connect(there.http)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        feed = asyncio.create_task(_feed(writer, request * 100))
        await until(lambda: there.admission.answers.used > 0)
        await until(lambda: there.admission.answers.used == 0)
        await asyncio.gather(feed, return_exceptions=True)
        writer.transport.abort()


class One:
    """Somebody with an amount."""

    kind = "http"

    def __init__(self, owner: Hashable, gives: bool = True) -> None:
        self.owner = owner
        self.amount = 0
        self.is_movable = gives
        self.pool: Pool | None = None
        self.away: RequestError | None = None

    def give_way(self) -> None:
        if self.pool is not None:
            self.pool.give_back(self, self.amount)
            self.amount = 0

    def close_if_idle(self) -> bool:
        return False

    def turn_away(self, error: RequestError) -> None:
        self.away = error


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(1, 60)),
        min_size=1,
        max_size=60,
    )
)
def test_a_pool_never_holds_more_than_it_has_and_refuses_only_who_would_hold_most(
    steps: list[tuple[int, int]],
) -> None:
    pool = Pool(100)
    ones = [One(number // 2) for number in range(6)]
    for each in ones:
        each.pool = pool

    def of(owner: Hashable) -> int:
        return sum(each.amount for each in ones if each.owner == owner)

    for number, size in steps:
        one = ones[number]
        before = [each.amount for each in ones]
        if pool.take(one, size):
            one.amount += size
        else:
            # Nobody else has more than this one would have had.
            assert before[number] == one.amount
            assert all(of(each.owner) <= of(one.owner) + size for each in ones)
        assert pool.used == sum(each.amount for each in ones) <= 100
        for each, had in zip(ones, before, strict=True):
            if each is not one and each.amount < had:
                assert sum(before[n] for n, o in enumerate(ones) if o.owner == each.owner) >= of(
                    one.owner
                ) or (each.owner == one.owner)
    for each in ones:
        each.give_way()
    assert (pool.used, pool.holders) == (0, set())


def test_what_the_model_works_on_is_not_taken_away() -> None:
    pool, busy, late = Pool(100), One("a"), One("b")
    busy.pool = pool
    assert pool.take(busy, 90)
    busy.amount, busy.is_movable = 90, False
    assert not pool.take(late, 20)
    busy.give_way()
    assert pool.take(late, 20)
    assert pool.holders == {late}


def test_a_newcomer_displaces_the_oldest_of_whoever_has_most_and_never_one_of_fewer() -> None:
    guests = Guests(6)
    many, few = [One("many") for _ in range(4)], [One("few") for _ in range(2)]
    for each in (*many, *few):
        guests.enter(each)
    guests.enter(third := One("third"))
    assert [each.away is not None for each in (*many, *few, third)] == [True, *[False] * 6]
    guests.enter(again := One("many"))
    assert again.away is not None
    assert len(guests) == 7
    guests.leave(again)
    assert len(guests) == 6


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("10.0.0.1", 1), ("10.0.0.1", 2), True),
        (("10.0.0.1", 1), ("10.0.0.2", 1), False),
        (("::ffff:10.0.0.1", 1, 0, 0), ("10.0.0.1", 2), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8::2:1", 1, 0, 0), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:1::1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::1", 1, 0, 2), True),
        (None, "", True),
    ],
)
def test_a_connection_counts_for_its_address_whichever_way_it_is_written(
    one: object, other: object, same: bool
) -> None:
    assert (owner_of(one) == owner_of(other)) is same


def test_a_pace_is_judged_by_each_window_and_not_by_the_average() -> None:
    pace, limits = Pace(100.0), Limits(pace_seconds=5, bytes_per_second=1000)
    assert not pace.is_slow(104.9, 0, limits)
    assert not pace.is_slow(105.0, 1_000_000, limits)
    assert not pace.is_slow(109.0, 1_000_000, limits)
    assert pace.is_slow(110.0, 1_004_999, limits)


async def test_a_router_with_one_address_may_have_all_connections(model_dirs: Callable[[str], Path]) -> None:
    async with doors(model_dirs, Limits(connections=40)) as there:
        kept = [await there.connect(there.http) for _ in range(39)]
        for reader, writer in kept:
            writer.write(post(BODY))
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200 ")
        for _, writer in kept:
            writer.close()


def test_small_parts_of_a_body_take_no_more_memory_than_their_bytes() -> None:
    from slipway_server.call.body import Body

    body = Body(MIB, Pool(MIB))
    for _ in range(50_000):
        body.add(b"ab")
    assert len(body._parts) < 10
    body.add(bytes(10_000))
    body.add(b"c")
    assert body.whole() == b"ab" * 50_000 + bytes(10_000) + b"c"
    body.free()
