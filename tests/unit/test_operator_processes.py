"""Operators as processes of their own, two of them, against the fake API server behind HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slipway.api.types import API_VERSION, KIND
from tests.unit.fake import FakeKube
from tests.unit.infra.api_server import ApiServer, api_server
from tests.unit.processes import start_operator
from tests.unit.served_kube import Logged, ServedKube

NAMESPACE, NAME = "payments", "fraud"
PLACE = (KIND, NAMESPACE, NAME)


class Stage:
    """The API server, operators by name, and somebody who keeps changing a ModelDeployment."""

    def __init__(self, place: Path) -> None:
        self.kube = FakeKube(lambda: datetime.now(UTC))
        self.served = ServedKube(self.kube)
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._place = place
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Stage:
        self._api: ApiServer = await self._stack.enter_async_context(api_server(self.served))
        self.kube.update(
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": NAME, "namespace": NAMESPACE},
                "spec": {"model": {"uri": "https://store.invalid/m.onnx"}},
            }
        )
        self._busy = asyncio.create_task(self._keep_busy())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._busy.cancel()
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()
        await self._stack.aclose()

    async def start(self, name: str) -> None:
        """Start an operator; its token is its name, so that the server's log tells who asked."""
        address = str(self._api.server.make_url(""))
        self.processes[name] = await start_operator(self._place, name, address)

    async def _keep_busy(self) -> None:
        """Each change of the spec is one more status to write."""
        number = 0
        while True:
            await asyncio.sleep(0.1)
            number += 1
            self.kube.edit(PLACE, partial(_scale, 1 + number % 5))

    @property
    def holder(self) -> str:
        found = self.kube.all("Lease")
        return str(found[0]["spec"]["holderIdentity"]) if found else ""

    def writes(self, name: str, since: float = 0.0) -> list[Logged]:
        """What an operator's requests since then may have changed, other than the lease."""
        return [
            found
            for found in self.served.log
            if found.caller == name and found.is_write and found.at >= since and 0 < found.code < 500
        ]

    def log(self, name: str) -> str:
        return (self._place / f"{name}.log").read_text()

    async def until(self, holds: Callable[[], Any], seconds: float, words: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            logs = {name: self.log(name)[-2000:] for name in self.processes}
            raise AssertionError(f"{words}: {logs}") from None

    async def leading(self, name: str) -> None:
        """Wait until an operator leads and writes."""
        await self.until(
            lambda: self.holder == name and len(self.writes(name)) > 3, 90, f"{name} does not lead"
        )


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage(tmp_path) as stage:
        yield stage


def _scale(replicas: int, live: dict[str, Any]) -> None:
    live["spec"]["scaling"] = {"minReplicas": replicas, "maxReplicas": 9}


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_leader_that_is_stopped_for_30_seconds_writes_nothing_when_it_goes_on(stage: Stage) -> None:
    await stage.start("one")
    await stage.leading("one")
    await stage.start("two")
    one = stage.processes["one"]
    os.kill(one.pid, signal.SIGSTOP)
    stopped = now()
    await stage.leading("two")
    assert now() - stopped >= 10, "not before the first one's lease has run out"
    await asyncio.sleep(max(0.0, stopped + 30 - now()))
    # What it sent before it stopped, the server may have read just after.
    assert stage.writes("one", stopped + 0.5) == []
    went_on = now()
    os.kill(one.pid, signal.SIGCONT)
    code = await asyncio.wait_for(one.wait(), 15)
    assert code == 1, "it ended by itself, at once"
    assert stage.writes("one", went_on) == []
    assert "another replica leads; exiting" in stage.log("one")
    before = len(stage.writes("two"))
    await stage.until(lambda: len(stage.writes("two")) > before + 3, 20, "the second one stopped")
    assert stage.holder == "two"


@pytest.mark.long
@pytest.mark.parametrize("fault", ["hanging", "refusing"])
async def test_a_leader_that_the_api_server_left_for_long_writes_again_when_it_is_back(
    stage: Stage, fault: str
) -> None:
    await stage.start("one")
    await stage.leading("one")
    getattr(stage.served, fault).add("*")
    away = now()
    await asyncio.sleep(40)
    # Watches cannot go on from where they were.
    stage.served.compact()
    getattr(stage.served, fault).clear()
    back = now()
    assert stage.writes("one", away + 0.5) == []
    await stage.until(lambda: len(stage.writes("one", back)) > 5, 60, "it does not write again")
    assert stage.processes["one"].returncode is None, "the same process: what it counted is not lost"
    assert "lease renewed again" in stage.log("one")
    # It sees what happens now, not only what it read when it began.
    generation = stage.kube.find(*PLACE)["metadata"]["generation"]
    await stage.until(
        lambda: stage.kube.find(*PLACE)["status"]["observedGeneration"] > generation, 60, "its watch ended"
    )


@pytest.mark.long
async def test_a_leader_whose_lease_calls_alone_hang_stops_before_another_one_begins(stage: Stage) -> None:
    await stage.start("one")
    await stage.leading("one")
    await stage.start("two")
    await stage.until(
        lambda: "/leases" in str(stage.served.log[-40:]) and _asks(stage, "two"), 60, "no second"
    )
    # As behind a balancer of which one server died: the lease's connection hangs, others go on.
    stage.served.hangs_for = lambda caller, path: caller == "one" and "/leases" in path
    await stage.leading("two")
    first = stage.writes("two")[0].at
    last = stage.writes("one")[-1].at
    assert last < first, "they wrote at the same time"
    stage.served.hangs_for = lambda _caller, _path: False
    assert await asyncio.wait_for(stage.processes["one"].wait(), 20) == 1
    assert stage.writes("one", first) == []


def _asks(stage: Stage, name: str) -> bool:
    return any(found.caller == name and "/leases" in found.path for found in stage.served.log)
