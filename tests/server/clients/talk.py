"""Asks a server the same thing with each client that people have, and prints the answers as JSON.

``python talk.py triton|kserve HTTP_PORT GRPC_PORT``, in an environment of ``requirements.txt``, which knows
nothing of Slipway. The server has the model ``pipeline`` of the tests as ``fraud``. Two clients in
one process are one too many: each brings the protocol's messages under the same names.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np

COLOURS = np.array([["blau"], ["weiß"], ["never seen"]], dtype=object)
SIZES = np.array([[1.2], [4.4], [0.0]], dtype=np.float32)
LABEL, TABLE = "output_label", "output_probability"


def texts(values: Any) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in np.ravel(values)]


def answer(label: Any, table: Any) -> dict[str, Any]:
    return {LABEL: texts(label), TABLE: np.asarray(table, np.float32).reshape(3, -1).tolist()}


def triton(module: Any, url: str, **binary: bool) -> dict[str, Any]:
    client = module.InferenceServerClient(url)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fraud", "3")
    metadata = client.get_model_metadata("fraud", **({"as_json": True} if not binary else {}))
    assert [each["name"] for each in metadata["inputs"]] == ["colour", "size"]
    inputs = [module.InferInput("colour", [3, 1], "BYTES"), module.InferInput("size", [3, 1], "FP32")]
    inputs[0].set_data_from_numpy(COLOURS, **binary)
    inputs[1].set_data_from_numpy(SIZES, **binary)
    outputs = [module.InferRequestedOutput(name, **binary) for name in (LABEL, TABLE)]
    result = client.infer("fraud", inputs, outputs=outputs, request_id="7", timeout=5_000_000)
    response = result.get_response()
    assert (response["id"] if binary else response.id) == "7"
    words = ""
    try:
        client.infer("fraud", inputs[:1])
    except Exception as error:
        words = str(error)
    assert "missing input 'size'" in words
    return answer(result.as_numpy(LABEL), result.as_numpy(TABLE))


def request(binary: bool) -> Any:
    from kserve import InferInput, InferRequest

    inputs = [InferInput("colour", [3, 1], "BYTES"), InferInput("size", [3, 1], "FP32")]
    inputs[0].set_data_from_numpy(COLOURS, binary_data=binary)
    inputs[1].set_data_from_numpy(SIZES, binary_data=binary)
    return InferRequest("fraud", inputs, request_id="7")


async def kserve(http: str, grpc: str) -> dict[str, Any]:
    from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig

    answers = {}
    for protocol in ("v1", "v2"):
        client = InferenceRESTClient(RESTConfig(protocol=protocol, retries=0))
        assert await client.is_server_live(http)
        assert await client.is_model_ready(http, "fraud")
        if protocol == "v1":
            rows = [
                {"colour": c, "size": s} for c, s in zip(COLOURS[:, 0], SIZES[:, 0].tolist(), strict=True)
            ]
            found = (await client.infer(http, {"instances": rows}, model_name="fraud"))["predictions"]
            answers["kserve-v1"] = answer([row[LABEL] for row in found], [row[TABLE] for row in found])
        else:
            for binary in (False, True):
                response = await client.infer(http, request(binary), model_name="fraud")
                found = {each.name: each.as_numpy() for each in response.outputs}
                answers[f"kserve-v2-{'binary' if binary else 'json'}"] = answer(found[LABEL], found[TABLE])
        await client.close()
    remote = InferenceGRPCClient(grpc, retries=0)
    assert await remote.is_server_live()
    assert await remote.is_server_ready()
    assert await remote.is_model_ready("fraud")
    for binary in (False, True):
        response = await remote.infer(request(binary))
        found = {each.name: each.as_numpy() for each in response.outputs}
        answers[f"kserve-grpc-{'raw' if binary else 'typed'}"] = answer(found[LABEL], found[TABLE])
    await remote.close()
    return answers


def main() -> None:
    whose, *ports = sys.argv[1:]
    http, grpc = (f"127.0.0.1:{port}" for port in ports)
    if whose == "kserve":
        print(json.dumps(asyncio.run(kserve(f"http://{http}", grpc))))
        return
    import tritonclient.grpc
    import tritonclient.http

    answers = {
        "triton-http-json": triton(tritonclient.http, http, binary_data=False),
        "triton-http-binary": triton(tritonclient.http, http, binary_data=True),
        "triton-grpc": triton(tritonclient.grpc, grpc),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
