"""The CRD on a real API server: what it takes, what it refuses and in which words, what it fills in."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from kubernetes import config

from e2e.cluster.settings import Settings
from e2e.tests.installation import Installation
from e2e.tests.schema_cases import EXAMPLE, GATEWAY, Case, constraints, example, has_path, nodes, with_value
from e2e.tests.schema_table import CASES
from slipway.api.types import ModelDeploymentSpec
from slipway.core.crd_schema import declared, missing, schema_of

ROOT = Path(__file__).parents[2]
CRD = yaml.safe_load((ROOT / "crds/slipway.dev_modeldeployments.yaml").read_text())
SCHEMA: dict[str, Any] = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
MODELDEPLOYMENTS = "/apis/slipway.dev/v1alpha1/namespaces/default/modeldeployments"
#: The one that is really there; all others are dry runs.
STORED = f"{MODELDEPLOYMENTS}/slipway-schema-test"
SPEC_ONLY = {key: value for key, value in EXAMPLE.items() if key != "status"}
MINIMAL: dict[str, Any] = SPEC_ONLY | {"spec": {"model": {"uri": "mlflow://fraud@champion"}}}


class Api:
    """Plain requests to the API server, answered with the status code and the body as it came."""

    def __init__(self, kubeconfig: str) -> None:
        self._client = config.new_client_from_config(kubeconfig)  # type: ignore[no-untyped-call]

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "application/json",
        accept: str = "application/json",
        **query: str,
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Accept": accept, "Content-Type": kind}
        request = self._client.param_serialize(
            method,
            f"{path}?{urlencode(query)}",
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        response = self._client.call_api(*request)
        return response.status, json.loads(response.read())

    def try_spec(self, resource: dict[str, Any], validation: str = "Strict") -> tuple[int, dict[str, Any]]:
        return self.call("POST", MODELDEPLOYMENTS, resource, dryRun="All", fieldValidation=validation)

    def try_status(self, status: Any) -> tuple[int, dict[str, Any]]:
        patch = [{"op": "add", "path": "/status", "value": status}]
        path = f"{STORED}/status"
        return self.call(
            "PATCH", path, patch, "application/json-patch+json", dryRun="All", fieldValidation="Strict"
        )

    def try_scale(self, replicas: int, **query: str) -> tuple[int, dict[str, Any]]:
        patch = {"spec": {"replicas": replicas}}
        return self.call("PATCH", f"{STORED}/scale", patch, "application/merge-patch+json", **query)


@pytest.fixture(scope="module")
def api(settings: Settings, installed: Installation) -> Iterator[Api]:  # noqa: ARG001
    """The API server with the CRD of this checkout and one ModelDeployment."""
    api = Api(str(settings.kubeconfig))
    _install_crd(api)
    stored = with_value("metadata.name", STORED.rsplit("/", 1)[1], SPEC_ONLY)
    api.call("DELETE", STORED)  # left by a run that was killed
    _await(lambda: api.call("POST", MODELDEPLOYMENTS, stored)[0] == 201)
    yield api
    api.call("DELETE", STORED)


def _install_crd(api: Api) -> None:
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD['metadata']['name']}"
    _, before = api.call("GET", path)
    # Marked as the chart marks it, so that an installation can take it over; an owner that is there stays.
    there = before.get("metadata", {}).get("annotations", {})
    owner = {
        "meta.helm.sh/release-name": there.get("meta.helm.sh/release-name", "slipway"),
        "meta.helm.sh/release-namespace": there.get("meta.helm.sh/release-namespace", "slipway-system"),
    }
    metadata = CRD["metadata"] | {"annotations": owner, "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    crd: dict[str, Any] = CRD | {"metadata": metadata}
    code, after = api.call(
        "PATCH", path, crd, "application/apply-patch+yaml", fieldManager="slipway-schema-test", force="true"
    )
    assert code in (200, 201), after["message"]
    if after["metadata"]["generation"] != before.get("metadata", {}).get("generation"):
        time.sleep(2)  # the API server serves the new schema a moment later and does not say when
    _await(lambda: api.call("GET", "/apis/slipway.dev/v1alpha1")[0] == 200)


def _await(ready: Callable[[], bool], seconds: float = 80) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"not ready after {seconds} s"
        time.sleep(0.2)


def _complaints(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """(field, message) of each, without the remark that the rest was not checked."""
    found = [(cause["field"], cause["message"]) for cause in answer["details"]["causes"]]
    return [
        (re.sub(r"\[([A-Za-z][^]]*)\]", r".\1", field), message)  # a map's key is written in two ways
        for field, message in found
        if "some validation rules were not checked" not in message
    ]


def _try(api: Api, case: Case, value: Any) -> tuple[int, dict[str, Any]]:
    if case.place.startswith("status"):
        return api.try_status(with_value(case.place, value)["status"])
    whole = {key: part for key, part in example(case.place).items() if key != "status"}
    return api.try_spec(with_value(case.place, value, whole))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_constraint_takes_one_neighbour_and_refuses_the_other(api: Api, case: Case) -> None:
    code, answer = _try(api, case, case.accepts)
    assert code in (200, 201), answer["message"]
    code, answer = _try(api, case, case.refuses)
    assert code == 422, answer
    complaints = _complaints(answer)
    [meant] = [message for field, message in complaints if field == case.field]
    assert case.says in meant
    others = [message for field, message in complaints if field != case.field]
    assert all(case.also and case.also in message for message in others), others


def test_every_constraint_of_the_crd_stands_in_the_table() -> None:
    wanted = constraints(SCHEMA)
    rules = {(path, text) for path, text in wanted if text.startswith("rule ")}
    tried = {(case.path, case.constraint) for case in CASES if case.constraint != "rule"}
    for case in CASES:
        if case.constraint == "rule":
            meant = {rule for rule in rules if rule[0] == case.path and case.says in rule[1]}
            assert len(meant) == 1, f"{case} means {meant or 'no rule'}"
            tried |= meant
    assert tried == wanted


@pytest.mark.parametrize(
    "file", ["quickstart.yaml", "private-cluster.yaml", "watched-canary.yaml", "cuda.yaml"]
)
def test_an_example_that_ships_is_taken_without_a_warning(api: Api, file: str) -> None:
    code, answer = api.try_spec(yaml.safe_load((ROOT / "examples" / file).read_text()))
    assert code == 201, answer


def test_the_example_holds_every_field_of_the_schema(api: Api) -> None:
    paths = [path for path, _ in nodes(SCHEMA) if path.split(".")[0] in ("spec", "status")]
    assert [path for path in paths if not has_path(path)] == []
    code, answer = api.try_spec(SPEC_ONLY)
    assert (code, answer.get("spec")) == (201, SPEC_ONLY["spec"])
    code, answer = api.try_spec(with_value("spec.traffic", GATEWAY, SPEC_ONLY))
    assert (code, answer.get("spec", {}).get("traffic")) == (201, GATEWAY)
    code, answer = api.try_status(EXAMPLE["status"])
    assert (code, answer.get("status")) == (200, EXAMPLE["status"])


WRONG_TYPE: dict[str, Any] = {
    "object": "text",
    "array": "text",
    "string": 1,
    "integer": "1",
    "boolean": "true",
}


@pytest.mark.parametrize(
    "path", [path for path, _ in nodes(SCHEMA) if path.split(".")[0] in ("spec", "status")]
)
def test_a_value_of_the_wrong_type_is_refused(api: Api, path: str) -> None:
    node = dict(nodes(SCHEMA))[path]
    wanted, wrong = ("integer,string", []) if "type" not in node else (node["type"], WRONG_TYPE[node["type"]])
    wanted = "date-time" if node.get("format") == "date-time" else wanted
    case = Case(path, "type", None, wrong, f"must be of type {wanted}: ")
    code, answer = _try(api, case, wrong)
    assert code == 422, answer
    said = [message for field, message in _complaints(answer) if field == case.field]
    assert any(case.says in message for message in said), said


def test_what_is_left_out_is_filled_in_as_the_operator_reads_it(api: Api) -> None:
    code, answer = api.try_spec(MINIMAL)
    assert code == 201, answer
    assert answer["spec"] == {
        "model": {"uri": "mlflow://fraud@champion"},
        "runtime": {
            "server": "Slipway",
            "device": "CPU",
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
            "threads": 1,
            "processes": 1,
            "batching": {"mode": "Auto", "maxRows": 128},
            "requestTimeoutMilliseconds": 2000,
        },
        "scaling": {"minReplicas": 1, "maxReplicas": 10, "metrics": [{"type": "CPU", "targetPercent": 70}]},
        "rollout": {
            "strategy": "RollingUpdate",
            "paused": False,
            "progressDeadlineSeconds": 600,
            "rollbackWindowRevisions": 2,
            "historyLimit": 10,
            "scaleDownDelaySeconds": 30,
            "abortScaleDownDelaySeconds": 60,
            "analysis": {
                "intervalSeconds": 30,
                "maxDurationSeconds": 3600,
                "onInconclusive": "Pause",
                "gates": [
                    {"name": "error-rate", "type": "ErrorRate"},
                ],
            },
        },
        "traffic": {"provider": "Router", "router": "Shared"},
    }
    assert ModelDeploymentSpec.model_validate(answer["spec"]) == ModelDeploymentSpec.model_validate(
        MINIMAL["spec"]
    )
    assert answer["status"] == {"observedGeneration": 0}


@pytest.mark.parametrize(
    ("path", "value", "filled"),
    [
        (
            "spec.runtime",
            {"threads": 4},
            {"limits": {"memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        ),
        (
            "spec.runtime",
            {"resources": {"requests": {"cpu": 2}}},
            {"requests": {"cpu": 2, "memory": "256Mi"}},
        ),
        ("spec.runtime", {"resources": {"limits": {"cpu": 2}}}, {"limits": {"cpu": 2, "memory": "1Gi"}}),
        ("spec.runtime", {"resources": None}, {"limits": {"memory": "1Gi"}}),
    ],
)
def test_a_block_given_in_part_gets_the_rest_of_its_defaults(
    api: Api, path: str, value: Any, filled: Any
) -> None:
    code, answer = api.try_spec(with_value(path, value, MINIMAL))
    assert code == 201, answer
    resources = answer["spec"]["runtime"]["resources"]
    assert resources | filled == resources


def test_a_metric_given_in_part_stays_as_it_was_given(api: Api) -> None:
    """Argo CD and kubectl diff compare lists whole; the operator fills the rest in as it reads."""
    for given in ({}, {"targetPercent": 50}, {"type": "CPU"}):
        code, answer = api.try_spec(with_value("spec.scaling", {"metrics": [given]}, MINIMAL))
        assert code == 201, answer
        assert answer["spec"]["scaling"]["metrics"] == [given]


def test_monitoring_given_in_part_gets_the_rest_of_its_defaults(api: Api) -> None:
    attribute = {"name": "sex", "parameter": "sex", "groups": ["a", "b"]}
    given: dict[str, Any] = {
        "monitoring": {
            "drift": {},
            "dataQuality": {},
            "performance": {
                "feedback": {"secretRef": {"name": "keys"}},
                "objectives": [{"metric": "Accuracy", "minimum": "82%"}],
            },
            "slos": {"latency": {"thresholdMilliseconds": 100}},
        },
        "fairness": {"sensitiveAttributes": [attribute], "favorableOutcomes": ["1"]},
    }
    code, answer = api.try_spec(MINIMAL | {"spec": MINIMAL["spec"] | given})
    assert code == 201, answer
    assert answer["spec"]["monitoring"] == {
        "drift": {
            "windowSeconds": 3600,
            "minimumRows": 1000,
            "compareWith": "Reference",
            "psi": {"warning": "0.05", "critical": "0.25"},
            "significance": "0.001",
        },
        "dataQuality": {"maxMissingRatio": "5%", "maxViolationRatio": "1%"},
        "performance": {
            "feedback": {"secretRef": {"name": "keys"}, "maxAgeDays": 90},
            "objectives": [{"metric": "Accuracy", "minimum": "82%"}],
        },
        "slos": {
            "availability": "99.9%",
            "latency": {"thresholdMilliseconds": 100, "objective": "99%"},
        },
    }
    assert answer["spec"]["fairness"] == {
        "sensitiveAttributes": [attribute],
        "favorableOutcomes": ["1"],
        "windowSeconds": 86_400,
        "confidence": "95%",
        "minimumGroupRows": 100,
    }
    assert ModelDeploymentSpec.model_validate(answer["spec"]) == ModelDeploymentSpec.model_validate(
        MINIMAL["spec"] | given
    )


@pytest.mark.parametrize(
    "place", ["spec", "spec.model", "spec.runtime", "spec.runtime.affinity", "spec.scaling"]
)
def test_an_unknown_field_is_refused_when_strict_and_dropped_otherwise(api: Api, place: str) -> None:
    resource = with_value(f"{place}.surprise", 1, SPEC_ONLY)
    code, answer = api.try_spec(resource)
    assert code == 400
    assert f'unknown field "{place}.surprise"' in answer["message"]
    code, answer = api.try_spec(resource, validation="Ignore")
    assert (code, answer["spec"]) == (201, SPEC_ONLY["spec"])


def test_affinity_is_kept_as_it_was_given(api: Api) -> None:
    terms = [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    code, answer = api.try_spec(with_value("spec.runtime.affinity", affinity, SPEC_ONLY))
    assert (code, answer["spec"]["runtime"]["affinity"]) == (201, affinity)


def test_status_is_written_by_its_own_subresource_only(api: Api) -> None:
    code, answer = api.try_spec(EXAMPLE)
    assert (code, answer["status"]) == (201, {"observedGeneration": 0})
    code, answer = api.try_status({"replicas": 3})
    assert (code, answer["status"]) == (200, {"replicas": 3})


def test_scale_reads_and_sets_the_least_number_of_pods(api: Api) -> None:
    code, answer = api.call("GET", f"{STORED}/scale")
    assert (code, answer["kind"], answer["spec"]) == (200, "Scale", {"replicas": 2})
    code, answer = api.try_scale(4, dryRun="All")
    assert (code, answer["spec"]) == (200, {"replicas": 4})


@pytest.mark.parametrize(
    ("replicas", "says"),
    [
        (5, "minReplicas must not be above maxReplicas; raise maxReplicas first"),
        (0, "spec.scaling.minReplicas in body should be greater than or equal to 1"),
        (1001, "spec.scaling.minReplicas in body should be less than or equal to 1000"),
    ],
)
def test_scale_is_refused_beyond_the_bounds(api: Api, replicas: int, says: str) -> None:
    code, answer = api.try_scale(replicas, dryRun="All")
    assert code == 422
    assert says in answer["message"]


def test_scale_reports_the_pods_and_their_selector(api: Api) -> None:
    """Not a dry run, since the scale is read from what is stored; an operator may write over it meanwhile."""
    status = {"replicas": 2, "selector": "slipway.dev/name=example"}
    code, answer = api.call("PATCH", f"{STORED}/status", {"status": status}, "application/merge-patch+json")
    assert code == 200, answer
    seen: list[dict[str, Any]] = []

    def same_state() -> bool:
        seen[:] = [api.call("GET", STORED)[1], api.call("GET", f"{STORED}/scale")[1]]
        return len({one["metadata"]["resourceVersion"] for one in seen}) == 1

    _await(same_state)
    stored, scale = seen
    assert scale["status"] == {key: stored["status"][key] for key in ("replicas", "selector")}
    assert scale["status"]["selector"]


def test_kubectl_get_shows_the_columns_people_ask_for(api: Api) -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    code, answer = api.call("GET", STORED, accept=table)
    assert code == 200, answer
    names = [column["name"] for column in answer["columnDefinitions"]]
    assert names == ["Name", "Ready", "Reason", "Stable", "Canary", "Weight", "Replicas", "Available", "Age"]


def test_the_resource_is_found_by_its_short_name_and_category(api: Api) -> None:
    _, answer = api.call("GET", "/apis/slipway.dev/v1alpha1")
    found = {resource["name"]: resource for resource in answer["resources"]}
    assert set(found) == {"modeldeployments", "modeldeployments/status", "modeldeployments/scale"}
    assert found["modeldeployments"]["shortNames"] == ["mdep"]
    assert found["modeldeployments"]["categories"] == ["slipway"]
    assert found["modeldeployments"]["namespaced"]


def test_the_operator_reads_from_the_api_server_that_the_crd_lacks_nothing(api: Api) -> None:
    """By the document that every client may read: an older CRD is noticed in it."""
    code, answer = api.call("GET", "/openapi/v3/apis/slipway.dev/v1alpha1")
    assert code == 200, answer
    installed = schema_of(answer)
    assert installed is not None
    assert list(missing(SCHEMA, installed)) == []
    status = EXAMPLE["status"]
    assert declared(installed["properties"]["status"], status) == status


def test_an_event_that_happens_again_is_counted(api: Api) -> None:
    """As the operator writes it: nothing but the series of an Event may change."""
    events = "/apis/events.k8s.io/v1/namespaces/default/events"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "slipway-schema-test.again", "namespace": "default"},
        "eventTime": now,
        "type": "Warning",
        "reason": "ProbeFailing",
        "note": "a pod is not ready",
        "action": "Reconcile",
        "reportingController": "slipway.dev/operator",
        "reportingInstance": "operator-0",
        "regarding": {"kind": "ModelDeployment", "name": "slipway-schema-test", "namespace": "default"},
    }
    code, answer = api.call("POST", events, event)
    assert code == 201, answer
    try:
        for count in (2, 3):
            series = {"series": {"count": count, "lastObservedTime": now}}
            code, answer = api.call(
                "PATCH", f"{events}/slipway-schema-test.again", series, "application/merge-patch+json"
            )
            assert (code, answer.get("series", {}).get("count")) == (200, count), answer
    finally:
        api.call("DELETE", f"{events}/slipway-schema-test.again")
