"""The manifests that are printed fit the CRD; end to end the API server is asked about the same ones."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from e2e import snippets
from e2e.snippets import ROOT, Block, as_model_deployment
from slipway.api.crd import crd
from slipway.core.observed import Fault
from slipway.core.resource import read
from tests.docs.notes import notes

BLOCKS = snippets.manifests()
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The same without room for fields that are not there, as strict validation has it."""
    node = {
        key: {name: strict(child) for name, child in value.items()} if key == "properties" else value
        for key, value in schema.items()
    }
    if isinstance(node.get("items"), dict):
        node["items"] = strict(node["items"])
    open_ = "additionalProperties" in node or node.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in node and not open_:
        node["additionalProperties"] = False
    return node


SCHEMA = strict(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
SCHEMA["properties"]["metadata"] = {"type": "object"}


def assert_fits(manifest: dict[str, Any]) -> None:
    found = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(manifest)
    ]
    assert found == []
    resource = read({**manifest, "metadata": {"name": "a", "namespace": "b", "uid": "c", "generation": 1}})
    assert not isinstance(resource.spec, Fault), resource.spec
    assert resource.spec.model_dump(mode="json", exclude_unset=True) == manifest["spec"]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_manifest_of_a_page_fits_the_crd(block: Block) -> None:
    for document in yaml.safe_load_all(block.text):
        assert_fits(as_model_deployment(document))


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(document, id=path.name)
        for path in EXAMPLES
        for document in yaml.safe_load_all(path.read_text())
        if document.get("kind") == "ModelDeployment"
    ],
)
def test_an_example_fits_the_crd(manifest: dict[str, Any]) -> None:
    assert_fits(manifest)


def test_the_manifest_of_the_notes_fits_the_crd() -> None:
    [text] = notes().manifests
    assert_fits(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scalling": {}}, "'scalling' was unexpected"),
        ({"scaling": {"minReplicas": 0}}, "0 is less than the minimum of 1"),
        ({"rollout": {"strategy": "Canaries"}}, "is not one of"),
    ],
)
def test_a_wrong_manifest_would_be_found(change: dict[str, Any], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        assert_fits(as_model_deployment(change))


def test_the_pages_print_manifests_at_all() -> None:
    assert {block.page for block in BLOCKS} >= {"README.md", "docs/monitoring.md", "docs/rollouts.md"}
