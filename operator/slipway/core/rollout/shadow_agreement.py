"""How alike two revisions answered the very same requests, joined by a hash of ``x-request-id``.

What a model server remembers of a request is described in :mod:`slipway_server.monitoring.answers`: an entry
for each row, of 16 bytes: seven of the hash and the row's place, then a class's hash or a number.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_ENTRY = struct.Struct("<Q8s")
#: Of what was answered to one row.
ENTRY_BYTES = _ENTRY.size
_PLACES = 0xFF


@dataclass(frozen=True)
class Remembered:
    """What a pod remembers: whether outcomes are numbers rather than classes, and the entries.

    ``mark`` says up to where they go; empty where the pod takes away what it tells.
    """

    numbers: bool
    entries: bytes
    mark: str = ""


#: Of a request by its hash: what was answered to each row.
Answers = Mapping[int, tuple[bytes, ...]]


def answers(pods: Iterable[Remembered]) -> Answers:
    """Of one revision's pods together.

    A request whose rows are not all there, or one whose id came twice, is left out: nobody could tell which
    answers belong together.
    """
    rows: dict[int, tuple[bytes, ...]] = {}
    broken: set[int] = set()
    for pod in pods:
        for key, value in _ENTRY.iter_unpack(pod.entries):
            request, place = key & ~_PLACES, key & _PLACES
            found = rows.get(request, ())
            if place != len(found):
                broken.add(request)
            else:
                rows[request] = (*found, value)
    return {request: found for request, found in rows.items() if request not in broken}


def common(canary: Answers, stable: Answers) -> list[tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
    """Both revisions' answers to the requests that both remember with as many rows."""
    return [
        (canary[request], stable[request])
        for request in canary.keys() & stable.keys()
        if len(canary[request]) == len(stable[request])
    ]


def unlike(
    pairs: Iterable[tuple[tuple[bytes, ...], tuple[bytes, ...]]], numbers: bool, tolerance: float
) -> int:
    """Requests of which any row was answered otherwise.

    Args:
        pairs: of :func:`common`.
        numbers: whether answers are numbers, which may differ; classes may not.
        tolerance: by how much, as a share of the larger.
    """
    if not numbers:
        return sum(one != other for one, other in pairs)
    return sum(
        not all(_is_close(*row, tolerance) for row in zip(one, other, strict=True)) for one, other in pairs
    )


def _is_close(one: bytes, other: bytes, tolerance: float) -> bool:
    (left,), (right,) = struct.unpack("<d", one), struct.unpack("<d", other)
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return math.isclose(left, right, rel_tol=tolerance, abs_tol=1e-12)
