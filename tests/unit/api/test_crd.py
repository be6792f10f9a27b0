"""Rules of the conversion from pydantic's JSON Schema to a structural schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from slipway.api.container import Requests
from slipway.api.crd import CHART_PATH, CRD_PATH, CrdError, crd, files, structural
from slipway.api.generated import ROOT
from slipway.api.status import ModelDeploymentStatus
from slipway.api.types import MESSAGE_KEY, ModelDeploymentSpec
from tests.unit.api.test_examples import RESOURCES


def only(**fields: Any) -> dict[str, Any]:
    """The structural schema of a model's one field."""
    model = type(
        "Model",
        (BaseModel,),
        {
            "__annotations__": {name: kind for name, (kind, _) in fields.items()},
            **{name: default for name, (_, default) in fields.items() if default is not None},
        },
    )
    [field] = structural(model)["properties"].values()
    assert isinstance(field, dict)
    return field


class Inner(BaseModel):
    """What the inner block is."""

    count: int = Field(default=3, ge=1, le=5)
    note: str = Field(default="", max_length=8)


def test_a_reference_is_written_out_and_the_field_describes_itself() -> None:
    assert only(inner=(Inner, Field(description="What it is here."))) == {
        "description": "What it is here.",
        "type": "object",
        "properties": {
            "count": {"type": "integer", "format": "int32", "default": 3, "minimum": 1, "maximum": 5},
            "note": {"type": "string", "maxLength": 8},
        },
    }
    assert only(inner=(Inner, Field()))["description"] == "What the inner block is."


def test_an_optional_field_is_not_nullable_and_its_bounds_stand_on_the_field() -> None:
    assert only(name=(Annotated[str, Field(pattern="^a")] | None, Field(default=None, max_length=5))) == {
        "type": "string",
        "maxLength": 5,
        "pattern": "^a",
    }


def test_a_constant_becomes_an_enum_of_one() -> None:
    assert only(kind=(Literal["CPU"], "CPU")) == {"type": "string", "enum": ["CPU"], "default": "CPU"}


def test_an_exclusive_bound_of_an_integer_becomes_inclusive() -> None:
    assert only(count=(int, Field(gt=0, lt=10))) == {
        "type": "integer",
        "format": "int32",
        "minimum": 1,
        "maximum": 9,
    }


def test_an_integer_without_an_upper_bound_takes_64_bits() -> None:
    assert only(count=(int, Field(ge=0)))["format"] == "int64"


def test_integer_or_string_becomes_the_one_form_that_kubernetes_knows() -> None:
    text = Annotated[str, Field(max_length=9, pattern="^[0-9]+m?$", json_schema_extra={MESSAGE_KEY: "no"})]
    kind = Annotated[
        Annotated[int, Field(ge=0)] | text, Field(json_schema_extra={"x-kubernetes-int-or-string": True})
    ]
    assert only(amount=(kind, Field(default="1m"))) == {
        "x-kubernetes-int-or-string": True,
        "default": "1m",
        "minimum": 0,
        "maxLength": 9,
        "x-kubernetes-validations": [
            {"rule": 'type(self) == int || self.matches("^[0-9]+m?$")', "message": "no"}
        ],
    }


def test_a_pattern_with_a_message_becomes_a_rule_and_comes_before_the_others() -> None:
    extra: dict[str, Any] = {
        MESSAGE_KEY: "a dot",
        "x-kubernetes-validations": [{"rule": "true", "message": "x"}],
    }
    field = only(name=(str, Field(max_length=5, pattern=r"^\.$", json_schema_extra=extra)))
    assert "pattern" not in field
    assert field["x-kubernetes-validations"] == [
        {"rule": r'self.matches("^\\.$")', "message": "a dot"},
        {"rule": "true", "message": "x"},
    ]


def test_a_map_keeps_its_bound_and_rules_on_keys_become_cel() -> None:
    key = Annotated[
        str, Field(max_length=9, pattern="^a", json_schema_extra={MESSAGE_KEY: "keys start with a"})
    ]
    assert only(labels=(dict[key, Annotated[str, Field(max_length=3)]], Field(max_length=2))) == {
        "type": "object",
        "maxProperties": 2,
        "x-kubernetes-validations": [
            {"rule": "self.all(key, key.size() <= 9)", "message": "keys must have at most 9 characters"},
            {"rule": 'self.all(key, key.matches("^a"))', "message": "keys start with a"},
        ],
        "additionalProperties": {"type": "string", "maxLength": 3},
    }


def test_a_map_of_anything_keeps_what_it_does_not_know() -> None:
    assert only(rest=(dict[str, Any], Field(default={}))) == {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_a_list_is_atomic_and_a_set_is_a_set() -> None:
    word = Annotated[str, Field(max_length=3)]
    assert only(words=(list[word], Field(max_length=2)))["x-kubernetes-list-type"] == "atomic"
    found = only(words=(set[word], Field(max_length=2)))
    assert (found["x-kubernetes-list-type"], "uniqueItems" in found) == ("set", False)


def test_forbidding_unknown_fields_is_left_to_the_api_server() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")

        name: str = Field(max_length=3)

    assert "additionalProperties" not in structural(Strict)


def test_a_default_block_is_empty_so_that_its_fields_fill_it() -> None:
    assert only(inner=(Inner, Field(default=Inner())))["default"] == {}


def test_a_default_block_with_rules_is_written_out_because_its_rules_see_it_unfilled() -> None:
    class Ruled(Inner):
        model_config = ConfigDict(
            json_schema_extra={"x-kubernetes-validations": [{"rule": "self.count > 0", "message": "x"}]}
        )

    assert only(inner=(Ruled, Field(default=Ruled())))["default"] == {"count": 3}


def test_a_default_block_that_its_fields_do_not_make_is_refused() -> None:
    with pytest.raises(CrdError, match=r"inner: the block's default is \{'count': 4\}"):
        only(inner=(Inner, Field(default=Inner(count=4))))


def test_an_empty_default_says_nothing_and_is_dropped_but_zero_and_false_are_kept() -> None:
    assert "default" not in only(name=(str, Field(default="", max_length=3)))
    assert only(flag=(bool, False))["default"] is False
    assert only(count=(int, 0))["default"] == 0


class Tree(BaseModel):
    branch: Tree | None = None


@pytest.mark.parametrize(
    ("kind", "field", "says"),
    [
        (str, Field(), "field: needs maxLength"),
        (list[int], Field(), "field: needs maxItems"),
        (dict[str, int], Field(), "field: needs maxProperties"),
        (list[str], Field(max_length=3), r"field\.\*: needs maxLength"),
        (float, Field(), "field: a float differs between clients"),
        (int | bool, Field(), "field: a CRD cannot choose between boolean, integer"),
        (Annotated[float, Field(gt=0)], Field(), "exclusiveMinimum of a number has no inclusive neighbour"),
        (tuple[int, int], Field(), "a CRD has no prefixItems"),
        (Any, Field(), "field: has no type"),
        (int, Field(multiple_of=2, json_schema_extra={"examples": [2]}), "a CRD has no examples"),
        (Tree, Field(), "Tree holds itself"),
    ],
)
def test_what_a_crd_cannot_hold_is_refused_with_the_fields_path(kind: Any, field: Any, says: str) -> None:
    with pytest.raises(CrdError, match=says):
        only(field=(kind, field))


def test_the_committed_crd_is_what_the_types_say() -> None:
    for name, text in files().items():
        assert (ROOT / name).read_text() == text, f"run `python -m slipway.api.crd` for {name}"


def test_the_charts_crd_is_the_same_behind_its_switches() -> None:
    chart = (ROOT / CHART_PATH).read_text()
    first, *lines, last = chart.splitlines()
    assert (first, last) == ("{{- if .Values.crds.enabled }}", "{{- end }}")
    assert (
        "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
        in chart
    )
    plain = yaml.safe_load("\n".join(line for line in lines if "{{" not in line))
    plain["metadata"].pop("labels")
    plain["metadata"].pop("annotations")
    assert plain == yaml.safe_load((ROOT / CRD_PATH).read_text())


def test_the_status_of_what_nobody_has_seen_says_that_and_nothing_else() -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert stored({}, {"properties": schema})["status"] == {"observedGeneration": 0}
    assert "default:" not in yaml.safe_dump(schema["status"]["properties"])
    assert "default:" in yaml.safe_dump(schema["spec"])
    # A status that somebody wrote, as a backup brings it, gets nothing.
    assert stored({"status": {"replicas": 1}}, {"properties": schema})["status"] == {"replicas": 1}


def test_the_status_of_what_nobody_has_seen_reads_as_none_does() -> None:
    """Of an operator of before, too: its own default for what is missing is the same."""
    assert ModelDeploymentStatus.model_validate({"observedGeneration": 0}) == ModelDeploymentStatus()


def defaults_below_lists(node: dict[str, Any], path: str = "", inside: bool = False) -> list[str]:
    """Paths of the defaults that an item of a list would get."""
    found = [path] if inside and "default" in node else []
    for name, child in node.get("properties", {}).items():
        found += defaults_below_lists(child, f"{path}.{name}", inside)
    if isinstance(node.get("additionalProperties"), dict):
        found += defaults_below_lists(node["additionalProperties"], f"{path}.*", inside)
    if "items" in node:
        found += defaults_below_lists(node["items"], f"{path}[]", True)
    return found


def test_no_item_of_a_list_has_a_default_in_the_schema() -> None:
    """argoproj/argo-cd#28724: lists are compared whole, so that an item with more in it differs for ever."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert defaults_below_lists(schema) == []
    inner = {"items": {"properties": {"a": {"default": 1}}}}
    assert defaults_below_lists({"properties": {"list": inner}}) == [".list[].a"]


def stored(value: Any, node: dict[str, Any]) -> Any:
    """What the API server makes of a value: missing fields get their defaults."""
    if isinstance(value, list):
        return [stored(item, node["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in node:
        return value
    children = node["properties"]
    filled = {name: child["default"] for name, child in children.items() if "default" in child}
    return {name: stored(found, children[name]) for name, found in (filled | value).items()}


def differs(given: Any, live: Any) -> bool:
    """Whether Argo CD's default diff shows anything: of maps only what was given, of lists everything."""
    if isinstance(given, dict) and isinstance(live, dict):
        return any(differs(value, live.get(name)) for name, value in given.items())
    return bool(given != live)


@pytest.mark.parametrize(
    "spec", [manifest["spec"] for _, manifest in RESOURCES], ids=[name for name, _ in RESOURCES]
)
def test_an_example_comes_back_from_the_api_server_as_it_was_given(spec: dict[str, Any]) -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert not differs(spec, stored(spec, schema))
    assert ModelDeploymentSpec.model_validate(spec) == ModelDeploymentSpec.model_validate(
        stored(spec, schema)
    )


def test_a_block_without_fields_is_written_as_the_api_server_keeps_it() -> None:
    # It drops `properties: {}`, by which Argo CD called the CRD out of sync for ever.
    assert "properties" not in structural(type("Empty", (BaseModel,), {}))
    assert [path for path in (CRD_PATH, CHART_PATH) if "properties: {}" in (ROOT / path).read_text()] == []


def test_every_field_is_described() -> None:
    def bare(node: dict[str, Any], path: str) -> list[str]:
        found = [path] if "description" not in node else []
        for name, child in node.get("properties", {}).items():
            found += bare(child, f"{path}.{name}")
        return found + (bare(node["items"], f"{path}[]") if "items" in node else [])

    properties = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert [path for name in ("spec", "status") for path in bare(properties[name], name)] == []


@pytest.mark.parametrize("amount", [1, "1", "500m", "1.5", "1Gi", "1e3"])
def test_the_operator_reads_the_quantities_that_the_api_server_takes(amount: int | str) -> None:
    assert Requests.model_validate({"cpu": amount}).cpu == amount


@pytest.mark.parametrize("amount", [-1, "-1", "1ki", "1 Gi", 0.5, "", []])
def test_the_operator_refuses_what_is_no_quantity(amount: Any) -> None:
    with pytest.raises(ValueError, match="cpu"):
        Requests.model_validate({"cpu": amount})


def test_the_operator_reads_a_resource_of_a_newer_crd() -> None:
    spec = ModelDeploymentSpec.model_validate({"model": {"uri": "mlflow://a@b", "later": 1}, "also": {}})
    assert spec.model.uri == "mlflow://a@b"
