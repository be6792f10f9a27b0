"""The specs that unit tests make up are taken by the API server: their properties are of real ones."""

from __future__ import annotations

import pytest
import yaml

from e2e.kube import Kube
from tests.unit.core.generated import make_spec

SPECS = 60


@pytest.mark.usefixtures("installed")
def test_specs_that_properties_are_tried_on_are_taken_by_the_api_server(kube: Kube, namespace: str) -> None:
    manifests = [
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": f"made-{seed}", "namespace": namespace},
            "spec": make_spec(seed),
        }
        for seed in range(SPECS)
    ]
    said = kube.kubectl(
        "create", "-f", "-", "--dry-run=server", "--validate=strict", stdin=yaml.safe_dump_all(manifests)
    )
    assert said.count("created (server dry run)") == SPECS
