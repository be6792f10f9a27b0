"""FastAPI with pydantic models of the request and the answer, on uvicorn with uvloop and httptools."""

from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from onnx_model import DTYPES, NAME, PORT, OnnxModel
from pydantic import BaseModel


class Tensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[float] | list[str]


class Request(BaseModel):
    inputs: list[Tensor]


class Answer(BaseModel):
    model_name: str
    outputs: list[Tensor]


model = OnnxModel()
app = FastAPI()


@app.get("/ready")
async def ready() -> bool:
    return True


@app.post(f"/v2/models/{NAME}/infer")
async def infer(request: Request) -> Answer:
    inputs: dict[str, Any] = {
        tensor.name: np.array(tensor.data, DTYPES[tensor.datatype]).reshape(tensor.shape)
        for tensor in request.inputs
    }
    outputs = [
        Tensor(name=name, datatype="FP32", shape=list(array.shape), data=array.ravel().tolist())
        for name, array in model(inputs).items()
    ]
    return Answer(model_name=NAME, outputs=outputs)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False)
