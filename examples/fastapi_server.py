"""A server of one's own: a scikit-learn model, with an API that names what is measured and what is found.

Slipway has verified the files in $SLIPWAY_MODEL_DIR before this starts; fastapi.yaml runs it.
"""

import os
from pathlib import Path

import joblib
from fastapi import FastAPI
from pydantic import BaseModel, Field

MODEL = joblib.load(Path(os.environ["SLIPWAY_MODEL_DIR"]) / "model.pkl")
NAMES = ("setosa", "versicolor", "virginica")

app = FastAPI()


class Flower(BaseModel):
    """Lengths and widths in centimetres."""

    sepal: tuple[float, float]
    petal: tuple[float, float]


class Flowers(BaseModel):
    """What is asked."""

    flowers: list[Flower] = Field(min_length=1, max_length=1000)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """The model is loaded before a port is open."""
    return {"version": os.environ["SLIPWAY_MODEL_VERSION"]}


@app.post("/species")
def species(asked: Flowers) -> dict[str, object]:
    """The species of each flower, and which version of the model says so."""
    rows = [[*flower.sepal, *flower.petal] for flower in asked.flowers]
    found = [NAMES[number] for number in MODEL.predict(rows)]
    return {"species": found, "version": os.environ["SLIPWAY_MODEL_VERSION"]}
