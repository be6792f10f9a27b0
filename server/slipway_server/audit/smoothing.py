"""What a model makes of noisy copies of a table's rows: randomized smoothing (Cohen et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slipway.contract import AuditTask, Smoothing, Withstood
from slipway_server.audit.answering import Answering
from slipway_server.audit.moving import SEED, Movable, subjects
from slipway_server.audit.table import spellings

#: Copies that a model answers at once.
_AT_ONCE = 1000


def smoothed(task: AuditTask, asked: Smoothing, model: Path, baseline: Path, data: Path) -> Withstood:
    """Count of each row's copies those that are given its true class.

    Args:
        task: what is asked.
        asked: how rows are moved.
        model: directory of the model.
        baseline: likewise of the one to compare with, where the task names one.
        data: directory of the table.

    Raises:
        AuditError: where the table or the model does not fit the task.
        LoadError: where the model cannot be loaded.
    """
    found = subjects(task, asked, model, baseline, data)
    hits = [
        [_hits(each, number, row, row[found.label], found.moves, asked) for number, row in found.drawn.rows]
        for each in found.models
    ]
    return Withstood(
        digest=task.digest,
        baseline=task.baseline,
        dataDigest=found.table.digest,
        hits=tuple(hits[0]),
        baselineHits=tuple(hits[1]) if task.baseline is not None else None,
    )


def _hits(
    model: Answering, number: int, row: list[str], truth: str, moves: Sequence[Movable], asked: Smoothing
) -> int:
    chance = np.random.default_rng([SEED, number])
    names, hits = set(spellings(truth)), 0
    for begin in range(0, asked.samples, _AT_ONCE):
        count = min(_AT_ONCE, asked.samples - begin)
        noise = chance.standard_normal((len(moves), count)) * asked.noise
        moved = {each.number: each.moved(row, by) for each, by in zip(moves, noise, strict=True)}
        said = model.classes_of(model.reader.copies(row, moved, count), count)
        hits += sum(said.count(name) for name in names)
    return hits
