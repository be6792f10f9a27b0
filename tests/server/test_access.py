from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from slipway.contract import Metric, ModelFault
from slipway.names import MOST_KEY_HASHES
from slipway_server.access.keys import MOST_CALLERS, read_keys
from slipway_server.access.tokens import Issuers
from slipway_server.rpc import health_pb2
from slipway_server.rpc import open_inference_pb2 as oip
from slipway_server.settings import Access, Issuer
from tests.server.running import ROOT, Server, tensor
from tests.server.test_crashes import LEAST, pairs
from tests.server.test_grpc import GOOD, ask, channel, given, request
from tests.server.tokens import AUDIENCE, ISSUER, Signer, key_set

Dirs = Callable[[str], Path]
ALL = ("Infer", "Feedback", "Metadata")
X = tensor("x", "FP32", [1, 3], [1, 2, 3])
V1 = {"instances": [[1.0, 2.0, 3.0]]}
SLICED = {"inputs": {"x": [[1.0, 2.0, 3.0]]}}


def hash_of(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class Mounted:
    """A Secret as a kubelet mounts it: all files change at once, by moving a link, and names follow it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._versions = 0
        directory.mkdir(parents=True)

    def put(self, **callers: str) -> None:
        self._versions += 1
        version = self.directory / f"..{self._versions}"
        version.mkdir()
        for name, content in callers.items():
            (version / name).write_text(content)
        link = self.directory / "..new"
        link.symlink_to(version.name)
        link.rename(self.directory / "..data")
        for name in callers:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        for path in self.directory.iterdir():
            if not path.name.startswith("..") and path.name not in callers:
                path.unlink()
        shutil.rmtree(self.directory / f"..{self._versions - 1}", ignore_errors=True)


class Guarded:
    """A server with a Secret of two callers: ``app`` may do all, ``batch`` may only infer."""

    def __init__(self, root: Path, dirs: Dirs, stack: str) -> None:
        self.keys = Mounted(root / "keys")
        self.app, self.batch = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.put_both()
        self._dirs, self._stack = dirs, stack
        self._running: list[Server] = []

    def put_both(self) -> None:
        self.keys.put(app=hash_of(self.app), batch=f"{hash_of(self.batch)}\n")

    def start(self, model: str = "identity", *more: dict[str, Any], **config: Any) -> Server:
        rules = [{"callers": ["key:app"], "actions": ALL}, {"callers": ["key:batch"], "actions": ["Infer"]}]
        access = {name: config.pop(name) for name in ("limits", "peers", "issuers") if name in config}
        environment = {
            "SLIPWAY_ACCESS_KEYS_DIR": str(self.keys.directory),
            **config.pop("environment", {}),
        }
        self._running.append(
            Server(
                self._dirs(model),
                self._stack,
                environment=environment,
                access={"allow": [*rules, *more], **access},
                **config,
            )
        )
        return self._running[-1]

    def close(self) -> None:
        for server in self._running:
            server.__exit__(None, None, None)


@pytest.fixture
def guarded(tmp_path: Path, model_dirs: Dirs, stack: str) -> Iterator[Guarded]:
    made = Guarded(tmp_path, model_dirs, stack)
    yield made
    made.close()


def infer(server: Server, key: str | None, **headers: str) -> httpx.Response:
    given = headers if key is None else {**bearer(key), **headers}
    return server.client.post(server.infer_path, json={"inputs": [X]}, headers=given)


def refusals(server: Server, reason: str) -> float:
    labels = (("model", "fraud"), ("model_version", "3"), ("reason", reason))
    return server.metrics().get((Metric.REJECTED, labels), 0.0)


def answered(server: Server) -> float:
    return sum(value for (name, _), value in server.metrics().items() if name == Metric.REQUESTS)


def eventually(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


#: Every path that a client may ask for, and what it takes to be answered.
PATHS: list[tuple[str, str, Any, str | None]] = [
    ("GET", "/v2/health/live", None, None),
    ("GET", "/v2/health/ready", None, None),
    ("GET", "/", None, None),
    ("GET", "/ping", None, None),
    ("GET", "/health", None, None),
    ("HEAD", "/v2", None, "Metadata"),
    ("GET", "/v2", None, "Metadata"),
    ("GET", "/version", None, "Metadata"),
    ("GET", "/v1/models", None, "Metadata"),
    ("GET", "/v1/models/fraud", None, "Metadata"),
    ("GET", "/v2/models/fraud", None, "Metadata"),
    ("GET", "/v2/models/fraud/versions/3", None, "Metadata"),
    ("GET", "/v2/models/fraud/ready", None, "Metadata"),
    ("GET", "/v2/models/fraud/versions/3/ready", None, "Metadata"),
    ("GET", "/v2/models/fraud/openapi.json", None, "Metadata"),
    ("POST", "/v2/models/fraud/infer", {"inputs": [X]}, "Infer"),
    ("POST", "/v2/models/fraud/versions/3/infer", {"inputs": [X]}, "Infer"),
    ("POST", "/v2/models/fraud%2finfer", {"inputs": [X]}, "Infer"),
    ("POST", "/v2/models/%66raud/infer", {"inputs": [X]}, "Infer"),
    ("POST", "/v2/models/fraud/infer?x=/v2/health/live", {"inputs": [X]}, "Infer"),
    ("POST", "/v1/models/fraud:predict", V1, "Infer"),
    ("POST", "/invocations", SLICED, "Infer"),
    ("POST", "/v2/models/fraud/feedback", {"token": "x", "label": 1}, "Feedback"),
    ("POST", "/v2/models/fraud/%66eedback", {"token": "x", "label": 1}, "Feedback"),
]


def test_every_path_but_those_of_health_wants_a_caller_and_the_right_to_what_it_does(
    guarded: Guarded, tmp_path: Path
) -> None:
    feedback = tmp_path / "feedback"
    feedback.mkdir()
    (feedback / "1").write_bytes(b"0123456789abcdef0123456789abcdef")
    environment = {"SLIPWAY_FEEDBACK_KEYS_DIR": str(feedback)}
    server = guarded.start(feedbackMaxAgeDays=9, environment=environment).wait_until_ready()
    for method, path, body, action in PATHS:

        def send(key: str | None) -> httpx.Response:
            headers = {} if key is None else bearer(key)
            return server.client.request(method, path, json=body, headers=headers)  # noqa: B023

        if action is None:
            assert send(None).status_code == 200, path
            continue
        for unknown in (None, "wrong", guarded.app + "x", guarded.app[:-1], hash_of(guarded.app)):
            response = send(unknown)
            assert response.status_code == 401, (path, unknown)
            assert response.headers["www-authenticate"].startswith('Bearer realm="slipway"')
            assert method == "HEAD" or "Authorization: Bearer" in response.text or unknown is not None
            assert "fraud" not in response.text
        assert send(guarded.app).status_code in ((400,) if action == "Feedback" else (200,)), path
        other = send(guarded.batch)
        if action == "Infer":
            assert other.status_code == 200, path
        else:
            assert other.status_code == 403, path
            assert method == "HEAD" or f"'key:batch' is not allowed to do {action}" in other.json()["error"]


def test_the_page_has_each_path_with_what_it_takes() -> None:
    page = (ROOT / "docs/access.md").read_text()
    rows = {
        action: f"`{rest}`"
        for action, rest in re.findall(r"^\| `?(none|\w+)`?[ \w]*\| `([^|]+)` \|", page, re.MULTILINE)
    }
    for _, path, _, action in PATHS:
        general = unquote(path.partition("?")[0]).replace("/versions/3", "").replace("fraud", "NAME")
        general = general.replace("/v2/models/NAME/", "…/")
        assert f"`{general}`" in rows[action or "none"], path


def test_a_stranger_does_not_learn_which_paths_and_models_there_are(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    for path in (
        "/nothing",
        "/v2/models/other",
        "/v2/models/other/infer",
        "/v2/models/fraud/infer",
        "/metrics",
    ):
        assert server.client.get(path).status_code == 401
        assert server.client.get(path, headers=bearer(guarded.app)).status_code in (404, 405)
    document = {"inputs": [X]}
    for path in ("/v2/models/other/infer", "/v2/models/fraud/versions/4/infer"):
        assert server.client.post(path, json=document).status_code == 401
        assert server.client.post(path, json=document, headers=bearer(guarded.app)).status_code == 404


def test_a_header_of_another_form_names_no_caller(guarded: Guarded) -> None:
    server, key = guarded.start().wait_until_ready(), guarded.app

    def code(*values: str) -> int:
        headers = [("authorization", value) for value in values]
        return server.client.post(server.infer_path, json={"inputs": [X]}, headers=headers).status_code

    for value in (
        "",
        "Bearer",
        f"Basic {key}",
        key,
        f"Bearer {key} {key}",
        f"Bearer {key},x",
        f"Bearer\t{key}",
    ):
        assert code(value) == 401, value
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert code(f"{scheme} {key}") == 200
    # Two headers name two callers, and neither is believed.
    for second in ("wrong", guarded.batch, key):
        assert code(f"Bearer {key}", f"Bearer {second}") == 401
        assert code(f"Bearer {second}", f"Bearer {key}") == 401
    assert code("Bearer " + "x" * 9000) == 401
    # 64 KiB are more than any head may have with our own stack.
    assert code("Bearer " + "x" * 65_536) in (400, 401, 431)


def raw_request(server: Server, key: str | None) -> bytes:
    body = json.dumps({"inputs": [X]}).encode()
    lines = [f"POST {server.infer_path} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def asked(connection: socket.socket, content: bytes) -> int:
    """Send one request on a connection that is open; the code of the answer, 0 where it is closed instead."""
    connection.sendall(content)
    received = b""
    while not received.endswith(b"}"):
        piece = connection.recv(65_536)
        if not piece:
            return 0
        received += piece
    return int(received[9:12])


def talk(server: Server, *requests: bytes) -> list[int]:
    """Send all at once on one connection; the codes of the answers."""
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.sendall(b"".join(requests))
        connection.settimeout(10)
        received = b""
        while received.count(b"HTTP/1.1 ") < len(requests) or not received.endswith(b"}"):
            piece = connection.recv(65_536)
            if not piece:
                break
            received += piece
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def test_each_request_of_a_connection_is_checked_by_its_own_key(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    good, bad, none = (raw_request(server, key) for key in (guarded.app, "wrong", None))
    assert talk(server, good, good, none, good, bad, good) == [200, 200, 401, 200, 401, 200]


def test_a_key_that_was_taken_out_is_refused_within_a_second_on_connections_that_are_open(
    guarded: Guarded,
) -> None:
    server = guarded.start(processes=2).wait_until_ready()
    body = raw_request(server, guarded.batch)
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)

        # Again and again, so that its head is known by its bytes.
        assert [asked(connection, body) for _ in range(5)] == [200] * 5
        guarded.keys.put(app=hash_of(guarded.app))
        time.sleep(1.0)
        assert asked(connection, body) == 401
        assert infer(server, guarded.app).status_code == 200
        guarded.put_both()
        time.sleep(1.0)
        assert asked(connection, body) == 200


def test_who_is_refused_again_and_again_is_told_so_each_time_and_let_in_once_its_key_is_there(
    guarded: Guarded,
) -> None:
    guarded.keys.put(app=hash_of(guarded.app))
    server = guarded.start().wait_until_ready()
    good, early = raw_request(server, guarded.app), raw_request(server, guarded.batch)
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)
        for _ in range(5):
            assert [asked(connection, each) for each in (early, good)] == [401, 200]
        assert talk(server, *[early, good] * 4) == [401, 200] * 4
        assert refusals(server, "unauthenticated") == 9
        guarded.put_both()
        time.sleep(1.0)
        assert asked(connection, early) == 200


def test_a_refusal_has_the_id_of_its_own_request_and_another_key_each_time_is_another_stranger(
    guarded: Guarded,
) -> None:
    server = guarded.start().wait_until_ready()
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)
        for number in range(5):
            own = b"\r\nx-request-id: %d\r\n\r\n" % number
            connection.sendall(raw_request(server, "wrong").replace(b"\r\n\r\n", own, 1))
            answer = connection.recv(65_536)
            while not answer.endswith(b"}"):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert answer.count(b"x-request-id: ") == answer.count(b"x-request-id: %d\r\n" % number) == 1
        for number in range(200):
            assert asked(connection, raw_request(server, f"wrong-{number // 3}")) == 401
        assert asked(connection, raw_request(server, guarded.app)) == 200
    assert refusals(server, "unauthenticated") == 205


def test_a_request_that_was_let_in_is_answered_and_lets_nobody_in_after_it(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    whole = raw_request(server, guarded.batch)
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)
        connection.sendall(whole[:-1])
        time.sleep(0.3)
        guarded.keys.put(app=hash_of(guarded.app))
        time.sleep(1.0)
        connection.sendall(whole[-1:])
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        # The twin writes head and content apart.
        while not answer.endswith(b"]}]}"):
            answer += connection.recv(65_536)
        # Its head must not be remembered as one that passed.
        connection.sendall(whole)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")


def test_a_caller_has_two_keys_while_one_replaces_the_other(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    new = secrets.token_urlsafe(32)
    guarded.keys.put(app=f"{hash_of(guarded.app)}\n{hash_of(new)}\n")
    eventually(lambda: infer(server, new).status_code == 200, 1.0)
    assert infer(server, guarded.app).status_code == 200
    guarded.keys.put(app=hash_of(new))
    eventually(lambda: infer(server, guarded.app).status_code == 401, 1.0)
    assert infer(server, new).status_code == 200


def test_a_caller_is_known_before_the_kubelet_has_made_the_link_of_its_file(tmp_path: Path) -> None:
    keys, issuers = Mounted(tmp_path / "keys"), Mounted(tmp_path / "issuers")
    keys.put(app=hash_of("app"), new=hash_of("new"))
    issuers.put(**{"sso.json": key_set(Signer().jwk())})
    for link in (keys.directory / "new", issuers.directory / "sso.json"):
        link.unlink()
    assert set(read_keys(keys.directory).callers.values()) == {"app", "new"}
    sso = Issuer(name="sso", issuer=ISSUER, audiences=(AUDIENCE,))
    assert Issuers(Access(allow=(), issuers=(sso,)), issuers.directory).has_keys


def test_a_garbled_entry_admits_nobody_and_harms_no_other_caller(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    guarded.keys.put(app=hash_of(guarded.app), batch=guarded.batch)
    eventually(lambda: infer(server, guarded.batch).status_code == 401, 1.0)
    assert infer(server, guarded.app).status_code == 200
    log = server.log.read_text()
    assert "'batch' of the Secret admits nobody" in log
    assert guarded.batch not in log
    assert guarded.app not in log


def test_a_secret_that_went_away_or_has_no_good_key_closes_the_model_and_none_stays_open(
    guarded: Guarded,
) -> None:
    server = guarded.start().wait_until_ready()
    assert infer(server, guarded.app).status_code == 200
    broken: list[Callable[[], None]] = [
        lambda: guarded.keys.put(),
        lambda: guarded.keys.put(app="sha256:short", batch="\0\xff"),
        lambda: shutil.rmtree(guarded.keys.directory),
    ]
    for breaks in broken:
        breaks()
        eventually(lambda: infer(server, guarded.app).status_code == 503, 1.0)
        assert infer(server, guarded.app).headers["retry-after"] == "1"
        assert infer(server, None).status_code == 401
        assert infer(server, "wrong").status_code == 503
        assert server.client.get("/v2/health/ready").status_code == 200
        if guarded.keys.directory.exists():
            guarded.put_both()
            eventually(lambda: infer(server, guarded.app).status_code == 200, 1.0)


@pytest.mark.parametrize("content", [None, "", "sha256:" + "0" * 63, "a" * 2000])
def test_a_server_that_starts_without_a_usable_key_says_so_and_ends(
    tmp_path: Path, model_dirs: Dirs, content: str | None
) -> None:
    keys = tmp_path / "keys"
    if content is not None:
        keys.mkdir()
        (keys / "app").write_text(content)
    access = {"allow": [{"callers": ["*"], "actions": ALL}]}
    environment = {"SLIPWAY_ACCESS_KEYS_DIR": str(keys)}
    with Server(model_dirs("identity"), environment=environment, access=access) as server:
        assert server.wait() == 1
        outcome = server.last_words().outcome
        assert outcome.kind == "Failed"
        assert outcome.failure.reason is ModelFault.ACCESS_KEYS_MISSING
        assert "kubectl slipway key new" in outcome.failure.message


def test_strangers_may_do_what_a_rule_allows_them_and_a_bad_key_makes_nobody_a_stranger(
    guarded: Guarded,
) -> None:
    rule = {"callers": ["anonymous"], "actions": ["Metadata"]}
    server = guarded.start("identity", rule).wait_until_ready()
    assert server.client.get("/v2/models/fraud").status_code == 200
    assert server.client.get("/v2/models/fraud", headers=bearer("wrong")).status_code == 401
    assert infer(server, None).status_code == 403


def test_refusals_are_counted_apart_and_not_as_requests_of_the_model(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    assert infer(server, guarded.app).status_code == 200
    before = answered(server)
    for _ in range(3):
        infer(server, None)
        infer(server, "wrong")
    server.client.get("/v2", headers=bearer(guarded.batch))
    assert answered(server) == before
    assert refusals(server, "unauthenticated") == 6
    assert refusals(server, "forbidden") == 1
    text = httpx.get(f"{server.admin}/metrics").text + server.log.read_text()
    assert guarded.app not in text
    assert guarded.batch not in text


def test_a_stranger_who_waits_to_be_told_is_not_told_to_send_the_body(guarded: Guarded, stack: str) -> None:
    server = guarded.start().wait_until_ready()
    with socket.create_connection(("127.0.0.1", server.http_port)) as connection:
        connection.settimeout(10)
        lines = (
            f"POST {server.infer_path} HTTP/1.1",
            "host: x",
            "content-length: 50",
            "expect: 100-continue",
        )
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        received = connection.recv(65_536)
    assert received.startswith(b"HTTP/1.1 401"), stack
    assert b"connection: close" in received


def code_of(
    server: Server, method: str, message: Any, answer: Any, *metadata: tuple[str, str]
) -> grpc.StatusCode:
    try:
        ask(server, method, message, answer, metadata=metadata)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_grpc_wants_the_same_callers_with_the_same_rights(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    app, batch, wrong = (("authorization", f"Bearer {key}") for key in (guarded.app, guarded.batch, "wrong"))
    ok, unknown, denied = (
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    )
    calls: list[tuple[str, Any, Any, str | None]] = [
        ("ServerLive", oip.ServerLiveRequest(), oip.ServerLiveResponse, None),
        ("ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse, None),
        ("ModelReady", oip.ModelReadyRequest(name="fraud"), oip.ModelReadyResponse, "Metadata"),
        ("ServerMetadata", oip.ServerMetadataRequest(), oip.ServerMetadataResponse, "Metadata"),
        ("ModelMetadata", oip.ModelMetadataRequest(name="fraud"), oip.ModelMetadataResponse, "Metadata"),
        ("ModelInfer", request(GOOD), oip.ModelInferResponse, "Infer"),
    ]
    for method, message, answer, action in calls:
        if action is None:
            assert code_of(server, method, message, answer) is ok, method
            continue
        assert code_of(server, method, message, answer) is unknown, method
        assert code_of(server, method, message, answer, wrong) is unknown, method
        assert code_of(server, method, message, answer, wrong, app) is unknown, method
        assert code_of(server, method, message, answer, app) is ok, method
        assert code_of(server, method, message, answer, batch) is (ok if action == "Infer" else denied), (
            method
        )
    before = answered(server)
    assert code_of(server, "ModelInfer", request(GOOD), oip.ModelInferResponse) is unknown
    assert answered(server) == before
    with channel(server) as made:
        check = made.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        assert (
            check(health_pb2.HealthCheckRequest(), timeout=10).status
            == health_pb2.HealthCheckResponse.SERVING
        )
        reflection = reflection_pb2_grpc.ServerReflectionStub(made).ServerReflectionInfo
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        with pytest.raises(grpc.RpcError) as caught:
            next(reflection(iter(asked), timeout=10))
        assert caught.value.code() is unknown
        assert next(reflection(iter(asked), timeout=10, metadata=(app,))).list_services_response.service


def test_grpc_follows_the_keys_on_a_channel_that_is_open(guarded: Guarded) -> None:
    server = guarded.start().wait_until_ready()
    with channel(server) as made:
        call = made.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelInferResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {guarded.batch}"),)
        for _ in range(3):
            call(request(GOOD), timeout=10, metadata=metadata)
        guarded.keys.put(app=hash_of(guarded.app))
        time.sleep(1.0)
        with pytest.raises(grpc.RpcError) as caught:
            call(request(GOOD), timeout=10, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        shutil.rmtree(guarded.keys.directory)
        time.sleep(1.0)
        with pytest.raises(grpc.RpcError) as caught:
            call(request(GOOD), timeout=10, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_caller_whose_requests_end_processes_is_shut_out_whatever_address_it_claims_and_nobody_else(
    guarded: Guarded,
) -> None:
    server = guarded.start("division").wait_until_ready()

    def send(key: str, number: int, divisor: int = -1) -> int:
        headers = {**bearer(key), "x-forwarded-for": f"10.0.0.{number}"}
        inputs = {"inputs": pairs([number, LEAST], [1, divisor])}
        return server.client.post(server.infer_path, json=inputs, headers=headers).status_code

    assert [send(guarded.batch, number) for number in range(5)] == [422] * 3 + [429] * 2
    assert send(guarded.batch, 9, divisor=1) == 429
    assert send(guarded.app, 9, divisor=1) == 200
    good = request(given("a", "INT32", [1], [7]), given("b", "INT32", [1], [2]))
    metadata = [("authorization", f"Bearer {guarded.batch}")]
    with pytest.raises(grpc.RpcError) as caught:
        ask(server, "ModelInfer", good, oip.ModelInferResponse, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_files_of_keys_are_bounded_and_a_fault_in_one_is_none_of_the_others(tmp_path: Path) -> None:
    good = hash_of("good")
    (tmp_path / "good").write_text(f"{good}\n")
    (tmp_path / "many").write_text("\n".join(hash_of(str(number)) for number in range(MOST_KEY_HASHES + 1)))
    (tmp_path / "upper").write_text("sha256:" + "A" * 64)
    (tmp_path / ("x" * 65)).write_text(good)
    (tmp_path / "folder").mkdir()
    (tmp_path / "shared-1").write_text(hash_of("shared"))
    (tmp_path / "shared-2").write_text(hash_of("shared"))
    (tmp_path / "most").write_text("\n".join(hash_of(f"m{number}") for number in range(MOST_KEY_HASHES)))
    found = read_keys(tmp_path)
    assert set(found.callers.values()) == {"good", "most"}
    assert len(found.callers) == 1 + MOST_KEY_HASHES
    assert len(found.faults) == 5
    for number in range(MOST_CALLERS):
        (tmp_path / f"c{number}").touch()
    found = read_keys(tmp_path)
    assert found.callers == {}
    assert "more than" in found.faults[0]
