"""What deployers make of a ModelDeployment, by their own libraries."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cel
import yaml

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import Tools

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SAMPLES = ROOT / "charts/slipway/argocd/slipway.dev/ModelDeployment"
#: Flux's states for those of Argo CD.
FLUX = {"Progressing": "InProgress", "Healthy": "Current", "Suspended": "InProgress", "Degraded": "Failed"}


@functools.cache
def _program(name: str) -> str:
    """Built by the first call."""
    return str(Tools(read_settings().cache).build(name, HERE / name))


def kstatus(*resources: Mapping[str, Any]) -> list[str]:
    """Their states by sigs.k8s.io/cli-utils/pkg/kstatus."""
    return _asked([_program("kstatus")], resources)


def flux(*resources: Mapping[str, Any]) -> list[str]:
    """Their states by Flux's own evaluator of healthCheckExprs."""
    return _asked([_program("flux"), json.dumps(expressions())], resources)


def _asked(command: Sequence[str], resources: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = "".join(f"{json.dumps(resource)}\n" for resource in resources)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line)["status"] for line in done.stdout.splitlines()]


@functools.cache
def expressions() -> dict[str, str]:
    """Those of the example."""
    documents = yaml.safe_load_all((ROOT / "examples/flux/models.yaml").read_text())
    [kustomization] = [each for each in documents if each["kind"] == "Kustomization"]
    [of_models] = kustomization["spec"]["healthCheckExprs"]
    return {name: of_models[name] for name in ("inProgress", "failed", "current")}


def by_expressions(resource: Mapping[str, Any]) -> str:
    """The state by the example's expressions; Unknown, which Flux waits on, where one cannot be evaluated.

    Flux's order: https://github.com/fluxcd/flux2/tree/main/rfcs/0009-custom-health-checks
    """
    observed = (resource.get("status") or {}).get("observedGeneration")
    if observed is not None and observed != resource["metadata"].get("generation", observed):
        return "InProgress"
    context = cel.Context(variables=dict(resource))
    for name, state in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        try:
            if cel.compile(expressions()[name]).execute(context) is True:
                return state
        except (ValueError, TypeError, RuntimeError):
            return "Unknown"
    return "InProgress"


def samples() -> dict[str, tuple[dict[str, Any], str]]:
    """Resources in every state, by name, and their health in Argo CD."""
    cases = yaml.safe_load((SAMPLES / "health_test.yaml").read_text())["tests"]
    return {
        Path(case["inputPath"]).stem: (
            yaml.safe_load((SAMPLES / case["inputPath"]).read_text()),
            case["healthStatus"]["status"],
        )
        for case in cases
    }
