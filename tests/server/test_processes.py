from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from e2e.ledger import hold
from slipway_server.runtime.cpus import cpu_limit, usable_cpus
from tests.server.conftest import Start
from tests.server.running import Server, tensor

ROW = tensor("x", "FP32", [1, 3], [1, 2, 3])
LABELS = (("model", "fraud"), ("model_version", "3"))


def children(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask(server: Server) -> int:
    """The status of a request on a connection of its own, which any process may get."""
    return httpx.post(server.url + server.infer_path, json={"inputs": [ROW]}, timeout=10).status_code


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_processes_share_a_port_and_their_metrics_add_up(start: Start) -> None:
    server = start("identity", processes=2).wait_until_ready()
    assert len(children(server)) == 2
    assert [ask(server) for _ in range(60)] == [200] * 60
    samples = server.metrics()
    assert samples["slipway_inference_requests_total", (("code", "200"), *LABELS)] == 60
    assert samples["slipway_inference_rows_total", LABELS] == 60
    assert samples["slipway_inference_in_flight", LABELS] == 0
    one = int(Path(f"/proc/{children(server)[0]}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert samples["process_resident_memory_bytes", ()] > 1.5 * one, "one process's memory alone"
    server.terminate()
    assert server.wait() == 0


def test_a_process_that_dies_returns_while_the_other_serves(start: Start) -> None:
    server = start("identity", processes=2).wait_until_ready()
    first = children(server)
    os.kill(first[0], signal.SIGKILL)
    answered = 0
    while first[0] in children(server) or len(children(server)) < 2 or answered < 20:
        assert ask(server) == 200
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        answered += 1
    assert first[1] in children(server)
    until(lambda: server.log.read_text().count('"message":"ready"') == 3)
    assert [ask(server) for _ in range(20)] == [200] * 20
    assert server.metrics()["slipway_inference_requests_total", (("code", "200"), *LABELS)] >= answered


def test_processes_end_with_the_one_that_started_them(start: Start) -> None:
    server = start("identity", processes=2).wait_until_ready()
    workers = children(server)
    server.process.kill()
    server.wait()
    until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers))


@pytest.mark.timed
def test_a_drain_of_two_processes_asks_clients_of_both_to_leave(start: Start) -> None:
    server = start("identity", processes=2, drainSeconds=2).wait_until_ready()
    began = time.monotonic()
    server.terminate()
    until(lambda: httpx.get(f"{server.url}/v2/health/ready").status_code == 503)
    for _ in range(5):
        answer = httpx.post(server.url + server.infer_path, json={"inputs": [ROW]})
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 503
    assert server.wait() == 0
    took = time.monotonic() - began
    assert took >= 2
    hold("a drain of two seconds, two processes", took, 4.5)


def test_a_model_that_cannot_be_served_ends_all_processes(tmp_path: Path, start: Start) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "model.onnx").write_bytes(b"<html>")
    server = start(directory, processes=2)
    assert server.wait() == 1
    assert server.last_words().outcome.kind == "Failed"


def test_the_cpu_limit_is_read_from_either_kind_of_cgroup(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    proc, sys = tmp_path / "proc", tmp_path / "sys"
    assert cpu_limit(proc, sys) is None
    write("proc/self/cgroup", "0::/pod/container\n")
    write("sys/fs/cgroup/pod/container/cpu.max", "max 100000\n")
    assert cpu_limit(proc, sys) is None
    write("sys/fs/cgroup/pod/cpu.max", "150000 100000\n")
    assert cpu_limit(proc, sys) == 1.5
    assert usable_cpus(proc, sys) == min(2, len(os.sched_getaffinity(0)))
    write("sys/fs/cgroup/pod/container/cpu.max", "50000 100000\n")
    assert cpu_limit(proc, sys) == 0.5
    assert usable_cpus(proc, sys) == 1
    write("proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/docker/abc\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cpu_limit(proc, sys) is None
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n")
    assert cpu_limit(proc, sys) == 3.0
