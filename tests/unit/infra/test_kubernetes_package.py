"""What the operator imports of the kubernetes package: the client that it uses, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest


def _in_a_process_of_its_own(code: str) -> Any:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def test_the_operator_imports_no_library_that_only_other_clients_need() -> None:
    names = _in_a_process_of_its_own("import json, sys, slipway.main; print(json.dumps(sorted(sys.modules)))")
    assert "kubernetes.aio.client.api_client" in names
    roots = {name.partition(".")[0] for name in names}
    assert roots.isdisjoint({"requests", "requests_oauthlib", "oauthlib", "google", "websocket"})


@pytest.mark.parametrize("expression", ["client.CoreV1Api", "config.load_kube_config", "watch.Watch"])
def test_the_package_is_whole_to_everyone_else(expression: str) -> None:
    module, name = expression.rsplit(".", 1)
    code = (
        "import json, slipway.infra, kubernetes\n"
        f"from kubernetes import {module}\n"
        f"names = [kubernetes.{expression}.__name__, {expression}.__name__]\n"
        "print(json.dumps([*names, kubernetes.__version__]))"
    )
    seen = _in_a_process_of_its_own(code)
    assert seen[:2] == [name, name]
    assert seen[2] == _in_a_process_of_its_own(
        "import json, kubernetes; print(json.dumps(kubernetes.__version__))"
    )


def test_a_part_that_is_not_there_is_missed_as_ever() -> None:
    code = "import json, slipway.infra, kubernetes; print(json.dumps(hasattr(kubernetes, 'nonsense')))"
    assert _in_a_process_of_its_own(code) is False


def test_a_package_that_was_imported_before_stays() -> None:
    code = (
        "import json, kubernetes\nfound = id(kubernetes)\nimport slipway.infra, sys\n"
        "print(json.dumps(id(sys.modules['kubernetes']) == found))"
    )
    assert _in_a_process_of_its_own(code) is True
