from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.server.conftest import Start
from tests.server.running import tensor

ROW = tensor("x", "FP32", [1, 3], [1, 2, 3])
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP collector on loopback and the spans that it was sent."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def test_spans_of_inferences_reach_the_collector_under_the_callers_trace(
    start: Start, collector: tuple[str, list[Any]]
) -> None:
    url, spans = collector
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    server = start("identity", environment=environment).wait_until_ready()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert server.client.post(server.infer_path, json={"inputs": [ROW]}, headers=headers).status_code == 200
    assert server.infer(ROW).status_code == 200
    assert server.infer().status_code == 400
    deadline = time.monotonic() + 20
    while len(spans) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert spans[0].trace_id.hex() == TRACE
    assert spans[0].parent_span_id.hex() == PARENT
    assert spans[1].parent_span_id == b""
    codes = [
        next(a.value.int_value for a in span.attributes if a.key == "http.response.status_code")
        for span in spans
    ]
    assert codes == [200, 200, 400]
    assert all(0 < span.end_time_unix_nano - span.start_time_unix_nano < 5e9 for span in spans)
