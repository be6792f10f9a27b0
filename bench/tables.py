"""Tables of figures, for a terminal and as Markdown; and targets, met or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

MET = {True: "met", False: "not met", None: "not measured"}
_COLOURS = {"met": "green", "not met": "red", "not measured": "yellow"}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; its first column names what the others are of."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def show(grids: Iterable[Grid], console: Console) -> None:
    """Print them; what is met in green, what is not in red."""
    for grid in grids:
        table = Table(title=grid.title, title_justify="left")
        for number, column in enumerate(grid.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in grid.rows:
            colour = _COLOURS.get(row[-1])
            table.add_row(*row[:-1], f"[{colour}]{row[-1]}[/]" if colour else row[-1])
        console.print(table)


def markdown(grids: Iterable[Grid]) -> str:
    """The same as sections of a page."""
    lines: list[str] = []
    for grid in grids:
        lines += [f"## {grid.title[:1].upper()}{grid.title[1:]}", ""]
        lines.append("| " + " | ".join(grid.columns) + " |")
        lines.append("| --- |" + " ---: |" * (len(grid.columns) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in grid.rows]
        lines.append("")
    return "\n".join(lines)
