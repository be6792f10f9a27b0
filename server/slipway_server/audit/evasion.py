"""How far a table's rows have to be moved before a model is wrong about them, as attacks of ART find.

ART (the Adversarial Robustness Toolbox) is in an image of its own, as this module's extra says: it is loaded
where a task has an attack. Both attacks query classes alone, as anybody can who may send requests.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slipway.contract import NOT_EVADED, Attack, AuditTask, Evaded
from slipway_server.audit.answering import Answering
from slipway_server.audit.moving import SEED, Drawn, Movable, subjects
from slipway_server.audit.table import AuditError, spellings
from slipway_server.protocol.tensors import Array

#: Other rows that are tried for a start, and points by chance where none of them does.
_STARTS = 50
#: Distances are told in so many parts of a deviation.
_PARTS = 1000


class _SpentError(Exception):
    """As many queries as are asked for have been answered."""


def evaded(task: AuditTask, asked: Attack, model: Path, baseline: Path, data: Path) -> Evaded:
    """The nearest that an attack gets to each row while the model is wrong.

    Args:
        task: what is asked.
        asked: which attack, and how much of it.
        model: directory of the model.
        baseline: likewise of the one to compare with, where the task names one.
        data: directory of the table.

    Raises:
        AuditError: where the table or the model does not fit the task, or the image has no attacks.
        LoadError: where the model cannot be loaded.
    """
    attack = _attack(asked.attack)
    found = subjects(task, asked, model, baseline, data)
    distances = [
        [
            _distance(
                _Row(each, row, row[found.label], found.moves, asked.queries), number, found.drawn, attack
            )
            for number, row in found.drawn.rows
        ]
        for each in found.models
    ]
    return Evaded(
        digest=task.digest,
        baseline=task.baseline,
        dataDigest=found.table.digest,
        distances=tuple(distances[0]),
        baselineDistances=tuple(distances[1]) if task.baseline is not None else None,
    )


class _Row:
    """One row and a model, of which the attack learns whether it is wrong, and no more.

    Points are in deviations from the row. What the model is queried with keeps to bounds and whole numbers,
    and the distance is to that.
    """

    def __init__(
        self, model: Answering, row: list[str], truth: str, moves: Sequence[Movable], queries: int
    ) -> None:
        self._model, self.row, self._left = model, row, queries
        self._names = set(spellings(truth))
        # What is empty stays empty.
        self.moves = [each for each in moves if np.isfinite(each.moved(row, np.zeros(1))[0])]
        self._base = np.array([each.value(row) for each in self.moves])
        self._deviations = np.array([each.deviation for each in self.moves])
        self.nearest = np.inf

    def limits(self, drawn: Drawn) -> tuple[Array, Array]:
        """How far each column may go: to its bounds or, without any, to the table's least and largest."""
        ranges = [drawn.ranges[each.number] for each in self.moves]
        pairs = list(zip(self.moves, ranges, strict=True))
        low = np.array([least if np.isinf(each.minimum) else each.minimum for each, (least, _) in pairs])
        high = np.array([most if np.isinf(each.maximum) else each.maximum for each, (_, most) in pairs])
        # Of two bounds one may be given, and the whole table lie on its other side.
        high = np.maximum(low, high)
        return (low - self._base) / self._deviations, (high - self._base) / self._deviations

    def like(self, other: Sequence[str]) -> Array:
        """Where another row is, with this row's values where the other's cells are empty."""
        values = np.array([each.value(other) for each in self.moves])
        apart: Array = np.nan_to_num((values - self._base) / self._deviations)
        return apart

    def is_right_as_it_is(self) -> bool:
        """For a row of which nothing can be moved."""
        return self._model.classes([self.row])[0] in self._names

    def is_wrong(self, points: Array) -> Array:
        """Whether the model is, about each point. Raises :class:`_SpentError` after the last query."""
        if self._left <= 0:
            raise _SpentError
        points = np.nan_to_num(np.asarray(points, np.float64))[: self._left]
        self._left -= len(points)
        values = np.stack([each.moved(self.row, by) for each, by in zip(self.moves, points.T, strict=True)])
        moved = {each.number: found for each, found in zip(self.moves, values, strict=True)}
        said = self._model.classes_of(self._model.reader.copies(self.row, moved, len(points)), len(points))
        wrong = np.array([one not in self._names for one in said])
        if wrong.any():
            apart = (values.T - self._base) / self._deviations
            self.nearest = min(self.nearest, float(np.linalg.norm(apart[wrong], axis=1).min()))
        return wrong

    def predict(self, points: Array) -> Array:
        """As ART asks: two classes, right and wrong."""
        wrong = self.is_wrong(points)
        if len(wrong) < len(points):
            raise _SpentError
        return np.stack([~wrong, wrong], axis=1).astype(np.float32)


#: An attack: from a row, a wrong point to begin with and limits, towards the nearest wrong point.
Towards = Callable[[_Row, Array, Array, Array], None]


def _distance(row: _Row, number: int, drawn: Drawn, towards: Towards) -> int:
    """In parts of a deviation: 0 where the model is wrong as it is, NOT_EVADED where nothing is found."""
    if not row.moves:
        return NOT_EVADED if row.is_right_as_it_is() else 0
    try:
        if row.is_wrong(np.zeros((1, len(row.moves))))[0]:
            return 0
        low, high = row.limits(drawn)
        start = _start(row, number, drawn, low, high)
        if start is not None:
            # ART draws from numpy's one generator.
            np.random.seed((SEED + number) % 2**32)
            towards(row, start, low, high)
    except _SpentError:
        pass
    return int(min(np.floor(row.nearest * _PARTS), NOT_EVADED)) if np.isfinite(row.nearest) else NOT_EVADED


def _start(row: _Row, number: int, drawn: Drawn, low: Array, high: Array) -> Array | None:
    """The nearest wrong point among other rows, else among points by chance."""
    chance = np.random.default_rng([SEED, number])
    others = chance.permutation(len(drawn.rows))[:_STARTS]
    near = np.clip(np.array([row.like(drawn.rows[place][1]) for place in others]), low, high)
    for points in (near, chance.uniform(low, high, (_STARTS, len(low)))):
        wrong = row.is_wrong(points)
        if wrong.any():
            found = points[: len(wrong)][wrong]
            nearest: Array = found[np.argmin(np.linalg.norm(found, axis=1))]
            return nearest
    return None


def _attack(name: str) -> Towards:
    """Raises :class:`AuditError` where the image has no ART."""
    try:
        with warnings.catch_warnings():
            # Of its parts that need PyTorch.
            warnings.simplefilter("ignore")
            from art.attacks.evasion import BoundaryAttack, HopSkipJump
            from art.estimators.classification import BlackBoxClassifier
    except ImportError:
        raise AuditError(
            "the image has no attacks: an audit of type Evasion runs in Slipway's image `audit`; set "
            "the chart's audit.image.repository"
        ) from None
    logging.getLogger("art").setLevel(logging.ERROR)

    def towards(row: _Row, start: Array, low: Array, high: Array) -> None:
        width = len(low)
        seen = BlackBoxClassifier(row.predict, (width,), 2, clip_values=(float(low.min()), float(high.max())))
        # Both end by the queries that are left.
        made: Any = (
            HopSkipJump(seen, batch_size=1024, max_iter=10_000, max_eval=100, init_eval=10, verbose=False)
            if name == "HopSkipJump"
            else BoundaryAttack(
                seen, batch_size=1024, targeted=False, delta=0.1, epsilon=0.1, max_iter=10_000, verbose=False
            )
        )
        origin = np.zeros((1, width), np.float32)
        made.generate(x=origin, x_adv_init=start[None].astype(np.float32))

    return towards
