"""One run of the resolver, of the fetch, or of the pipe that they are compared with."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from slipway.contract import MODEL_TASK_ENV, Fetched, Resolved, TerminationMessage
from slipway.digest import digest_of
from tests.models.stores import S3

_BUCKET, _FOLDER, _WEIGHTS = "models", "big", "weights.bin"
_PIECE = 1 << 20
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Run:
    """Of one process, or of a pipe of them; ``memory`` is the peak of what stays in it, in bytes."""

    seconds: float
    cpu_seconds: float
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """A model in a store, and a folder to bring it into."""

    store: S3
    folder: Path
    digest: str

    def resolve(self) -> Run:
        run, outcome = self._model("resolve", {"uri": f"s3://{_BUCKET}/{_FOLDER}"})
        assert isinstance(outcome, Resolved), outcome
        assert outcome.resolution.digest == self.digest
        return run

    def fetch(self) -> Run:
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        task = {"uri": f"s3://{_BUCKET}/{_FOLDER}", "digest": self.digest}
        run, outcome = self._model("fetch", task)
        assert isinstance(outcome, Fetched), outcome
        return run

    def pipe(self, *, stored: bool) -> Run:
        """``curl | sha256sum``, and with a file in between where it is to be stored."""
        copy = self.folder / "copy"
        copy.unlink(missing_ok=True)
        authority = self.folder / "authority.pem"
        authority.write_text(self.store.authority)
        address = f"{self.store.url}/{_BUCKET}/{_FOLDER}/{_WEIGHTS}"
        signed = "--aws-sigv4 aws:amz:us-east-1:s3 -u reader:reader-secret"
        curl = f"curl -sf --cacert {authority} {signed} {address}"
        tee = f"| tee {copy} " if stored else ""
        return _timed(["bash", "-o", "pipefail", "-c", f"{curl} {tee}| sha256sum"], {})

    def _model(self, command: str, task: Mapping[str, str]) -> tuple[Run, object]:
        words = self.folder / "termination-log"
        words.unlink(missing_ok=True)
        given = {
            MODEL_TASK_ENV: json.dumps(task),
            "SLIPWAY_MODEL_DIR": str(self.folder / "model"),
            "SLIPWAY_TERMINATION_PATH": str(words),
            "PYTHONPATH": "operator",
            **self.store.keys(),
        }
        run = _timed([sys.executable, "-m", "slipway.models", command], given)
        return run, TerminationMessage.model_validate_json(words.read_bytes()).outcome


def stage(store: S3, folder: Path, megabytes: int) -> Stage:
    """A model with so many megabytes of weights next to it, in the store."""
    made = folder / "made"
    made.mkdir()
    width = 1000
    rows = megabytes * 1_000_000 // (4 * width)
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, width])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=_WEIGHTS)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "big",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, width])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, made / "model.onnx")
    random = np.random.default_rng(0)
    with (made / _WEIGHTS).open("wb") as file:
        for left in range(rows * width * 4, 0, -_PIECE):
            file.write(random.bytes(min(left, _PIECE)))
    digest = digest_of(made)
    for path in made.iterdir():
        store.put(_BUCKET, f"{_FOLDER}/{path.name}", path)
    shutil.rmtree(made)
    return Stage(store, folder, digest)


def cpu_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """The processor time of a process that ends by itself."""
    before = _children()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _timed(command: Sequence[str], given: Mapping[str, str]) -> Run:
    before = _children()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **given}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = 0
    while True:
        peak = max(peak, _peak(process.pid))
        try:
            said, _ = process.communicate(timeout=_POLL_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    seconds = time.perf_counter() - started
    assert process.returncode == 0, said
    return Run(seconds, _children() - before, peak)


def _peak(process: int) -> int:
    """Most bytes that were resident so far; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
