"""What is measured, and what has to come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.server.callers import KEYS, TOKENS
from bench.server.cases import Protocol
from bench.server.results import Results
from bench.server.servers import SLIPWAY


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load on a model, and who bears it. ``raw_rows``: onnxruntime's own batch that it is compared with."""

    name: str
    title: str
    model: str
    protocol: Protocol
    rows: int
    clients: int
    servers: Sequence[str]
    raw_rows: int = 1


_REST = ("fastapi", "mlserver", "mlserver-default", "kserve", "pytriton", "litserve", "bentoml")
_RUST = ("rust", "rust-batches")
_TABLES = (SLIPWAY, "fastapi", "mlserver", "kserve")
SCENARIOS = (
    Scenario(
        "gbt",
        "boosted trees, 1 row",
        "gbt",
        Protocol.JSON,
        1,
        32,
        (SLIPWAY, KEYS, TOKENS, *_REST, *_RUST),
    ),
    Scenario(
        "gbt-lone",
        "boosted trees, 1 row",
        "gbt",
        Protocol.JSON,
        1,
        1,
        (SLIPWAY, "fastapi", "mlserver", "kserve", "pytriton", *_RUST),
    ),
    Scenario(
        "gbt-binary",
        "boosted trees, 32 rows",
        "gbt",
        Protocol.BINARY,
        32,
        32,
        (SLIPWAY, "kserve", "pytriton"),
        raw_rows=32,
    ),
    Scenario(
        "gbt-grpc",
        "boosted trees, 1 row",
        "gbt",
        Protocol.GRPC,
        1,
        32,
        (SLIPWAY, "kserve", "mlserver", "pytriton"),
    ),
    Scenario(
        "lr",
        "logistic regression, 1 row",
        "lr",
        Protocol.JSON,
        1,
        32,
        (SLIPWAY, "fastapi", "mlserver", *_RUST),
    ),
    Scenario(
        "mlp",
        "17 MB of dense layers, 1 row",
        "mlp",
        Protocol.JSON,
        1,
        32,
        (SLIPWAY, "fastapi", "mlserver", "pytriton", *_RUST),
        raw_rows=32,
    ),
    Scenario("image", "ResNet-18, 1 image", "image", Protocol.BINARY, 1, 1, (SLIPWAY, "kserve", "pytriton")),
    Scenario("text", "strings and numbers, 1 row", "text", Protocol.JSON, 1, 32, _TABLES),
    Scenario(
        "columns", "30 inputs of one column, 1 row", "columns", Protocol.JSON, 1, 32, (*_TABLES, *_RUST)
    ),
)
SCENARIOS_BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that has to be at least ``goal``, or with ``at_most`` no more than that."""

    what: str
    goal: float
    unit: str
    value: Callable[[Results], float | None]
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        return value <= self.goal if self.at_most else value >= self.goal


def _times(scenario: str, peer: str) -> Callable[[Results], float | None]:
    """The median over rounds of our rate by the peer's."""

    def value(results: Results) -> float | None:
        rates = results.rates.get(scenario, {})
        ours, theirs = rates.get(SLIPWAY, {}), rates.get(peer, {})
        ratios = [ours[turn].rate / theirs[turn].rate for turn in ours if turn in theirs]
        return median(ratios) if ratios else None

    return value


def _of_open(server: str) -> Callable[[Results], float | None]:
    """The median over rounds of our rate with known callers by the rate without, in percent."""

    def value(results: Results) -> float | None:
        rates = results.rates.get("gbt", {})
        guarded, anybody = rates.get(server, {}), rates.get(SLIPWAY, {})
        parts = [100 * guarded[turn].rate / anybody[turn].rate for turn in guarded if turn in anybody]
        return median(parts) if parts else None

    return value


def _of_raw(scenario: str) -> Callable[[Results], float | None]:
    """The median over rounds of our rows a second by onnxruntime's own, in percent."""

    def value(results: Results) -> float | None:
        wanted = SCENARIOS_BY_NAME[scenario]
        ours = results.rates.get(scenario, {}).get(SLIPWAY, {})
        raw = results.raw.get((wanted.model, wanted.raw_rows), {})
        parts = [
            100 * ours[turn].rate * wanted.rows / (raw[turn] * wanted.raw_rows)
            for turn in ours
            if turn in raw
        ]
        return median(parts) if parts else None

    return value


def _p99(scenario: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        figures = results.rates.get(scenario, {}).get(SLIPWAY, {}).values()
        return median(each.p99 for each in figures) if figures else None

    return value


def _p99_times(scenario: str, peer: str) -> Callable[[Results], float | None]:
    """The median over rounds of our p99 by the peer's."""

    def value(results: Results) -> float | None:
        rates = results.rates.get(scenario, {})
        ours, theirs = rates.get(SLIPWAY, {}), rates.get(peer, {})
        ratios = [ours[turn].p99 / theirs[turn].p99 for turn in ours if turn in theirs]
        return median(ratios) if ratios else None

    return value


def _of_server(kind: str) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        values = getattr(results, kind).get(SLIPWAY)
        return median(values) if values else None

    return value


def _scaling(results: Results) -> float | None:
    ratios = [two / one for one, two in results.scaling]
    return median(ratios) if ratios else None


TARGETS = (
    Target("MLServer, in process", 15, "×", _times("gbt", "mlserver")),
    Target("MLServer, default", 45, "×", _times("gbt", "mlserver-default")),
    Target("KServe SDK, logs off", 18, "×", _times("gbt", "kserve")),
    Target("FastAPI + pydantic", 5, "×", _times("gbt", "fastapi")),
    Target("PyTriton, dynamic batching", 10, "×", _times("gbt", "pytriton")),
    Target("LitServe", 30, "×", _times("gbt", "litserve")),
    Target("BentoML, access log off", 45, "×", _times("gbt", "bentoml")),
    Target("Rust: axum, ort, sonic-rs", 1.4, "×", _times("gbt", "rust")),
    Target("1 client: Rust", 0.9, "×", _times("gbt-lone", "rust")),
    Target("p99, 32 clients, by Rust's", 1, "×", _p99_times("gbt", "rust"), at_most=True),
    Target("onnxruntime: 1 row, JSON", 45, "%", _of_raw("gbt")),
    Target("onnxruntime: 32 rows, binary", 55, "%", _of_raw("gbt-binary")),
    Target("onnxruntime: image, binary", 90, "%", _of_raw("image")),
    Target("onnxruntime in batches of 32: dense layers, 1 row, JSON", 55, "%", _of_raw("mlp")),
    Target("1 client: MLServer", 3.5, "×", _times("gbt-lone", "mlserver")),
    Target("1 client: KServe SDK", 3.5, "×", _times("gbt-lone", "kserve")),
    Target("1 client: FastAPI", 2, "×", _times("gbt-lone", "fastapi")),
    Target("gRPC: KServe SDK", 8, "×", _times("gbt-grpc", "kserve")),
    Target("p99, 32 clients", 1.5, "ms", _p99("gbt"), at_most=True),
    Target("API keys, 32 clients: share of the rate without", 98, "%", _of_open(KEYS)),
    Target("tokens seen before, 32 clients: share of the rate without", 98, "%", _of_open(TOKENS)),
    Target("memory of a process (PSS)", 80, "MB", _of_server("memory"), at_most=True),
    Target("start to the first right answer", 0.5, "s", _of_server("cold"), at_most=True),
    Target("two processes on two cores, by one on one", 1.8, "×", _scaling),
)
