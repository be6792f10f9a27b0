from __future__ import annotations

import tempfile
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.names import Metric
from slipway_server.feedback import account, desk
from slipway_server.feedback.account import Account
from slipway_server.feedback.groups import GroupReader, Groups
from slipway_server.feedback.keys import FeedbackKeyError, Keyring
from slipway_server.feedback.seen import TABLE_BYTES, Seen
from slipway_server.feedback.tokens import TokenError, Tokens, content, stamp
from slipway_server.metrics import ledger
from slipway_server.metrics.ledger import PAGE_BYTES, Page, read_name, totals
from slipway_server.monitoring.outcomes import OutcomeReader
from slipway_server.protocol.tensors import Datatype, TensorSpec
from slipway_server.settings import SensitiveAttribute

Answer = Callable[[object], tuple[int, dict[str, object]]]
DAY = 86400.0


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    (tmp_path / "2026-10").write_bytes(b"a" * 32)
    return tmp_path


def one(tokens: Tokens, at: float, outcome: str = "1", is_class: bool = True) -> str:
    (token,) = tokens.make(stamp(at), [content("3", outcome, is_class, (("sex", "female"),))])
    return token.decode()


def test_a_token_holds_what_was_predicted_and_is_another_one_each_time(keys: Path) -> None:
    tokens = Tokens(Keyring(keys), "fraud")
    first, second = one(tokens, 1_000.7), one(tokens, 1_000.7)
    assert first != second
    said = tokens.read(first)
    assert (said.at, said.version, said.outcome, said.is_class) == (1000, "3", "1", True)
    assert said.groups == (("sex", "female"),)
    assert said.identity != tokens.read(second).identity
    assert b"female" not in first.encode()


def test_old_tokens_are_read_after_a_rotation_until_their_key_is_taken_away(keys: Path) -> None:
    before = one(Tokens(Keyring(keys), "fraud"), 0)
    (keys / "2026-11").write_bytes(b"b" * 32)
    rotated = Tokens(Keyring(keys), "fraud")
    after = one(rotated, 0)
    assert before[:4] != after[:4]
    assert rotated.read(before).outcome == rotated.read(after).outcome == "1"
    (keys / "2026-10").unlink()
    fresh = Tokens(Keyring(keys), "fraud")
    assert fresh.read(after).version == "3"
    with pytest.raises(TokenError, match="no longer there"):
        fresh.read(before)


def test_a_ring_without_a_key_is_refused_and_an_emptied_one_serves_on(keys: Path) -> None:
    ring = Keyring(keys)
    (keys / "2026-10").unlink()
    ring._read_at = -1e9
    assert ring.newest.tag
    with pytest.raises(FeedbackKeyError, match="openssl rand -hex 32"):
        Keyring(keys)
    with pytest.raises(FeedbackKeyError, match="cannot be read"):
        Keyring(keys / "nowhere")


@given(st.integers(min_value=0, max_value=70), st.integers(min_value=1, max_value=255))
def test_no_changed_token_is_taken(position: int, flip: int) -> None:
    tokens = _TOKENS
    raw = bytearray(urlsafe_b64decode(_TOKEN + "=" * (-len(_TOKEN) % 4)))
    raw[position % len(raw)] ^= flip
    with pytest.raises(TokenError):
        tokens.read(urlsafe_b64encode(bytes(raw)).decode().rstrip("="))


@given(st.text(max_size=200))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(TokenError):
        _TOKENS.read(text)


def test_labels_are_taken_until_the_prediction_is_too_old_and_not_before_it(keys: Path) -> None:
    tokens, page = Tokens(Keyring(keys), "fraud"), Page(memoryview(bytearray(PAGE_BYTES)))
    counter = Account(page, "fraud", "3", ["0", "1"], [], [])
    here = desk.Desk(tokens, counter, Seen(memoryview(bytearray(TABLE_BYTES))), 90)
    now = time.time()
    for age, status in ((89.9, 200), (90.1, 410), (-1.0, 400)):
        body = orjson.dumps({"token": one(tokens, now - age * DAY), "label": True})
        assert here.answer(body).status == status, age
    counts: dict[str, float] = {}
    for name, value in totals([page]).items():
        metric, labels = read_name(name)
        if metric == Metric.FEEDBACK:
            counts[labels["result"]] = value
    assert counts == {"accepted": 1, "expired": 1, "invalid": 1}


def test_labels_of_many_versions_do_not_fill_the_memory(keys: Path) -> None:
    page = Page(memoryview(bytearray(PAGE_BYTES)))
    counter = Account(page, "fraud", "3", ["0", "1"], [], [])
    tokens = Tokens(Keyring(keys), "fraud")
    here = desk.Desk(tokens, counter, Seen(memoryview(bytearray(TABLE_BYTES))), 90)
    statuses = []
    for version in range(20):
        (token,) = tokens.make(stamp(time.time()), [content(f"v{version}", "1", True)])
        statuses.append(here.answer(orjson.dumps({"token": token.decode(), "label": "1"})).status)
    assert statuses == [200] * account._MOST_VERSIONS + [400] * (20 - account._MOST_VERSIONS)


def test_a_label_that_nobody_knows_counts_as_other() -> None:
    page = Page(memoryview(bytearray(PAGE_BYTES)))
    counter = Account(page, "fraud", "3", ["0", "1"], [], [])
    tokens = _TOKENS.read(_TOKEN)
    counter.labelled(tokens, "<script>", 5.0)
    counter.labelled(tokens, 1.0, 5.0)
    found = {
        (labels["outcome"], labels["label"], labels["correct"]): value
        for (metric, labels), value in ((read_name(name), value) for name, value in totals([page]).items())
        if metric == Metric.FEEDBACK_LABELS
    }
    assert found == {("1", "other", "false"): 1, ("1", "1", "true"): 1}


def test_the_window_of_tokens_forgets_the_oldest_and_never_refuses_a_new_one() -> None:
    seen = Seen(memoryview(bytearray(TABLE_BYTES)))
    identities = np.random.default_rng(5).integers(1, 2**63, 300_000).tolist()
    assert all(seen.add(identity) for identity in identities)
    recent = identities[-20_000:]
    assert sum(seen.add(identity) for identity in recent) < 10


def test_series_outlive_a_process_and_are_added_up_over_all() -> None:
    memory = [bytearray(PAGE_BYTES), bytearray(PAGE_BYTES)]
    for each, amount in zip(memory, (2, 3), strict=True):
        Page(memoryview(each)).add("m_total", {"a": "x\n%"}, amount)
    again = Page(memoryview(memory[0]))
    again.add("m_total", {"a": "x\n%"})
    again.add("m_total", {"a": "y"})
    found = {
        tuple(read_name(name)[1].values()): value
        for name, value in totals([again, Page(memoryview(memory[1]))]).items()
    }
    assert found == {("x\n%",): 6, ("y",): 1}


def test_a_full_page_takes_no_more_series() -> None:
    page = Page(memoryview(bytearray(PAGE_BYTES)))
    assert all(page.add("m_total", {"a": str(number)}) for number in range(ledger.SERIES))
    assert not page.add("m_total", {"a": "one more"})
    assert page.add("m_total", {"a": "0"})


def test_an_outcome_is_the_class_else_the_number_else_the_likeliest_column() -> None:
    outputs = {
        "scores": TensorSpec("scores", Datatype.FP32, (-1, 3)),
        "label": TensorSpec("label", Datatype.INT64, (-1,)),
    }
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], np.float32)
    reader = OutcomeReader(outputs)
    both = reader.read(["scores", "label"], [scores, np.array([7, 8])], 2)
    alone = reader.read(["scores"], [scores], 2)
    maps = reader.read(["scores"], [[{"no": 0.4, "yes": 0.6}]], 1)
    texts = [None if found is None else found.texts for found in (both, alone, maps)]
    assert texts == [["7", "8"], ["1", "0"], ["yes"]]
    assert reader.read([], [], 2) is None
    number = OutcomeReader({"y": TensorSpec("y", Datatype.FP32, (-1, 1))})
    found = number.read(["y"], [np.array([[1.5]], np.float32)], 1)
    assert found is not None
    assert (found.texts, found.is_class, number.tells_classes, reader.tells_classes) == (
        ["1.5"],
        False,
        False,
        True,
    )


def test_groups_are_those_of_the_resource_and_anything_else_is_other() -> None:
    reader = GroupReader(
        [
            SensitiveAttribute("sex", ("female", "male"), parameter="sex"),
            SensitiveAttribute("old", ("0", "1"), tensor="X", column=1),
            SensitiveAttribute("region", ("süd",), header="X-Region"),
        ]
    )

    def read(parameters: dict[str, object], start: int, rows: int, **inputs: object) -> list[Groups]:
        return reader.read(inputs, parameters, {b"x-region": " süd ".encode()}.get, start, rows)

    table = np.array([[5, 0], [5, 1], [5, 2]], np.float32)
    south = ("region", "süd")
    assert read({"sex": ["male", "x", None]}, 0, 3, X=table) == [
        (("sex", "male"), ("old", "0"), south),
        (("sex", "other"), ("old", "1"), south),
        (("sex", "other"), ("old", "other"), south),
    ]
    assert read({"sex": "female"}, 1, 2, X=table)[1][0] == ("sex", "female")
    assert read({"sex": ["female"]}, 0, 2) == [(("sex", "other"), ("old", "other"), south)] * 2
    for value in (None, b"", b"S\xfc", "süd, süd".encode()):
        (row,) = reader.read({}, {}, {b"x-region": value}.get, 0, 1)
        assert row[2] == ("region", "other"), value


def _ring() -> Keyring:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "key").write_bytes(b"k" * 32)
        return Keyring(Path(directory))


_TOKENS = Tokens(_ring(), "fraud")
_TOKEN = one(_TOKENS, 1000)
