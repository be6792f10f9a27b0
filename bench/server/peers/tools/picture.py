"""Draws the results: `picture.py RESULTS.json PICTURE.svg`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "slipway"
from matplotlib import pyplot as plt  # noqa: E402

OURS, THEIRS = "#1b5e8c", "#b9c2c9"
PROTOCOLS = {"json": "JSON", "binary": "binary tensors", "grpc": "gRPC"}


def draw(document: dict[str, Any]) -> Any:
    """A panel for each scenario: requests a second of every server."""
    scenarios = [(name, each) for name, each in document["scenarios"].items() if _rates(document, name)]
    columns = 2
    lines = -(-len(scenarios) // columns)
    heights = [
        max(len(_rates(document, name)) for name, _ in scenarios[row * columns : (row + 1) * columns])
        for row in range(lines)
    ]
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(11, 0.34 * sum(heights) + 0.85 * lines),
        gridspec_kw={"height_ratios": [height + 0.6 for height in heights]},
        squeeze=False,
        layout="constrained",
    )
    for panel in panels.flat[len(scenarios) :]:
        panel.axis("off")
    for panel, (name, scenario) in zip(panels.flat, scenarios, strict=False):
        rates = _rates(document, name)
        titles = [document["titles"][server] for server in rates]
        colours = [OURS if server == "slipway" else THEIRS for server in rates]
        bars = panel.barh(titles, list(rates.values()), color=colours)
        panel.bar_label(bars, [f"{rate:,.0f}" for rate in rates.values()], padding=3, fontsize=8)
        panel.invert_yaxis()
        clients = "1 client" if scenario["clients"] == 1 else f"{scenario['clients']} clients"
        panel.set_title(
            f"{scenario['title']}, {PROTOCOLS[scenario['protocol']]}, {clients}", fontsize=9, loc="left"
        )
        panel.margins(x=0.18)
        panel.tick_params(labelsize=8, length=0)
        panel.xaxis.set_visible(False)
        panel.spines[:].set_visible(False)
    machine = document["machine"]
    figure.supxlabel(
        f"requests a second, one core ({machine['cpu']}), medians of {document['rounds']}", fontsize=8
    )
    return figure


def _rates(document: dict[str, Any], scenario: str) -> dict[str, float]:
    found = document["requests_per_second"].get(scenario, {})
    return {server: median(figures["rates"]) for server, figures in found.items()}


if __name__ == "__main__":
    results = json.loads(Path(sys.argv[1]).read_text())
    draw(results).savefig(sys.argv[2], metadata={"Date": None})
