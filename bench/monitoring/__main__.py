"""What it costs to count: gradient-boosted trees, 30 columns, one row a request, 32 clients.

``python -m bench.monitoring`` starts one server for each way to watch the same model and asks them in turn,
round after round; server and clients have a core each. The figures are medians of each round's ratio to the
server that watches nothing: of requests a second, and of the server's CPU time for a request, which a busy
machine disturbs less.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier

from bench.machine import pin
from slipway.contract import InputColumn, Inputs
from slipway.profiling import make_profile
from tests.server.running import Server

ROUNDS, REQUESTS, CLIENTS, COLUMNS = 9, 6_400, 32, 30
MOST = 1.10
#: As they are before anything is tied to one of them.
CORES = sorted(os.sched_getaffinity(0))
RESULT = Path(__file__).parents[1] / "results" / "monitoring.json"


def main() -> int:
    """Print the ratios; the exit code is 1 if CPU time with monitoring is beyond the bound."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        servers = {name: stack.enter_context(server) for name, server in _servers(Path(scratch))}
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for number in range(-1, ROUNDS):
            for name, server in servers.items():
                figures = _round(server)
                if number >= 0:
                    rounds[name].append(figures)
    found: dict[str, Any] = {}
    for name, measured in rounds.items():
        pairs = list(zip(measured, rounds["off"], strict=True))
        found[name] = {
            "requests_per_second": round(statistics.median(rate for rate, _ in measured)),
            "cpu_microseconds": round(statistics.median(cpu for _, cpu in measured) * 1e6, 2),
            "rate_ratio": round(statistics.median(one[0] / other[0] for one, other in pairs), 3),
            "cpu_ratio": round(statistics.median(one[1] / other[1] for one, other in pairs), 3),
        }
        print(name.ljust(10), json.dumps(found[name]))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"rounds": ROUNDS, "requests": REQUESTS, "servers": found}, indent=1) + "\n")
    return 1 if any(one["cpu_ratio"] > MOST for one in found.values()) else 0


def _servers(scratch: Path) -> Iterator[tuple[str, Any]]:
    random = np.random.default_rng(0)
    table = random.normal(size=(20_000, COLUMNS)).astype(np.float32)
    label = (table[:, 0] + table[:, 7] * table[:, 8] > 0.5).astype(int)
    model = GradientBoostingClassifier(n_estimators=100, random_state=0).fit(table, label)
    graph = to_onnx(model, table[:1], options={"zipmap": False}).SerializeToString()
    (scratch / "model.onnx").write_bytes(graph)
    frame = pd.DataFrame(table, columns=[f"c{number}" for number in range(COLUMNS)])
    profile = make_profile(frame, scratch / "model.onnx").text()
    rules = tuple(
        InputColumn(name=each, tensor="X", column=place, minimum=-100, maximum=100, nullable=False)
        for place, each in enumerate(frame.columns)
    )
    for name in ("off", "counting", "checking"):
        directory = scratch / name / "model"
        directory.mkdir(parents=True)
        (directory / "model.onnx").write_bytes(graph)
        if name != "off":
            (directory / "profile.json").write_bytes(profile)
        more: dict[str, Any] = {"inputs": Inputs(columns=rules)} if name == "checking" else {}
        yield name, _pinned(Server(directory, monitoredFeatures=COLUMNS, **more))


@contextmanager
def _pinned(server: Server) -> Iterator[Server]:
    with server:
        server.wait_until_ready()
        if not re.search(
            r'"batches":true.*"inline":true|"inline":true.*"batches":true', server.log.read_text()
        ):
            print(
                "a busy machine: this server does not batch on its event loop", server.log.read_text()[-300:]
            )
        pin(_worker(server), CORES[0])
        pin(os.getpid(), CORES[1 % len(CORES)])
        yield server


def _worker(server: Server) -> int:
    """The process that serves: the one that was started only holds its sockets."""
    _, worker, *_ = server.processes()
    return worker


def _round(server: Server) -> tuple[float, float]:
    """Requests a second, and seconds of the server's CPU for each."""
    before, began = _cpu(server), time.perf_counter()
    asyncio.run(_load(server))
    return REQUESTS / (time.perf_counter() - began), (_cpu(server) - before) / REQUESTS


def _cpu(server: Server) -> float:
    """Seconds on a processor so far, of all threads."""
    threads = Path(f"/proc/{_worker(server)}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


async def _load(server: Server) -> None:
    await asyncio.gather(*(_client(server, number) for number in range(CLIENTS)))


async def _client(server: Server, number: int) -> None:
    row = np.random.default_rng(number).normal(size=COLUMNS).round(4).tolist()
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, COLUMNS], "data": row}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST {server.infer_path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    for _ in range(REQUESTS // CLIENTS):
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the server answered {answer[:100]!r}")
        length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()


if __name__ == "__main__":
    raise SystemExit(main())
