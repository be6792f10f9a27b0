"""How long ``slipway profile`` takes for a million rows of 30 columns, and how much memory.

``python -m bench.profile`` makes the data and the model, profiles each file in a process of its own and
prints seconds on the clock and of CPU, and the largest resident set, the libraries' part included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier

ROWS, COLUMNS = 1_000_000, 30
MOST_SECONDS, MOST_BYTES = 20.0, 1_000_000_000
RESULT = Path(__file__).parents[1] / "results" / "profile.json"


def main() -> int:
    """Print the figures; the exit code is 1 if one is beyond its bound."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # In a process of its own: a child's largest resident set begins with its parent's.
        with ProcessPoolExecutor(1, get_context("fork")) as pool:
            pool.submit(_write, folder).result()
        for name in ("train.parquet", "train.csv"):
            found[name] = _measure(folder, name)
            one = found[name]
            print(f"{name:14} {one['seconds']:6.1f} s  {one['cpu']:6.1f} s CPU  {one['bytes'] / 1e6:6.0f} MB")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"rows": ROWS, "columns": COLUMNS, "files": found}, indent=1) + "\n")
    beyond = [
        name for name, one in found.items() if one["seconds"] > MOST_SECONDS or one["bytes"] > MOST_BYTES
    ]
    return 1 if beyond else 0


def _write(folder: Path) -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=(ROWS, COLUMNS))
    table[:, :5] = np.round(table[:, :5] * 3)
    table[random.random(table.shape) < 0.01] = np.nan
    filled = np.nan_to_num(table[:20_000]).astype(np.float32)
    label = (filled[:, 0] + filled[:, 7] * filled[:, 8] > 0.5).astype(int)
    model = GradientBoostingClassifier(n_estimators=100, random_state=0).fit(filled, label)
    (folder / "model.onnx").write_bytes(to_onnx(model, filled[:1]).SerializeToString())
    columns = {f"c{number}": table[:, number] for number in range(COLUMNS)}
    columns["sex"] = random.choice(np.array(["f", "m"]), ROWS)
    frame = pa.table(columns)
    pa.parquet.write_table(frame, folder / "train.parquet")
    pa.csv.write_csv(frame, folder / "train.csv")


def _measure(folder: Path, name: str) -> dict[str, float]:
    began = time.perf_counter()
    command = ["profile", "--data", name, "--model", "model.onnx", "--sensitive", "sex", "-o", "profile.json"]
    process = subprocess.Popen([sys.executable, "-m", "slipway.cli.main", *command], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"slipway profile ended with {status}")
    seconds, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "bytes": usage.ru_maxrss * 1024}


if __name__ == "__main__":
    raise SystemExit(main())
