from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.server.running import Server, tensor
from tests.server.test_answers import EXAMPLES

Servers = Callable[[str], Server]


def schema(document: dict[str, Any], name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


def page(server: Server) -> dict[str, Any]:
    response = server.client.get("/v2/models/fraud/openapi.json")
    assert response.status_code == 200
    return response.json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", ["identity", "pipeline", "two_inputs", "every_datatype", "gather"])
def test_the_document_is_valid_openapi_3_1(servers: Servers, model: str) -> None:
    document = page(servers(model))
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            response = servers(model).client.request(method, path)
            assert response.status_code != 404, (path, operation)
            assert (method == "post") or response.status_code == 200


def test_it_holds_for_requests_and_answers_of_each_datatype(servers: Servers) -> None:
    server = servers("every_datatype")
    document = page(server)
    for shape in ([2, 2], [0, 2]):
        count = 2 * shape[0]
        inputs = [tensor(f"in_{name}", name, shape, values[:count]) for name, values in EXAMPLES.items()]
        schema(document, "InferRequest").validate({"inputs": inputs})
        response = server.client.post(server.infer_path, json={"inputs": inputs})
        assert response.status_code == 200
        schema(document, "InferResponse").validate(response.json())
    schema(document, "Metadata").validate(server.client.get("/v2/models/fraud").json())
    schema(document, "Ready").validate(server.client.get("/v2/models/fraud/ready").json())


WRONG = [
    {},
    {"inputs": []},
    {"inputs": [tensor("x", "FP64", [1, 3], [1, 2, 3])]},
    {"inputs": [tensor("z", "FP32", [1, 3], [1, 2, 3])]},
    {"inputs": [tensor("x", "FP32", [3], [1, 2, 3])]},
    {"inputs": [tensor("x", "FP32", [1, 4], [1, 2, 3, 4])]},
    {"inputs": [tensor("x", "FP32", [-1, 3], [1, 2, 3])]},
    {"inputs": [tensor("x", "FP32", [1, 0], [])]},
    {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, "3"])]},
    {"inputs": [tensor("x", "FP32", [1, 3])]},
    {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])], "outputs": [{"name": "z"}]},
    {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])], "id": 7},
]


@pytest.mark.parametrize("request_", WRONG, ids=str)
def test_what_the_server_refuses_the_document_refuses(servers: Servers, request_: dict[str, Any]) -> None:
    server = servers("identity")
    answer = server.client.post(server.infer_path, json=request_)
    assert answer.status_code == 400
    document = page(server)
    assert not schema(document, "InferRequest").is_valid(request_)
    schema(document, "Error").validate(answer.json())


@pytest.mark.parametrize(
    ("path", "name", "request_"),
    [
        ("/v1/models/fraud:predict", "Predict", {"instances": [[1, 2, 3]]}),
        ("/v1/models/fraud:predict", "Predict", {"inputs": {"x": [[1, 2, 3]]}}),
        ("/invocations", "Invocation", {"inputs": [[1, 2, 3]]}),
        (
            "/invocations",
            "Invocation",
            {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]]}},
        ),
        ("/invocations", "Invocation", {"dataframe_records": [{"a": 1, "b": 2, "c": 3}]}),
    ],
)
def test_it_holds_for_the_other_protocols(
    servers: Servers, path: str, name: str, request_: dict[str, Any]
) -> None:
    server = servers("identity")
    document = page(server)
    schema(document, f"{name}Request").validate(request_)
    assert not schema(document, f"{name}Request").is_valid({})
    schema(document, f"{name}Response").validate(server.client.post(path, json=request_).json())
    error = document["paths"][path]["post"]["responses"]["default"]["content"]["application/json"]["schema"]
    refused = server.client.post(path, json={})
    assert refused.status_code == 400
    schema(document, error["$ref"].rpartition("/")[2]).validate(refused.json())


def test_other_models_have_no_document_here(servers: Servers) -> None:
    client = servers("identity").client
    assert client.get("/v2/models/other/openapi.json").status_code == 404
    assert client.get("/v2/models/fraud/versions/3/openapi.json").status_code == 200
