"""Dashboards as SVG, from what their queries gave: layout and titles are Grafana's, the drawing is not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from e2e.grafana import Shown, legend
from e2e.prometheus import Series

#: One column and one row of Grafana's grid, and the room around a panel and within it.
COLUMN, ROW, GAP, PAD = 50.0, 32.0, 6.0, 12.0
_TEXT, _QUIET, _LINE, _PAPER, _BACK = "#24292f", "#6b7280", "#e5e7eb", "#ffffff", "#f3f4f6"
_COLORS = ("#1b5e8c", "#c2571a", "#3f7d3a", "#8a3d8f", "#a58a1e", "#b3354a", "#3a8f8f", "#6d6d6d")
_LEGENDS = 8
_UNITS = {"percent": "%", "reqps": " req/s", "rowsps": " rows/s", "ops": " ops/s", "s": " s"}


def draw(board: Mapping[str, Any], shown: Sequence[Shown], start: float, end: float) -> str:
    """A picture of a dashboard over a time range in seconds since 1970."""
    panels = board["panels"]
    bottom = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
    width, height = 24 * COLUMN + 2 * GAP, bottom * ROW + 2 * GAP
    size = {"width": f"{width:g}", "height": f"{height:g}", "viewBox": f"0 0 {width:g} {height:g}"}
    face = {"font-family": "sans-serif", "font-size": "12", "fill": _TEXT}
    picture = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, **face})
    ET.SubElement(picture, "title").text = str(board["title"])
    _rectangle(picture, 0, 0, width, height, _BACK)
    for number, panel in enumerate(panels):
        grid = panel["gridPos"]
        place = {"transform": f"translate({grid['x'] * COLUMN + GAP:g},{grid['y'] * ROW + GAP:g})"}
        group = ET.SubElement(picture, "g", place)
        if panel["type"] == "row":
            _text(group, PAD, 21, panel["title"], size=15, weight="bold")
            continue
        own = [each for each in shown if each.target.number == number]
        frame = _Frame(group, grid["w"] * COLUMN - GAP, grid["h"] * ROW - GAP)
        frame.box(own[0].target.panel)
        _DRAWINGS[panel["type"]](frame, own, start, end)
    ET.indent(picture)
    return ET.tostring(picture, encoding="unicode") + "\n"


class _Frame:
    """One panel: where to draw, and how large that is."""

    def __init__(self, group: ET.Element, width: float, height: float) -> None:
        self.group, self.width, self.height = group, width, height

    def box(self, title: str) -> None:
        _rectangle(self.group, 0, 0, self.width, self.height, _PAPER, _LINE)
        _text(self.group, PAD, 20, title, weight="bold")


def _lines(frame: _Frame, shown: Sequence[Shown], start: float, end: float) -> None:
    series = list(_named(shown))
    rows = min(len(series), _LEGENDS)
    columns = 2 if rows > 3 else 1
    left, top = 64.0, 34.0
    right, bottom = frame.width - PAD, frame.height - 30 - 15 * math.ceil(rows / columns)
    values = [value for _, one in series for _, value in one.points]
    low, high = _scale(values)
    unit = shown[0].target.unit

    def across(at: float) -> float:
        return left + (right - left) * (at - start) / (end - start)

    def up(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    for part in range(5):
        value = low + (high - low) * part / 4
        _path(frame.group, [(left, up(value)), (right, up(value))], _LINE, 1)
        _text(frame.group, left - 6, up(value) + 4, _number(value, unit), _QUIET, anchor="end", size=11)
    for part in range(5):
        at = start + (end - start) * part / 4
        _text(frame.group, across(at), bottom + 15, _clock(at - start), _QUIET, anchor="middle", size=11)
    for position, (name, one) in enumerate(series):
        color = _COLORS[position % len(_COLORS)]
        for stretch in _stretches(one):
            _path(frame.group, [(across(at), up(value)) for at, value in stretch], color, 1.5)
        if position < rows:
            x = PAD + (position % columns) * (frame.width - PAD) / columns
            y = bottom + 34 + 15 * (position // columns)
            more = f" and {len(series) - rows} more" if position == rows - 1 and rows < len(series) else ""
            _rectangle(frame.group, x, y - 6, 12, 3, color)
            _text(frame.group, x + 18, y, _short(name, frame.width / columns) + more, _QUIET, size=11)


def _figure(frame: _Frame, shown: Sequence[Shown], start: float, end: float) -> None:
    del start, end
    words = "".join(_number(one.last, shown[0].target.unit) for _, one in _named(shown)) or "–"
    _text(
        frame.group,
        frame.width / 2,
        frame.height - 28,
        words,
        _COLORS[0],
        anchor="middle",
        size=30,
        weight="bold",
    )


def _bars(frame: _Frame, shown: Sequence[Shown], start: float, end: float) -> None:
    del start, end
    bins = sorted({one.labels["bin"] for each in shown for one in each.series}, key=_lower_edge)
    shares = [{one.labels["bin"]: one.last for one in each.series} for each in shown]
    left, top, right, bottom = 64.0, 34.0, frame.width - PAD, frame.height - 46
    _, high = _scale([value for each in shares for value in each.values()])
    unit, step = shown[0].target.unit, (right - left) / max(len(bins), 1)
    for part in range(5):
        y = bottom - (bottom - top) * part / 4
        _path(frame.group, [(left, y), (right, y)], _LINE, 1)
        _text(frame.group, left - 6, y + 4, _number(high * part / 4, unit), _QUIET, anchor="end", size=11)
    thick = 0.8 * step / len(shown)
    for place, name in enumerate(bins):
        for number, each in enumerate(shares):
            tall = (bottom - top) * each.get(name, 0.0) / high
            x = left + place * step + 0.1 * step + number * thick
            _rectangle(frame.group, x, bottom - tall, thick, tall, _COLORS[number])
        _text(
            frame.group, left + (place + 0.5) * step, bottom + 14, name[:6], _QUIET, anchor="middle", size=9
        )
    for number, one in enumerate(shown):
        _rectangle(frame.group, PAD + number * 120, frame.height - 18, 12, 6, _COLORS[number])
        _text(frame.group, PAD + number * 120 + 18, frame.height - 11, one.target.legend, _QUIET, size=11)


def _table(frame: _Frame, shown: Sequence[Shown], start: float, end: float) -> None:
    del start, end
    rows = [one.labels for each in shown for one in each.series]
    names = sorted({name for row in rows for name in row})
    step = (frame.width - 2 * PAD) / max(len(names), 1)
    for column, name in enumerate(names):
        _text(frame.group, PAD + column * step, 46, name, _QUIET, weight="bold")
        for number, row in enumerate(rows[: int((frame.height - 60) // 20)]):
            _text(frame.group, PAD + column * step, 68 + 20 * number, row.get(name, ""))


_DRAWINGS = {"timeseries": _lines, "stat": _figure, "barchart": _bars, "table": _table}


def _lower_edge(name: str) -> tuple[float, str]:
    """Of a bin, to sort by; bins that are no intervals come by name."""
    try:
        return float(name[1:].partition(",")[0]), name
    except ValueError:
        return -math.inf, name


def _named(shown: Sequence[Shown]) -> Iterator[tuple[str, Series]]:
    for each in shown:
        for one in each.series:
            yield legend(each.target, one.labels), one


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """Round bounds with 0 within, a bit beyond the values."""
    low, high = min([0.0, *values]), max([0.0, *values])
    if low == high:
        return 0.0, 1.0
    unit = 10.0 ** math.floor(math.log10(high - low))
    return math.floor(low / unit * 5) * unit / 5, math.ceil(high / unit * 5) * unit / 5


def _stretches(series: Series) -> Iterator[Sequence[tuple[float, float]]]:
    """Runs of points without a gap."""
    run: list[tuple[float, float]] = []
    for point in series.points:
        if run and point[0] - run[-1][0] > 5:
            yield run
            run = []
        run.append(point)
    yield run


def _number(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "s" and abs(value) < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g}{_UNITS.get(unit, '')}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _short(words: str, width: float) -> str:
    most = int(width / 6.5) - 4
    return words if len(words) <= most else words[: most - 1] + "…"


def _text(
    parent: ET.Element,
    x: float,
    y: float,
    words: str,
    color: str = _TEXT,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "normal",
) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": color, "text-anchor": anchor}
    ET.SubElement(parent, "text", {**place, "font-size": str(size), "font-weight": weight}).text = words


def _rectangle(
    parent: ET.Element, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none"
) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}
    ET.SubElement(parent, "rect", {**place, "fill": fill, "stroke": stroke})


def _path(parent: ET.Element, points: Sequence[tuple[float, float]], color: str, width: float) -> None:
    words = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    look = {"fill": "none", "stroke": color, "stroke-width": f"{width:g}"}
    ET.SubElement(parent, "polyline", {"points": words, **look})
