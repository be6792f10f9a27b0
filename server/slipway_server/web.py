"""The two HTTP applications: the Open Inference Protocol for clients, metrics and drain for the cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway.contract import DRAIN_PATH, LIVE_PATH, METRICS_PATH, READY_PATH, ServingConfig
from slipway_server.body import BodyBudget, body_limit, check_head, read_body
from slipway_server.errors import Reason, RequestError, not_now, show
from slipway_server.inference import Answer, Served
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics import Metrics
from slipway_server.protocol.decode import HEADER_LENGTH
from slipway_server.protocol.tensors import TensorSpec
from slipway_server.workers import Workers

log = logging.getLogger(__name__)

#: Bodies in memory at once, in units of the largest allowed one.
_BODIES_AT_ONCE = 4


class Frontend:
    """The client-facing routes over one model, which comes later than the first probe."""

    def __init__(self, config: ServingConfig, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self.served: Served | None = None
        self.workers = Workers(config.threads, config.requestTimeoutMilliseconds / 1000)
        self._config = config
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._budget = BodyBudget(_BODIES_AT_ONCE * config.maxBodyBytes)

    def app(self) -> ASGIApp:
        """The ASGI application of the serving port."""
        routes = [
            Route(LIVE_PATH, self.live),
            Route(READY_PATH, self.ready),
            Route("/v2", self.server_metadata),
        ]
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                Route(model, self.model_metadata),
                Route(f"{model}/ready", self.model_ready),
                Route(f"{model}/infer", self.infer, methods=["POST"]),
            ]
        return _Door(_application(routes), self._lifecycle)

    async def live(self, _: Request) -> Response:
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        ready = self._lifecycle.ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def server_metadata(self, _: Request) -> Response:
        return _json({"name": "slipway", "version": version("slipway"), "extensions": ["binary_tensor_data"]})

    async def model_metadata(self, request: Request) -> Response:
        served = self._find(request)
        return _json(
            {
                "name": served.name,
                "versions": [served.version],
                "platform": "onnxruntime_onnx",
                "inputs": [_described(spec) for spec in served.model.inputs.values()],
                "outputs": [_described(spec) for spec in served.model.outputs.values()],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        self._check_name(request)
        ready = self._lifecycle.ready
        return _json({"name": self._config.modelName, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        """Answer one inference request and count how it went."""
        began = time.perf_counter()
        self._metrics.in_flight.inc()
        code = 500
        try:
            answer = await self._infer(request)
            code = 200
        except RequestError as error:
            code = error.status
            self._metrics.refused(error.reason)
            raise
        except ClientDisconnect:
            code = 499  # nobody will see it; nginx made the number known
            self._metrics.refused(Reason.CLIENT_GONE)
            raise
        finally:
            self._metrics.in_flight.dec()
            self._metrics.answered(code, time.perf_counter() - began)
        self._metrics.rows.inc(answer.rows)
        if answer.header_length is None:
            return Response(answer.body, media_type="application/json")
        headers = {HEADER_LENGTH: str(answer.header_length)}
        return Response(answer.body, media_type="application/octet-stream", headers=headers)

    async def _infer(self, request: Request) -> Answer:
        try:
            served = self._find(request)
            header_length = check_head(request.headers, self._config.maxBodyBytes)
        except RequestError as error:
            if "expect" in request.headers:
                # The client may now send its body or not; only a new connection makes clear which.
                error.headers["connection"] = "close"
            raise
        limit = body_limit(header_length, self._config.maxBodyBytes)
        body = await read_body(request.stream(), limit, self._budget)
        return await self.workers.do(
            lambda run: served.answer(body, header_length, run), lambda: self._budget.give_back(len(body))
        )

    def _find(self, request: Request) -> Served:
        self._check_name(request)
        if self.served is None:
            raise not_now(Reason.NOT_READY, "the model is still being loaded")
        return self.served

    def _check_name(self, request: Request) -> None:
        name, wanted = self._config.modelName, request.path_params["name"]
        if wanted != name:
            raise RequestError(
                404, Reason.NOT_FOUND, f"there is no model {show(wanted)} here; this server has {show(name)}"
            )
        current = self._config.modelVersion
        wanted = request.path_params.get("version", current)
        if wanted != current:
            raise RequestError(
                404,
                Reason.NOT_FOUND,
                f"model {show(name)} has version {show(current)} here, not {show(wanted)}",
            )


def admin_app(lifecycle: Lifecycle, metrics: Metrics) -> ASGIApp:
    """The ASGI application of the admin port."""

    async def text(_: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def drain(_: Request) -> Response:
        seconds = await lifecycle.drain()
        return _json({"drained": lifecycle.in_flight == 0, "seconds": round(seconds, 3)})

    return _application([Route(METRICS_PATH, text), Route(DRAIN_PATH, drain, methods=["GET", "POST"])])


class _Door:
    """Sees every request come and go: counts them for the drain, asks clients to leave, echoes their id."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = next((value for key, value in scope["headers"] if key == b"x-request-id"), b"")
        if len(request_id) > 128 or not all(0x20 <= byte < 0x7F for byte in request_id):
            request_id = b""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                if request_id:
                    message["headers"].append((b"x-request-id", request_id))
                if self._lifecycle.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        if scope["path"] in (LIVE_PATH, READY_PATH):
            # A kubelet never stops asking, so its probes do not keep a drain waiting.
            await self._app(scope, receive, send_marked)
            return
        self._lifecycle.began()
        try:
            await self._app(scope, receive, send_marked)
        finally:
            self._lifecycle.ended()


def _application(routes: list[Route]) -> Starlette:
    handlers: dict[Any, Callable[[Request, Any], Response]] = {
        RequestError: _refuse,
        HTTPException: _refuse_route,
        ClientDisconnect: lambda *_: Response(status_code=400),
        Exception: _fail,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _refuse(_: Request, error: RequestError) -> Response:
    return _json({"error": error.message}, error.status, error.headers)


def _refuse_route(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    path, method = show(request.scope["path"]), show(request.method)
    if error.status_code == 405:
        return _json({"error": f"{path} takes {headers.get('Allow')}, not {method}"}, 405, headers)
    return _json(
        {"error": f"there is nothing at {path}; see GET /v2/models/<name>"}, error.status_code, headers
    )


def _fail(_: Request, __: Exception) -> Response:
    # The traceback goes to the log, where Starlette and uvicorn put it; it is no client's business.
    return _json({"error": "the server failed; its log says why"}, 500)


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape or ()}


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")
