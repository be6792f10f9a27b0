"""What the pages print for a cluster, as printed: only ports and addresses of this machine are replaced."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import snippets
from e2e.cluster.settings import Settings
from e2e.cluster.tools import Tools
from e2e.kube import Kube
from e2e.snippets import ROOT, Block
from e2e.tests.conditions import wait_for, wait_for_condition
from e2e.tests.installation import Installation
from e2e.tests.registry import Registry
from release import argocd
from slipway.contract import CREDENTIAL_ENV_PREFIX
from slipway.models.credentials import Credentials
from tests.ports import free_port

#: The namespace that the README makes.
PAYMENTS = "payments"
#: The page on access, the namespace of its client, and so long a kubelet takes to bring a Secret at most.
ACCESS, SHOP, _BROUGHT = "docs/access.md", "shop", 150
#: Waits until what was sent to the background listens.
LISTENS = "for _ in $(seq 100); do (: < /dev/tcp/localhost/{port}) 2>/dev/null && break; sleep 0.1; done"


#: What a job of the script started holds its output open as well, so that goes first.
_ENDS_JOBS = (
    "trap 'for job in $(jobs -p); do pkill -P $job || true; kill $job || true; done 2>/dev/null' EXIT"
)


class Reader:
    """Somebody with a shell, kubectl and this cluster."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(settings.kubeconfig),
            "PATH": f"{Tools(settings.cache).bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def types(self, script: str, cwd: Path | None = None, **variables: str) -> str:
        """What a script prints; AssertionError with its last words where a command of it fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{_ENDS_JOBS}\n{script}"],
            cwd=cwd or self.folder,
            env={**self._environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(settings: Settings, tmp_path: Path) -> Reader:
    return Reader(settings, tmp_path)


@pytest.fixture
def payments(kube: Kube) -> Iterator[str]:
    """That there is no such namespace yet, as on a cluster of a newcomer; nor afterwards."""
    kube.kubectl("delete", "namespace", PAYMENTS, "--ignore-not-found", seconds=180)
    yield PAYMENTS
    kube.kubectl("delete", "namespace", PAYMENTS, "--ignore-not-found", "--wait=false")


def test_the_readmes_quickstart_works_as_printed(
    installed: Installation, mlflow: Registry, reader: Reader, payments: str
) -> None:
    """The model that the page on sources trains, the README's manifest, and its commands in their order."""
    _train(reader, mlflow)
    (reader.folder / "fraud.yaml").write_text(_manifest())
    typed = [one for one in snippets.commands("README.md") if one.program in ("kubectl", "curl")]
    script: list[str] = []
    port = free_port()
    for command in typed:
        text = command.text.replace("localhost:8080", f"localhost:{port}")
        script.append(text.replace(" 8080:80 ", f" {port}:80 "))
        if text.endswith("&"):
            script.append(LISTENS.format(port=port))
    said = reader.types("\n".join(script))
    [shown] = [one.output for one in typed if one.text.startswith("kubectl get mdep")]
    assert shown.splitlines()[0].split() == said[said.index("NAME ") :].splitlines()[0].split()
    answer = json.loads(said.splitlines()[-1])
    assert answer["model_name"] == "fraud"
    assert {one["name"] for one in answer["outputs"]} == {"label", "probabilities"}
    assert installed.kube.get("mdep", "fraud", payments) is not None
    _asks_from_inside(installed.kube, payments)


def _train(reader: Reader, mlflow: Registry) -> None:
    [training] = [one.text for one in snippets.blocks("docs/model-sources.md") if one.language == "python"]
    (reader.folder / "train.py").write_text(training)
    reader.types("python train.py", MLFLOW_TRACKING_URI=mlflow.url, MLFLOW_DISABLE_TELEMETRY="true")


def _manifest() -> str:
    [found] = [one.text for one in snippets.blocks("README.md") if one.language == "yaml"]
    return found


@pytest.mark.usefixtures("installed")
def test_a_pipeline_waits_as_the_page_on_rollouts_shows(
    kube: Kube, mlflow: Registry, reader: Reader, namespace: str
) -> None:
    _train(reader, mlflow)
    (reader.folder / "fraud.yaml").write_text(_manifest().replace(PAYMENTS, namespace))
    typed = [one.text for one in snippets.commands("docs/rollouts.md") if one.program == "kubectl"]
    here = f"kubectl config set-context --current --namespace={namespace} >/dev/null"
    said = reader.types("\n".join([here, *typed]), KUBECONFIG=_own(reader, kube))
    assert "condition met" in said


def _asks_from_inside(kube: Kube, namespace: str) -> None:
    """The README's Python, in a pod of the cluster that has it."""
    [asking] = [one.text for one in snippets.blocks("README.md") if one.language == "python"]
    [pod] = kube.items("pods", "mlflow", "app.kubernetes.io/name=mlflow")
    assert f"http://fraud.{namespace}/" in asking
    where = ("exec", "-i", pod["metadata"]["name"], "--namespace=mlflow", "--", "python3", "-")
    said = kube.kubectl(*where, stdin=asking, seconds=120)
    assert {line.split()[0] for line in said.splitlines()} == {"label", "probabilities"}


def test_the_secret_for_a_model_store_has_the_keys_that_are_read(
    kube: Kube, namespace: str, reader: Reader
) -> None:
    [command] = [one.text for one in snippets.commands("docs/model-sources.md") if one.program == "kubectl"]
    (reader.folder / "ca.pem").write_text("a certificate")
    reader.types(
        f"kubectl config set-context --current --namespace={namespace} >/dev/null\n{command}",
        TOKEN="a token",
        KUBECONFIG=_own(reader, kube),
    )
    found = kube.get("secret", "store", namespace)
    assert found is not None
    keys = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
    read = Credentials.of({CREDENTIAL_ENV_PREFIX + name: value for name, value in keys.items()})
    assert (read.http.token, read.ca_certificates) == ("a token", "a certificate")


def _own(reader: Reader, kube: Kube) -> str:
    """A copy of the kubeconfig, whose namespace may be changed."""
    path = reader.folder / "kubeconfig"
    path.write_bytes(kube.kubeconfig.read_bytes())
    return str(path)


@pytest.fixture
def shop(kube: Kube) -> Iterator[str]:
    """The namespace of the client on the page on access, with its ServiceAccount."""
    kube.kubectl("delete", "namespace", SHOP, "--ignore-not-found", seconds=180)
    kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "checkout", "namespace": SHOP}},
    )
    yield SHOP
    kube.kubectl("delete", "namespace", SHOP, "--ignore-not-found", "--wait=false")


@pytest.mark.long
@pytest.mark.usefixtures("installed", "shop")
def test_the_page_on_access_is_followed_with_what_a_kubelet_brings(
    kube: Kube, mlflow: Registry, reader: Reader, payments: str
) -> None:
    """Its specs and its commands in their order: keys that are replaced and revoked, then a token."""
    keys, _, _, service_accounts, _ = (one for one in snippets.blocks(ACCESS) if one.language == "yaml")
    new, listing, newer, revoke_old, revoke, token = (
        command.text for command in snippets.inline_commands(ACCESS, "kubectl")
    )
    _train(reader, mlflow)
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": payments}})
    own = _own(reader, kube)

    def types(command: str) -> str:
        here = f"kubectl config set-context --current --namespace={payments} >/dev/null"
        return reader.types(f"{here}\n{command}", KUBECONFIG=own)

    def apply(block: Block) -> None:
        whole = yaml.safe_load(_manifest())
        kube.apply({**whole, "spec": {**whole["spec"], **yaml.safe_load(block.text)}})

    def code(shown: str = "") -> str:
        """What whoever shows a key or a token is answered: 400 if let in, for what is sent is no request."""
        port = free_port()
        headers = "-H 'content-type: application/json'"
        if shown:
            headers += f" -H 'authorization: Bearer {shown}'"
        return types(
            f"kubectl port-forward service/fraud {port}:80 >/dev/null &\n{LISTENS.format(port=port)}\n"
            f"curl -s -o /dev/null -w '%{{http_code}}' {headers} -d '{{}}' "
            f"http://localhost:{port}/v2/models/fraud/infer"
        )

    apply(keys)
    # Before there are pods: the model is resolved first.
    first = types(new).strip()
    wait_for_condition(kube, "fraud", "Ready", "True", namespace=payments, within=180)
    assert (code(first), code("x" * 43), code()) == ("400", "401", "401")
    assert "shop" in types(listing)
    second = types(newer).strip()
    wait_for(lambda: code(second) == "400", _BROUGHT, "the newer key is not taken")
    assert code(first) == "400"
    types(revoke_old)
    wait_for(lambda: code(first) == "401", _BROUGHT, "the old key is taken still")
    assert code(second) == "400"
    types(revoke)
    # Nobody has a key any more: whoever shows one is told so.
    wait_for(lambda: code(second) == "503", _BROUGHT, "the revoked key is taken still")
    apply(service_accounts)
    wait_for(lambda: code(types(token).strip()) == "400", _BROUGHT, "the ServiceAccount is not let in")
    assert code(types(f"kubectl create token checkout -n {SHOP}").strip()) == "401"


def test_argo_cd_gets_the_scripts_that_are_shipped(kube: Kube, reader: Reader) -> None:
    kube.kubectl("delete", "namespace", "argocd", "--ignore-not-found", seconds=120)
    kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "argocd"}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "argocd-cm", "namespace": "argocd"},
            "data": {"url": "https://argocd.example.com"},
        },
    )
    try:
        # Those of `slipway pin` need no cluster: tests/models/test_pinned_files.py types them.
        commands = [one.text for one in snippets.commands("docs/gitops.md") if "argocd" in one.text]
        reader.types("\n".join(commands), cwd=ROOT)
        found = kube.get("configmap", "argocd-cm", "argocd")
        assert found is not None
        assert found["data"] == {"url": "https://argocd.example.com", **argocd.customizations()}
    finally:
        kube.kubectl("delete", "namespace", "argocd", "--wait=false")


def _printed() -> list[Any]:
    pages = [
        pytest.param(snippets.as_model_deployment(document), id=str(block))
        for block in snippets.manifests()
        for document in yaml.safe_load_all(block.text)
    ]
    examples = [
        pytest.param(document, id=path.name)
        for path in sorted((ROOT / "examples").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document.get("kind") == "ModelDeployment"
    ]
    return [*pages, *examples]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("manifest", _printed())
def test_a_printed_manifest_is_taken_by_the_api_server(
    kube: Kube, restricted_namespace: str, manifest: dict[str, Any]
) -> None:
    manifest = {
        **manifest,
        "metadata": {"name": manifest["metadata"]["name"], "namespace": restricted_namespace},
    }
    said = kube.kubectl(
        "create", "-f", "-", "--dry-run=server", "--validate=strict", stdin=yaml.safe_dump(manifest)
    )
    assert "created (server dry run)" in said


@pytest.mark.usefixtures("installed")
def test_every_command_of_the_tool_that_a_page_names_answers_about_a_resource(
    kube: Kube, restricted_namespace: str, reader: Reader
) -> None:
    """What serves nothing yet is refused in words, never by a traceback."""
    namespace = restricted_namespace
    kube.apply(
        snippets.as_model_deployment({"scaling": {}})
        | {"metadata": {"name": "fraud", "namespace": namespace}}
    )
    wait_for(lambda: (kube.get("mdep", "fraud", namespace) or {}).get("status"), 30, "nothing is reported")
    for name in ("status", "report", "promote", "promote-full", "abort", "retry", "pause", "resume"):
        block = Block(
            "docs/rollouts.md", 0, "sh", f"kubectl slipway {name} fraud -n {namespace} 2>&1 || true"
        )
        [command] = snippets.commands_of(block)
        said = reader.types(command.text)
        assert "Traceback" not in said
        assert said.startswith(("error: ", f"{namespace}/fraud", "fraud-report.html: ")), said
