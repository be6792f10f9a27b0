"""Spans of inference requests by OpenTelemetry, where it is installed and told where to send them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from slipway.names import DISTRIBUTION
from slipway_server.settings import Serving, SettingsError
from slipway_server.wire.head import Head

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing(Protocol):
    """Told of each inference request that was answered, after the fact and off its path."""

    def record(self, head: Head, seconds: float, code: int) -> None: ...

    def close(self) -> None: ...


def make_tracing(serving: Serving) -> Tracing | None:
    """What the environment asks for by OpenTelemetry's own variables; ``None`` where it asks for nothing.

    Raises :class:`SettingsError` where spans are wanted but the packages are not there.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED") == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"{_ENDPOINTS[0]} is set, but {error.name} is not installed: install {DISTRIBUTION}[telemetry], "
            "or leave the variable out"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "slipway-server"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _Spans(provider.get_tracer("slipway_server"), provider.shutdown, serving)


class _Spans:
    def __init__(self, tracer: Tracer, close: object, serving: Serving) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._close = close
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)
        self._propagator = TraceContextTextMapPropagator()
        self._names = {"slipway.model": serving.modelName, "slipway.model.version": serving.modelVersion}

    def record(self, head: Head, seconds: float, code: int) -> None:
        parent = None
        if head.traceparent is not None:
            carrier = {name: head.text(name.encode()) for name in ("traceparent", "tracestate")}
            parent = self._propagator.extract(carrier)
        end = time.time_ns()
        span = self._tracer.start_span(
            "infer",
            context=parent,
            kind=self._kind,
            start_time=end - int(seconds * 1e9),
            attributes={
                **self._names,
                "http.request.method": head.method,
                "http.response.status_code": code,
            },
        )
        if code >= 500:
            span.set_status(self._failed)
        span.end(end)

    def close(self) -> None:
        if callable(self._close):
            self._close()
