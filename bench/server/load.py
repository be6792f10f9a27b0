"""Load by programs made for it: wrk for REST, h2load for gRPC, pinned to a core."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from bench.server.cases import GRPC_PATH, INFER_PATH, Case, Protocol

_SCRIPT = """
local file = io.open(%s, "rb")
wrk.method, wrk.body = "POST", file:read("*all")
file:close()
%s
done = function(summary, latency)
    local e = summary.errors
    io.write(string.format('{"requests": %%d, "microseconds": %%d, "p50": %%d, "p99": %%d, "failed": %%d}',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class LoadError(Exception):
    """Requests failed under load, so that a rate would mean nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Answered requests a second, and milliseconds that half, and all but one in a hundred, took at most."""

    rate: float
    p50: float
    p99: float


def drive(
    case: Case, port: int, clients: int, seconds: float, cores: str, scratch: Path, threads: int = 1
) -> Figures:
    """Closed loop: each client sends its next request when it has its answer. Raises :class:`LoadError`."""
    run = _h2load if case.protocol is Protocol.GRPC else _wrk
    return run(case, port, clients, seconds, cores, scratch, threads)


def _wrk(
    case: Case, port: int, clients: int, seconds: float, cores: str, scratch: Path, threads: int
) -> Figures:
    body, script = scratch / "body", scratch / "load.lua"
    body.write_bytes(case.body)
    headers = "\n".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in case.headers.items())
    script.write_text(_SCRIPT % (json.dumps(str(body)), headers))
    url = f"http://127.0.0.1:{port}{INFER_PATH}"
    # wrk takes whole seconds only.
    length = f"{max(1, round(seconds))}s"
    out = _run(
        cores,
        ["wrk", f"-t{threads}", f"-c{clients}", f"-d{length}", "--timeout", "10s", "-s", str(script), url],
    )
    found = json.loads(out[out.index("{") :])
    if found["failed"] or not found["requests"]:
        raise LoadError(f"{found['failed']} of {found['requests']} requests failed")
    return Figures(found["requests"] / found["microseconds"] * 1e6, found["p50"] / 1000, found["p99"] / 1000)


def _h2load(
    case: Case, port: int, clients: int, seconds: float, cores: str, scratch: Path, threads: int
) -> Figures:
    body, log = scratch / "body", scratch / "times"
    body.write_bytes(struct.pack(">BI", 0, len(case.body)) + case.body)
    log.unlink(missing_ok=True)
    out = _run(
        cores,
        [
            *("h2load", f"-t{threads}", f"-c{clients}", "-m1", f"-D{max(1, round(seconds))}"),
            *("-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"),
            *(f"--log-file={log}", f"http://127.0.0.1:{port}{GRPC_PATH}"),
        ],
    )
    rate = float(_found(r"finished in \S+, ([\d.]+) req/s", out))
    good = int(_found(r", (\d+) succeeded", out))
    failed = int(_found(r"(\d+) failed", out)) + int(_found(r"(\d+) errored", out))
    # A gRPC error comes with HTTP's 200, but without a message: an answer's bytes tell it from one.
    # What was under way at the end has sent its request only.
    data = int(_found(r"headers \(space savings [^)]*\), \S+ \((\d+)\) data", out))
    if failed > clients or not good or data < (good - clients) * case.expected.nbytes:
        raise LoadError(f"{failed} of {good + failed} requests failed; {data} bytes of answers")
    times = [int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines()]
    cuts = quantiles(times, n=100)
    return Figures(rate, cuts[49], cuts[98])


def _run(cores: str, command: list[str]) -> str:
    done = subprocess.run(["taskset", "-c", cores, *command], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise LoadError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise LoadError(f"h2load said something new: {text[-500:]}")
    return match[1]
