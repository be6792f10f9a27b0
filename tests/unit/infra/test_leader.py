"""The lease, against a web server that keeps one as the API server does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import pytest
from aiohttp import web

from slipway.infra import leader
from slipway.infra.fence import Fence, boot_time
from slipway.infra.leader import Candidate, Leases, LeaseTakenError, Timing
from tests.unit.infra.api_server import ApiServer, api_server

NAMESPACE = "slipway-system"
QUICK = Timing(retry=0.05, call=0.2, begin=0.7, finish=0.9, lease=1.0)
#: For what happens at once: on a busy machine too it is over long before this lease is.
PATIENT = Timing(retry=0.05, call=10, begin=60, finish=80, lease=120)


class Clock:
    """Time that a test moves on; with ``real`` it goes on by itself as well."""

    def __init__(self, real: bool = True) -> None:
        self.moved = 0.0
        self.real = real

    def __call__(self) -> float:
        return self.moved + (asyncio.get_running_loop().time() if self.real else 0.0)


class Server:
    """One lease with a resource version.

    ``down`` breaks every connection, ``hangs`` answers none, ``silent`` writes and does not answer.
    """

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.down = False
        self.hangs: set[str] = set()
        self.silent = False
        self.asked: list[str] = []
        self._never = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.method)
        if request.method in self.hangs:
            await self._never.wait()
        if self.down or request.method in self.hangs:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        answer = await self._answer(request)
        if self.silent and request.method != "GET":
            await self._never.wait()
        return answer

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            if self.lease is not None:
                return _status(409, "AlreadyExists")
            return self.store(await request.json())
        if self.lease is None:
            return _status(404, "NotFound")
        if request.method == "PUT":
            lease = await request.json()
            if lease["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
                return _status(409, "Conflict")
            return self.store(lease)
        return web.json_response(self.lease)

    def store(self, lease: dict[str, Any]) -> web.Response:
        self.version += 1
        meta = {**lease["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**lease, "metadata": meta}
        return web.json_response(self.lease)

    def hold(self, identity: str, seconds: int = 15) -> None:
        """Somebody takes or renews the lease; its times are of a clock that is a year behind."""
        spec = {"holderIdentity": identity, "leaseDurationSeconds": seconds}
        spec["renewTime"] = f"2025-11-24T12:00:00.{self.version:06}Z"
        self.store({"metadata": {"name": leader.LEASE_NAME, "namespace": NAMESPACE}, "spec": spec})

    @property
    def holder(self) -> str | None:
        return self.lease["spec"].get("holderIdentity") if self.lease else None

    def let_go(self) -> None:
        self._never.set()


def _status(code: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason}, status=code)


class Stage:
    """The server, and replicas that stand for election."""

    def __init__(self) -> None:
        self.server = Server()
        self.clock = Clock()
        self.acting: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.fences: dict[str, Fence] = {}
        self.candidates: dict[str, Candidate] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Stage:
        self._api: ApiServer = await self._stack.enter_async_context(api_server(self.server))
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        self.server.let_go()
        await self._stack.aclose()

    def candidate(self, identity: str, timing: Timing = QUICK) -> Candidate:
        fence = self.fences[identity] = Fence(timing.begin, timing.finish, self.clock)
        leases = Leases(self._api.client, timing.call)
        found = Candidate(leases, NAMESPACE, identity, fence, timing, self.clock)
        self.candidates[identity] = found
        return found

    def run(self, identity: str, timing: Timing = QUICK) -> asyncio.Task[None]:
        async def act() -> None:
            self.acting.append(identity)
            await asyncio.Event().wait()

        candidate = self.candidate(identity, timing)
        task = asyncio.create_task(leader.lead(candidate, self.fences[identity], act))
        self.tasks[identity] = task
        return task

    def writes(self, identity: str) -> bool:
        """Whether a replica may write now."""
        return self.fences[identity].left() > 0


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    return codes


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass in ten seconds")


def test_every_period_leaves_room_for_the_next() -> None:
    timing = leader.TIMING
    assert timing.call <= 5
    # A try that hangs leaves time for another one before the fence closes.
    assert timing.retry + timing.call + timing.retry + timing.call <= timing.begin
    assert timing.begin < timing.finish < timing.lease
    assert timing.lease == 15, "what the operators of today's installations write and honour"


async def test_a_lease_is_created_then_renewed_with_what_it_was_read_as() -> None:
    async with Stage() as stage:
        stage.run("pod-a")
        await until(lambda: stage.server.version >= 3)
        lease = stage.server.lease
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == "pod-a"
        assert lease["spec"]["leaseDurationSeconds"] == 1
        assert lease["spec"]["leaseTransitions"] == 0
        assert lease["spec"]["acquireTime"] < lease["spec"]["renewTime"]
        assert stage.server.asked[:2] == ["GET", "POST"]
        assert set(stage.server.asked[2:]) == {"PUT"}


async def test_the_replica_that_holds_the_lease_acts_and_the_other_waits() -> None:
    async with Stage() as stage:
        stage.run("pod-a")
        await until(lambda: stage.acting == ["pod-a"])
        stage.run("pod-b")
        await asyncio.sleep(1.3)
        assert stage.acting == ["pod-a"]
        assert stage.writes("pod-a")
        assert not stage.writes("pod-b")


async def test_a_lease_that_another_created_first_is_not_ours() -> None:
    async with Stage() as stage:
        one, other = stage.candidate("pod-a"), stage.candidate("pod-b")
        both = [asyncio.create_task(one.acquire()), asyncio.create_task(other.acquire())]
        await asyncio.sleep(0.3)
        assert sum(task.done() for task in both) == 1
        assert stage.writes("pod-a") != stage.writes("pod-b")
        both[0].cancel()
        both[1].cancel()


@pytest.mark.parametrize("seconds", [15, 60])
async def test_a_silent_holder_is_replaced_once_its_lease_was_seen_unchanged_for_as_long_as_it_lasts(
    seconds: int,
) -> None:
    async with Stage() as stage:
        stage.server.hold("pod-a", seconds)
        stage.run("pod-b")
        await asyncio.sleep(0.2)
        stage.clock.moved += seconds - 1
        await asyncio.sleep(0.2)
        assert stage.acting == []
        stage.clock.moved += 1
        await until(lambda: stage.acting == ["pod-b"])
        assert stage.server.lease is not None
        assert stage.server.lease["spec"]["leaseTransitions"] == 1


async def test_a_holder_whose_clock_is_a_year_behind_keeps_what_it_renews() -> None:
    async with Stage() as stage:
        stage.server.hold("pod-a")
        stage.run("pod-b")
        for _ in range(5):
            await asyncio.sleep(0.15)
            stage.clock.moved += 10
            stage.server.hold("pod-a")
        assert stage.acting == []


async def test_a_released_lease_is_taken_over_at_once_and_the_one_before_writes_no_more() -> None:
    async with Stage() as stage:
        first = stage.run("pod-a", PATIENT)
        await until(lambda: stage.acting == ["pod-a"])
        stage.run("pod-b", PATIENT)
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await stage.candidates["pod-a"].release()
        assert not stage.writes("pod-a")
        await asyncio.wait_for(until(lambda: stage.acting == ["pod-a", "pod-b"]), 30)


@pytest.mark.parametrize("meanwhile", ["pod-b", ""], ids=["leads", "led and left"])
async def test_a_leader_that_sees_that_another_led_ends_at_once(ended: list[int], meanwhile: str) -> None:
    async with Stage() as stage:
        task = stage.run("pod-a", PATIENT)
        await until(lambda: stage.acting == ["pod-a"])
        stage.server.hold(meanwhile)
        await asyncio.wait_for(task, 30)  # long before the deadline of its own lease
        assert ended == [1]
        assert not stage.writes("pod-a")
        assert stage.server.holder == meanwhile


async def test_a_leader_that_fails_at_its_work_ends_and_writes_no_more(ended: list[int]) -> None:
    async def act() -> None:
        raise RuntimeError("it broke")

    async with Stage() as stage:
        candidate = stage.candidate("pod-a")
        await asyncio.wait_for(leader.lead(candidate, stage.fences["pod-a"], act), 5)
        assert ended == [1]
        assert not stage.writes("pod-a")


@pytest.mark.parametrize("fault", ["refused", "hangs"])
async def test_a_leader_that_cannot_renew_writes_nothing_and_goes_on_if_nobody_led_meanwhile(
    ended: list[int], fault: str
) -> None:
    async with Stage() as stage:
        stage.run("pod-a")
        await until(lambda: stage.acting == ["pod-a"])
        if fault == "refused":
            stage.server.down = True
        else:
            stage.server.hangs = {"GET", "PUT"}
        begun = asyncio.get_running_loop().time()
        await until(lambda: not stage.writes("pod-a"))
        assert asyncio.get_running_loop().time() - begun <= 5
        # Far longer than the lease lasts.
        await asyncio.sleep(1.5)
        assert not stage.writes("pod-a")
        stage.server.down, stage.server.hangs = False, set()
        await until(lambda: stage.writes("pod-a"))
        assert ended == []
        assert stage.acting == ["pod-a"], "its work went on"


@pytest.mark.parametrize("fault", ["refused", "hangs"])
async def test_a_leader_that_could_not_renew_ends_when_it_finds_another(ended: list[int], fault: str) -> None:
    async with Stage() as stage:
        task = stage.run("pod-a")
        await until(lambda: stage.acting == ["pod-a"])
        if fault == "refused":
            stage.server.down = True
        else:
            stage.server.hangs = {"GET", "PUT"}
        await until(lambda: not stage.writes("pod-a"))
        stage.server.hold("pod-b")
        stage.server.down, stage.server.hangs = False, set()
        await asyncio.wait_for(task, 20)
        assert ended == [1]
        assert stage.server.holder == "pod-b"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_a_lease_call_without_an_answer_is_given_up(method: str) -> None:
    async with Stage() as stage:
        if method == "PUT":
            stage.server.hold("")
        stage.server.hangs = {method}
        stage.run("pod-a")
        # One try after the other, none of which hangs for ever.
        await until(lambda: stage.server.asked.count(method) >= 3)
        assert stage.acting == []
        stage.server.hangs = set()
        await until(lambda: stage.acting == ["pod-a"])


async def test_releasing_to_a_server_without_an_answer_hinders_nobody_from_leaving() -> None:
    async with Stage() as stage:
        candidate = stage.candidate("pod-a")
        await candidate.acquire()
        stage.server.hangs = {"PUT"}
        await asyncio.wait_for(candidate.release(), 1)
        stage.server.down = True
        await asyncio.wait_for(candidate.release(), 1)


@pytest.mark.parametrize("silent_from", ["taking", "renewing"])
async def test_a_write_that_was_cancelled_under_way_and_yet_taken_does_not_keep_the_lease(
    silent_from: str,
) -> None:
    async with Stage() as stage:
        stage.server.silent = silent_from == "taking"
        first = stage.run("pod-a", PATIENT)
        await until(lambda: stage.server.holder == "pod-a")
        stage.server.silent = True
        version = stage.server.version
        if silent_from == "renewing":
            await until(lambda: stage.server.version > version)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        stage.server.silent = False
        await stage.candidates["pod-a"].release()
        assert stage.server.holder == ""


async def test_a_lease_that_changes_while_it_is_released_is_released_all_the_same() -> None:
    async with Stage() as stage:
        candidate = stage.candidate("pod-a")
        await candidate.acquire()
        changed = stage.server.store

        def store_late(_lease: dict[str, Any]) -> web.Response:
            # The renewal that was under way comes first.
            stage.server.store = changed  # type: ignore[method-assign]
            stage.server.hold("pod-a")
            return _status(409, "Conflict")

        stage.server.store = store_late  # type: ignore[method-assign]
        await candidate.release()
        assert stage.server.holder == ""


async def test_only_the_holder_releases_the_lease() -> None:
    async with Stage() as stage:
        stranger = stage.candidate("pod-b")
        await stage.candidate("pod-a").acquire()
        await stranger.release()
        assert stage.server.holder == "pod-a"
        stage.server.hold("pod-b")
        await stage.candidates["pod-a"].release()
        assert stage.server.holder == "pod-b"


async def test_a_renewal_whose_answer_was_lost_is_no_other_holder(ended: list[int]) -> None:
    async with Stage() as stage:
        stage.run("pod-a")
        await until(lambda: stage.acting == ["pod-a"])
        # As the leader wrote it, and as it never heard.
        stage.server.hold("pod-a")
        version = stage.server.version
        await until(lambda: stage.server.version > version + 1)
        assert ended == []
        assert stage.writes("pod-a")


async def test_a_lease_that_somebody_deleted_is_made_again(ended: list[int]) -> None:
    async with Stage() as stage:
        stage.run("pod-a")
        await until(lambda: stage.acting == ["pod-a"])
        stage.server.lease = None
        await until(lambda: stage.server.holder == "pod-a")
        assert ended == []


async def test_an_answer_that_is_read_after_a_stall_opens_no_fence() -> None:
    async with Stage() as stage:
        candidate = stage.candidate("pod-a")
        handle = stage.server.store

        def store(lease: dict[str, Any]) -> web.Response:
            # The request arrived, and then the replica stood still for 30 s.
            stage.clock.moved += 30
            return handle(lease)

        stage.server.store = store  # type: ignore[method-assign]
        await candidate.acquire()
        assert stage.server.holder == "pod-a"
        assert not stage.writes("pod-a")


async def test_keeping_a_lease_that_is_taken_is_an_error_that_names_the_holder() -> None:
    async with Stage() as stage:
        candidate = stage.candidate("pod-a")
        await candidate.acquire()
        stage.server.hold("pod-b")
        with pytest.raises(LeaseTakenError, match="pod-b"):
            await asyncio.wait_for(candidate.keep(), 5)


async def test_a_fence_is_open_only_from_a_renewal_until_somebody_else_might_lead() -> None:
    clock = Clock(real=False)
    fence = Fence(10, 13, clock)
    assert fence.left() == 0
    assert fence.left_for_request() > 0, "a replica that never led notes what somebody asks for"
    clock.moved = 100
    fence.renew(99)
    assert fence.left() == 12
    clock.moved = 108.9
    assert 3 < fence.left() < 3.2
    clock.moved = 109
    assert fence.left() == 0
    assert fence.left_for_request() == 0, "one that led and may have lost the lease notes nothing"
    fence.renew(108)
    assert fence.left() == 12
    fence.close()
    assert fence.left() == fence.left_for_request() == 0


def test_the_fences_clock_goes_on_while_the_machine_sleeps() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= boot_time() <= time.clock_gettime(time.CLOCK_BOOTTIME)
