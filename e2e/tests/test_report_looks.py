"""Reports as a real browser shows them; the pictures are kept in ``build/artifacts``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e2e.browser import screenshot
from slipway.api.generated import ROOT
from slipway.cli.main import main
from slipway.report.page import render
from tests.unit.report.live import Cluster, model_deployment, send_traffic, serve
from tests.unit.report.test_page import full_report

#: As the page's style has them, in light colours; bars are three quarters opaque on paper.
BARS, BAD, PAPER = np.array([59, 110, 165]) * 0.75 + 255 * 0.25, np.array([192, 57, 43]), np.array([255] * 3)


def test_the_page_shows_its_bars_its_breaches_and_nothing_beside_the_paper(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(full_report()))
    picture = ROOT / "build" / "artifacts" / "report.png"
    screenshot(page, picture, width=1100, height=1700)
    seen = _pixels(picture)
    assert seen.shape == (1700, 1100, 3)
    assert _share(seen, PAPER) > 0.8
    assert _share(seen, BARS) > 0.008
    assert _share(seen, BAD) > 0.0001
    # Text of any length stays within the page.
    assert (seen[:, :8] == PAPER).all()
    assert (seen[:, -8:] == PAPER).all()


def test_who_prefers_dark_pages_gets_one(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(full_report()))
    picture = ROOT / "build" / "artifacts" / "report-dark.png"
    screenshot(page, picture, width=1100, height=1700, dark=True)
    seen = _pixels(picture)
    paper, bars = np.array([21, 27, 34]), np.array([110, 168, 224]) * 0.75 + np.array([21, 27, 34]) * 0.25
    assert _share(seen, paper) > 0.8
    assert _share(seen, bars) > 0.008


@pytest.mark.parametrize("width", [700, 1100])
def test_a_report_of_a_live_model_stays_within_the_page(tmp_path: Path, width: int) -> None:
    page = tmp_path / "report.html"
    with serve(tmp_path / "model") as server:
        send_traffic(server.wait_until_ready())
        with Cluster(model_deployment(), {"fraud-a": server, "fraud-b": server}) as cluster:
            assert (
                main(["report", "fraud", "--kubeconfig", cluster.kubeconfig(tmp_path), "-o", str(page)]) == 0
            )
    picture = ROOT / "build" / "artifacts" / f"live-report-{width}.png"
    screenshot(page, picture, width=width, height=2600)
    seen = _pixels(picture)
    assert _share(seen, BARS) > 0.008
    assert (seen[:, :8] == PAPER).all()
    assert (seen[:, -8:] == PAPER).all()


def _pixels(picture: Path) -> np.ndarray:
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def _share(seen: np.ndarray, color: np.ndarray) -> float:
    return float((np.abs(seen - color).max(axis=-1) <= 6).mean())
