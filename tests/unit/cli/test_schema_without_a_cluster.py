"""`plan --offline` refuses what the API server refuses, in its words: one table holds both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.tests.schema_cases import EXAMPLE, GATEWAY, Case, constraints, example, nodes, with_value
from e2e.tests.schema_table import CASES
from e2e.tests.test_schema import SCHEMA, WRONG_TYPE
from slipway.cli.schema import complaints
from slipway.names import API_VERSION, KIND
from tests.unit.core.generated import make_spec

ROOT = Path(__file__).parents[3]
SPEC_ONLY = {key: value for key, value in EXAMPLE.items() if key != "status"}
#: Status is the operator's: a plan does not look at the one in a file.
OF_SPEC = [case for case in CASES if not case.place.startswith("status")]


def tried(case: Case, value: Any) -> list[tuple[str, str]]:
    whole = {key: part for key, part in example(case.place).items() if key != "status"}
    found = [said.partition(": ") for said in complaints(with_value(case.place, value, whole))]
    return [(field.replace("[disktype]", ".disktype"), words) for field, _, words in found]


def test_all_that_the_spec_is_held_to_is_tried() -> None:
    wanted = {found for found in constraints(SCHEMA) if not found[0].startswith("status")}
    assert len({(case.path, case.constraint) for case in OF_SPEC}) > 300
    assert {path for path, _ in wanted} <= {case.path for case in OF_SPEC}


@pytest.mark.parametrize("case", OF_SPEC, ids=str)
def test_a_constraint_takes_one_neighbour_and_refuses_the_other(case: Case) -> None:
    assert tried(case, case.accepts) == []
    found = tried(case, case.refuses)
    meant = [words for field, words in found if field == case.field]
    assert any(case.says in words for words in meant), found
    others = [words for field, words in found if field != case.field]
    assert all(case.also and case.also in words for words in others), others


@pytest.mark.parametrize("path", [path for path, _ in nodes(SCHEMA) if path.split(".")[0] == "spec"])
def test_a_value_of_the_wrong_type_is_refused(path: str) -> None:
    node = dict(nodes(SCHEMA))[path]
    wanted, wrong = ("integer,string", []) if "type" not in node else (node["type"], WRONG_TYPE[node["type"]])
    case = Case(path, "type", None, wrong, f"must be of type {wanted}: ")
    found = tried(case, wrong)
    assert any(field == case.field and case.says in words for field, words in found), found


@pytest.mark.parametrize("manifest", [SPEC_ONLY, with_value("spec.traffic", GATEWAY, SPEC_ONLY)])
def test_an_example_with_every_field_is_taken(manifest: dict[str, Any]) -> None:
    assert complaints(manifest) == []


@pytest.mark.parametrize("file", ["quickstart.yaml", "watched-canary.yaml", "cuda.yaml"])
def test_an_example_that_ships_is_taken(file: str) -> None:
    assert complaints(yaml.safe_load((ROOT / "examples" / file).read_text())) == []


@pytest.mark.parametrize(
    "place", ["spec", "spec.model", "spec.runtime", "spec.runtime.affinity", "spec.scaling"]
)
def test_an_unknown_field_is_refused(place: str) -> None:
    assert complaints(with_value(f"{place}.surprise", 1, SPEC_ONLY)) == [f'unknown field "{place}.surprise"']


def test_metadata_and_affinity_hold_what_the_schema_does_not_name() -> None:
    term = {"topologyKey": "zone"}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    found = with_value("spec.runtime.affinity", affinity, SPEC_ONLY)
    assert complaints(with_value("metadata.labels", {"team": "risk"}, found)) == []


def test_what_is_checked_is_left_as_it_was() -> None:
    manifest = {**SPEC_ONLY, "spec": {"model": {"uri": "mlflow://fraud@champion"}, "runtime": None}}
    assert complaints(manifest) == []
    assert manifest["spec"] == {"model": {"uri": "mlflow://fraud@champion"}, "runtime": None}


@pytest.mark.parametrize("seed", range(60))
def test_the_specs_that_properties_are_tried_on_are_valid(seed: int) -> None:
    meta = {"name": "made", "namespace": "payments"}
    made = {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": make_spec(seed)}
    assert complaints(made) == []
