"""``slipway version``, ``slipway completion``, and what a shell is answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from slipway.cli.arguments import SHELLS
from slipway.cli.completion import candidates, kubectl
from slipway.cli.main import main
from slipway.cli.parser import COMMANDS
from slipway.names import DISTRIBUTION
from tests.unit.cli.conftest import Run
from tests.unit.cli.serving import Served
from tests.unit.world import NAME, NAMESPACE

OURS = version(DISTRIBUTION)
OPERATOR = {
    "metadata": {
        "namespace": "slipway-system",
        "name": "slipway",
        "labels": {"app.kubernetes.io/version": "0.9.1"},
    },
    "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": "example.com/operator:0.9.1"}]}}},
    "status": {"readyReplicas": 1},
}


def answering(cluster: Served, answers: dict[str, tuple[int, Any]]) -> None:
    def answer(_: str, path: str) -> tuple[int, str, bytes] | None:
        if path not in answers:
            return None
        code, body = answers[path]
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return code, "application/json", text

    cluster.answer = answer


def test_the_version_of_the_client_takes_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--client", "--kubeconfig", "/nowhere"]) == 0
    assert capsys.readouterr().out == f"client    {OURS}\n"
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{OURS}\n"


def test_crd_and_operator_are_told(cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answering(cluster, {"/apis/apps/v1/deployments": (200, {"metadata": {}, "items": [OPERATOR]})})
    assert run("version") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"client    {OURS}",
        "CRD       slipway.dev/v1alpha1",
        "operator  0.9.1, slipway-system/slipway, example.com/operator:0.9.1, 1/2 pods ready",
    ]
    assert run("version", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "client": {"version": OURS},
        "crd": {"installed": True, "apiVersion": "slipway.dev/v1alpha1", "lacks": [], "unknown": []},
        "operators": [
            {
                "namespace": "slipway-system",
                "name": "slipway",
                "version": "0.9.1",
                "image": "example.com/operator:0.9.1",
                "readyReplicas": 1,
                "replicas": 2,
            }
        ],
    }


def test_a_crd_of_another_version_is_told_by_its_fields(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = cluster.openapi["properties"]["spec"]
    properties = {name: part for name, part in spec["properties"].items() if name not in ("card", "inputs")}
    more = {f"later{number}": {"type": "string"} for number in range(7)}
    cluster.openapi["properties"] = {
        **cluster.openapi["properties"],
        "spec": {**spec, "properties": properties | more},
    }
    assert run("version") == 0
    crd, operator = capsys.readouterr().out.splitlines()[1:]
    later = ", ".join(f"spec.later{number}" for number in range(5))
    assert crd == (
        "CRD       slipway.dev/v1alpha1; older than this client: it lacks spec.card, spec.inputs; "
        f"newer than this client, which does not know {later} and 2 more"
    )
    assert operator == "operator  not installed"


def test_what_may_not_be_seen_is_unknown(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {
        "kind": "Status",
        "message": 'deployments.apps is forbidden: User "me" cannot list',
        "code": 403,
    }
    answering(cluster, {"/apis/apps/v1/deployments": (403, refusal)})
    assert run("version") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"operator  unknown: Deployments in all namespaces: {refusal['message']}"


def test_a_cluster_without_the_crd_is_told(
    cluster: Served, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(cluster, {"/openapi/v3/apis/slipway.dev/v1alpha1": (404, b"404 page not found\n")})
    assert run("version") == 0
    assert "CRD       not installed" in capsys.readouterr().out


def test_without_a_cluster_the_version_of_the_client_is_told_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["version", "--kubeconfig", str(tmp_path / "none")]) == 1
    said = capsys.readouterr()
    assert said.out == f"client    {OURS}\n"
    assert said.err.startswith("error: no cluster to ask: ")


def test_commands_options_and_choices_are_completed() -> None:
    assert set(candidates([""])) >= set(COMMANDS)
    assert candidates(["prom"]) == ["promote", "promote-full"]
    assert candidates(["status", "fraud", "--wa"]) == ["--watch", "--wait"]
    assert candidates(["completion", ""]) == [*SHELLS]
    assert candidates(["get", "-o", "w"]) == ["wide"]
    assert candidates([]) == candidates([""])


def test_what_the_cluster_has_is_completed(cluster: Served) -> None:
    where = ["--kubeconfig", str(cluster.kubeconfig)]
    for command in ("status", "get", "promote", "undo", "set-model"):
        assert candidates([command, *where, NAME[:2]]) == [NAME]
    assert candidates(["status", *where, "--context", ""]) == ["one"]
    spaces = {"metadata": {}, "items": [{"metadata": {"name": NAMESPACE}}, {"metadata": {"name": "other"}}]}
    answering(cluster, {"/api/v1/namespaces": (200, spaces)})
    assert candidates(["status", *where, "-n", NAMESPACE[:3]]) == [NAMESPACE]


def test_without_a_cluster_there_is_nothing_to_complete_a_name_with(tmp_path: Path) -> None:
    assert candidates(["status", "--kubeconfig", str(tmp_path / "none"), "fr"]) == []


def test_kubectl_is_answered_in_the_way_of_its_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert kubectl(["prom"]) == 0
    assert capsys.readouterr().out == "promote\npromote-full\n:4\n"
    assert kubectl(["plan", "-f", "x"]) == 0
    assert capsys.readouterr().out == "\n".join([":0", ""]), "files"


def test_asking_for_candidates_leaves_the_environment_as_it_was() -> None:
    before = dict(os.environ)
    candidates(["sta"])
    assert dict(os.environ) == before


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_written_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "slipway" in script
    assert "_ARGCOMPLETE" in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script.encode(), check=True)


def test_bash_completes_a_command_by_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    program = tmp_path / "slipway"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m slipway.cli.main "$@"\n')
    program.chmod(0o755)
    script = capsys.readouterr().out + (
        '\nCOMP_LINE="slipway promo"; COMP_POINT=13; COMP_TYPE=9; COMP_WORDS=(slipway promo); COMP_CWORD=1'
        '\n_python_argcomplete slipway promo slipway; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash"], input=script, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert [line.strip() for line in done.stdout.splitlines()] == ["promote", "promote-full"]
