"""A real Prometheus on loopback."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import PROMETHEUS, Tools
from tests.ports import free_port

START_SECONDS = 30.0


@contextlib.contextmanager
def running_prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[str]:
    """The address of a Prometheus that scrapes routers every second.

    Args:
        folder: for its files.
        targets: ``host:port`` of each router by the name of its pod.

    Raises:
        AssertionError: with its own words if it does not become ready.
    """
    program = Tools(read_settings().cache).install(PROMETHEUS)
    port = free_port()
    scrape = {
        "job_name": "routers",
        "metrics_path": "/stats/prometheus",
        "static_configs": [
            {"targets": [address], "labels": {"namespace": "payments", "pod": pod}}
            for pod, address in targets.items()
        ],
    }
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    log = folder / "prometheus.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                str(program),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(port):
            assert process.poll() is None, log.read_text()[-1500:]
            assert time.monotonic() < deadline, log.read_text()[-1500:]
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready") as answer:
        return bool(answer.status == 200)
    return False
