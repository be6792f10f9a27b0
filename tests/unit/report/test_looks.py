"""The report as a real browser shows it; the picture is kept in ``build/artifacts/report.png``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from e2e.browser import screenshot
from slipway.api.generated import ROOT
from slipway.report.page import render
from tests.unit.report.test_page import full_report

#: As the page's style has them, in light colours; bars are three quarters opaque on paper.
BARS, BAD, PAPER = np.array([59, 110, 165]) * 0.75 + 255 * 0.25, np.array([192, 57, 43]), np.array([255] * 3)


def test_the_page_shows_its_bars_its_breaches_and_nothing_beside_the_paper(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(full_report()))
    picture = ROOT / "build" / "artifacts" / "report.png"
    screenshot(page, picture, width=1100, height=1700)
    with Image.open(picture) as image:
        seen = np.asarray(image.convert("RGB"), dtype=float)
    assert seen.shape == (1700, 1100, 3)

    def share(color: np.ndarray) -> float:
        return float((np.abs(seen - color).max(axis=-1) <= 6).mean())

    assert share(PAPER) > 0.8
    assert share(BARS) > 0.008
    assert share(BAD) > 0.0001
    # Text of any length stays within the page.
    assert (seen[:, :8] == PAPER).all()
    assert (seen[:, -8:] == PAPER).all()


def test_who_prefers_dark_pages_gets_one(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(full_report()))
    picture = ROOT / "build" / "artifacts" / "report-dark.png"
    screenshot(page, picture, width=1100, height=1700, dark=True)
    with Image.open(picture) as image:
        seen = np.asarray(image.convert("RGB"), dtype=float)
    paper, bars = np.array([21, 27, 34]), np.array([110, 168, 224]) * 0.75 + np.array([21, 27, 34]) * 0.25
    assert (np.abs(seen - paper).max(axis=-1) <= 6).mean() > 0.8
    assert (np.abs(seen - bars).max(axis=-1) <= 6).mean() > 0.008
