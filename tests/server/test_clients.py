"""The clients that people have, against the real server: Triton's, KServe's and MLflow's."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from tests.server.running import Server
from tests.server.test_answers import reference

Servers = Callable[[str], Server]
HERE = Path(__file__).parent / "clients"
COLOURS, SIZES = ["blau", "weiß", "never seen"], [1.2, 4.4, 0.0]


def cache() -> Path:
    if given := os.environ.get("SLIPWAY_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway"


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with the clients, whose packages do not go together with ours."""
    requirements = HERE / "requirements.txt"
    seen = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache() / f"clients-{seen}"
    if not (folder / "complete").exists():
        found = shutil.which("uv") or next((str(path) for path in cache().glob("uv-*/bin/uv")), None)
        assert found is not None, "uv is neither on PATH nor in the cache: run `make .venv/synced`"
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([found, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        install = [found, "pip", "install", "--quiet", "--python", folder, "--require-hashes", "--no-deps"]
        subprocess.run([*install, "-r", requirements], check=True)
        (folder / "complete").touch()
    return folder / "bin/python"


def expected() -> tuple[list[str], bytes]:
    label, probabilities = reference(
        "pipeline",
        colour=np.array(COLOURS, dtype=object).reshape(3, 1),
        size=np.array(SIZES, dtype=np.float32).reshape(3, 1),
    )
    names = ["setosa", "versicolor", "virginica"]
    return label.tolist(), np.array([[row[n] for n in names] for row in probabilities], np.float32).tobytes()


FORMS = {
    "triton": ["triton-http-json", "triton-http-binary", "triton-grpc"],
    "kserve": ["kserve-v1", "kserve-v2-json", "kserve-v2-binary", "kserve-grpc-typed", "kserve-grpc-raw"],
}


@pytest.mark.parametrize("whose", list(FORMS))
def test_a_real_client_gets_onnxruntimes_answer_in_each_of_its_forms(
    servers: Servers, python: Path, whose: str
) -> None:
    server = servers("pipeline")
    done = subprocess.run(
        [python, HERE / "talk.py", whose, str(server.http_port), str(server.grpc_port)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(server.home)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    labels, table = expected()
    assert list(answers) == FORMS[whose]
    for answer in answers.values():
        assert answer["output_label"] == labels
        assert np.array(answer["output_probability"], np.float32).tobytes() == table


def test_mlflows_client_gets_onnxruntimes_answer(servers: Servers) -> None:
    client = ScoringServerClient("127.0.0.1", servers("pipeline").http_port)
    client.wait_server_ready()
    assert client.get_version()
    labels, table = expected()
    frame = client.invoke(pd.DataFrame({"colour": COLOURS, "size": SIZES})).get_predictions()
    assert frame["output_label"].tolist() == labels
    assert np.array(frame["output_probability"].tolist(), np.float32).tobytes() == table
    with pytest.raises(Exception, match=r"error code 400.*missing column 'size'"):
        client.invoke(pd.DataFrame({"colour": COLOURS}))
    rows = np.random.default_rng(1).normal(0, 0.05, (9, 10)).astype(np.float32)
    regressor = ScoringServerClient("127.0.0.1", servers("regressor").http_port)
    tensors = json.loads(regressor.invoke(rows).to_json())["predictions"]
    assert np.array(tensors["variable"], np.float32).tobytes() == reference("regressor", X=rows)[0].tobytes()
