"""Which rows are a small step from an earlier one of the same sender, within bounds of memory and time.

Rows are projected on a few random directions and the line of each is cut into cells: rows in the same cell of
all of them are near each other, as a rule (locality-sensitive hashing). Which cells a sender was in lately is
kept as hashes. The directions are another process's secret, so nobody can keep to the edges of cells.
"""

from __future__ import annotations

import numpy as np

from slipway_server.protocol.tensors import Array

#: Rows this far apart, as root mean square of their columns in deviations, are found near each other
#: every second time, at a tenth of it nearly always, at four times as much hardly ever.
STEP = 0.05
#: Cells that are remembered of one sender, or of all senders that share its hash, and for how many hashes.
CELLS, SENDERS = 256, 64
#: Directions that a cell is of, and ways to divide into cells: near rows that an edge keeps apart in one are
#: together in the other.
_DIRECTIONS, _WAYS = 8, 2
_WIDTH_IN_STEPS = 6.0
_FAR = np.float32(1e6)
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9))


class Nearness:
    """Remembers where senders were; one thread at a time."""

    def __init__(self, columns: int, chance: np.random.Generator | None = None) -> None:
        """``columns``: of a row."""
        chance = chance or np.random.default_rng()
        width = STEP * _WIDTH_IN_STEPS * columns**0.5
        self._directions = (chance.standard_normal((columns, _WAYS * _DIRECTIONS)) / width).astype(np.float32)
        self._shifts = chance.random(_WAYS * _DIRECTIONS).astype(np.float32)
        self._odd = _odd(chance, (_WAYS, _DIRECTIONS))
        self._odd_columns = _odd(chance, (columns,))
        shape = (_WAYS, SENDERS * CELLS)
        self._keys, self._rows = np.zeros(shape, np.uint64), np.zeros(shape, np.uint64)
        self._answers = np.zeros(shape, np.uint64)

    def look(self, rows: Array, senders: Array, answers: Array) -> tuple[Array, Array]:
        """Whether each row is near an earlier one, and whether that one had another answer.

        The same row again is not near itself.

        Args:
            rows: FP32 [n, columns], in deviations of each column; in the order in which they came.
            senders: a hash of who sent each, uint64 [n].
            answers: a hash of what each was answered, uint64 [n]; 0 where that is not known.
        """
        rows = np.clip(np.nan_to_num(rows), -_FAR, _FAR)
        cells = np.floor(rows @ self._directions + self._shifts).astype(np.int64).view(np.uint64)
        wholes = (np.ascontiguousarray(rows).view(np.uint32) * self._odd_columns).sum(axis=1)
        near, turned = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        places = senders % np.uint64(SENDERS) * np.uint64(CELLS)
        for way in range(_WAYS):
            of_way = cells[:, way * _DIRECTIONS : (way + 1) * _DIRECTIONS]
            keys = _mixed((of_way * self._odd[way]).sum(axis=1) + senders)
            slots = (places + keys % np.uint64(CELLS)).astype(np.int64)
            there, row, answer = self._before(way, keys, slots, wholes, answers)
            there &= row != wholes
            near |= there
            turned |= there & (answer != answers) & (answer != 0) & (answers != 0)
            # Of several in one slot numpy keeps the last.
            self._keys[way, slots], self._rows[way, slots] = keys, wholes
            self._answers[way, slots] = answers
        return near, turned

    def _before(
        self, way: int, keys: Array, slots: Array, wholes: Array, answers: Array
    ) -> tuple[Array, Array, Array]:
        """What was last in each row's cell: whether there was anything, which row, which answer."""
        there = self._keys[way, slots] == keys
        row, answer = self._rows[way, slots], self._answers[way, slots]
        # Those that came along with it.
        order = np.argsort(keys, kind="stable")
        later = order[1:][keys[order[1:]] == keys[order[:-1]]]
        before = order[:-1][keys[order[1:]] == keys[order[:-1]]]
        there[later], row[later], answer[later] = True, wholes[before], answers[before]
        return there, row, answer


def _odd(chance: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return chance.integers(1, 2**63, shape, np.uint64) * np.uint64(2) + np.uint64(1)


def _mixed(values: Array) -> Array:
    values = (values ^ (values >> np.uint64(31))) * _MIX[0]
    values = (values ^ (values >> np.uint64(29))) * _MIX[1]
    mixed: Array = values ^ (values >> np.uint64(32))
    return mixed
