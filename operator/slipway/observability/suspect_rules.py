"""Rules on rows that may be a search for another answer."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.names import Metric
from slipway.observability.promql import aggregate, increase
from slipway.observability.rule import MODEL_WORDS, Alert, Record, Rule

#: An attack asks some hundred times at least, and most of its steps are where the answer turns.
_FROM = 100
#: Sensors that change slowly near where the answer turns do so every day.
_TIMES_YESTERDAY = 3


def suspect_rules() -> Iterator[Rule]:
    """Many more answers that a small step turned than a day ago."""
    rows = "slipway:turned_rows:increase10m"
    turned = increase(Metric.SUSPECT_INPUTS, "10m", 'detector="turned"')
    yield Record(rows, aggregate("sum", turned))
    yield Alert(
        "SlipwaySuspectInputs",
        f"{rows} > {_FROM}\nunless {rows} <= {_TIMES_YESTERDAY} * {rows} offset 1d",
        "warning",
        "0m",
        f"somebody may be searching for another answer of {MODEL_WORDS}",
        "A small step turned the answers of {{ $value | humanize }} rows within ten minutes. The pods' logs "
        "name who sent many of them.",
    )
