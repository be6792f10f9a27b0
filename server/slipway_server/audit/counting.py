"""What a model makes of a table's rows, counted for all and for each group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slipway.contract import Audited, AuditTask
from slipway_server.audit.answering import Answering
from slipway_server.audit.table import AuditError, Table, spellings
from slipway_server.protocol.tensors import Array


def audit(task: AuditTask, model: Path, baseline: Path, data: Path) -> Audited:
    """Count what a task asks.

    Args:
        task: what is asked.
        model: directory of the model.
        baseline: likewise of the one to compare with, where the task names one.
        data: directory of the table.

    Raises:
        AuditError: where the table or the model does not fit the task.
        LoadError: where the model cannot be loaded.
    """
    table = Table(data / task.file, task.dataDigest)
    label = table.place(task.label)
    columns = [table.place(each.column) for each in task.attributes]
    mine = Answering(model, task.digest, task, table)
    other = None if task.baseline is None else Answering(baseline, task.baseline, task, table)
    favorable = frozenset(task.favorableOutcomes)
    everybody = np.zeros(11, np.int64)
    groups = [np.zeros((len(each.groups), 11), np.int64) for each in task.attributes]
    for rows in table.pieces():
        truths = [spellings(row[label]) for row in rows]
        tally = _tally(mine.classes(rows), None if other is None else other.classes(rows), truths, favorable)
        everybody += tally.sum(axis=0)
        for each, column, counts in zip(task.attributes, columns, groups, strict=True):
            cells = np.array([_group(row[column], each.groups) for row in rows])
            for place in range(len(each.groups)):
                counts[place] += tally[cells == place].sum(axis=0)
    if not everybody[:4].sum():
        raise AuditError(f"the table {task.file} has no rows")
    return Audited(
        digest=task.digest,
        baseline=task.baseline,
        dataDigest=table.digest,
        rows=tuple(everybody.tolist()),
        groups=tuple(tuple(tuple(row) for row in counts.tolist()) for counts in groups),
    )


def _tally(
    classes: Sequence[str],
    others: Sequence[str] | None,
    truths: Sequence[tuple[str, str]],
    favorable: frozenset[str],
) -> Array:
    """For each row the numbers of :data:`slipway.contract.Tally`, each 0 or 1."""
    is_good = np.array([bool(favorable.intersection(truth)) for truth in truths])
    tally = np.zeros((len(classes), 11), np.int64)
    right = np.array([said in truth for said, truth in zip(classes, truths, strict=True)])
    tally[:, :4] = _crossed(np.array([said in favorable for said in classes]), is_good)
    tally[:, 4] = right
    if others is not None:
        theirs = np.array([said in truth for said, truth in zip(others, truths, strict=True)])
        tally[:, 5], tally[:, 6] = right & ~theirs, theirs & ~right
        tally[:, 7:] = _crossed(np.array([said in favorable for said in others]), is_good)
    return tally


def _crossed(said: Array, true: Array) -> Array:
    return np.stack([said & true, said & ~true, ~said & true, ~said & ~true], axis=1)


def _group(cell: str, groups: Sequence[str]) -> int:
    """Place among the groups; -1 for none of them."""
    for name in spellings(cell):
        if name in groups:
            return groups.index(name)
    return -1
