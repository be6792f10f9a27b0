"""The few shapes that expressions over a model's series have."""

from __future__ import annotations

from slipway.core.monitoring.limits import Limit

#: Labels that every figure of a model keeps.
MODEL = ("namespace", "model", "model_version")


def names_of(*labels: str) -> str:
    """A model's labels and more, as they stand in parentheses."""
    return ", ".join((*MODEL, *labels))


def aggregate(operator: str, expression: str, *labels: str) -> str:
    """``operator`` over everything but a model's labels and these."""
    return f"{operator} by ({names_of(*labels)}) ({expression})"


def increase(metric: str, window: str, labels: str = "") -> str:
    """How far a counter rose within the window, by the series that have these labels."""
    selector = f"{{{labels}}}" if labels else ""
    return f"increase({metric}{selector}[{window}])"


def joined(expression: str, operator: str, limit: Limit) -> str:
    """An expression over models, and the model's own number."""
    return f'{expression} {operator} on (namespace, model) group_left () slipway:limit{{limit="{limit}"}}'


def limited(expression: str, comparison: str, limit: Limit) -> str:
    """What of an expression over models compares so with the model's own limit."""
    return joined(expression, comparison, limit)


def wilson(ratio: str, rows: str, deviations: Limit, end: str) -> str:
    """One end of Wilson's interval; see :func:`slipway.core.monitoring.intervals.share_interval`."""
    z = joined(f"0 * {rows}", "+", deviations)
    spread = f"({z}) ^ 2 / {rows}"
    root = f"sqrt({ratio} * (1 - {ratio}) / {rows} + {spread} / (4 * {rows}))"
    return f"({ratio} + {spread} / 2\n{end} ({z}) * {root})\n/ (1 + {spread})"
