"""What the API server is asked by each question of the commands: method, path, query and headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from slipway.cli.cluster import Cluster
from slipway.cli.parser import parse
from tests.unit.cli.listening import listening

PAYMENTS = "/api/v1/namespaces/payments"
MODELS = "/apis/slipway.dev/v1alpha1/namespaces/payments/modeldeployments"
FRAUD = {"metadata": {"name": "fraud", "resourceVersion": "7", "uid": "u"}}
WRITES = {"fieldManager": "slipway.dev/command", "fieldValidation": "Strict"}
DRY = {**WRITES, "dryRun": "All"}
MERGE, JSON = "application/merge-patch+json", "application/json"


@dataclass
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Recorder:
    """Answers everything with a list that is an object too."""

    address: str = ""
    asked: list[Asked] = field(default_factory=list)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    found = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            url, size = urlsplit(self.path), int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            headers = {name.casefold(): value for name, value in self.headers.items()}
            found.asked.append(Asked(self.command, url.path, dict(parse_qsl(url.query)), headers, body))
            answer = json.dumps({"metadata": {"labels": {"a": "b"}}, "items": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_PATCH = _answer

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with listening(Handler) as port:
        found.address = f"http://127.0.0.1:{port}"
        yield found


@pytest.fixture
def there(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    where = ["-s", recorder.address, "--token", "mine", "-n", "payments"]
    return Cluster(parse(["status", "fraud", *where]))


Question = Callable[[Cluster], object]
SERVING = "slipway.dev/modeldeployment=fraud"
OPERATORS = "app.kubernetes.io/part-of=slipway,app.kubernetes.io/component=operator"
READS: dict[str, tuple[Question, str, dict[str, str]]] = {
    "one": (lambda one: one.get("fraud"), f"{MODELS}/fraud", {}),
    "a strange name": (lambda one: one.find("a/b?c"), f"{MODELS}/a%2Fb%3Fc", {}),
    "some": (lambda one: one.select("team=risk"), MODELS, {"limit": "500", "labelSelector": "team=risk"}),
    "all": (
        lambda one: one.select(everywhere=True),
        "/apis/slipway.dev/v1alpha1/modeldeployments",
        {"limit": "500"},
    ),
    "another namespace": (
        lambda one: one.within("other").get("fraud"),
        f"{MODELS.replace('payments', 'other')}/fraud",
        {},
    ),
    "revisions": (
        lambda one: one.revisions("fraud"),
        "/apis/apps/v1/namespaces/payments/controllerrevisions",
        {"limit": "500", "labelSelector": SERVING},
    ),
    "namespaces": (lambda one: one.namespaces(), "/api/v1/namespaces", {"limit": "500"}),
    "operators": (
        lambda one: one.operators(),
        "/apis/apps/v1/deployments",
        {"limit": "500", "labelSelector": OPERATORS},
    ),
    "the schema": (lambda one: one.openapi(), "/openapi/v3/apis/slipway.dev/v1alpha1", {}),
    "a pod's metrics": (
        lambda one: one.metrics("fraud-1"),
        f"{PAYMENTS}/pods/fraud-1:8081/proxy/metrics",
        {},
    ),
    "a Secret": (lambda one: one.secret("keys"), f"{PAYMENTS}/secrets/keys", {}),
    "a Service": (
        lambda one: one.proxied("fraud", "GET", "/v2/models/fraud", None),
        f"{PAYMENTS}/services/fraud:http/proxy/v2/models/fraud",
        {},
    ),
    "labels": (lambda one: one.labels("other"), "/api/v1/namespaces/other", {}),
    "policies": (
        lambda one: one.network_policies("other"),
        "/apis/networking.k8s.io/v1/namespaces/other/networkpolicies",
        {"limit": "500"},
    ),
}


@pytest.mark.parametrize(("question", "path", "query"), READS.values(), ids=READS)
def test_a_question_reads_from_its_own_place(
    there: Cluster, recorder: Recorder, question: Question, path: str, query: dict[str, str]
) -> None:
    question(there)
    [asked] = recorder.asked
    assert (asked.method, asked.path, asked.query) == ("GET", path, query)
    assert asked.headers["authorization"] == "Bearer mine"
    assert asked.headers["user-agent"] == "kubectl-slipway"
    assert asked.headers["accept"] == ("*/*" if "/proxy/" in path else JSON)


def test_pods_are_those_that_serve_the_model(there: Cluster, recorder: Recorder) -> None:
    there.pods("fraud")
    [asked] = recorder.asked
    assert (asked.path, asked.query["limit"]) == (f"{PAYMENTS}/pods", "500")
    assert SERVING in asked.query["labelSelector"].split(",")


CHANGE = {"metadata": {"annotations": {"a": "b"}}}
VERSIONED = {"metadata": {"resourceVersion": "7", "annotations": {"a": "b", "c": None}}}
SECRETS = f"{PAYMENTS}/secrets"
MANAGED = {"fieldManager": WRITES["fieldManager"]}
TOLD: dict[str, tuple[Question, tuple[str, str, dict[str, str], str, Any]]] = {
    "a patch": (lambda one: one.patch("fraud", CHANGE), ("PATCH", f"{MODELS}/fraud", WRITES, MERGE, CHANGE)),
    "a dry run": (
        lambda one: one.patch("fraud", CHANGE, dry_run=True),
        ("PATCH", f"{MODELS}/fraud", DRY, MERGE, CHANGE),
    ),
    "annotations": (
        lambda one: one.annotate(FRAUD, {"a": "b", "c": None}),
        ("PATCH", f"{MODELS}/fraud", WRITES, MERGE, VERSIONED),
    ),
    "a check of a new one": (
        lambda one: one.check({"metadata": {"name": "fraud"}}, None),
        ("POST", MODELS, DRY, JSON, {"metadata": {"name": "fraud", "namespace": "payments"}}),
    ),
    "a check of a change": (
        lambda one: one.check({"metadata": {"name": "fraud"}}, FRAUD),
        (
            "PUT",
            f"{MODELS}/fraud",
            DRY,
            JSON,
            {"metadata": {"name": "fraud", "namespace": "payments", "resourceVersion": "7"}},
        ),
    ),
    "a new Secret": (
        lambda one: one.write_secret("keys", None, {"a": "YQ=="}),
        (
            "POST",
            SECRETS,
            MANAGED,
            JSON,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "Opaque",
                "metadata": {"name": "keys"},
                "data": {"a": "YQ=="},
            },
        ),
    ),
    "a Secret that is there": (
        lambda one: one.write_secret("keys", FRAUD, {"a": None}),
        (
            "PATCH",
            f"{SECRETS}/keys",
            MANAGED,
            MERGE,
            {"metadata": {"resourceVersion": "7"}, "data": {"a": None}},
        ),
    ),
    "who one is": (
        lambda one: one.user(),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            {},
            JSON,
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        ),
    ),
}


@pytest.mark.parametrize(("change", "sent"), TOLD.values(), ids=TOLD)
def test_what_is_written_goes_to_its_own_place(
    there: Cluster, recorder: Recorder, change: Question, sent: tuple[str, str, dict[str, str], str, Any]
) -> None:
    change(there)
    [asked] = recorder.asked
    assert (asked.method, asked.path, asked.query, asked.headers["content-type"], asked.body) == sent
