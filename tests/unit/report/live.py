"""A model server with a profile and traffic, behind an API server that knows what a report asks for."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import numpy as np
import pandas as pd
import yaml
from sklearn.datasets import load_breast_cancer

from slipway.profiling import make_profile
from tests.server import onnx_models
from tests.server.running import Server, tensor

DIGEST = "sha256:" + "1" * 64
KEY = b"0123456789abcdef0123456789abcdef"
#: The feature that moves.
MOVED = "worst texture"
FAIRNESS: dict[str, Any] = {
    "sensitiveAttributes": [{"name": "sex", "parameter": "sex", "groups": ["female", "male"]}],
    "favorableOutcomes": ["1"],
}
#: The same, and how far groups may be apart.
LIMITED = {
    **FAIRNESS,
    "sensitiveAttributes": [{**FAIRNESS["sensitiveAttributes"][0], "referenceGroup": "male"}],
    "metrics": [{"name": "DisparateImpactRatio", "minimum": "80%"}],
}
OBJECTIVES = [{"metric": "Accuracy", "minimum": "90%"}]
#: Answers to what is asked for a report, by the path and what it is looked for by.
Documents = dict[tuple[str, str], Any]
_NAMESPACED = "/apis/slipway.dev/v1alpha1/namespaces/payments/modeldeployments"
_SERVICE = "/api/v1/namespaces/payments/services/fraud:http/proxy"
_SELECTOR = "slipway.dev/modeldeployment=fraud"


class Cluster:
    """An API server with one ModelDeployment; pods are real servers, reached by its proxy."""

    def __init__(self, resource: dict[str, Any], pods: dict[str, Server | None]) -> None:
        """``pods`` that have no server do not answer."""
        revision = {
            "metadata": {
                "name": "fraud-aaaaaaaaaa",
                "creationTimestamp": "2026-11-20T08:00:00Z",
                "labels": {"slipway.dev/revision": "aaaaaaaaaa"},
            },
            "revision": 1,
            "data": {"model": {"version": "3", "digest": DIGEST}},
        }
        documents: Documents = {
            (f"{_NAMESPACED}/fraud", ""): resource,
            (
                "/api/v1/namespaces/payments/pods",
                f"{_SELECTOR},app.kubernetes.io/component=model-server",
            ): {"kind": "PodList", "items": [pod_of(name) for name in pods]},
            ("/apis/apps/v1/namespaces/payments/controllerrevisions", _SELECTOR): {
                "kind": "ControllerRevisionList",
                "items": [revision],
            },
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                path = unquote(url.path)
                if path.startswith(_SERVICE):
                    self._forward("GET", path.removeprefix(_SERVICE))
                    return
                selector = parse_qs(url.query).get("labelSelector", [""])[0]
                for name, server in pods.items():
                    if path == f"/api/v1/namespaces/payments/pods/{name}:8081/proxy/metrics":
                        if server is None:
                            self._answer(503, b"error trying to reach service", "text/plain")
                            return
                        found = httpx.get(f"{server.admin}/metrics")
                        self._answer(found.status_code, found.content, found.headers["content-type"])
                        return
                document = documents.get((path, selector))
                body = json.dumps(document or {"kind": "Status", "code": 404}).encode()
                self._answer(200 if document else 404, body, "application/json")

            def do_POST(self) -> None:
                path, body = unquote(self.path), self.rfile.read(int(self.headers["content-length"]))
                if path.endswith("/selfsubjectreviews"):
                    who = {"status": {"userInfo": {"username": "alice"}}}
                    self._answer(201, json.dumps(who).encode(), "application/json")
                    return
                assert path.startswith(_SERVICE), path
                self._forward("POST", path.removeprefix(_SERVICE), body)

            def _forward(self, method: str, path: str, body: bytes = b"") -> None:
                """To a pod that answers, as the API server's proxy of Services does."""
                server = next((one for one in pods.values() if one is not None), None)
                if server is None:
                    status = {"kind": "Status", "message": 'no endpoints available for service "fraud"'}
                    self._answer(503, json.dumps(status).encode(), "application/json")
                    return
                found = server.client.request(
                    method, path, content=body, headers={"content-type": "application/json"}
                )
                self._answer(found.status_code, found.content, found.headers["content-type"])

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def kubeconfig(self, folder: Path) -> str:
        """A file that leads here."""
        path = folder / "kubeconfig"
        named = {"cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}, "name": "here"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [named],
            "users": [{"name": "me", "user": {}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "payments"}}
            ],
        }
        path.write_text(yaml.safe_dump(document))
        return str(path)

    def __enter__(self) -> Cluster:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def pod_of(name: str) -> dict[str, Any]:
    """A ready pod of the revision that serves."""
    return {
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/component": "model-server",
                "slipway.dev/modeldeployment": "fraud",
                "slipway.dev/revision": "aaaaaaaaaa",
            },
        },
        "spec": {"containers": [{"name": "server"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {
                    "name": "server",
                    "image": "server",
                    "imageID": "server",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-11-24T09:30:00Z"}},
                }
            ],
        },
    }


def model_deployment(**status: Any) -> dict[str, Any]:
    """As the API server has it, with the spec that :func:`serve` serves."""
    stable: dict[str, Any] = {
        "revision": "aaaaaaaaaa",
        "version": "3",
        "digest": DIGEST,
        "replicas": 2,
        "readyReplicas": 2,
    }
    stable["modelCreatedAt"] = "2026-01-02T03:04:05Z"
    rejected = {
        "revision": "cccccccccc",
        "digest": DIGEST,
        "id": "cccccccccc.1",
        "rejectedAt": "2026-11-21T11:00:00Z",
        "message": "gate error-rate: <b>canary 14 errors</b> in 1,210",
    }
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud", "namespace": "payments", "uid": "u"},
        "spec": {
            "model": {"uri": "mlflow://fraud@champion"},
            "fairness": LIMITED,
            "monitoring": {
                "performance": {"feedback": {"secretRef": {"name": "keys"}}, "objectives": OBJECTIVES}
            },
            "card": {
                "owner": "risk-team",
                "limitations": "no transfers",
                "links": ["https://wiki.example.com/fraud"],
                "maxAgeDays": 90,
            },
        },
        "status": {
            "stable": stable,
            "promotedAt": "2026-11-20T09:00:00Z",
            "rejected": [rejected],
            **status,
        },
    }


def serve(folder: Path) -> Server:
    """A server of a classifier with a profile, groups and tokens."""
    frame = load_breast_cancer(as_frame=True).frame
    directory = onnx_models.save(onnx_models.classifier(), folder / "model")
    # Twice, for a reference of more than a thousand rows.
    profile = make_profile(
        pd.concat([frame, frame], ignore_index=True),
        directory / "model.onnx",
        labels="target",
        holdout=frame[:300],
    )
    (directory / "profile.json").write_bytes(profile.text())
    keys = folder / "keys"
    keys.mkdir()
    (keys / "2026-11").write_bytes(KEY)
    return Server(
        directory,
        environment={"SLIPWAY_FEEDBACK_KEYS_DIR": str(keys)},
        feedbackMaxAgeDays=90,
        sensitiveAttributes=FAIRNESS["sensitiveAttributes"],
        favorableOutcomes=FAIRNESS["favorableOutcomes"],
        monitoredFeatures=6,
        freshness={"source": "Parameter", "name": "as_of", "maxAgeSeconds": 3600},
    )


def send_traffic(server: Server) -> None:
    """Every row of the data three times, the last with a worst texture that moved; labels for the first."""
    data = load_breast_cancer()
    whole = data.data.astype(np.float32)
    for turn in range(3):
        table = whole.copy()
        if turn == 2:
            table[:, list(data.feature_names).index(MOVED)] += 20.0
        for start in range(0, len(table), 50):
            rows = table[start : start + 50]
            sexes = ["female" if row % 3 else "male" for row in range(start, start + len(rows))]
            if start == 0 and turn == 0:
                sexes[:5] = ["unknown"] * 5
            taken = int(time.time()) - (60 if turn else 7200)
            question = tensor("X", "FP32", list(rows.shape), rows.reshape(-1).tolist())
            answer = server.infer(question, parameters={"sex": sexes, "as_of": taken})
            assert answer.status_code == 200, answer.text
            if turn == 0:
                tokens = str(answer.json()["parameters"]["feedback_token"]).split(" ")
                labels = data.target[start : start + 50].tolist()
                feedback = [
                    {"token": token, "label": label} for token, label in zip(tokens, labels, strict=True)
                ]
                taken = server.client.post(
                    f"/v2/models/{server.name}/feedback", json={"feedback": feedback}
                ).json()
                assert taken["accepted"] == len(labels), taken
