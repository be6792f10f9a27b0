"""The client against a real web server: what goes over the wire, and what comes of bad answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from slipway.api.types import KIND
from slipway.core.observed import ObjectKind
from slipway.engine.errors import ApiError
from slipway.engine.kube import RESOURCES, Kube
from slipway.engine.ownership import REPLICA_SET
from slipway.infra import kube
from slipway.infra.kube import KubeClient
from tests.unit.infra.api_server import Answer, ApiServer, api_server

SERVICE = {"kind": "Service", "metadata": {"name": "fraud", "namespace": "payments", "uid": "u1"}}
#: Seconds that a write may take.
LEFT = 12.7
PLACE = "/api/v1/namespaces/payments/services/fraud"


class Observed:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def __call__(self, method: str, code: int) -> None:
        self.seen.append((method, code))


def _json(body: Any, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return answer


def _text(body: bytes, status: int) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    return answer


def _status(code: int, reason: str, message: str, *causes: str) -> Answer:
    details = {"causes": [{"reason": cause} for cause in causes]}
    return _json({"kind": "Status", "reason": reason, "message": message, "details": details}, code)


def _client(server: ApiServer) -> tuple[KubeClient, Observed]:
    observed = Observed()
    return KubeClient(server.client, observed, lambda: LEFT), observed


async def test_an_object_is_read_from_its_place() -> None:
    async with api_server(_json({"apiVersion": "v1", "metadata": {"name": "fraud"}})) as server:
        client, observed = _client(server)
        found = await client.get(ObjectKind.SERVICE, "payments", "fraud")
        assert found == {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "fraud"}}
        assert server.asked == [("GET", PLACE)]
        assert observed.seen == [("GET", 200)]


async def test_an_object_that_is_not_there_is_none_and_counted() -> None:
    async with api_server(_status(404, "NotFound", "not found")) as server:
        client, observed = _client(server)
        assert await client.get(ObjectKind.SERVICE, "payments", "fraud") is None
        assert observed.seen == [("GET", 404)]


async def test_every_kind_has_its_place() -> None:
    async with api_server(_status(404, "NotFound", "not found")) as server:
        client, _ = _client(server)
        for kind in RESOURCES:
            assert await client.get(kind, "n", "x") is None
        assert [path for _, path in server.asked] == [
            "/apis/slipway.dev/v1alpha1/namespaces/n/modeldeployments/x",
            "/apis/apps/v1/namespaces/n/controllerrevisions/x",
            "/apis/apps/v1/namespaces/n/deployments/x",
            "/apis/apps/v1/namespaces/n/replicasets/x",
            "/api/v1/namespaces/n/services/x",
            "/apis/autoscaling/v2/namespaces/n/horizontalpodautoscalers/x",
            "/apis/policy/v1/namespaces/n/poddisruptionbudgets/x",
            "/api/v1/namespaces/n/serviceaccounts/x",
            "/api/v1/namespaces/n/pods/x",
            "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices/x",
            "/api/v1/namespaces/n/configmaps/x",
            "/apis/gateway.networking.k8s.io/v1/namespaces/n/httproutes/x",
            "/apis/batch/v1/namespaces/n/jobs/x",
        ]


async def test_a_list_is_read_page_by_page_and_only_what_is_labelled() -> None:
    async def answer(request: web.Request) -> web.Response:
        token = request.query.get("continue", "")
        number = {"": 0, "one": 1, "two": 2}[token]
        meta = {"resourceVersion": "77", "continue": ["one", "two", ""][number]}
        return web.json_response({"metadata": meta, "items": [{"metadata": {"name": f"s{number}"}}]})

    async with api_server(answer) as server:
        client, observed = _client(server)
        found, version = await client.list(ObjectKind.SERVICE, "payments")
        assert [item["metadata"]["name"] for item in found] == ["s0", "s1", "s2"]
        assert {item["kind"] for item in found} == {"Service"}
        assert version == 77
        assert observed.seen == [("GET", 200)] * 3
        for _, path in server.asked:
            assert path.startswith("/api/v1/namespaces/payments/services?")
            assert f"limit={kube.PAGE}" in path
            assert "labelSelector=slipway.dev/modeldeployment" in path.replace("%2F", "/")


async def test_model_deployments_are_listed_without_a_label_in_all_namespaces() -> None:
    async with api_server(_json({"metadata": {"resourceVersion": "5"}, "items": []})) as server:
        client, _ = _client(server)
        assert await client.list(KIND, None) == ([], 5)
        assert server.asked == [("GET", f"/apis/slipway.dev/v1alpha1/modeldeployments?limit={kube.PAGE}")]


async def test_replica_sets_are_asked_for_by_their_metadata_alone() -> None:
    accepted: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        accepted.append(request.headers["Accept"])
        if "watch" in request.query:
            event = {
                "type": "ADDED",
                "object": {"kind": "PartialObjectMetadata", "metadata": {"name": "one"}},
            }
            return web.Response(text=json.dumps(event) + "\n")
        # What a real API server says where there are none.
        body = {"kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "5"}, "items": None}
        return web.json_response(body)

    async with api_server(answer) as server:
        client, _ = _client(server)
        assert await client.list(REPLICA_SET, None) == ([], 5)
        seen = [event async for event in client.watch(REPLICA_SET, None, 5)]
        assert [(type_, found["kind"], found["apiVersion"]) for type_, found in seen] == [
            ("ADDED", "ReplicaSet", "apps/v1")
        ]
        assert accepted == [
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        ]


async def test_a_list_that_expires_between_pages_is_an_error_to_try_again() -> None:
    async def answer(request: web.Request) -> web.Response:
        if "continue" in request.query:
            status = {
                "kind": "Status",
                "reason": "Expired",
                "message": "The provided continue parameter is too old",
            }
            return web.json_response(status, status=410)
        return web.json_response({"metadata": {"resourceVersion": "1", "continue": "x"}, "items": []})

    async with api_server(answer) as server:
        client, _ = _client(server)
        with pytest.raises(ApiError) as raised:
            await client.list(ObjectKind.POD, None)
        assert (raised.value.code, raised.value.reason) == (410, "Expired")


async def test_an_apply_is_forced_under_its_managers_name() -> None:
    async with api_server(_json({**SERVICE, "spec": {}})) as server:
        client, observed = _client(server)
        assert await client.apply(SERVICE, "slipway.dev/workload") == {
            **SERVICE,
            "apiVersion": "v1",
            "spec": {},
        }
        assert server.asked == [
            ("PATCH", f"{PLACE}?fieldManager=slipway.dev/workload&force=true&timeout=12s")
        ]
        assert server.bodies[0]["type"] == "application/apply-patch+yaml"
        assert json.loads(server.bodies[0]["text"]) == SERVICE
        assert observed.seen == [("PATCH", 200)]


async def test_status_is_applied_to_its_subresource() -> None:
    manifest = {"kind": KIND, "metadata": {"name": "fraud", "namespace": "payments"}, "status": {}}
    async with api_server(_json(manifest)) as server:
        client, _ = _client(server)
        await client.apply_status(manifest, "slipway.dev/status")
        assert server.asked == [
            (
                "PATCH",
                "/apis/slipway.dev/v1alpha1/namespaces/payments/modeldeployments/fraud/status"
                "?fieldManager=slipway.dev/status&force=true&timeout=12s",
            )
        ]


async def test_a_deletion_names_the_uid_and_works_in_the_background() -> None:
    async with api_server(_json({"kind": "Status", "status": "Success"})) as server:
        client, _ = _client(server)
        await client.delete(SERVICE)
        assert server.asked == [("DELETE", f"{PLACE}?timeout=12s")]
        body = json.loads(server.bodies[0]["text"])
        assert body == {"propagationPolicy": "Background", "preconditions": {"uid": "u1"}}


@pytest.mark.parametrize("code", [404, 409])
async def test_deleting_what_is_gone_or_was_replaced_is_done(code: int) -> None:
    async with api_server(_status(code, "NotFound", "gone")) as server:
        client, _ = _client(server)
        await client.delete(SERVICE)


async def test_a_deletion_that_is_forbidden_is_an_error() -> None:
    async with api_server(_status(403, "Forbidden", "no")) as server:
        client, _ = _client(server)
        with pytest.raises(ApiError):
            await client.delete(SERVICE)


async def test_an_event_is_created_in_its_namespace() -> None:
    async with api_server(_json({"kind": "Event"}, 201)) as server:
        client, observed = _client(server)
        await client.emit("payments", {"reason": "Serving"})
        assert server.asked == [("POST", "/apis/events.k8s.io/v1/namespaces/payments/events?timeout=12s")]
        assert observed.seen == [("POST", 201)]


async def test_an_event_that_happens_again_is_counted_in_its_place() -> None:
    async with api_server(_json({})) as server:
        client, _ = _client(server)
        await client.repeat("payments", "fraud.1", {"count": 3})
        ((method, path),) = server.asked
        assert method == "PATCH"
        assert path.startswith("/apis/events.k8s.io/v1/namespaces/payments/events/fraud.1")
        assert server.bodies[0]["type"] == "application/merge-patch+json"
        assert json.loads(server.bodies[0]["text"]) == {"series": {"count": 3}}


@pytest.mark.parametrize(
    ("code", "header", "details", "wait"),
    [
        (429, "7", {}, 7.0),
        (503, "7", {}, 7.0),
        (429, None, {"retryAfterSeconds": 3}, 3.0),
        (429, "86400", {}, 120.0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", {}, 0.0),
        (429, "-5", {}, 0.0),
        (409, "7", {}, 0.0),
    ],
)
async def test_an_error_carries_for_how_long_the_server_wants_to_be_left_alone(
    code: int, header: str | None, details: dict[str, Any], wait: float
) -> None:
    async def answer(_: web.Request) -> web.Response:
        headers = {"Retry-After": header} if header else {}
        return web.json_response({"kind": "Status", "details": details}, status=code, headers=headers)

    async with api_server(answer) as server:
        client, _ = _client(server)
        with pytest.raises(ApiError) as raised:
            await client.list(ObjectKind.POD, None)
        assert raised.value.retry_after == wait
        assert len(server.asked) == 1, "the client itself does not try again"


async def test_an_error_carries_what_the_server_said_and_its_causes() -> None:
    answer = _status(403, "Forbidden", "namespace payments is being terminated", "NamespaceTerminating")
    async with api_server(answer) as server:
        client, observed = _client(server)
        with pytest.raises(ApiError) as raised:
            await client.apply(SERVICE, "m")
        error = raised.value
        assert (error.code, error.reason) == (403, "Forbidden")
        assert error.message == "namespace payments is being terminated"
        assert error.causes == {"NamespaceTerminating"}
        assert observed.seen == [("PATCH", 403)]


@pytest.mark.parametrize(
    "body", [b"<html>Bad Gateway</html>", b"", b"\xff\xfe", b"[1, 2]", b'"text"', b'{"details": "text"}']
)
@pytest.mark.parametrize("code", [400, 404, 429, 500, 502])
async def test_an_error_in_other_words_than_json_is_an_error_all_the_same(body: bytes, code: int) -> None:
    async with api_server(_text(body, code)) as server:
        client, observed = _client(server)
        with pytest.raises(ApiError) as raised:
            await client.apply(SERVICE, "m")
        assert raised.value.code == code
        assert observed.seen == [("PATCH", code)]


@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b"", b"[]"])
async def test_a_good_answer_that_is_no_object_is_an_error_too(body: bytes) -> None:
    # A captive proxy says 200 to everything.
    async with api_server(_text(body, 200)) as server:
        client, observed = _client(server)
        with pytest.raises(ApiError, match="no JSON object"):
            await client.apply(SERVICE, "m")
        assert observed.seen == [("PATCH", 200)]


async def test_a_good_answer_that_is_no_list_is_an_error_to_try_again() -> None:
    async with api_server(_json({"hello": "world"})) as server:
        client, _ = _client(server)
        with pytest.raises(ApiError, match="no list"):
            await client.list(ObjectKind.POD, None)


async def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "TIMEOUT", 0.1)
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with api_server(answer) as server:
        client, observed = _client(server)
        with pytest.raises(ApiError) as raised:
            await client.get(ObjectKind.POD, "n", "x")
        assert (raised.value.code, raised.value.reason) == (0, "NoAnswer")
        assert observed.seen == [("GET", 0)]
        never.set()


async def test_an_answer_that_stops_half_way_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "TIMEOUT", 0.2)
    never = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"metadata":')
        await never.wait()
        return response

    async with api_server(answer) as server:
        client, _ = _client(server)
        with pytest.raises(ApiError, match="NoAnswer"):
            await client.get(ObjectKind.POD, "n", "x")
        never.set()


async def test_a_connection_that_breaks_is_no_answer() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with api_server(answer) as server:
        client, observed = _client(server)
        with pytest.raises(ApiError, match="NoAnswer"):
            await client.apply(SERVICE, "m")
        assert observed.seen == [("PATCH", 0)]


async def test_a_server_that_is_down_is_no_answer() -> None:
    async with api_server(_json({})) as server:
        client, _ = _client(server)
        await server.server.close()
        with pytest.raises(ApiError, match="NoAnswer"):
            await client.get(ObjectKind.POD, "n", "x")


async def test_every_request_carries_the_token() -> None:
    tokens: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        tokens.append(request.headers.get("Authorization"))
        return web.json_response({"metadata": {}})

    async with api_server(answer) as server:
        client, _ = _client(server)
        await client.get(ObjectKind.POD, "n", "x")
        assert tokens == ["Bearer secret"]


LIVE = {**SERVICE, "metadata": {**SERVICE["metadata"], "uid": "u1", "resourceVersion": "7"}}


async def test_a_patch_is_of_the_very_object_that_was_read() -> None:
    async with api_server(_json(LIVE)) as server:
        client, _ = _client(server)
        assert (await client.patch(LIVE, [{"op": "remove", "path": "/spec/ports/1"}], "m"))[
            "kind"
        ] == ObjectKind.SERVICE
        ((method, path),) = server.asked
        assert method == "PATCH"
        assert "fieldManager=m" in path
        assert "force" not in path
        (body,) = server.bodies
        assert body["type"] == "application/json-patch+json"
        assert json.loads(body["text"]) == [
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "remove", "path": "/spec/ports/1"},
        ]


WRITES: dict[str, Callable[[KubeClient], Awaitable[object]]] = {
    "create": lambda client: client.create(SERVICE, "m"),
    "apply": lambda client: client.apply(SERVICE, "m"),
    "patch": lambda client: client.patch(LIVE, [{"op": "remove", "path": "/spec/ports/1"}], "m"),
    "status": lambda client: client.apply_status({**SERVICE, "kind": KIND}, "m"),
    "whole status": lambda client: client.replace_status({**LIVE, "kind": KIND, "status": {}}, "m"),
    "delete": lambda client: client.delete(SERVICE),
    "event": lambda client: client.emit("payments", {"reason": "Serving"}),
    "series": lambda client: client.repeat("payments", "fraud.1", {"count": 2}),
}


@pytest.mark.parametrize("write", WRITES)
async def test_who_does_not_hold_the_lease_writes_nothing_and_reads_on(write: str) -> None:
    async with api_server(_json({**SERVICE, "metadata": {"resourceVersion": "1"}})) as server:
        client = KubeClient(server.client, Observed(), lambda: 0.0)
        with pytest.raises(ApiError) as raised:
            await WRITES[write](client)
        assert raised.value.reason == "Fenced"
        assert server.asked == []
        assert await client.get(ObjectKind.SERVICE, "payments", "fraud")


def test_every_call_that_may_write_is_known_to_the_test_above() -> None:
    calls = {name for name in vars(Kube) if not name.startswith("_")}
    writing = {"create", "apply", "patch", "apply_status", "replace_status", "delete", "emit", "repeat"}
    assert calls - {"get", "list", "pages", "watch"} == writing


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_is_over_before_somebody_else_may_lead(write: str) -> None:
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with api_server(answer) as server:
        client = KubeClient(server.client, Observed(), lambda: 1.0)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ApiError, match="NoAnswer"):
            await WRITES[write](client)
        assert asyncio.get_running_loop().time() - begun < 20
        assert server.asked[0][1].endswith("timeout=1s")
        never.set()


@pytest.mark.parametrize("write", WRITES)
async def test_an_event_loop_that_stood_still_while_a_write_waited_to_be_sent_sends_nothing(
    write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api_server(_json({**SERVICE, "metadata": {"resourceVersion": "1"}})) as server:
        serialize = server.client.param_serialize

        async def stall(*arguments: Any, **named: Any) -> Any:
            waiting = asyncio.get_running_loop().create_future()
            # What was waited for is there when the loop goes on, and so is the time-out.
            asyncio.get_running_loop().call_later(0.05, waiting.set_result, None)
            asyncio.get_running_loop().call_soon(time.sleep, 1.5)
            await waiting
            return await serialize(*arguments, **named)

        monkeypatch.setattr(server.client, "param_serialize", stall)
        client = KubeClient(server.client, Observed(), lambda: 1.0)
        with pytest.raises(ApiError, match="NoAnswer"):
            await WRITES[write](client)
        await asyncio.sleep(0.2)
        assert server.asked == []
