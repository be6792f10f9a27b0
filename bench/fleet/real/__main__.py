"""`python -m bench.fleet.real`: from `kubectl apply` to Ready, and from a moved alias to the canary's answer.

On the test cluster that is up, with this checkout's images and MLflow, in a namespace of its own, which is
deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console

from bench import tables
from bench.fleet.__main__ import RESULTS
from bench.fleet.goals import Row
from bench.fleet.real.figures import NAMES, Round, beside, grids, rows
from bench.fleet.real.timeline import READY, Timeline, watching
from bench.machine import machine
from bench.tables import MET, Grid
from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import KUBERNETES_VERSION
from e2e.kube import Kube
from e2e.load import Load, loading
from e2e.load.client import Plan
from e2e.tests.installation import (
    RELEASE,
    SYSTEM_NAMESPACE,
    WEBHOOK_TOKEN,
    Installation,
    install,
    temporary_namespace,
)
from e2e.tests.registry import Registry
from e2e.tests.rollout import RESOURCES, Rollout, again, tensor

WEBHOOK_PORT = 8083
#: Requests a second while an alias moves: of a tenth of them, the first comes within 0.1 s.
RATE = 100.0
WEIGHT = 10
PATIENCE_SECONDS = 120.0


def main() -> int:
    """Measure both, print and write what was found; returns the exit code."""
    arguments = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    found: dict[str, list[Round]] = {}
    load = os.getloadavg()[0]
    code = 0
    try:
        settings = read_settings()
        if not settings.kubeconfig.exists():
            raise ClusterError("no cluster is up: run make cluster-up images first")
        kube = Kube.of(settings)
        installed = install(settings, kube)
        with (
            _registry(kube) as mlflow,
            temporary_namespace(kube, "bench") as namespace,
            watching(settings.kubeconfig, namespace) as timeline,
        ):
            bench = _Bench(installed, mlflow, namespace, timeline)
            for name, measure in zip(NAMES, (bench.applied, bench.moved), strict=True):
                found[name] = []
                for one in measure(arguments.rounds):
                    found[name].append(one)
                    console.print(f"{name}: {one.seconds:.2f} s")
                    _write(found, arguments.output, load)
    except (ClusterError, AssertionError, httpx.HTTPError) as error:
        # What was found until then stays.
        print(f"bench: {error}", file=sys.stderr)
        code = 1
    if found:
        tables.show(_all_grids(found), console)
    return code


class _Bench:
    """A namespace of the cluster, and what is measured there."""

    def __init__(self, installed: Installation, mlflow: Registry, namespace: str, timeline: Timeline) -> None:
        self._installed = installed
        self._kube = installed.kube
        self._mlflow = mlflow
        self._namespace = namespace
        self._timeline = timeline
        self._token = secrets.token_hex(3)
        self._number = 1

    def applied(self, rounds: int) -> Iterator[Round]:
        """`kubectl apply` of a new model, kubectl's start included, to Ready; the first brings the image."""
        for number in range(rounds + 1):
            name, model = f"applied-{number}", f"applied-{self._token}-{number}"
            uri = f"mlflow://{model}/{self._version(model)}"
            resource = _resource(name, self._namespace, uri)
            began = self._timeline.begin(name)
            self._kube.apply(resource)
            taken = time.time()
            self._expect(READY, f"{name} is not Ready")
            phases = {"kubectl has applied it": taken, **self._timeline.moments}
            self._kube.kubectl("delete", "modeldeployment", name, f"--namespace={self._namespace}")
            if number:
                yield _round(began, phases[READY], phases)

    def moved(self, rounds: int) -> Iterator[Round]:
        """An alias that moves while requests come, to the first that the canary answers.

        The first round is another one: there is no router yet.
        """
        name, model = "moved", f"moved-{self._token}"
        self._version(model, "champion")
        rollout = Rollout(self._kube, self._namespace, name)
        steps = {"strategy": "Canary", "steps": [{"setWeight": WEIGHT}, {"pause": {"untilApproved": True}}]}
        uri = f"mlflow://{model}@champion"
        rollout.apply(uri, steps, model={"uri": uri, "refreshSeconds": 0})
        rollout.wait_for_stable("1")
        plan = Plan(
            url=f"http://{name}.{self._namespace}.svc/v2/models/{name}/infer",
            inputs=[[tensor("x", [1.0, 2.0, 3.0])]],
            answers=None,
            rate=RATE,
            kept=6,
            patient=0,
            fresh=2,
        )
        service = f"service/{RELEASE}-webhook"
        with (
            loading(self._kube, self._namespace, self._installed.server_image, plan) as load,
            self._kube.port_forward(service, SYSTEM_NAMESPACE, WEBHOOK_PORT) as url,
            httpx.Client(base_url=url, timeout=60, trust_env=False) as webhook,
        ):
            webhook.headers["authorization"] = f"Bearer {WEBHOOK_TOKEN}"
            load.wait_for(200, 60)
            for _ in range(rounds):
                # It takes a second write of the same webhook to wait a second.
                version = self._version(model)
                began = self._timeline.begin(name)
                self._mlflow.set_alias(model, "champion", version)
                told = time.time()
                webhook.post(f"/refresh/{self._namespace}/{name}").raise_for_status()
                phases = {"alias moved": told, "webhook answered": time.time()}
                first = _first_answer(load, version)
                phases |= self._timeline.moments
                phases.pop(READY, None)
                yield _round(began, first, {**phases, "first request answered by the canary": first})
                rollout.say("promote")
                rollout.wait_for_stable(version)

    def _version(self, model: str, alias: str | None = None) -> str:
        """Register another model as the next version of a name."""
        self._number += 1
        return self._mlflow.register(model, again(self._number, str(self._number)), alias)

    def _expect(self, phase: str, otherwise: str) -> None:
        if not self._timeline.wait_for(phase, PATIENCE_SECONDS):
            raise ClusterError(f"{otherwise} after {PATIENCE_SECONDS:.0f} s: {self._timeline.moments}")


def _first_answer(load: Load, version: str) -> float:
    until = time.monotonic() + PATIENCE_SECONDS
    while (first := load.so_far().get("first", {}).get(version)) is None:
        if time.monotonic() > until:
            raise ClusterError(f"the canary {version} answers nothing after {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.5)
    return float(first)


def _round(began: float, ended: float, phases: Mapping[str, float]) -> Round:
    return Round(round(ended - began, 3), {name: round(at - began, 3) for name, at in phases.items()})


def _resource(name: str, namespace: str, uri: str) -> dict[str, object]:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": uri, "refreshSeconds": 0},
            "runtime": {"resources": RESOURCES},
            "scaling": {"maxReplicas": 1},
        },
    }


@contextmanager
def _registry(kube: Kube) -> Iterator[Registry]:
    with kube.port_forward("service/mlflow", "mlflow", 5000) as url:
        yield Registry(url)


def _all_grids(found: Mapping[str, list[Round]]) -> Iterator[Grid]:
    goals: list[Row] = list(rows(found))
    lines = [(row.what, row.goal, row.found, MET[row.met]) for row in goals]
    yield Grid("goals on the real cluster", ("what", "goal", "measured", ""), lines)
    yield from grids(found)


def _write(found: Mapping[str, list[Round]], output: Path, load: float) -> None:
    there, when = machine(), datetime.now(UTC).isoformat(timespec="seconds")
    document = {
        "when": when,
        "machine": there,
        "kubernetes": KUBERNETES_VERSION,
        "load_average": round(load, 2),
        "rounds": {name: [asdict(one) for one in rounds] for name, rounds in found.items()},
    }
    place = beside(output)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    how = (
        f"{there['cpu']}, {there['cores']} cores for the whole cluster, Kubernetes {KUBERNETES_VERSION}, "
        f"{when}; load average {load:.1f} before."
    )
    page = [f"<!-- Written by make bench-fleet-real. --> {how}", "", tables.markdown(_all_grids(found))]
    place.with_suffix(".md").write_text("\n".join(page).rstrip() + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet.real", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (5)")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="the fleet's figures, next to which these go"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
