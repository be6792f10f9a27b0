"""The examples fit the resource; the API server's own view of them is asked for end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slipway.core.observed import Fault
from slipway.core.resource import read

EXAMPLES = Path(__file__).parents[3] / "examples"
RESOURCES = [
    (path.name, document)
    for path in sorted(EXAMPLES.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document.get("kind") == "ModelDeployment"
]


@pytest.mark.parametrize(("name", "manifest"), RESOURCES, ids=[name for name, _ in RESOURCES])
def test_an_example_can_be_read_and_has_no_field_that_is_not_there(
    name: str, manifest: dict[str, object]
) -> None:
    resource = read({**manifest, "metadata": {"name": "a", "namespace": "b", "uid": "c", "generation": 1}})
    assert not isinstance(resource.spec, Fault), name
    written = resource.spec.model_dump(mode="json", exclude_unset=True)
    assert written == manifest["spec"]
