"""What a client of the model sees, and what Prometheus has seen of it."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from e2e.cluster.errors import ClusterError

CALL_SECONDS = 10.0
#: A scrape comes every five seconds; a target found just now needs a few of them.
SCRAPED_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """One answer of the Open Inference Protocol."""

    version: str
    outputs: dict[str, NDArray[np.float64]]


def input_name(client: httpx.Client, model: str) -> str:
    """The name of the model's one input, from its own metadata."""
    return str(_json(client.get(f"/v2/models/{model}"))["inputs"][0]["name"])


def predict(client: httpx.Client, model: str, tensor_name: str, rows: NDArray[np.float32]) -> Answer:
    """Ask a model about rows (rows, features)."""
    tensor = {
        "name": tensor_name,
        "datatype": "FP32",
        "shape": list(rows.shape),
        "data": rows.ravel().tolist(),
    }
    answer = _json(client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]}))
    outputs = {
        output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in answer["outputs"]
    }
    return Answer(str(answer.get("model_version", "")), outputs)


@dataclass(frozen=True)
class Figures:
    """What Prometheus says of one ModelDeployment."""

    answered: float
    """Requests answered with 200 by the pods that are there."""
    p99_seconds: float
    """Estimated from the histogram's buckets, over the life of the pods."""
    ready_pods: float
    """As the operator reports it."""


def read_figures(prometheus: httpx.Client, namespace: str, name: str, at_least: int) -> Figures:
    """Wait until Prometheus has `at_least` answers, p99 and a ready pod; ClusterError if it never has."""
    pods = f'namespace="{namespace}",model="{name}"'
    resource = f'namespace="{namespace}",name="{name}"'
    queries = (
        f'sum(slipway_inference_requests_total{{{pods},code="200"}})',
        f"histogram_quantile(0.99, sum by (le) (slipway_inference_duration_seconds_bucket{{{pods}}}))",
        f"max(slipway_modeldeployment_revision_ready_replicas{{{resource}}})",
    )
    end = time.monotonic() + SCRAPED_SECONDS
    while True:
        found = [_query(prometheus, query) for query in queries]
        answered, p99, ready = found
        if answered is not None and answered >= at_least and p99 is not None and ready:
            return Figures(answered, p99, ready)
        if time.monotonic() > end:
            named = "\n".join(f"  {query} = {value}" for query, value in zip(queries, found, strict=True))
            raise ClusterError(
                f"Prometheus has not seen {at_least} requests after {SCRAPED_SECONDS:.0f} s:\n{named}"
            )
        time.sleep(1)


def _query(prometheus: httpx.Client, query: str) -> float | None:
    """The one value of an instant query; None where there is none, or not a number."""
    result = _json(prometheus.get("/api/v1/query", params={"query": query}))["data"]["result"]
    value = float(result[0]["value"][1]) if result else float("nan")
    return None if np.isnan(value) else value


def _json(response: httpx.Response) -> Any:
    if response.is_error:
        asked = f"{response.request.method} {response.request.url}"
        raise ClusterError(f"{asked} answered {response.status_code}: {response.text}")
    return response.json()
