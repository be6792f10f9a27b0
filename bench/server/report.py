"""The tables at the end, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rich.console import Console

from bench import tables
from bench.server.results import Results
from bench.server.scenarios import TARGETS, Scenario
from bench.server.servers import OURS, SLIPWAY, TITLES
from bench.tables import MET, Grid


def target_rows(results: Results) -> list[Mapping[str, object]]:
    """Each target with what was found; ``found`` is ``None`` for what was not measured."""
    rows: list[Mapping[str, object]] = []
    for target in TARGETS:
        value = target.value(results)
        rows.append(
            {
                "what": target.what,
                "goal": target.goal,
                "at_most": target.at_most,
                "unit": target.unit,
                "found": None if value is None else round(value, 3),
                "met": MET[None if value is None else target.is_met(value)],
            }
        )
    return rows


def show(results: Results, scenarios: Sequence[Scenario], console: Console) -> None:
    """Print the medians, the targets, and what failed."""
    tables.show(_grids(results, scenarios), console)
    for failure in results.failures:
        console.print(f"not measured: {failure}", style="red", markup=False)


def markdown(results: Results, scenarios: Sequence[Scenario], machine: str) -> str:
    """The same as a page, the targets first."""
    *measured, targets = _grids(results, scenarios)
    lines = [f"<!-- Written by make bench-server. --> {machine}", "", tables.markdown((targets, *measured))]
    lines += [f"- not measured: {failure}" for failure in results.failures]
    return "\n".join(lines).rstrip() + "\n"


def _grids(results: Results, scenarios: Sequence[Scenario]) -> Iterator[Grid]:
    for scenario in scenarios:
        yield _scenario(results, scenario)
    if results.scaling:
        yield _scaling(results)
    if results.instructions:
        rows = [(name.replace("_", " "), f"{count:,}") for name, count in results.instructions.items()]
        yield Grid("instructions", ("boosted trees", "a request"), rows)
    targets: list[tuple[str, ...]] = []
    for row in target_rows(results):
        sign, unit = "≤" if row["at_most"] else "≥", row["unit"]
        found = "" if row["found"] is None else f"{row['found']:.2f} {unit}"
        targets.append((str(row["what"]), f"{sign} {row['goal']:g} {unit}", found, str(row["met"])))
    yield Grid("targets", ("what", "target", "found", ""), targets)


def _scenario(results: Results, scenario: Scenario) -> Grid:
    raw = results.raw_rate(scenario.model, scenario.raw_rows)
    ours = results.rate(scenario.name, SLIPWAY)
    rows: list[tuple[str, ...]] = []
    for server in scenario.servers:
        rate = results.rate(scenario.name, server)
        if rate is None:
            continue
        rounds = results.rates[scenario.name][server].values()
        cpu = results.cpu.get(scenario.name, {}).get(server, {}).values()
        row = (
            TITLES[server],
            _number(rate),
            f"{median(each.p50 for each in rounds):.2f}",
            f"{median(each.p99 for each in rounds):.2f}",
            _number(median(cpu)) if cpu else "",
            "" if raw is None else f"{100 * rate * scenario.rows / raw / scenario.raw_rows:.1f}",
            "" if ours is None or server in OURS else f"{ours / rate:.1f}×",
            _figure(results.cold, server, 2) if scenario.model == "gbt" else "",
            _figure(results.memory, server, 0) if scenario.model == "gbt" else "",
        )
        rows.append(row)
    if raw is not None:
        rows.append((f"onnxruntime alone, calls of {scenario.raw_rows}", _number(raw), *[""] * 7))
    clients = "1 client" if scenario.clients == 1 else f"{scenario.clients} clients"
    columns = ("requests/s", "p50 ms", "p99 ms", "CPU µs", "% of onnxruntime", "Slipway is", "start s", "MB")
    return Grid(f"{scenario.title}, {scenario.protocol}, {clients}", ("server", *columns), rows)


def _scaling(results: Results) -> Grid:
    rows = []
    for title, pairs in (("Slipway", results.scaling), ("onnxruntime alone", results.raw_scaling)):
        one, two = median(one for one, _ in pairs), median(two for _, two in pairs)
        rows.append((title, _number(one), _number(two), f"{median(two / one for one, two in pairs):.2f}×"))
    columns = ("", "one process on one core", "two on two", "")
    return Grid("boosted trees, 1 row, json, the load on the same cores", columns, rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def _figure(values: Mapping[str, list[float]], server: str, digits: int) -> str:
    found = values.get(server)
    return "" if not found else f"{median(found):.{digits}f}"
