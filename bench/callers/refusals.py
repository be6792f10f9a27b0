"""What the server pays for an answer, and for the refusal of who asked more than it may."""

from __future__ import annotations

import re
import struct
import subprocess
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.callers.stage import LOAD_CORE, MODEL, MODEST, SERVED_CORE, cpu_of
from bench.server.callers import Guard, limited
from bench.server.cases import GRPC_PATH, INFER_PATH, Case, Protocol, make_case
from bench.server.servers import SLIPWAY, Running

ANSWER, TOO_MANY, UNKNOWN = "answer", "refusal, more than a limit (429)", "refusal, unknown key (401)"
REFUSALS = (TOO_MANY, UNKNOWN)
#: Requests a second that a caller may ask where all are answered, and where nearly none is.
_MOST, _LEAST = 10**9, 1
_CLIENTS = 8

#: Microseconds of CPU a request of each round, by protocol and by what it gets.
Costs = dict[Protocol, dict[str, list[float]]]


def measure(models: Path, scratch: Path, rounds: int, count: int, say: Callable[[str], None]) -> Costs:
    """Two servers of the same model in turn, by closed loops."""
    costs: Costs = {protocol: defaultdict(list) for protocol in (Protocol.JSON, Protocol.GRPC)}
    with ExitStack() as stack:

        def start(limit: int) -> tuple[Running, Guard]:
            folder = scratch / f"limit-{limit}"
            folder.mkdir()
            guard = limited((MODEST,), limit, folder)[MODEST]
            cores = str(SERVED_CORE)
            return stack.enter_context(Running(SLIPWAY, models, MODEL, folder, cores, guarded=guard)), guard

        (open_, known), (strict, refused) = start(_MOST), start(_LEAST)
        ways = {
            ANSWER: (open_, known.headers),
            TOO_MANY: (strict, refused.headers),
            UNKNOWN: (open_, refused.headers),
        }
        plain = {protocol: make_case(models, MODEL, protocol, 1) for protocol in costs}
        for server in (open_, strict):
            server.wait(plain[Protocol.JSON])
        for turn in range(rounds):
            say(f"answers and refusals, round {turn + 1} of {rounds}")
            for protocol, case in plain.items():
                message = _ask(open_, replace(case, headers={**case.headers, **known.headers}), 1, scratch)[1]
                for what, (server, shown) in ways.items():
                    asked = replace(case, headers={**case.headers, **shown})
                    _ask(server, asked, count // 10, scratch)
                    before = cpu_of(server)
                    good, data = _ask(server, asked, count, scratch)
                    costs[protocol][what].append((cpu_of(server) - before) / count * 1e6)
                    # A refusal of gRPC comes with HTTP's 200, but without a message.
                    answered = data // message if protocol is Protocol.GRPC else good
                    if (answered < count) if what == ANSWER else (answered > count // 10):
                        raise RuntimeError(f"{answered} of {count} were answered; each was to be: {what}")
    return costs


def _ask(server: Running, case: Case, count: int, scratch: Path) -> tuple[int, int]:
    """Ask so often; how many answers had a status of HTTP that is good, and the bytes of all."""
    is_grpc = case.protocol is Protocol.GRPC
    body = scratch / f"body-{case.protocol}"
    body.write_bytes((struct.pack(">BI", 0, len(case.body)) if is_grpc else b"") + case.body)
    own = {"content-type": "application/grpc", "te": "trailers"} if is_grpc else {}
    port, path = (server.grpc_port, GRPC_PATH) if is_grpc else (server.port, INFER_PATH)
    command = [
        *("taskset", "-c", str(LOAD_CORE), "h2load", "-t1", f"-c{min(_CLIENTS, count)}", "-m1", f"-n{count}"),
        *(() if is_grpc else ("--h1",)),
        *("-d", str(body)),
        *(word for name, value in {**case.headers, **own}.items() for word in ("-H", f"{name}: {value}")),
        f"http://127.0.0.1:{port}{path}",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    good = re.search(rf" {count} done, (\d+) succeeded", said)
    data = re.search(r"\((\d+)\) data", said)
    if good is None or data is None:
        raise RuntimeError(f"not all came back: {said[-500:]}")
    return int(good[1]), int(data[1])
