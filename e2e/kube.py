"""kubectl on the test cluster, as functions that return what it printed."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from e2e.cluster.command import run
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import Settings
from e2e.cluster.tools import Tools

#: A Kubernetes object as the API server speaks of it.
Object = dict[str, Any]

CALL_SECONDS = 60.0


@dataclass(frozen=True)
class Kube:
    """One cluster, through its kubeconfig; every call raises ClusterError with kubectl's own last words."""

    program: Path
    kubeconfig: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The cluster that `e2e.cluster up` made for these settings."""
        return cls(Tools(settings.cache).bin / "kubectl", settings.kubeconfig)

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = CALL_SECONDS) -> str:
        """Run kubectl to its end and return its output."""
        argv: list[str | Path] = [self.program, f"--kubeconfig={self.kubeconfig}", *words]
        return run(argv, stdin=None if stdin is None else stdin.encode(), timeout=seconds)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None where there is none of that name."""
        words = ["get", kind, name, "--ignore-not-found", "-o", "json", *_in(namespace)]
        said = self.kubectl(*words)
        found: Object | None = json.loads(said) if said.strip() else None
        return found

    def items(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or in all, that a label selector picks."""
        where = _in(namespace) or ["--all-namespaces"]
        found: list[Object] = json.loads(
            self.kubectl("get", kind, *where, f"--selector={selector}", "-o", "json")
        )["items"]
        return found

    def apply(self, *objects: Mapping[str, Any]) -> str:
        """`kubectl apply` objects in the order given; returns one line for each."""
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects, sort_keys=False))

    def apply_file(self, path: Path, namespace: str) -> str:
        """`kubectl apply` a file as a user would; `namespace` is for objects that name none."""
        return self.kubectl("apply", "-f", str(path), f"--namespace={namespace}")

    def ensure_namespace(self, name: str) -> None:
        """Make a namespace that admits only pods of the restricted standard."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def wait_for_rollout(self, target: str, namespace: str, seconds: float) -> None:
        """Wait until every replica of `deployment/NAME` runs what is asked for and is ready."""
        words = ["rollout", "status", target, f"--namespace={namespace}", f"--timeout={seconds:.0f}s"]
        try:
            self.kubectl(*words, seconds=seconds + CALL_SECONDS)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self._explain(target, namespace)}") from error

    def _explain(self, target: str, namespace: str) -> str:
        """Pods, warnings and the last lines logged: what a person would look at first."""
        questions = (
            ("get", "pods"),
            ("get", "events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"),
            ("logs", target, "--all-containers", "--tail=10"),
        )
        answers = []
        for words in questions:
            try:
                answers.append(self.kubectl(*words, f"--namespace={namespace}"))
            except ClusterError as error:
                answers.append(str(error))
        return "\n".join(answer[-2000:] for answer in answers)

    @contextmanager
    def port_forward(self, target: str, namespace: str, port: int) -> Iterator[str]:
        """Carry a port of `service/NAME` or `pod/NAME` to loopback; yields `http://127.0.0.1:PORT`.

        A Service is carried to one of its pods, as kubectl does. A forward ends with that pod, and with the
        API server that it goes through; it is then begun again at the same port.
        """
        where = ("--address=127.0.0.1", f"--namespace={namespace}")
        argv = [str(self.program), f"--kubeconfig={self.kubeconfig}", "port-forward", target]
        first = _Forward([*argv, f":{port}", *where])
        over = threading.Event()

        def keep() -> None:
            current = first
            while True:
                current.wait()
                if over.wait(1):
                    return
                current = _Forward([*argv, f"{first.port}:{port}", *where], check=False)
                processes.append(current.process)

        processes = [first.process]
        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            yield f"http://127.0.0.1:{first.port}"
        finally:
            over.set()
            while keeper.is_alive():
                processes[-1].terminate()
                keeper.join(0.1)


class _Forward:
    """One `kubectl port-forward`, as soon as it listens."""

    def __init__(self, argv: list[str], *, check: bool = True) -> None:
        """Raises ClusterError where it does not come to listen, unless ``check`` is false."""
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", self.process.stdout.readline())
        self.port = found[1] if found is not None else ""
        if found is None and check:
            self.process.wait(CALL_SECONDS)
            raise ClusterError(f"{' '.join(argv)} failed: {self.process.stderr.read().strip()}")

    def wait(self) -> None:
        """Wait for its end. It says a line for each connection, which somebody has to take."""
        assert self.process.stdout is not None
        for _ in self.process.stdout:
            pass
        self.process.wait()


def _in(namespace: str | None) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []
