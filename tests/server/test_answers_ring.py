"""The ring in which a server remembers what it answered while somebody asks."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from slipway_server.board import Board
from slipway_server.call.call import Call
from slipway_server.monitoring.answers import ENTRIES, MOST_ROWS, Recorder, taken, told
from slipway_server.monitoring.outcomes import OutcomeReader
from slipway_server.protocol.tensors import Datatype, TensorSpec


class Named(Call):
    """A call with an id."""

    def __init__(self, name: bytes | None, rows: int) -> None:
        super().__init__(b"", None, 0.0, 0.0)
        self.name, self.rows = name, rows

    def header(self, name: bytes) -> bytes | None:
        assert name == b"x-request-id"
        return self.name


def recorder(board: Board, datatype: Datatype, position: int = 0) -> Recorder:
    outcomes = OutcomeReader({"y": TensorSpec("y", datatype, (-1,))})
    return Recorder(board.ring(position), board.wanted, outcomes)


def test_what_is_overwritten_is_lost_and_the_rest_is_taken_once_in_order() -> None:
    board = Board(1)
    ring = board.ring(0)
    for number in range(ENTRIES + 100):
        ring.append(struct.pack("<QQ", number, number))
    found = ring.take()
    numbers = [key for key, _ in struct.iter_unpack("<QQ", found)]
    kept = list(range(100 + MOST_ROWS, ENTRIES + 100))
    assert numbers == kept, "what is written next may be half written"
    assert ring.take() == b""
    ring.append(struct.pack("<QQ", 7, 7))
    assert ring.take() == struct.pack("<QQ", 7, 7)


def test_who_asks_with_a_mark_loses_nothing_to_anybody() -> None:
    board = Board(2)
    rings = [board.ring(0), board.ring(1)]

    def asked(since: str) -> tuple[bytes, str]:
        body, headers = told(rings, board.name, since)
        return body, headers[b"slipway-answers-mark"].decode()

    one, two, three = (struct.pack("<QQ", number, number) for number in (1, 2, 3))
    rings[0].append(one)
    body, start = asked("now")
    assert body == b"", "who begins now has missed nothing"
    rings[0].append(two)
    rings[1].append(three)
    for stranger in ("now", "", "x" * 2000, f"{board.name}:", f"{board.name}:999,-1", "0" * 16 + ":1,1"):
        asked(stranger)
    body, mark = asked(start)
    assert body == two + three
    assert asked(start)[0] == body, "an answer that was lost on the way comes again"
    assert asked(mark) == (b"", mark)
    assert asked("0" * 16 + ":1,1")[0] == one + two + three, "a mark of a server that was here before"
    assert taken(rings)[0] == b"", "what an operator of before marks would count once more"
    rings[1].append(one)
    assert taken(rings)[0] == one
    assert asked(mark)[0] == one


def test_rows_that_go_around_the_end_come_back_in_order() -> None:
    ring = Board(1).ring(0)
    for number in range(ENTRIES - 1):
        ring.append(struct.pack("<QQ", number, 0))
    ring.take()
    rows = b"".join(struct.pack("<QQ", 5 << 8 | place, place) for place in range(3))
    ring.append(rows)
    assert ring.take() == rows


def test_numbers_are_remembered_as_they_are_and_classes_by_a_hash() -> None:
    board = Board(2)
    assert taken([board.ring(0), board.ring(1)]) == (b"", {b"slipway-outcomes": b"none"})
    recorder(board, Datatype.FP32, 1).see([Named(b"a", 1), Named(None, 2)], ["y"], [np.float32([0.5, 1, 2])])
    body, headers = taken([board.ring(0), board.ring(1)])
    assert headers == {b"slipway-outcomes": b"number"}
    ((key, value),) = struct.iter_unpack("<Qd", body)
    assert (key & 0xFF, value) == (0, 0.5)
    recorder(board, Datatype.INT64).see([Named(b"a", 2)], ["y"], [np.int64([3, 3])])
    (first, second) = struct.iter_unpack("<QQ", board.ring(0).take())
    assert first[0] == key
    assert second == (key + 1, first[1])


def test_large_requests_and_outputs_that_say_nothing_of_rows_are_left_out() -> None:
    board = Board(1)
    one = recorder(board, Datatype.INT64)
    one.see([Named(b"a", MOST_ROWS + 1)], ["y"], [np.zeros(MOST_ROWS + 1, np.int64)])
    one.see([Named(b"a", 1)], ["other"], [np.zeros(1, np.int64)])
    assert board.ring(0).take() == b""


def test_nothing_is_wanted_until_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    board, now = Board(1), [100.0]
    monkeypatch.setattr("slipway_server.monitoring.answers.monotonic", lambda: now[0])
    assert not board.wanted
    board.wanted.extend(5)
    assert board.wanted, "each process looks at the same memory"
    now[0] += 5
    assert not board.wanted
