"""The tables at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.server.results import Results
from bench.server.scenarios import TARGETS, Scenario
from bench.server.servers import SLIPWAY, TITLES


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
                "met": None if value is None else target.is_met(value),
            }
        )
    return rows


def show(results: Results, scenarios: Sequence[Scenario], console: Console) -> None:
    """Print the medians, the targets, and what failed."""
    for scenario in scenarios:
        raw = results.raw_rate(scenario.model, scenario.raw_rows)
        console.print(_scenario(results, scenario, raw))
    if results.instructions:
        console.print("instructions a request: ", dict(results.instructions))
    if results.raw_scaling:
        alone = median(two / one for one, two in results.raw_scaling)
        console.print(f"onnxruntime alone: two processes are {alone:.2f}× one")
    console.print(_targets(results))
    for failure in results.failures:
        console.print(f"not measured: {failure}", style="red", markup=False)


def _scenario(results: Results, scenario: Scenario, raw: float | None) -> Table:
    clients = "1 client" if scenario.clients == 1 else f"{scenario.clients} clients"
    table = Table(title=f"{scenario.title}, {scenario.protocol}, {clients}", title_justify="left")
    table.add_column("server")
    for name in ("requests/s", "p50 ms", "p99 ms", "% of onnxruntime", "Slipway is", "start s", "MB"):
        table.add_column(name, justify="right")
    ours = results.rate(scenario.name, SLIPWAY)
    for server in scenario.servers:
        rate = results.rate(scenario.name, server)
        if rate is None:
            continue
        rounds = results.rates[scenario.name][server].values()
        table.add_row(
            TITLES[server],
            f"{rate:,.0f}",
            f"{median(each.p50 for each in rounds):.2f}",
            f"{median(each.p99 for each in rounds):.2f}",
            "" if raw is None else f"{100 * rate * scenario.rows / raw / scenario.raw_rows:.1f}",
            "" if ours is None or server == SLIPWAY else f"{ours / rate:.1f}×",
            _figure(results.cold, server, 2) if scenario.model == "gbt" else "",
            _figure(results.memory, server, 0) if scenario.model == "gbt" else "",
        )
    if raw is not None:
        table.add_row(f"onnxruntime alone, calls of {scenario.raw_rows}", f"{raw:,.0f}")
    return table


def _targets(results: Results) -> Table:
    table = Table(title="targets", title_justify="left")
    for name, justify in (("what", "left"), ("target", "right"), ("found", "right"), ("", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for row in target_rows(results):
        sign, unit = "≤" if row["at_most"] else "≥", row["unit"]
        met = {True: "[green]met[/]", False: "[red]not met[/]", None: "[yellow]not measured[/]"}[row["met"]]  # type: ignore[index]
        found = "" if row["found"] is None else f"{row['found']:.2f} {unit}"
        table.add_row(str(row["what"]), f"{sign} {row['goal']:g} {unit}", found, met)
    return table


def _figure(values: Mapping[str, list[float]], server: str, digits: int) -> str:
    found = values.get(server)
    return "" if not found else f"{median(found):.{digits}f}"
