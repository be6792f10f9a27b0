"""Constant load on one model, from inside the cluster: every answer is checked, nothing is sent twice.

Runs in a pod from the model server image (httpx is there), as one file: `python client.py PLAN.json`. Prints
a line of JSON each second, and the whole account as the last one once the file named `stop` appears.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

#: Where `kubectl exec … touch` asks for the end.
STOP = "/tmp/stop"
#: A request without an answer by then has failed.
SECONDS = 10.0
#: Failures told in full.
TOLD = 50


@dataclass(frozen=True)
class Plan:
    """What to send, and what may come back.

    Attributes:
        url: of the model's infer endpoint.
        inputs: the `inputs` of request after request, in turn.
        answers: by model version, the `outputs` that belong to each of the inputs; None where any will do.
        rate: requests a second, over all connections.
        kept: connections that are kept and always busy.
        patient: connections that are kept but used every few seconds only.
        fresh: clients that open a connection for each request.
    """

    url: str
    inputs: list[Any]
    answers: dict[str, list[Any]] | None
    rate: float
    kept: int
    patient: int
    fresh: int


@dataclass
class Account:
    """What became of the requests so far; times are seconds since the epoch."""

    sent: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)

    def fail(self, kind: str, error: str, began: float) -> None:
        self.failed += 1
        self.last["failed"] = round(began, 3)
        if len(self.failures) < TOLD:
            after = round(time.time() - began, 3)
            self.failures.append({"kind": kind, "at": round(began, 3), "after": after, "error": error[:500]})

    def summary(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "failed": self.failed,
            "answers": dict(self.answers),
            "first": self.first,
            "last": self.last,
        }

    def whole(self) -> dict[str, Any]:
        ordered = sorted(self.milliseconds) or [0.0]
        latency = {f"p{share}": ordered[int((len(ordered) - 1) * share / 100)] for share in (50, 99, 100)}
        return {
            **self.summary(),
            "by_kind": dict(self.by_kind),
            "failures": self.failures,
            "milliseconds": {name: round(value, 1) for name, value in latency.items()},
        }


class Load:
    """Clients that ask until they are told to stop."""

    def __init__(self, plan: Plan) -> None:
        self.account = Account()
        self.stopping = asyncio.Event()
        self._plan = plan
        self._numbers = count()

    async def run(self) -> None:
        """Ask at the plan's rate; returns once the file `stop` is there and every answer is in."""
        plan = self._plan
        busy = plan.kept + plan.fresh
        pause = busy / plan.rate
        jobs = [self._client("kept", 1, pause, index / plan.rate) for index in range(plan.kept)]
        jobs += [
            self._client("fresh", 0, pause, (plan.kept + index) / plan.rate) for index in range(plan.fresh)
        ]
        jobs += [self._client("patient", 1, 3.0 + index, 0.1 * index) for index in range(plan.patient)]
        telling = asyncio.create_task(self._tell())
        await asyncio.gather(*jobs)
        telling.cancel()

    async def _client(self, kind: str, keepalive: int, pause: float, start: float) -> None:
        limits = httpx.Limits(max_keepalive_connections=keepalive, keepalive_expiry=None)
        async with httpx.AsyncClient(limits=limits, timeout=SECONDS, verify=False, trust_env=False) as client:
            due = time.monotonic() + start
            while not self.stopping.is_set():
                await asyncio.sleep(max(due - time.monotonic(), 0))
                # A late client does not make up for what it missed: that would be a burst.
                due = max(due + pause, time.monotonic())
                await self._ask(client, kind)

    async def _ask(self, client: httpx.AsyncClient, kind: str) -> None:
        number = next(self._numbers)
        which = number % len(self._plan.inputs)
        request = {"id": str(number), "inputs": self._plan.inputs[which]}
        self.account.sent += 1
        self.account.by_kind[kind] += 1
        began, started = time.time(), time.perf_counter()
        try:
            response = await client.post(self._plan.url, json=request)
        except httpx.HTTPError as error:
            self.account.fail(kind, f"{type(error).__name__}: {error}", began)
            return
        self.account.milliseconds.append(1000 * (time.perf_counter() - started))
        wrong = self._judge(response, number, which)
        if wrong is not None:
            self.account.fail(kind, wrong, began)

    def _judge(self, response: httpx.Response, number: int, which: int) -> str | None:
        """What is wrong with an answer, or None; a right one is counted under its version."""
        if response.status_code != 200:
            return f"{response.status_code}: {response.text}"
        try:
            answer = response.json()
        except ValueError:
            return f"not JSON: {response.text}"
        version = answer.get("model_version")
        answers = self._plan.answers
        if answer.get("id") != str(number) or (answers is not None and version not in answers):
            return f"another's answer: {response.text}"
        if answers is not None and answer["outputs"] != answers[version][which]:
            return f"wrong outputs for input {which}: {response.text}"
        self.account.answers[version] += 1
        now = round(time.time(), 3)
        self.account.first.setdefault(version, now)
        self.account.last[version] = now
        return None

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(1)
            print(json.dumps(self.account.summary()), flush=True)
            if os.path.exists(STOP):  # noqa: ASYNC240
                self.stopping.set()


def main() -> None:
    """Carry out the plan in the file that the command line names."""
    load = Load(Plan(**json.loads(Path(sys.argv[1]).read_text())))
    asyncio.run(load.run())
    print(json.dumps({"done": True, **load.account.whole()}), flush=True)


if __name__ == "__main__":
    main()
