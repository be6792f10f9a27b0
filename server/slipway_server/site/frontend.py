"""What is at which path of the serving port; the same for both HTTP stacks."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from slipway.names import DISTRIBUTION, LIVE_PATH, READY_PATH
from slipway_server.access.callers import FEEDBACK, INFER, METADATA, Action
from slipway_server.call.request import cohort_of
from slipway_server.engine.engine import Engine
from slipway_server.engine.served import Served
from slipway_server.errors import Reason, RequestError, not_now, show
from slipway_server.lifecycle import Lifecycle
from slipway_server.metrics.counters import Counters
from slipway_server.protocol.tensors import TensorSpec
from slipway_server.settings import Serving
from slipway_server.site.site import Inference, Page, RouteError, Site, Upload, not_allowed
from slipway_server.wire.head import Head
from slipway_server.wire.limits import LIMITS, Limits
from slipway_server.wire.response import Response, json_response

if TYPE_CHECKING:
    from slipway_server.access.gate import Gate
    from slipway_server.feedback.desk import Desk

#: Bytes of one request with labels.
MOST_FEEDBACK_BYTES = 512 * 1024
_READ = ("GET", "HEAD")
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
PLATFORM = "onnxruntime_onnx"
#: Asked by whoever has to know whether the server is well; they tell nothing else.
_OPEN = frozenset({LIVE_PATH, READY_PATH, "/", "/ping", "/health"})


class Frontend(Site):
    """The client-facing paths over one model, which comes later than the first probe."""

    def __init__(
        self,
        config: Serving,
        lifecycle: Lifecycle,
        counters: Counters,
        threads: int = 1,
        limits: Limits = LIMITS,
    ) -> None:
        super().__init__(lifecycle, counters, limits, limits.bodies * config.maxBodyBytes)
        self.config = config
        self.timeout = config.requestTimeoutMilliseconds / 1000
        self.engine = Engine(threads, self.timeout)
        self.submit = self.engine.submit  # type: ignore[method-assign]
        #: Tells who asks, where that matters.
        self.gate: Gate | None = None
        #: Takes labels back, where they are wanted, once the model is there.
        self.desk: Desk | None = None
        self._pages: dict[str, Page] = {
            LIVE_PATH: self._live,
            READY_PATH: self._ready,
            "/v2": self._server_metadata,
            "/": self._alive,
            "/v1/models": self._models,
            "/ping": self._ping,
            "/health": self._ping,
            "/version": self._version,
        }

    @property
    def served(self) -> Served | None:
        return self.engine.served

    def find(self, head: Head) -> Page | Inference | Upload:
        gate = self.gate
        if gate is None or head.path in _OPEN:
            return self._find(head)
        # Before anything is looked up: a stranger is not to learn which paths and models there are.
        who = gate.identify(head)
        found = self._find(head)
        gate.authorize(head, who, _action(found), perf_counter())
        return found

    def is_known(self, head: Head) -> bool:
        return self.gate is None or self.gate.knows(head.caller)

    def _find(self, head: Head) -> Page | Inference | Upload:
        page = self._pages.get(head.path)
        if page is not None:
            return self._allowed(head, page)
        match head.path.split("/"):
            case ["", "v2", "models", model] if model:
                return self._allowed(head, self._model_page(model, None))
            case ["", "v2", "models", model, "versions", version] if model and version:
                return self._allowed(head, self._model_page(model, version))
            case ["", "v2", "models", model, "ready"] if model:
                return self._allowed(head, self._ready_page(model, None))
            case ["", "v2", "models", model, "versions", version, "ready"] if model and version:
                return self._allowed(head, self._ready_page(model, version))
            case ["", "v2", "models", model, "infer"] if model:
                return self._posted(head, Inference(model))
            case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
                return self._posted(head, Inference(model, version))
            case ["", "v2", "models", model, "feedback"] if model:
                return self._upload(head, model)
            case ["", "v2", "models", model, "openapi.json"] if model:
                return self._allowed(head, self._openapi_page(model, None))
            case ["", "v2", "models", model, "versions", version, "openapi.json"] if model and version:
                return self._allowed(head, self._openapi_page(model, version))
            case ["", "v1", "models", named] if named.endswith(":predict"):
                from slipway_server.adapters.predict import PredictCodec

                return self._posted(head, Inference(named.removesuffix(":predict"), None, PredictCodec()))
            case ["", "v1", "models", model] if model and ":" not in model:
                return self._allowed(head, self._ready_page(model, None))
            case ["", "invocations"]:
                from slipway_server.adapters.cells import CSV
                from slipway_server.adapters.invocations import InvocationsCodec

                codec = InvocationsCodec(head.media_type)
                return self._posted(head, Inference(self.config.modelName, None, codec, CSV))
        raise RouteError(
            json_response({"error": f"there is nothing at {show(head.path)}; see GET /v2/models/<name>"}, 404)
        )

    def check_infer(self, inference: Inference, head: Head) -> None:
        try:
            self.check_name(inference.model, inference.version)
            if self.served is None:
                raise not_now(Reason.NOT_READY, "the model is still being loaded")
            head.check_infer(self.config.maxBodyBytes, inference.media_type)
        except RequestError as error:
            if head.expects:
                # The client may now send its body or not; only a new connection makes clear which.
                error.headers["connection"] = "close"
            raise

    def _allowed(self, head: Head, page: Page) -> Page:
        if head.method in _READ:
            return page
        raise RouteError(not_allowed(head, "GET, HEAD"))

    def _posted(self, head: Head, inference: Inference) -> Inference:
        if head.method == "POST":
            return inference
        raise RouteError(not_allowed(head, "POST"))

    def _upload(self, head: Head, model: str) -> Upload:
        if head.method != "POST":
            raise RouteError(not_allowed(head, "POST"))
        self.check_name(model, None)
        if not self.config.feedbackMaxAgeDays:
            raise RequestError(
                404,
                Reason.NOT_FOUND,
                "this model's answers have no feedback tokens: name a Secret with a key in "
                "spec.monitoring.performance.feedback",
            )
        desk = self.desk
        if desk is None:
            raise not_now(Reason.NOT_READY, "the model is still being loaded")
        head.check_infer(MOST_FEEDBACK_BYTES)
        # Who sends it is known once it is allowed to.
        return Upload(lambda body: desk.answer(body, cohort_of(head)), head.limit)

    def _live(self, _: Head) -> Response:
        return json_response({"live": True})

    def _ready(self, _: Head) -> Response:
        ready = self.lifecycle.ready
        return json_response({"ready": ready}, 200 if ready else 503)

    def _alive(self, _: Head) -> Response:
        return json_response({"status": "alive"})

    def _models(self, _: Head) -> Response:
        return json_response({"models": [self.config.modelName]})

    def _ping(self, _: Head) -> Response:
        return Response(200 if self.lifecycle.ready else 503, b"\n", _TEXT)

    def _version(self, _: Head) -> Response:
        from importlib.metadata import version

        return Response(200, version(DISTRIBUTION).encode(), _TEXT)

    def _openapi_page(self, model: str, version: str | None) -> Page:
        def page(_: Head) -> Response:
            from slipway_server.site.openapi import document

            served = self.find_served(model, version)
            return json_response(document(served.name, served.version, served.model))

        return page

    def _server_metadata(self, _: Head) -> Response:
        from importlib.metadata import version

        return json_response(
            {"name": "slipway", "version": version(DISTRIBUTION), "extensions": ["binary_tensor_data"]}
        )

    def _model_page(self, model: str, version: str | None) -> Page:
        def page(_: Head) -> Response:
            served = self.find_served(model, version)
            return json_response(
                {
                    "name": served.name,
                    "versions": [served.version],
                    "platform": PLATFORM,
                    "inputs": [_described(spec) for spec in served.model.taken.values()],
                    "outputs": [_described(spec) for spec in served.model.outputs.values()],
                    "parameters": {"batching": served.profile.why, "device": served.model.device},
                }
            )

        return page

    def _ready_page(self, model: str, version: str | None) -> Page:
        def page(_: Head) -> Response:
            self.check_name(model, version)
            ready = self.lifecycle.ready
            return json_response({"name": self.config.modelName, "ready": ready}, 200 if ready else 503)

        return page

    def find_served(self, model: str, version: str | None) -> Served:
        """The model by its name and version; raises :class:`RequestError` for others, and while it loads."""
        self.check_name(model, version)
        if self.served is None:
            raise not_now(Reason.NOT_READY, "the model is still being loaded")
        return self.served

    def check_name(self, model: str, version: str | None) -> None:
        """Raises :class:`RequestError` (404) for a model or version that is not served here."""
        name, current = self.config.modelName, self.config.modelVersion
        if model != name:
            raise RequestError(
                404, Reason.NOT_FOUND, f"there is no model {show(model)} here; this server has {show(name)}"
            )
        if version is not None and version != current:
            raise RequestError(
                404,
                Reason.NOT_FOUND,
                f"model {show(name)} has version {show(current)} here, not {show(version)}",
            )


def is_probe(path: str) -> bool:
    """Whether a kubelet asks: it never stops asking, so its probes do not keep a drain waiting."""
    return path in (LIVE_PATH, READY_PATH)


def _action(found: Page | Inference | Upload) -> Action:
    if isinstance(found, Inference):
        return INFER
    return FEEDBACK if isinstance(found, Upload) else METADATA


def _described(spec: TensorSpec) -> dict[str, object]:
    described: dict[str, object] = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape or ()}
    if spec.raw:
        # What MLServer calls it, too: how JSON has these bytes.
        described["parameters"] = {"content_type": "base64"}
    return described | {"optional": True} if spec.optional else described
