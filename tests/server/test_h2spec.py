"""h2spec's cases of RFC 9113 and RFC 7541 against the gRPC port of a real server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import H2SPEC, Tools
from tests.server.running import Server


def test_the_grpc_port_passes_all_145_cases_of_h2spec(
    model_dirs: Callable[[str], Path], tmp_path: Path
) -> None:
    program, report = Tools(read_settings().cache).install(H2SPEC), tmp_path / "report.xml"
    with Server(model_dirs("identity"), threads=1) as server:
        server.wait_until_ready()
        done = subprocess.run(
            [program, "--port", str(server.grpc_port), "--timeout", "5", "--junit-report", str(report)],
            capture_output=True,
            text=True,
            check=False,
        )
    suites = ElementTree.parse(report).getroot().findall("testsuite")
    counts = {
        name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors")
    }
    assert done.returncode == 0, done.stdout[-4000:]
    assert counts == {"tests": 145, "failures": 0, "errors": 0}
