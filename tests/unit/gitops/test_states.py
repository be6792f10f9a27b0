"""A ModelDeployment's state, as kstatus and Flux see it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from e2e.cluster.tools import module
from slipway.api.crd import crd
from slipway.cli.cluster import MANAGER
from tests.docs.test_manifests import strict
from tests.unit.gitops.seen import FLUX, ROOT, by_expressions, flux, kstatus, samples

SAMPLES = samples()
RESOURCES = [resource for resource, _ in SAMPLES.values()]
#: What has no status has no field that an expression could read: Flux asks again until its timeout.
EXPECTED = ["Unknown" if "status" not in one else FLUX[health] for one, health in SAMPLES.values()]


def test_kstatus_sees_what_argo_cd_sees_but_where_the_page_says_so() -> None:
    found = dict(zip(SAMPLES, kstatus(*RESOURCES), strict=True))
    page = (ROOT / "docs/gitops.md").read_text()
    others = {"new-with-a-crd-of-before": "Current", "condition-of-an-older-generation": "Current"}
    assert "It differs in one case: a rollout that waits for a person is Current" in page
    for name, (_, health) in SAMPLES.items():
        waits = health == "Suspended"
        assert found[name] == others.get(name, "Current" if waits else FLUX[health]), name


def test_kstatus_waits_for_what_the_operator_has_not_seen() -> None:
    """What the API server gives it, by the default of the CRD."""
    new = SAMPLES["new"][0]
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert new["status"] == schema["default"]
    assert kstatus(new, {**new, "status": {}}) == ["InProgress", "Current"]


def test_kstatus_sees_a_change_that_was_not_observed_and_a_deletion() -> None:
    serving = SAMPLES["serving"][0]
    changed = {**serving, "metadata": {**serving["metadata"], "generation": 9}}
    deleted = {**serving, "metadata": {**serving["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z"}}
    assert kstatus(serving, changed, deleted) == ["Current", "InProgress", "Terminating"]


def test_the_expressions_for_flux_see_what_argo_cd_sees() -> None:
    """Its Suspended is in progress to Flux, which has no such state."""
    assert [by_expressions(resource) for resource in RESOURCES] == EXPECTED


@pytest.mark.long
def test_fluxs_own_code_reads_the_expressions_in_the_same_way() -> None:
    """It takes minutes to build."""
    assert flux(*RESOURCES) == EXPECTED


def test_flux_takes_back_nothing_that_a_command_wrote() -> None:
    """It takes over fields of managers whose names begin so: kustomizecontroller's ``fieldManagers``."""
    assert not MANAGER.startswith(("kubectl", "before-first-apply", "kustomize-controller", "helm"))


CRDS = {
    "Kustomization": ("kustomize-controller", "v1.7.3", "kustomize.toolkit.fluxcd.io_kustomizations.yaml"),
    "HelmRelease": ("helm-controller", "v1.4.3", "helm.toolkit.fluxcd.io_helmreleases.yaml"),
    "GitRepository": ("source-controller", "v1.7.3", "source.toolkit.fluxcd.io_gitrepositories.yaml"),
}
DOCUMENTS = [
    document
    for name in ("operator", "models")
    for document in yaml.safe_load_all((ROOT / f"examples/flux/{name}.yaml").read_text())
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_an_example_for_flux_fits_fluxs_own_crd(document: dict[str, Any]) -> None:
    controller, version, file = CRDS[document["kind"]]
    folder = module(f"github.com/fluxcd/{controller}", version)
    crd = yaml.safe_load((folder / "config/crd/bases" / file).read_text())
    group, named = document["apiVersion"].split("/")
    assert crd["spec"]["group"] == group
    [schema] = [
        each["schema"]["openAPIV3Schema"] for each in crd["spec"]["versions"] if each["name"] == named
    ]
    checked = strict(schema)
    checked["properties"]["metadata"] = {"type": "object"}
    assert [error.message for error in Draft202012Validator(checked).iter_errors(document)] == []


def test_the_release_of_the_example_takes_values_that_the_chart_has() -> None:
    [release] = [one for one in DOCUMENTS if one["kind"] == "HelmRelease"]
    schema = yaml.safe_load((ROOT / "charts/slipway/values.schema.json").read_text())
    values = yaml.safe_load((ROOT / "charts/slipway/values.yaml").read_text())
    given = release["spec"]["values"]
    assert set(given) <= set(values)
    merged = {**values, **{name: {**values[name], **value} for name, value in given.items()}}
    assert [error.message for error in Draft202012Validator(schema).iter_errors(merged)] == []
