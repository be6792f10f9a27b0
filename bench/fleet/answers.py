"""What pods on paper answer: one HTTP server for the addresses of all of them.

A model server's page of metrics is an idle one's, or counts what the routers of its namespace sent it; in
namespaces of :data:`WATCHED` it shows a profile of :data:`FEATURES` features, and rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from bench.fleet.traffic import PaperRouter
from slipway import contract
from slipway.core.traffic.envoy.messages import ROUTER_ADMIN_PORT

#: Namespaces whose models are monitored begin so.
WATCHED = "watched-"
FEATURES, BINS = 30, (*(f"{number:02}" for number in range(10)), "missing", "other")
ROWS_PER_SECOND = 5.0


@dataclass(frozen=True)
class Server:
    """A model server's pod: where it is, and which version of which model it serves."""

    namespace: str
    model: str
    version: str
    revision: str


class PaperPods:
    """All pods with an address, and what they answer."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.routers: dict[str, tuple[str, PaperRouter]] = {}
        #: How often pages of a namespace were read.
        self.reads: Counter[str] = Counter()
        self._began = time.monotonic()

    def remove(self, address: str) -> None:
        """A pod is gone."""
        self.servers.pop(address, None)
        self.routers.pop(address, None)

    @asynccontextmanager
    async def serve(
        self, ports: Iterable[int] = (contract.ADMIN_PORT, ROUTER_ADMIN_PORT)
    ) -> AsyncIterator[None]:
        """Answer at every address of this machine."""
        application = web.Application()
        application.add_routes(
            [
                web.get(contract.METRICS_PATH, self._metrics),
                web.get("/stats", self._router),
                web.get("/config_dump", self._router),
            ]
        )
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            for port in ports:
                await web.TCPSite(runner, "0.0.0.0", port).start()
            yield
        finally:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        found = self.servers.get(_asked(request))
        if found is None:
            raise web.HTTPNotFound
        self.reads[found.namespace] += 1
        return web.Response(text=self.page(found, time.monotonic()))

    def page(self, server: Server, now: float) -> str:
        """A model server's metrics at a moment of the monotonic clock."""
        lines = [*_counts(server, int(self._sent(server, now)))]
        if server.namespace.startswith(WATCHED):
            lines += _profile(server, max(0, int(ROWS_PER_SECOND * (now - self._began))))
        return "\n".join(lines) + "\n"

    async def _router(self, request: web.Request) -> web.Response:
        found = self.routers.get(_asked(request))
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found[1].answer(request.path, request.query_string, time.monotonic()))

    def _sent(self, server: Server, now: float) -> float:
        """Requests that the routers of its namespace sent to a revision's only pod."""
        return sum(
            counted.at(now)
            for namespace, router in self.routers.values()
            if namespace == server.namespace
            for counted in (router.arms.get(server.model, {}).get(server.revision),)
            if counted is not None
        )


def _asked(request: web.Request) -> str:
    assert request.transport is not None
    return str(request.transport.get_extra_info("sockname")[0])


def _counts(server: Server, requests: int) -> Iterator[str]:
    labels = _labels({"model": server.model, "model_version": server.version})
    yield f"{contract.Metric.MODEL_INFO}{{{labels}}} 1"
    for protocol, count in (("http", requests), ("grpc", 0)):
        yield f'{contract.Metric.REQUESTS}{{{labels},protocol="{protocol}",code="200"}} {count}'
    yield f"{contract.Metric.ROWS}{{{labels}}} {requests}"
    if requests:
        # Of ten answers, nine are of one class: as many as both revisions' routers have sent.
        for class_, count in (("no", requests - requests // 10), ("yes", requests // 10)):
            yield f'{contract.Metric.PREDICTION_VALUES}{{{labels},output="label",bin="{class_}"}} {count}'


def _profile(server: Server, rows: int) -> Iterator[str]:
    """Features of a name of their own, spread over their bins as the profile says."""
    for number in range(FEATURES):
        labels = _labels(
            {
                "model": server.model,
                "model_version": server.version,
                "feature": f"{server.model}_feature_{number}",
            }
        )
        yield f"{contract.Metric.FEATURE_REFERENCE_ROWS}{{{labels}}} 10000"
        for bin_ in BINS:
            share = 0.1 if bin_.isdecimal() else 0.0
            yield f'{contract.Metric.FEATURE_REFERENCE_RATIO}{{{labels},bin="{bin_}"}} {share}'
            yield f'{contract.Metric.FEATURE_VALUES}{{{labels},bin="{bin_}"}} {int(rows * share)}'


def _labels(named: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in named.items())
