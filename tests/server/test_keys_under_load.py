"""Keys are replaced and revoked under load, and no answer of 100,000 is a wrong one."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from slipway.core.traffic.envoy.routes import Arm, Route
from slipway_server.rpc import open_inference_pb2 as oip
from tests.ports import free_port
from tests.server import onnx_models
from tests.server.running import Server
from tests.server.test_access import Guarded, Mounted, hash_of, raw_request
from tests.server.test_grpc import GOOD, request
from tests.unit.router.running import connect, running_router

pytestmark = pytest.mark.long

REQUESTS = 100_000
#: Seconds within which a change counts.
PROMISE = 1.0
#: A change, and all that it says has been true for a while.
ROUND_SECONDS = 1.6
LEAST_ROUNDS = 12
STRANGER = "stranger"
_MESSAGE = request(GOOD).SerializeToString()


class Keys:
    """The keys of a mounted Secret, and from when until when each of them was there.

    ``app`` has one key for good. ``shop`` has its key replaced again and again. ``batch`` is revoked, and let
    in again with the same key. In each round somebody comes whom there was not before.
    """

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted
        self._there: set[str] = set()
        self._last: dict[str, list[float]] = defaultdict(list)
        self.app, self.batch = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.newcomer = self.old = self.shop = secrets.token_urlsafe(32)
        self.rounds = 0
        self.put([self.shop], is_batch_there=True)

    def put(self, shop: list[str], is_batch_there: bool) -> None:
        """Swap in another set."""
        callers = {"app": [self.app], "shop": shop}
        if is_batch_there:
            callers["batch"] = [self.batch]
        if self.newcomer not in shop:
            callers[f"new-{self.rounds}"] = [self.newcomer]
        there = {key for keys in callers.values() for key in keys}
        before = time.monotonic()
        self._mounted.put(**{name: "\n".join(map(hash_of, keys)) for name, keys in callers.items()})
        after = time.monotonic()
        for key in there ^ self._there:
            self._last[key] += (before, after)
        self._there = there

    async def change(self) -> None:
        """One round: a new key beside the old one, then the new one alone."""
        self.rounds += 1
        self.newcomer = secrets.token_urlsafe(32)
        self.old, self.shop = self.shop, secrets.token_urlsafe(32)
        self.put([self.old, self.shop], is_batch_there=False)
        await asyncio.sleep(ROUND_SECONDS)
        self.put([self.shop], is_batch_there=True)
        await asyncio.sleep(ROUND_SECONDS)

    def expected(self, key: str | None, sent: float, answered: float) -> bool | None:
        """Whether a request had to be let in; None where a change is so recent that both is right."""
        times = self._last.get(key or STRANGER, [])
        changes = zip(times[::2], times[1::2], strict=True)
        if any(sent - PROMISE < after and before < answered for before, after in changes):
            return None
        return len([each for each in times[1::2] if each < sent]) % 2 == 1

    def since(self, key: str | None, sent: float) -> float:
        """Seconds since the last change of a key."""
        return sent - max((each for each in self._last.get(key or STRANGER, []) if each < sent), default=0.0)


class Account:
    """All answers, by whether the request had to be let in and whether it was."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.answers: Counter[tuple[bool | None, object]] = Counter()
        self.wrong: list[str] = []

    @property
    def judged(self) -> int:
        """Answers of which only one was right."""
        return sum(count for (expected, _), count in self.answers.items() if expected is not None)

    def note(self, role: str, key: str | None, sent: float, code: object) -> None:
        """Judge an answer that came just now."""
        expected = self._keys.expected(key, sent, time.monotonic())
        is_in = {200: True, grpc.StatusCode.OK: True, 401: False, grpc.StatusCode.UNAUTHENTICATED: False}
        found = is_in.get(code)  # type: ignore[call-overload]
        self.answers[expected, code] += 1
        if found is None or (expected is not None and found is not expected):
            age = self._keys.since(key, sent)
            self.wrong.append(f"{role} {code}, {age:.3f} s after its last change")


def roles(keys: Keys) -> dict[str, Callable[[], str | None]]:
    """Who asks, and what it shows at this moment."""
    wrong = secrets.token_urlsafe(32)
    return {
        "app": lambda: keys.app,
        "shop, new key": lambda: keys.shop,
        "shop, old key": lambda: keys.old,
        "batch": lambda: keys.batch,
        "newcomer": lambda: keys.newcomer,
        "stranger": lambda: wrong,
        "nobody": lambda: None,
    }


async def by_rest(server: Server, port: int, keys: Keys, account: Account, done: asyncio.Event) -> None:
    """One kept connection, by which everybody asks in turn."""
    connection = await connect(port)
    written: dict[str | None, bytes] = {}
    for role, shown in itertools.cycle(roles(keys).items()):
        if done.is_set():
            connection.close()
            return
        key = shown()
        content = written.get(key) or written.setdefault(key, raw_request(server, key))
        sent = time.monotonic()
        status, _, _ = await connection.ask(content)
        account.note(role, key, sent, status)


async def by_grpc(port: int, keys: Keys, account: Account, done: asyncio.Event) -> None:
    """The same by one channel."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", None, oip.ModelInferResponse.FromString
        )
        for role, shown in itertools.cycle(roles(keys).items()):
            if done.is_set():
                return
            key = shown()
            metadata = () if key is None else (("authorization", f"Bearer {key}"),)
            sent = time.monotonic()
            code = grpc.StatusCode.OK
            try:
                await infer(_MESSAGE, timeout=20, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                code = error.code()
            account.note(role, key, sent, code)


@asynccontextmanager
async def ports(server: Server, folder: Path, way: str) -> AsyncIterator[tuple[int, int]]:
    """Where REST and gRPC are answered: by the server itself, or by a router before it."""
    if way == "direct":
        yield server.http_port, server.grpc_port
        return
    route = Route("fraud", free_port(), Arm("a" * 10, "127.0.0.1", server.http_port, server.grpc_port))
    async with running_router(folder, [route]):
        yield route.listener, route.listener


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    directory = tmp_path / "model"
    onnx_models.save(onnx_models.identity(), directory)
    made = Guarded(tmp_path, lambda _: directory, "own")
    yield made
    made.close()


@pytest.mark.parametrize(("processes", "way"), [(1, "direct"), (2, "direct"), (2, "behind a router")])
async def test_no_answer_of_100000_is_wrong_while_keys_are_replaced_and_revoked(
    guarded: Guarded, tmp_path: Path, processes: int, way: str
) -> None:
    keys = Keys(guarded.keys)
    rule = {"callers": ["key:*"], "actions": ["Infer"]}
    server = guarded.start("identity", rule, processes=processes).wait_until_ready()
    account, done, began = Account(keys), asyncio.Event(), time.monotonic()
    async with ports(server, tmp_path, way) as (rest, rpc), asyncio.TaskGroup() as clients:
        for _ in range(12):
            clients.create_task(by_rest(server, rest, keys, account, done))
        for _ in range(4):
            clients.create_task(by_grpc(rpc, keys, account, done))
        while (keys.rounds < LEAST_ROUNDS or account.judged < REQUESTS) and not account.wrong:
            await keys.change()
        done.set()
    took = time.monotonic() - began
    said = ", ".join(f"{count:,} {code}" for (_, code), count in sorted(account.answers.items(), key=str))
    print(f"{keys.rounds} rounds, {account.judged:,} answers judged in {took:.0f} s: {said}")
    assert account.wrong == []
    assert account.judged >= REQUESTS
    for code in (200, 401, grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED):
        assert account.answers[code in (200, grpc.StatusCode.OK), code] > REQUESTS // 100, code
