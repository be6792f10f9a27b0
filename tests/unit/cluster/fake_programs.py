"""docker, kind, kubectl and what else the kind provider calls, acted in the place where processes start.

They answer and refuse as the real ones do, in as much as the provider looks at it.
`Machine.state` is what they know.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

NO_RUNTIME = 'ctr: failed to dial "/run/containerd/containerd.sock": context deadline exceeded'
TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


class FailedError(Exception):
    """A program ends with exit code 1 and these words."""


def fail(words: str) -> NoReturn:
    raise FailedError(words)


def docker(state: dict[str, Any], words: list[str]) -> None:
    nodes = state["containers"]
    match words:
        case ["info", *_]:
            if not state["engine"]:
                fail("Cannot connect to the Docker daemon")
        case ["version", *_]:
            print(state["client"])
        case ["buildx", *_]:
            if not state["buildx"]:
                fail("docker: unknown command: docker buildx")
        case ["image", "inspect", *_]:
            if words[-1] not in state["images"]:
                fail(f"Error: No such image: {words[-1]}")
        case ["pull", *_]:
            if words[-1] not in state["registry"]:
                fail("dial tcp: lookup registry-1.docker.io: no such host")
            state["images"].append(words[-1])
        case ["ps", *_]:
            print("\n".join(nodes))
        case ["inspect", "--format", form, node]:
            one = nodes[node]
            facts = {
                "{{.State.Status}}": one["state"],
                "{{.State.Running}}": str(one["state"] in ("running", "paused")).lower(),
                "{{.State.Pid}}": str(one["pid"]),
                "{{.Id}}": one["id"],
            }
            for key, fact in facts.items():
                form = form.replace(key, fact)
            print(form)
        case ["start", *started]:
            for node in started:
                if nodes[node]["state"] == "paused":
                    fail("cannot start a paused container, try unpause instead")
                if nodes[node]["state"] != "running":
                    nodes[node] |= {"state": "running", "runtime_after": state["runtime_after"]}
        case ["unpause", *resumed]:
            for node in resumed:
                nodes[node]["state"] = "running"
        case ["rm", *_]:
            del nodes[words[-1]]
        case ["exec", node, "ctr", *_, "--quiet"]:
            if nodes[node]["runtime_after"]:
                nodes[node]["runtime_after"] -= 1
                fail(NO_RUNTIME)
            print("\n".join(nodes[node]["images"]))
        case ["exec", _, "ctr", *_]:
            print(f"{words[-1]} sha256:{'a' * 64}")
        case _:
            fail(f"docker does not know {words}")


def kind(state: dict[str, Any], words: list[str]) -> None:
    def option(name: str) -> str:
        return words[words.index(name) + 1]

    nodes = state["containers"]
    match words:
        case ["create", "cluster", *_]:
            config = Path(option("--config")).read_text()
            if state["create"] == "fails":
                fail("ERROR: failed to create cluster: node image")
            for number in range(config.count("role:")):
                name = (
                    "slipway-control-plane" if not number else f"slipway-worker{number if number > 1 else ''}"
                )
                nodes[name] = container(name, state["create"] != "leaves nodes")
            if state["create"] == "leaves nodes":
                fail("ERROR: failed to create cluster: interrupted")
            Path(option("--kubeconfig")).write_text("kubeconfig")
        case ["delete", "cluster", *_]:
            if state["create"] == "leaves nodes":
                fail("ERROR: failed to delete nodes")
            nodes.clear()
        case ["export", "kubeconfig", *_]:
            Path(option("--kubeconfig")).write_text("kubeconfig")
        case ["load", "image-archive", archive, *_]:
            with tarfile.open(archive) as opened:
                manifest = opened.extractfile("manifest.json")
                assert manifest is not None
                names = json.load(manifest)[0]["RepoTags"]
            for node in nodes.values():
                node["images"] += names


def container(name: str, ready: bool = True) -> dict[str, Any]:
    return {
        "state": "running",
        "ready": ready,
        "pid": 4000000,
        "id": "c0ffee" * 10 + "1234",
        "images": [],
        "runtime_after": 0,
        "taints": [],
    } | ({"taints": [TAINT]} if "control-plane" in name else {})


def kubectl(state: dict[str, Any], words: list[str], stdin: bytes) -> None:
    nodes = state["containers"]
    first = nodes.get("slipway-control-plane", {"state": "absent"})
    if first["state"] != "running" or not state["api"]:
        fail("connection refused")
    match words[1:]:
        case ["get", "--raw", "/readyz", *_]:
            print("ok", end="")
        case ["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes", *_]:
            print(json.dumps({"items": [{}] * len(nodes)}))
        case ["get", "nodes", *_]:
            print(json.dumps({"items": [node(name, one) for name, one in nodes.items()]}))
        case ["taint", "nodes", name, taint, *_]:
            key = taint.removesuffix("-").split(":")[0]
            if key not in [one["key"] for one in nodes[name]["taints"]]:
                fail(f'error: taint "{key}" not found')
            nodes[name]["taints"] = [one for one in nodes[name]["taints"] if one["key"] != key]
        case ["apply", *_]:
            state["applied"].append(stdin.decode())


def node(name: str, one: dict[str, Any]) -> dict[str, Any]:
    ready = one["ready"] and one["state"] == "running"
    condition = {
        "type": "Ready",
        "status": str(ready),
        "message": "kubelet is posting" if ready else "stopped",
    }
    return {
        "metadata": {"name": name},
        "spec": {"taints": one["taints"]},
        "status": {"conditions": [condition]},
    }


class Machine:
    """A machine with Docker, on which a test says what is there."""

    def __init__(self, **facts: Any) -> None:
        self.state: dict[str, Any] = {
            "engine": True,
            "client": "28.2.2",
            "buildx": True,
            "images": [],
            "registry": [],
            "containers": {},
            "runtime_after": 0,
            "create": "works",
            "api": True,
            "applied": [],
            "calls": [],
            **facts,
        }

    def set(self, **facts: Any) -> None:
        self.state |= facts

    def change(self, node: str, **facts: Any) -> None:
        self.state["containers"][node] |= facts

    def called(self, *words: str) -> list[list[str]]:
        """Calls that begin so, by the program's name without its version."""
        calls = [[call[0].split("-")[0], *call[1:]] for call in self.state["calls"]]
        return [call for call in calls if call[: len(words)] == list(words)]

    def run(self, argv: list[Any], **fed: Any) -> subprocess.CompletedProcess[bytes]:
        """In place of `subprocess.run`."""
        name, words = Path(argv[0]).name, [str(word) for word in argv[1:]]
        self.state["calls"].append([name, *words])
        said, code = io.StringIO(), 0
        with redirect_stdout(said), redirect_stderr(said):
            try:
                self._act(name, words, fed.get("input") or b"")
            except FailedError as failed:
                print(failed)
                code = 1
        out = said.getvalue().encode()
        return subprocess.CompletedProcess(argv, code, b"" if code else out, out if code else b"")

    def _act(self, name: str, words: list[str], stdin: bytes) -> None:
        match name:
            case "docker":
                docker(self.state, words)
            case "kubectl":
                kubectl(self.state, words, stdin)
            case "busybox-static":
                print("sh\nwget")
            case _ if name.startswith("kind-"):
                kind(self.state, words)
            case _:
                fail(f"no program {name} here")
