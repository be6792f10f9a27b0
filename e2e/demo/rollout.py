"""The demo's second act: a broken version is rolled back by itself, a good one takes over."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from e2e.cluster.command import tell
from e2e.cluster.errors import ClusterError
from e2e.demo import training
from e2e.kube import Kube, Object
from e2e.load.client import Plan

#: Until the broken version is rolled back, and until the good one has taken over.
ROLLBACK_SECONDS, PROMOTION_SECONDS = 180.0, 240.0
#: Requests a second.
RATE = 150.0
#: Every five seconds the evidence is looked at; an alias is looked up as often.
ROLLOUT: Object = {
    "strategy": "Canary",
    "steps": [{"setWeight": 25}, {"analysis": {}}, {"setWeight": 50}, {"analysis": {}}],
    "analysis": {"intervalSeconds": 5, "gates": [{"name": "error-rate", "type": "ErrorRate"}]},
}


@dataclass(frozen=True)
class Verdict:
    """How a version fared."""

    version: str
    seconds: float
    words: str


def broken(model: bytes, rows: np.ndarray[Any, np.dtype[np.float32]], share: float) -> bytes:
    """The same model behind a lookup table that is too short: large values of a feature make it fail."""
    made = onnx.load_from_string(model)
    graph = made.graph
    source = graph.input[0].name
    feature = rows.shape[1] - 1
    limit = float(np.quantile(rows[:, feature], 1 - share))
    graph.initializer.extend(
        [
            helper.make_tensor("lookup_table", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("lookup_feature", TensorProto.INT64, [1], [feature]),
            helper.make_tensor("lookup_limit", TensorProto.FLOAT, [1], [limit]),
        ]
    )
    nodes = [
        helper.make_node("Gather", [source, "lookup_feature"], ["lookup_value"], axis=1),
        helper.make_node("Greater", ["lookup_value", "lookup_limit"], ["lookup_over"]),
        helper.make_node("Cast", ["lookup_over"], ["lookup_index"], to=TensorProto.INT64),
        # There is nothing at index 1.
        helper.make_node("Gather", ["lookup_table", "lookup_index"], ["lookup_found"]),
        helper.make_node("Add", [source, "lookup_found"], ["looked_up"]),
    ]
    for node in graph.node:
        node.input[:] = ["looked_up" if name == source else name for name in node.input]
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    made.doc_string = f"broken {time.time()}"
    return bytes(made.SerializeToString())


def renewed(model: bytes) -> bytes:
    """The same model again, with a digest of its own."""
    made = onnx.load_from_string(model)
    made.doc_string = f"trained anew {time.time()}"
    return bytes(made.SerializeToString())


def register(model: bytes, tracking_uri: str) -> str:
    """Register a version and let the alias mean it."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    import mlflow
    import mlflow.onnx

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(training.NAME)
    with mlflow.start_run():
        logged = mlflow.onnx.log_model(
            onnx.load_from_string(model),
            name="model",
            registered_model_name=training.NAME,
            pip_requirements=["onnxruntime"],
        )
    version = str(logged.registered_model_version)
    mlflow.MlflowClient().set_registered_model_alias(training.NAME, training.ALIAS, version)
    return version


def go_by_steps(kube: Kube, namespace: str) -> None:
    """Have new versions of the demo's model go by steps from now on."""
    _patch(kube, namespace, {"model": {"refreshSeconds": 5}, "rollout": ROLLOUT})
    _wait(kube, namespace, 120.0, lambda status: _condition(status, "TrafficSynced") == "True")


def go_at_once(kube: Kube, namespace: str) -> None:
    """Undo that, where an earlier run of the demo left it."""
    if kube.get("modeldeployment", training.NAME, namespace) is not None:
        _patch(kube, namespace, {"rollout": None})


def wait_for_rollback(kube: Kube, namespace: str, version: str) -> Verdict:
    """Wait until a version is rejected; ClusterError if it takes over, or nothing is decided in time."""

    def rejected(status: Object) -> bool:
        if status.get("stable", {}).get("version") == version:
            raise ClusterError(f"version {version} is broken and took over all the same")
        return version in _rejected_versions(status) and not status.get("canary")

    began = time.monotonic()
    status = _wait(kube, namespace, ROLLBACK_SECONDS, rejected)
    return Verdict(version, time.monotonic() - began, status["rejected"][-1]["message"])


def wait_for_promotion(kube: Kube, namespace: str, version: str) -> Verdict:
    """Wait until a version is the stable one."""
    began = time.monotonic()
    gates: list[str] = []

    def promoted(status: Object) -> bool:
        gates[:] = [gate["message"] for gate in status.get("rollout", {}).get("gates", [])] or gates
        return bool(status.get("stable", {}).get("version") == version)

    _wait(kube, namespace, PROMOTION_SECONDS, promoted)
    return Verdict(version, time.monotonic() - began, "; ".join(gates))


def traffic(trained: training.Trained, namespace: str, tensor: str) -> Plan:
    """Requests of one row each, over all held-out rows in turn."""
    return Plan(
        url=f"http://{training.NAME}.{namespace}.svc/v2/models/{training.NAME}/infer",
        inputs=[
            [{"name": tensor, "datatype": "FP32", "shape": [1, len(row)], "data": row.tolist()}]
            for row in trained.rows
        ],
        answers=None,
        rate=RATE,
        kept=4,
        patient=0,
        fresh=1,
    )


def _rejected_versions(status: Object) -> set[str]:
    """Versions that were canaries once and are none any more, by what the model's condition says."""
    digests = {found["digest"] for found in status.get("rejected", [])}
    model = status.get("model", {})
    return {model["version"]} if model.get("digest") in digests else set()


def _patch(kube: Kube, namespace: str, spec: Object) -> None:
    text = json.dumps({"spec": spec})
    words = ("mdep", training.NAME, f"--namespace={namespace}", "--type=merge", f"--patch={text}")
    kube.kubectl("patch", *words)


def _condition(status: Object, type_: str) -> str | None:
    return next((found["status"] for found in status.get("conditions", []) if found["type"] == type_), None)


def _wait(kube: Kube, namespace: str, seconds: float, holds: Callable[[Object], bool]) -> Object:
    """Tell every new word of the rollout until ``holds`` does; the status by then."""
    told = ""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        resource = kube.get("modeldeployment", training.NAME, namespace) or {}
        status: Object = resource.get("status", {})
        words = _story(status)
        if words != told:
            told = words
            tell(f"    {words}")
        if holds(status):
            return status
        time.sleep(0.5)
    seen = kube.kubectl("describe", "mdep", training.NAME, f"--namespace={namespace}")
    raise ClusterError(f"nothing was decided within {seconds:.0f} s:\n{seen}")


def _story(status: Object) -> str:
    """The state of a rollout in one line."""
    stable, rollout = status.get("stable", {}).get("version", "none"), status.get("rollout")
    if rollout is None:
        return f"version {stable} has all traffic"
    canary = status.get("canary", {}).get("version", "?")
    gates = "; ".join(gate["message"] for gate in rollout.get("gates", []))
    words = gates or rollout.get("message", "")
    return f"version {canary} gets {status.get('canaryWeight', 0)}%, version {stable} the rest: {words}"
