"""What was measured, as it grows round by round, and as the JSON that is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from bench.server.load import Figures


@dataclass(slots=True)
class Results:
    """Figures by round, so that only what was measured side by side is divided."""

    #: By scenario, server and round.
    rates: dict[str, dict[str, dict[int, Figures]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    #: Calls a second of onnxruntime alone, by model and rows, and by round.
    raw: dict[tuple[str, int], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    #: Seconds from start to first right answer, and megabytes after load, by server.
    cold: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: Requests a second of one process with its load on one core, and of two on two.
    scaling: list[tuple[float, float]] = field(default_factory=list)
    #: The same of onnxruntime alone.
    raw_scaling: list[tuple[float, float]] = field(default_factory=list)
    instructions: dict[str, int] = field(default_factory=dict)
    #: What could not be measured, and why.
    failures: list[str] = field(default_factory=list)

    def rate(self, scenario: str, server: str) -> float | None:
        """The median rate."""
        found = self.rates.get(scenario, {}).get(server)
        return median(each.rate for each in found.values()) if found else None

    def raw_rate(self, model: str, rows: int) -> float | None:
        """The median of onnxruntime's own calls a second."""
        found = self.raw.get((model, rows))
        return median(found.values()) if found else None


def as_json(results: Results) -> Mapping[str, object]:
    """All single figures, rounded."""
    return {
        "requests_per_second": {
            scenario: {
                server: {
                    "rates": [round(each.rate, 1) for each in rounds.values()],
                    "p50_ms": [round(each.p50, 3) for each in rounds.values()],
                    "p99_ms": [round(each.p99, 3) for each in rounds.values()],
                }
                for server, rounds in servers.items()
            }
            for scenario, servers in results.rates.items()
        },
        "onnxruntime_calls_per_second": {
            f"{model}, {rows} rows": [round(rate, 1) for rate in rounds.values()]
            for (model, rows), rounds in results.raw.items()
        },
        "cold_start_seconds": _rounded(results.cold, 3),
        "memory_megabytes": _rounded(results.memory, 1),
        "one_and_two_processes": [[round(rate, 1) for rate in pair] for pair in results.scaling],
        "one_and_two_onnxruntimes": [[round(rate, 1) for rate in pair] for pair in results.raw_scaling],
        "instructions_per_request": results.instructions,
        "failures": results.failures,
    }


def _rounded(values: Mapping[str, list[float]], digits: int) -> dict[str, list[float]]:
    return {server: [round(each, digits) for each in found] for server, found in values.items()}
