"""Write the pictures of the dashboards in docs/: `python -m tests.observability.pictures`, about two minutes.

What they show is what Prometheus answered, minutes after a model's applicants changed; no Grafana took part.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from e2e import credit, grafana
from e2e.cluster.command import step
from e2e.pictures import draw
from slipway.api.generated import ROOT
from tests.observability import rig

FOLDER = ROOT / "docs" / "dashboards"
#: Each act: percent of traffic on the canary, and how far applicants have moved.
ACTS = ((0, 0.0), (25, 0.0), (50, 0.0), (50, credit.SHIFT))
ROWS_IN_AN_ACT, PAUSE_SECONDS = 3_000, 0.35


def main() -> int:
    """Play the acts and write the pictures; returns the exit code."""
    with (
        step("a model whose applicants change"),
        tempfile.TemporaryDirectory() as scratch,
        rig.running(Path(scratch)) as running,
    ):
        running.operator.say(ready=True, weight=ACTS[0][0])
        running.wait_until_scraped()
        start = time.time()
        for seed, (weight, shift) in enumerate(ACTS):
            running.operator.say(ready=True, weight=weight)
            stable, canary = running.servers
            arms = {0: [stable], 25: [stable, stable, stable, canary], 50: [stable, canary]}[weight]
            running.send(credit.applicants(ROWS_IN_AN_ACT, seed, shift=shift), PAUSE_SECONDS, arms)
        end = time.time()
        FOLDER.mkdir(exist_ok=True)
        for board in grafana.dashboards().values():
            shown = grafana.look(running.prometheus, board, rig.chosen(), rig.SCRAPE_SECONDS, start, end)
            (FOLDER / f"{board['uid']}.svg").write_text(draw(board, shown, start, end))
    return 0


if __name__ == "__main__":
    sys.exit(main())
