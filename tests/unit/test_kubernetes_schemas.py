"""What `make chart` finds in a manifest, with a real kubeconform and a small description of an API."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.chart import conform, write_schemas
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import KUBECONFORM, Tools

QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
DESCRIPTION = {
    "definitions": {
        QUANTITY: {"type": "string"},
        "Box": {
            "type": "object",
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "spec": {"$ref": "#/definitions/Spec"},
            },
            "x-kubernetes-group-version-kind": [
                {"group": "example.com", "version": "v1", "kind": "Box"},
                {"group": "", "version": "v1", "kind": "Box"},
            ],
        },
        "Spec": {
            "type": "object",
            "properties": {
                "size": {"$ref": f"#/definitions/{QUANTITY}"},
                "inner": {"$ref": "#/definitions/Spec"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
    }
}


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(folder, DESCRIPTION)
    return folder


def judge(schemas: Path, spec: Any, api_version: str = "example.com/v1") -> subprocess.CompletedProcess[str]:
    program = Tools(read_settings().cache).install(KUBECONFORM)
    manifest = yaml.safe_dump({"apiVersion": api_version, "kind": "Box", "spec": spec})
    return subprocess.run(
        conform(program, schemas), input=manifest, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("api_version", ["example.com/v1", "v1"])
@pytest.mark.parametrize(
    "spec",
    [{}, {"size": "1Gi"}, {"size": 2}, {"inner": {"inner": {"size": 0.5}}}, {"labels": {"any": "thing"}}],
    ids=json.dumps,
)
def test_what_the_api_server_takes_is_well(schemas: Path, spec: Any, api_version: str) -> None:
    done = judge(schemas, spec, api_version)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"sise": "1Gi"}, "additional properties 'sise' not allowed"),
        ({"inner": {"inner": {"colour": "red"}}}, "at '/spec/inner/inner': additional properties"),
        ({"size": [1]}, "at '/spec/size'"),
        ({"labels": {"any": 1}}, "at '/spec/labels/any'"),
        (None, "at '/spec'"),
    ],
    ids=json.dumps,
)
def test_what_the_api_server_would_refuse_is_named_with_its_place(
    schemas: Path, spec: Any, complaint: str
) -> None:
    done = judge(schemas, spec)
    assert done.returncode == 1
    assert complaint in done.stdout


def test_a_kind_without_a_schema_is_an_error(schemas: Path) -> None:
    assert judge(schemas, {}, "example.com/v2").returncode == 1
