"""How much a caller may ask, by the account that both ports keep of it."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_server.access.limits import Account, Share
from slipway_server.call.body import Body
from slipway_server.door.admission import Pool
from slipway_server.errors import RequestError
from slipway_server.peers import count_of
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.settings import CallerLimits
from tests.server.running import Server
from tests.server.test_access import (
    Dirs,
    Guarded,
    X,
    bearer,
    eventually,
    hash_of,
    infer,
    raw_request,
    refusals,
    talk,
)
from tests.server.test_grpc import GOOD, ask, request


def account(among: int = 1, **limits: int) -> tuple[Account, Share]:
    share = Share()
    share.divide(among)
    share.follow(86_400.0 * 20_000)
    return Account(CallerLimits(**limits), share), share


def let_in(one: Account, now: float) -> bool:
    error = one.begin(now)
    if error is None:
        one.end(1)
    return error is None


@settings(deadline=None)
@given(
    rate=st.integers(1, 50),
    burst=st.integers(0, 100),
    among=st.integers(1, 8),
    gaps=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=200),
)
def test_over_any_time_no_more_come_in_than_the_rate_and_one_burst(
    rate: int, burst: int, among: int, gaps: list[float]
) -> None:
    one, _ = account(among, requestsPerSecond=rate, burst=burst)
    now, came = 100.0, list[float]()
    for gap in gaps:
        now += gap
        error = one.begin(now)
        if error is None:
            one.end(1)
            came.append(now)
        else:
            assert (error.status, error.reason) == (429, "rate")
            # Whoever comes again when it is told is let in.
            later, _ = account(among, requestsPerSecond=rate, burst=burst)
            later._tokens, later._at = one._tokens, one._at
            assert let_in(later, now + int(error.headers["retry-after"]) + 1e-6)
    most = max(1.0, (burst or rate) / among)
    for first, begin in enumerate(came):
        for last in range(first, len(came)):
            assert last - first + 1 <= most + (came[last] - begin) * rate / among + 1e-6


def test_a_modest_caller_is_never_refused() -> None:
    one, _ = account(requestsPerSecond=10)
    assert all(let_in(one, 5.0 + number * 0.1) for number in range(1000))


def test_calls_under_way_are_counted_until_they_end_however_they_do() -> None:
    one, share = account(concurrent=4)
    assert [one.begin(0.0) is None for _ in range(5)] == [True] * 4 + [False]
    one.end(0)
    assert one.begin(0.0) is None
    share.divide(8)
    assert one.under_way == 4
    for _ in range(4):
        one.end(0)
    # Each process has one, or nobody would ever be answered.
    assert [one.begin(0.0) is None for _ in range(2)] == [True, False]


def test_rows_are_counted_for_a_day_and_the_time_to_its_end_is_told() -> None:
    one, share = account(among=2, rowsPerDay=100)
    share.follow(86_400.0 * 20_000 + 80_000)
    assert one.begin(0.0) is None
    one.end(49)
    assert one.begin(0.0) is None
    one.end(30)
    error = one.begin(0.0)
    assert error is not None
    assert error.headers["retry-after"] == "6400"
    share.follow(86_400.0 * 20_001)
    assert one.begin(0.0) is None


def test_what_is_refused_for_another_reason_takes_nothing_from_the_bucket() -> None:
    one, _ = account(requestsPerSecond=2, concurrent=1)
    assert one.begin(0.0) is None
    assert all(one.begin(0.0) is not None for _ in range(10))
    one.end(1)
    assert one.begin(0.0) is None


def body_of(one: Account, limit: int = 1000, pool: int = 10_000) -> Body:
    return Body(limit, Pool(pool), holder=one)


def test_bytes_of_bodies_are_counted_until_they_leave_memory_however_they_do() -> None:
    one, share = account(bytesInFlight=100)
    first, second = body_of(one), body_of(one)
    first.add(b"x" * 60)
    with pytest.raises(RequestError) as caught:
        second.add(b"x" * 50)
    assert (caught.value.status, caught.value.headers["retry-after"]) == (429, "1")
    assert "100 bytes of bodies" in str(caught.value)
    second.add(b"x" * 40)
    first.release(60)
    second.add(b"x" * 60)
    second.free()
    second.free()
    assert one.is_idle
    # One comes in alone, whatever the share is, up to what a body may have.
    share.divide(50)
    alone = body_of(one)
    alone.add(b"x" * 900)
    with pytest.raises(RequestError, match="bytes of bodies"):
        body_of(one).add(b"x")
    with pytest.raises(RequestError) as caught:
        alone.add(b"x" * 101)
    assert caught.value.status == 413
    alone.give_way()
    alone.free()
    assert one.is_idle


def test_bytes_for_which_there_is_no_memory_are_not_held_by_the_caller() -> None:
    one, _ = account(bytesInFlight=1000)
    with pytest.raises(RequestError) as caught:
        body_of(one, pool=10).add(b"x" * 500)
    assert caught.value.status == 503
    assert one.is_idle


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(("add", "free")), st.integers(1, 400)), max_size=60)
)
def test_no_order_of_bodies_has_more_in_memory_than_the_limit_or_one_body(
    steps: list[tuple[int, str, int]],
) -> None:
    one, _ = account(bytesInFlight=500)
    bodies = [body_of(one) for _ in range(4)]
    for number, what, size in steps:
        if what == "free":
            bodies[number].free()
            continue
        with suppress(RequestError):
            bodies[number].add(b"x" * size)
        held = [body.amount for body in bodies]
        assert sum(held) <= 500 or sum(map(bool, held)) == 1
    for body in bodies:
        body.free()
    assert one.is_idle


@pytest.mark.parametrize(
    ("addresses", "count"),
    [
        ([], 0),
        ([(socket.AF_INET, "10.0.0.1")], 1),
        ([(socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "10.0.0.2")], 2),
        ([(socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd::1")], 1),
        ([(socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd::1"), (socket.AF_INET6, "fd::2")], 2),
    ],
)
def test_pods_are_counted_once_whatever_addresses_they_have(
    addresses: list[tuple[int, str]], count: int
) -> None:
    assert count_of([(family, 1, 6, "", (host, 0)) for family, host in addresses]) == count


@pytest.fixture
def guarded(tmp_path: Path, model_dirs: Dirs, stack: str) -> Iterator[Guarded]:
    made = Guarded(tmp_path, model_dirs, stack)
    yield made
    made.close()


SLOW: dict[str, Any] = {"requestsPerSecond": 1, "burst": 3}


def test_who_asks_too_often_is_told_when_to_come_again_and_others_are_answered(guarded: Guarded) -> None:
    limits = {"perCaller": SLOW, "anonymous": {"requestsPerSecond": 1, "burst": 1}}
    stranger = {"callers": ["anonymous"], "actions": ["Infer"]}
    server = guarded.start("identity", stranger, limits=limits, peers="localhost").wait_until_ready()
    codes = [infer(server, guarded.app) for _ in range(8)]
    assert [each.status_code for each in codes[:3]] == [200] * 3
    late = codes[-1]
    assert late.status_code == 429
    assert late.headers["retry-after"] == "1"
    assert "you may ask 1 times a second; come again in 1 s" in late.json()["error"]
    assert infer(server, guarded.batch).status_code == 200
    assert [infer(server, None).status_code for _ in range(2)] == [200, 429]
    # Pages and labels count as well.
    codes = [server.client.get("/v2", headers=bearer(guarded.app)) for _ in range(4)]
    assert 429 in [each.status_code for each in codes]
    assert server.client.get("/v2/health/ready", headers=bearer(guarded.app)).status_code == 200
    assert refusals(server, "rate") >= 6
    # A new key makes no new bucket.
    guarded.keys.put(app=f"{hash_of(guarded.app)}\n{hash_of('other')}", batch=hash_of(guarded.batch))
    eventually(lambda: infer(server, "other").status_code != 401, 2.0)
    assert 429 in [infer(server, "other").status_code for _ in range(4)]
    time.sleep(1.1)
    assert infer(server, guarded.app).status_code == 200


def test_each_request_on_a_connection_that_is_known_by_its_bytes_is_counted(guarded: Guarded) -> None:
    server = guarded.start(limits={"perCaller": SLOW}).wait_until_ready()
    requests = [raw_request(server, guarded.app) for _ in range(10)]
    codes = talk(server, *requests)
    assert codes[:3] == [200] * 3
    assert codes.count(429) >= 6


def test_rows_of_a_day_are_counted_over_both_ports(guarded: Guarded) -> None:
    server = guarded.start(limits={"perCaller": {"rowsPerDay": 4}}).wait_until_ready()
    metadata = (("authorization", f"Bearer {guarded.app}"),)

    def call() -> grpc.StatusCode:
        try:
            ask(server, "ModelInfer", request(GOOD), oip.ModelInferResponse, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    assert [infer(server, guarded.app).status_code for _ in range(2)] == [200] * 2
    assert [call(), call()] == [grpc.StatusCode.OK] * 2
    assert call() is grpc.StatusCode.RESOURCE_EXHAUSTED
    late = infer(server, guarded.app)
    assert late.status_code == 429
    assert 0 < int(late.headers["retry-after"]) <= 86_400
    assert infer(server, guarded.batch).status_code == 200


def test_a_call_that_ends_in_any_way_makes_room_for_the_next_one(guarded: Guarded, stack: str) -> None:
    server = guarded.start(limits={"perCaller": {"concurrent": 1}}).wait_until_ready()
    whole = raw_request(server, guarded.app)
    for spoil in (
        lambda: infer(server, guarded.app, **{"content-encoding": "br"}),
        lambda: server.client.post(server.infer_path, content=b"{", headers=bearer(guarded.app)),
        lambda: server.client.post(
            "/v2/models/other/infer", json={"inputs": [X]}, headers=bearer(guarded.app)
        ),
        lambda: _leave(server, whole[:-5]),
        lambda: _leave(server, whole),
    ):
        spoil()
        eventually(lambda: infer(server, guarded.app).status_code == 200, 5.0)
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        # Its body is on its way: that is one call under way.
        connection.sendall(whole[:-5])
        time.sleep(0.3)
        if stack == "own":
            assert infer(server, guarded.app).status_code == 429
        assert infer(server, guarded.batch).status_code == 200
        connection.sendall(whole[-5:])
        connection.settimeout(10)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
    assert infer(server, guarded.app).status_code == 200


def _leave(server: Server, part: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.sendall(part)
        time.sleep(0.1)


def test_bodies_of_a_caller_and_of_all_strangers_share_what_they_may_have(
    guarded: Guarded, stack: str
) -> None:
    limits = {"perCaller": {"bytesInFlight": 64}, "anonymous": {"bytesInFlight": 64}}
    stranger = {"callers": ["anonymous"], "actions": ["Infer"]}
    server = guarded.start("identity", stranger, limits=limits).wait_until_ready()
    # However small the limit, one body at a time comes in.
    assert [infer(server, who).status_code for who in (guarded.app, None)] == [200, 200]
    for who, other in ((guarded.app, guarded.batch), (None, guarded.app)):
        whole = raw_request(server, who)
        with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
            connection.sendall(whole[:-5])
            time.sleep(0.3)
            if stack == "own":
                late = infer(server, who)
                assert late.status_code == 429
                assert "bytes of bodies" in late.json()["error"]
            assert infer(server, other).status_code == 200
        # Whoever left holds nothing.
        eventually(lambda who=who: infer(server, who).status_code == 200, 5.0)  # type: ignore[misc]
    assert refusals(server, "rate") >= (2 if stack == "own" else 0)


def test_small_bodies_that_come_in_one_piece_count_until_they_are_answered(guarded: Guarded) -> None:
    server = guarded.start(limits={"perCaller": {"bytesInFlight": 4096}}).wait_until_ready()
    request_ = raw_request(server, guarded.app)
    size = len(request_.partition(b"\r\n\r\n")[2])
    # Each is known by its bytes after the first. So many fit at a time; what is answered holds nothing.
    codes = talk(server, *[request_] * 100)
    assert codes[: 4096 // size] == [200] * (4096 // size)
    assert set(codes) <= {200, 429}
    assert [infer(server, guarded.app).status_code for _ in range(100)] == [200] * 100


def test_processes_of_a_pod_share_a_limit(guarded: Guarded) -> None:
    limits = {"perCaller": {"requestsPerSecond": 4, "burst": 40}}
    server = guarded.start(limits=limits, processes=2, peers="localhost").wait_until_ready()

    def once() -> int:
        # A connection each, which the kernel deals out to both processes.
        (code,) = talk(server, raw_request(server, guarded.app))
        return code

    began = time.monotonic()
    codes = [once() for _ in range(80)]
    passed = codes.count(200)
    assert 20 <= passed <= 40 + math.ceil(4 * (time.monotonic() - began)) + 1
