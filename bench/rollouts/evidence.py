"""The picture and the table of `docs/evidence.md`; `python -m bench.rollouts.evidence` writes the picture."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from slipway.api.generated import write_or_check
from slipway.core.rollout.evalues import (
    Look,
    below_objective_terms,
    harm_terms,
    held,
    no_harm_terms,
    since_any_look,
)
from slipway.core.rollout.gates import FALSE_ABORT, PASS_EVIDENCE

PATH = "docs/evidence.svg"
#: Errors of 600 requests in each minute, next to 54 of stable's 5,400.
GOOD, BAD = (6, 5, 7, 6), (17, 20, 18, 16)
RATIOS, REQUESTS = (1.0, 2.0, 3.0, 10.0), (300, 3_000, 30_000)
_LONGEST = 240
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 680, 320, 90, 280, 20
_LEAST, _MOST = 0.01, 1e7
_PAPER, _TEXT, _QUIET, _BLUE, _ORANGE = "#ffffff", "#24292f", "#6b7280", "#1b5e8c", "#c2571a"


def evidence(errors: tuple[int, ...]) -> Iterator[tuple[float, float]]:
    """Against and for, after each minute."""
    counts: list[Look] = []
    for found in errors:
        counts.append(Look(600, found, 5400, 54))
        yield since_any_look(harm_terms(counts, 1.25)), held(no_harm_terms(counts, 2.0))


def minutes(requests: int, ratio: float) -> str:
    """Until a gate of errors has a verdict, if each minute has the average number of errors."""
    counts: list[Look] = []
    due = [0.0, 0.0]
    canary, stable = requests // 10, requests - requests // 10
    for minute in range(1, _LONGEST + 1):
        due = [due[0] + canary * 0.01 * ratio, due[1] + stable * 0.01]
        counts.append(Look(canary, int(due[0]), stable, int(due[1])))
        due = [one - int(one) for one in due]
        if len(counts) > 24:
            counts[:2] = [counts[0] + counts[1]]
        if since_any_look(harm_terms(counts, 1.25)) >= 1 / FALSE_ABORT:
            return f"fails after {minute}"
        if max(held(no_harm_terms(counts, 2.0)), held(below_objective_terms(counts, 0.01))) >= PASS_EVIDENCE:
            return f"passes after {minute}"
    return f"none in {_LONGEST}"


def table() -> str:
    """Rows of the page's table."""
    rows = ([f"{one:,}", *(minutes(one, ratio) for ratio in RATIOS)] for one in REQUESTS)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def picture() -> str:
    """Evidence over minutes, on a logarithmic scale, with both bounds."""
    size = {"width": str(_WIDTH), "height": str(_HEIGHT), "viewBox": f"0 0 {_WIDTH} {_HEIGHT}"}
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, "font-family": "sans-serif"})
    svg.set("font-size", "12")
    ET.SubElement(svg, "title").text = "Evidence against and for two canaries, minute by minute"
    ET.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": _PAPER})
    for power in range(-2, 8):
        _line(svg, [(0, 10.0**power), (4.6, 10.0**power)], "#e5e7eb", 1)
        _write(
            svg, _LEFT - 8, _y(10.0**power) + 4, f"{10.0**power:,.2f}".rstrip("0").rstrip("."), _QUIET, "end"
        )
    for bound, words in (
        (1 / FALSE_ABORT, f"{1 / FALSE_ABORT:.0f}: evidence against rejects"),
        (PASS_EVIDENCE, f"{PASS_EVIDENCE:.0f}: evidence for passes"),
    ):
        _line(svg, [(0, bound), (4.6, bound)], _TEXT, 1, dash="5 4")
        _write(svg, _x(0.05), _y(bound) + (-5 if bound > PASS_EVIDENCE else 14), words, _TEXT)
    for minute in range(5):
        _write(svg, _x(minute), _BOTTOM + 18, str(minute), _QUIET, "middle")
    _write(
        svg,
        _x(2.3),
        _BOTTOM + 34,
        "minutes of 6,000 requests, a tenth of them for the canary",
        _QUIET,
        "middle",
    )
    for errors, words, color in ((BAD, "three times as bad", _ORANGE), (GOOD, "as good as stable", _BLUE)):
        for which, dash in ((0, ""), (1, "2 3")):
            values = [1.0, *(one[which] for one in evidence(errors))]
            points = [(minute, value) for minute, value in enumerate(values) if value >= _LEAST]
            _line(svg, points, color, 2.5, dash=dash)
            last, at = points[-1]
            told = f"{words}: {'for' if which else 'against'}"
            _write(svg, min(_x(last) + 6, _WIDTH - 172), _y(at) - (12 if which else 7), told, color)
    ET.indent(svg)
    return ET.tostring(svg, encoding="unicode") + "\n"


def _x(minute: float) -> float:
    return _LEFT + minute * (_WIDTH - _LEFT - 20) / 4.6


def _y(value: float) -> float:
    share = (math.log10(value) - math.log10(_LEAST)) / (math.log10(_MOST) - math.log10(_LEAST))
    return _BOTTOM - share * (_BOTTOM - _TOP)


def _line(
    svg: ET.Element, points: Sequence[tuple[float, float]], color: str, width: float, *, dash: str = ""
) -> None:
    drawn = " ".join(f"{_x(minute):.1f},{_y(value):.1f}" for minute, value in points)
    more = {"stroke-dasharray": dash} if dash else {}
    style = {"fill": "none", "stroke": color, "stroke-width": f"{width:g}", **more}
    ET.SubElement(svg, "polyline", {"points": drawn, **style})


def _write(svg: ET.Element, x: float, y: float, words: str, color: str, anchor: str = "start") -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": color, "text-anchor": anchor}
    ET.SubElement(svg, "text", place).text = words


if __name__ == "__main__":
    sys.exit(write_or_check("bench.rollouts.evidence", {PATH: picture()}))
