"""What one sender sends: attacks of ART at one row, and plain traffic."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.suspects.models import Found, Served
from slipway_server.protocol.tensors import Array

#: Rows that a sender sends, or queries that an attack has.
ROWS = 1000
#: Of a request of plain traffic.
_TOGETHER = 5
#: Of attacks that hide: plain rows for each query, and callers that take turns.
_HIDDEN_AMONG, _SPREAD_OVER = 9, (100, 1000)

Sender = Callable[[Served, int], Found]


class _SpentError(Exception):
    """All queries are answered."""


def _drawn(served: Served, chance: np.random.Generator, count: int = ROWS) -> Array:
    return served.rows[chance.integers(0, len(served.rows), count)]


def _plain(make: Callable[[Served, np.random.Generator], Array]) -> Sender:
    def send(served: Served, number: int) -> Found:
        served.start()
        rows = make(served, np.random.default_rng(number))
        for start in range(0, len(rows), _TOGETHER):
            served.ask(rows[start : start + _TOGETHER])
        return served.found()

    return send


def _again(served: Served, chance: np.random.Generator) -> Array:
    rows = np.repeat(_drawn(served, chance, ROWS // 5), 5, axis=0)
    return rows + chance.normal(0, 0.01, rows.shape)


def _one_column(served: Served, chance: np.random.Generator) -> Array:
    rows = np.repeat(_drawn(served, chance, ROWS // 20), 20, axis=0)
    for start in range(0, ROWS, 20):
        column = chance.integers(served.columns)
        rows[start : start + 20, column] = np.linspace(-2, 2, 20)
    return rows


def _series(correlation: float) -> Callable[[Served, np.random.Generator], Array]:
    def make(served: Served, chance: np.random.Generator) -> Array:
        # As the data goes together, so that what it never is does not occur.
        spread = np.linalg.cholesky(np.cov(served.rows.T) + 1e-6 * np.eye(served.columns))
        state, rows = chance.normal(size=served.columns), []
        for _ in range(ROWS):
            new = chance.normal(size=served.columns)
            state = correlation * state + np.sqrt(1 - correlation**2) * new
            rows.append(spread @ state)
        return np.array(rows)

    return make


def _attack(name: str, hidden: bool = False, callers: int = 1) -> Sender:
    """An attack at a row until it has had its queries, or ends by itself."""
    names = tuple(f"caller {number}" for number in range(callers)) if callers > 1 else ("eve",)

    def send(served: Served, number: int) -> Found:
        served.start()
        chance = np.random.default_rng(number)
        (row,) = _drawn(served, chance, 1)
        left = ROWS

        def predict(points: Array) -> Array:
            nonlocal left
            if left == 0:
                raise _SpentError
            asked = np.asarray(points, np.float64).reshape(len(points), -1)[:left]
            left -= len(asked)
            if hidden:
                for point in asked:
                    served.ask(point[None], names)
                    served.ask_beside(_drawn(served, chance, _HIDDEN_AMONG))
            labels, scores = served.ask(asked, () if hidden else names)
            if len(asked) < len(points):
                raise _SpentError
            if name in _BY_SCORES:
                return np.asarray(scores, np.float32)
            told: Array = np.eye(served.classes, dtype=np.float32)[labels.astype(int)]
            return told

        np.random.seed(number)
        with contextlib.suppress(_SpentError):
            _generate(name, served, row, predict)
        return served.found()

    return send


_BY_SCORES = ("Zoo", "Square")


def _generate(name: str, served: Served, row: Array, predict: Callable[[Array], Array]) -> None:
    with warnings.catch_warnings():
        # Of ART's parts that need PyTorch.
        warnings.simplefilter("ignore")
        from art.attacks.evasion import BoundaryAttack, HopSkipJump, SquareAttack, ZooAttack
        from art.estimators.classification import BlackBoxClassifier, BlackBoxClassifierNeuralNetwork
    logging.getLogger("art").setLevel(logging.ERROR)
    width, quiet = served.columns, {"verbose": False}
    limits = (float(served.rows.min()), float(served.rows.max()))
    # Square takes pictures: of one channel, as near to a square as the columns allow.
    high = max(each for each in range(1, int(width**0.5) + 1) if width % each == 0)
    shape = (1, high, width // high) if name == "Square" else (width,)
    kind: Any = BlackBoxClassifierNeuralNetwork if name == "Square" else BlackBoxClassifier
    seen = kind(predict, shape, served.classes, clip_values=limits)
    made: Any
    if name == "HopSkipJump":
        made = HopSkipJump(seen, batch_size=1024, max_iter=10_000, max_eval=100, init_eval=10, **quiet)
    elif name == "Boundary":
        made = BoundaryAttack(
            seen, batch_size=1024, targeted=False, delta=0.1, epsilon=0.1, max_iter=10_000, **quiet
        )
    elif name == "Square":
        made = SquareAttack(seen, norm=np.inf, eps=0.5, max_iter=10_000, p_init=0.2, **quiet)
    else:
        made = ZooAttack(
            seen,
            max_iter=10_000,
            use_resize=False,
            use_importance=False,
            nb_parallel=max(1, width // 3),
            variable_h=0.01,
            **quiet,
        )
    start = {} if name in _BY_SCORES else {"x_adv_init": _start(served, row)}
    made.generate(x=row.astype(np.float32).reshape(1, *shape), **start)


def _start(served: Served, row: Array) -> Array:
    """The nearest row of another class, which whoever attacks has found before."""
    labels, _ = served.ask(np.vstack([row[None], served.rows]), ())
    others = served.rows[labels[1:] != labels[0]]
    nearest: Array = others[np.argmin(np.linalg.norm(others - row, axis=1))]
    return nearest[None].astype(np.float32)


#: What is measured, in the order in which it is told.
ATTACKS: dict[str, Sender] = {
    "HopSkipJump, by classes": _attack("HopSkipJump"),
    "Boundary, by classes": _attack("Boundary"),
    "Zoo, by scores": _attack("Zoo"),
    "Square, by scores": _attack("Square"),
    f"HopSkipJump, {_HIDDEN_AMONG} plain rows after each query": _attack("HopSkipJump", hidden=True),
    **{
        f"HopSkipJump, spread over {callers:,} callers": _attack("HopSkipJump", callers=callers)
        for callers in _SPREAD_OVER
    },
}
PLAIN: dict[str, Sender] = {
    "rows of the data, by chance": _plain(_drawn),
    "each row measured five times (1 % noise)": _plain(_again),
    "each row with 20 values of one column": _plain(_one_column),
    "a series, correlation 0.99 from row to row": _plain(_series(0.99)),
    "a series, correlation 0.999": _plain(_series(0.999)),
}
