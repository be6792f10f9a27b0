"""What this server takes and gives, as OpenAPI 3.1, down to the model's own tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from slipway_server.protocol.header import HEADER_LENGTH
from slipway_server.protocol.tensors import Datatype, TensorSpec
from slipway_server.runtime.model import Model

Json = dict[str, Any]

_INTEGERS = {
    Datatype.UINT8: (0, 2**8 - 1),
    Datatype.UINT16: (0, 2**16 - 1),
    Datatype.UINT32: (0, 2**32 - 1),
    Datatype.UINT64: (0, 2**64 - 1),
    Datatype.INT8: (-(2**7), 2**7 - 1),
    Datatype.INT16: (-(2**15), 2**15 - 1),
    Datatype.INT32: (-(2**31), 2**31 - 1),
    Datatype.INT64: (-(2**63), 2**63 - 1),
}


def document(name: str, version: str, model: Model) -> Json:
    """The OpenAPI document of a model under its name and version."""
    inputs, outputs = list(model.taken.values()), list(model.outputs.values())
    below = f"/v2/models/{name}"
    infer = _infer()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": version,
            "summary": "An ONNX model behind the Open Inference Protocol",
        },
        "servers": [{"url": "/"}],
        "paths": {
            f"{below}/infer": {"post": infer | {"operationId": "infer"}},
            f"{below}/versions/{version}/infer": {"post": infer | {"operationId": "inferVersion"}},
            below: {"get": _page("metadata", "Metadata", "The model's tensors")},
            f"{below}/ready": {"get": _page("ready", "Ready", "Whether the model takes requests", 503)},
            "/v2/health/live": {"get": _page("serverLive", "Live", "Whether the server is alive")},
            "/v2/health/ready": {
                "get": _page("serverReady", "ServerReady", "Whether it takes requests", 503)
            },
            f"/v1/models/{name}:predict": {
                "post": _other("predict", "KServe's V1 protocol", "Predict", "Error")
            },
            "/invocations": {"post": _other("invocations", "MLflow's protocol", "Invocation", "MlflowError")},
        },
        "components": {"schemas": _schemas(inputs, outputs), "responses": _responses()},
    }


def _schemas(inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Json:
    inputs, outputs = list(inputs), list(outputs)
    named = {
        "name": {"type": "string"},
        "datatype": {"enum": list(Datatype)},
        "shape": _list({"type": "integer"}),
    }
    described = _list(_object(named))
    predict = [_object({"instances": {"type": "array"}}), _object({"inputs": {}})]
    split = _object({"columns": _list({"type": ["string", "integer"]}), "data": _list({"type": "array"})})
    return {
        "InferRequest": _object(
            {"inputs": _tensors(inputs, given=True)},
            {
                "id": {"type": "string"},
                "outputs": _list(_object({"name": {"enum": [spec.name for spec in outputs]}})),
                "parameters": {
                    "type": "object",
                    "properties": {
                        "binary_data_output": {"type": "boolean"},
                        "timeout": {"type": "integer", "minimum": 0, "description": "microseconds"},
                    },
                },
            },
        ),
        "InferResponse": _object(
            {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "outputs": _tensors(outputs, given=False),
            },
            {"id": {"type": "string"}},
        ),
        "Metadata": _object(
            {
                "name": {"type": "string"},
                "versions": _list({"type": "string"}),
                "platform": {"type": "string"},
                "inputs": described,
                "outputs": described,
                "parameters": _object({"batching": {"type": "string"}, "device": {"enum": ["CPU", "CUDA"]}}),
            }
        ),
        "Ready": _object({"name": {"type": "string"}, "ready": {"type": "boolean"}}),
        "ServerReady": _object({"ready": {"type": "boolean"}}),
        "Live": _object({"live": {"type": "boolean"}}),
        "PredictRequest": {"oneOf": predict},
        "PredictResponse": {"oneOf": [_object({"predictions": {"type": "array"}}), _object({"outputs": {}})]},
        "InvocationRequest": {
            "oneOf": [
                _object({"dataframe_split": split}),
                _object({"dataframe_records": _list({"type": "object"})}),
                *predict,
            ]
        },
        "InvocationResponse": _object({"predictions": {"type": ["array", "object"]}}),
        "Error": _object({"error": {"type": "string"}}),
        "MlflowError": _object({"error_code": {"type": "string"}, "message": {"type": "string"}}),
    }


def _tensors(specs: list[TensorSpec], given: bool) -> Json:
    schema: Json = _list({"oneOf": [_tensor(spec) for spec in specs]})
    if given:
        schema |= {"minItems": sum(not spec.optional for spec in specs), "maxItems": len(specs)}
    return schema


def _tensor(spec: TensorSpec) -> Json:
    value = _value(spec.datatype) | ({"contentEncoding": "base64"} if spec.raw else {})
    data: Json = {"type": "array", "description": "flat, in row-major order, or nested as the shape says"}
    # Nested lists are of a depth that only the shape tells.
    data["items"] = {"anyOf": [value, {"type": "array"}]}
    members = {
        "name": {"const": spec.name},
        "datatype": {"const": str(spec.datatype)},
        "shape": _shape(spec),
    }
    return {
        "title": spec.name,
        **_object(members, {"data": data, "parameters": {"type": "object"}}),
        "oneOf": [
            {"required": ["data"]},
            {
                "required": ["parameters"],
                "properties": {
                    "parameters": _object({"binary_data_size": {"type": "integer", "minimum": 0}})
                },
            },
        ],
    }


def _shape(spec: TensorSpec) -> Json:
    free = {"type": "integer", "minimum": 0}
    if spec.shape is None:
        return _list(free)
    sizes = [free if size == -1 else {"const": size} for size in spec.shape]
    return {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}


def _value(datatype: Datatype) -> Json:
    if datatype is Datatype.BYTES:
        return {"type": "string"}
    if datatype is Datatype.BOOL:
        return {"type": "boolean"}
    if datatype.is_float:
        return {"type": ["number", "null"]}
    low, high = _INTEGERS[datatype]
    return {"type": "integer", "minimum": low, "maximum": high}


def _infer() -> Json:
    size = {"name": HEADER_LENGTH, "in": "header", "schema": {"type": "integer"}}
    size["description"] = "bytes of JSON, where binary tensors follow it"
    seconds = {"name": "timeout", "in": "header", "description": "seconds that the answer may take"}
    return {
        "summary": "Run the model",
        "parameters": [size, seconds | {"schema": {"type": "number", "exclusiveMinimum": 0}}],
        "requestBody": {
            "required": True,
            "content": _json("InferRequest") | {"application/octet-stream": {}},
        },
        "responses": {
            "200": {
                "description": "The model's answer",
                "content": _json("InferResponse") | {"application/octet-stream": {}},
            },
            **_refusals(),
        },
    }


def _other(operation: str, summary: str, schema: str, error: str) -> Json:
    refused = {"description": "What was wrong, and how to fix it", "content": _json(error)}
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": _json(f"{schema}Request")},
        "responses": {
            "200": {"description": "The model's answer", "content": _json(f"{schema}Response")},
            "default": refused,
        },
    }


def _page(operation: str, schema: str, text: str, also: int | None = None) -> Json:
    answer = {"description": text, "content": _json(schema)}
    return {
        "operationId": operation,
        "summary": text,
        "responses": {"200": answer} | ({} if also is None else {str(also): answer}),
    }


def _responses() -> Json:
    texts = {
        "Refused": "The request is wrong; the message names the tensor and says how to fix it",
        "NotNow": "Too many requests, or too little time: send it again later",
    }
    made: Json = {name: {"description": text, "content": _json("Error")} for name, text in texts.items()}
    made["NotNow"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
    return made


def _refusals() -> Json:
    return {
        **{
            code: {"$ref": "#/components/responses/Refused"}
            for code in ("400", "404", "408", "411", "413", "415", "422")
        },
        "503": {"$ref": "#/components/responses/NotNow"},
    }


def _json(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _list(items: Mapping[str, Any]) -> Json:
    return {"type": "array", "items": dict(items)}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}
