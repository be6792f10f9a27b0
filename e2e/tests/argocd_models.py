"""Models that Argo CD's tests commit, and Applications of them."""

from __future__ import annotations

from typing import Any

import yaml

from e2e.images.catalog import ROOT
from e2e.kube import Object
from e2e.tests.argocd_stage import Repository
from e2e.tests.rollout import QUICK, RESOURCES

EXAMPLES = ROOT / "examples" / "argocd"
#: Asks a person at half of the traffic.
APPROVED = [{"setWeight": 50}, {"pause": {"untilApproved": True}}]
#: How an Application may be applied, and compared with Git: its sync options and its compare options.
WAYS: dict[str, tuple[list[str], str]] = {
    "applied by the client": ([], ""),
    "applied by the server": (["ServerSideApply=true"], ""),
    "applied and compared by the server": (["ServerSideApply=true"], "ServerSideDiff=true"),
}


def example(name: str, repository: Repository, **changes: Any) -> Object:
    """A shipped example, from a repository of the test's own."""
    found: Object = yaml.safe_load((EXAMPLES / name).read_text())
    spec = found["spec"]["template"]["spec"] if found["kind"] == "ApplicationSet" else found["spec"]
    spec["source"]["repoURL"] = repository.url
    return {**found, **changes}


def model(namespace: str, uri: str, name: str = "fraud", **spec: Any) -> Object:
    """One that asks a person at half of the traffic."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"uri": uri, "refreshSeconds": 5},
            "runtime": {"resources": RESOURCES},
            "scaling": {"minReplicas": 1, "maxReplicas": 2},
            "rollout": {**QUICK, "strategy": "Canary", "steps": APPROVED},
            **spec,
        },
    }


def models_application(
    name: str, repository: Repository, namespace: str, way: str = "applied by the server"
) -> Object:
    """The shipped Application of models, for a folder of its name."""
    found = example("models.yaml", repository)
    found["metadata"]["name"] = name
    found["spec"]["source"]["path"] = name
    found["spec"]["destination"]["namespace"] = namespace
    found["spec"]["syncPolicy"]["syncOptions"], compared = WAYS[way]
    found["metadata"]["annotations"] = {"argocd.argoproj.io/compare-options": compared}
    return found
