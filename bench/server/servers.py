"""The servers that are compared, and one of them at a time as a running, pinned process tree."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import grpc

from bench.server.callers import KEYS, TOKENS, Guard, guard
from bench.server.cases import GRPC_PATH, INFER_PATH, NAME, Case, Protocol, WrongAnswerError
from bench.server.environments import PEERS, LeftOutError, crate, environment, onnxruntime_library
from slipway.digest import digest_of
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
SERVER_CORE = "0"
_START_SECONDS = 30.0
_MARK = "SLIPWAY_BENCH"


class ServerError(Exception):
    """A server did not start, or its answer is wrong; the message has the end of its log."""


class NoAnswerError(ServerError):
    """There is no connection, or no inference on it; it may come yet."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server by its short name. ``folder`` names its environment and code under ``peers``.

    ``crate_program`` is the program of a peer in Rust; without it the peer is in Python.
    """

    name: str
    title: str
    folder: str
    command: tuple[str, ...] = ("{program}", "{folder}/server.py")
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreters: tuple[str, ...] = ()
    crate_program: str = ""

    def program(self) -> Path:
        """The interpreter, or the built server, made now if its lock changed."""
        if self.crate_program:
            return crate(self.folder) / self.crate_program
        return environment(self.folder, self.interpreters)


SLIPWAY = "slipway"
PEER_LIST = (
    Peer("fastapi", "FastAPI + pydantic + uvicorn", "fastapi"),
    Peer("mlserver", "MLServer, in process", "mlserver", environment={"BENCH_WORKERS": "0"}),
    Peer("mlserver-default", "MLServer, default", "mlserver", environment={"BENCH_WORKERS": "1"}),
    Peer("kserve", "KServe SDK, logs off", "kserve"),
    Peer("litserve", "LitServe", "litserve"),
    Peer(
        "bentoml",
        "BentoML, access log off",
        "bentoml",
        ("{program}", "-m", "bentoml", "serve", "server:Served", "--host", "127.0.0.1", "--port", "{port}"),
        {"BENTOML_DO_NOT_TRACK": "1"},
    ),
    # Triton's Python backend does not start under every build of Python; Debian's own is one that works.
    Peer(
        "pytriton",
        "PyTriton, dynamic batching",
        "pytriton",
        interpreters=("/usr/bin/python3.11", "python3.11"),
    ),
    Peer("rust", "Rust: axum, ort, sonic-rs", "rust", ("{program}",), crate_program="plain"),
    Peer("rust-batches", "the same in batches", "rust", ("{program}",), crate_program="batches"),
)
PEERS_BY_NAME = {peer.name: peer for peer in PEER_LIST}
#: Our own server, and again where it asks who its callers are.
OURS = {SLIPWAY: "Slipway", KEYS: "Slipway, API keys", TOKENS: "Slipway, tokens seen before"}
TITLES = {**OURS, **{peer.name: peer.title for peer in PEER_LIST}}


def prepare(names: Iterable[str]) -> tuple[frozenset[str], list[str]]:
    """Make what the peers need: those that can run then, and why others are left out."""
    ready, why = set(), []
    for name in names:
        try:
            PEERS_BY_NAME[name].program()
            ready.add(name)
        except LeftOutError as error:
            why.append(f"{name}: {error}")
    return frozenset(ready), why


class Running:
    """A server on a model, from its start until the ``with`` block is left; pinned to ``cores``."""

    def __init__(
        self,
        name: str,
        models: Path,
        model: str,
        scratch: Path,
        cores: str = SERVER_CORE,
        processes: int = 1,
        guarded: Guard | None = None,
    ) -> None:
        self.name = name
        self.port, self.grpc_port, metrics_port = free_ports(3)
        self._log = scratch / f"{name}.log"
        ports = {"port": str(self.port), "grpc_port": str(self.grpc_port), "metrics_port": str(metrics_port)}
        guarded = guarded or guard(name, scratch)
        self._shown = guarded.headers
        if name in OURS:
            command, given = _slipway(models / model, ports, processes, scratch, guarded)
        else:
            command, given = _peer(PEERS_BY_NAME[name], models / model / "model.onnx", ports)
        mark = uuid4().hex
        self._mark = f"{_MARK}={mark}".encode()
        self._spawned = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", cores, *command],
                env={**_environment(given, scratch), _MARK: mark},
                cwd=scratch,
                stdout=log,
                stderr=log,
            )

    def wait(self, case: Case) -> float:
        """Seconds from the start to the first right answer; raises :class:`ServerError`."""
        while True:
            try:
                self.ask(case)
                return time.perf_counter() - self._spawned
            except NoAnswerError as error:
                reason = error
            if self._process.poll() is not None or time.perf_counter() - self._spawned > _START_SECONDS:
                raise ServerError(f"{reason}; its log ends: {self._tail()}")
            time.sleep(0.005)

    def shown(self, case: Case) -> Case:
        """The request with what tells this server who asks."""
        return replace(case, headers={**case.headers, **self._shown})

    def ask(self, case: Case) -> None:
        """One request, whose answer has to be onnxruntime's; raises :class:`ServerError`."""
        try:
            if case.protocol is Protocol.GRPC:
                case.check(self._call(case), {})
            else:
                case.check(*self._post(case))
        except WrongAnswerError as error:
            raise ServerError(f"{self.name} answers wrongly: {error}") from error
        except (OSError, http.client.HTTPException, grpc.RpcError) as error:
            raise NoAnswerError(
                f"{self.name} does not answer: {' '.join(str(error).split())[:300]}"
            ) from error

    def memory(self) -> float:
        """Megabytes of all processes together, shared pages counted by their share (PSS)."""
        total = 0
        for pid in self.pids():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
            total += int(found[1]) if found else 0
        return total / 1024

    def cpu_seconds(self) -> float:
        """CPU time of all processes since they began."""
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pids(self) -> list[int]:
        """The server's processes, known by their environment: some leave their parent's session."""
        found = []
        for directory in Path("/proc").iterdir():
            try:
                if directory.name.isdigit() and self._mark in (directory / "environ").read_bytes():
                    found.append(int(directory.name))
            except OSError:
                continue
        return found

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, seconds in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            for pid in self.pids():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if self._process.poll() is not None and not self.pids():
                    return
                time.sleep(0.02)

    def _post(self, case: Case) -> tuple[bytes, Mapping[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", INFER_PATH, case.body, dict(self.shown(case).headers))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise NoAnswerError(f"{self.name} does not answer but with {response.status}: {body[:300]!r}")
        return body, dict(response.headers)

    def _call(self, case: Case) -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            answer = channel.unary_unary(GRPC_PATH)(case.body, timeout=10)
        return bytes(answer)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace").strip()[-800:]


def serving_environment(
    model: Path, ports: Mapping[str, str], processes: int, scratch: Path, guarded: Guard
) -> dict[str, str]:
    """What tells our server what to serve, and where."""
    serving = {
        "modelName": NAME,
        "modelVersion": "1",
        "digest": digest_of(model),
        "drainSeconds": 0,
        "processes": processes,
        "access": None if guarded.access is None else guarded.access.model_dump(mode="json"),
    }
    return {
        "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'server'}",
        "SLIPWAY_SERVING_CONFIG": json.dumps(serving),
        "SLIPWAY_MODEL_DIR": str(model),
        "SLIPWAY_TERMINATION_PATH": str(scratch / "termination"),
        "SLIPWAY_HOST": "127.0.0.1",
        "SLIPWAY_HTTP_PORT": ports["port"],
        "SLIPWAY_ADMIN_PORT": ports["metrics_port"],
        "SLIPWAY_GRPC_PORT": ports["grpc_port"],
        **guarded.environment,
    }


def _slipway(
    model: Path, ports: Mapping[str, str], processes: int, scratch: Path, guarded: Guard
) -> tuple[list[str], dict[str, str]]:
    given = serving_environment(model, ports, processes, scratch, guarded)
    return [sys.executable, "-m", "slipway_server.main"], given


def _peer(peer: Peer, model: Path, ports: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    folder = PEERS / peer.folder
    values = {"program": str(peer.program()), "folder": str(folder), **ports}
    given = {
        "PYTHONPATH": f"{PEERS}:{folder}" if "-m" in peer.command else str(PEERS),
        "ORT_DYLIB_PATH": str(onnxruntime_library()),
        "BENCH_MODEL": str(model),
        **{f"BENCH_{name.upper()}": port for name, port in ports.items()},
        **peer.environment,
    }
    return [part.format(**values) for part in peer.command], given


def _environment(given: Mapping[str, str], scratch: Path) -> dict[str, str]:
    # One thread each, for peers whose libraries would otherwise start one for each core of the machine.
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **given,
    }
