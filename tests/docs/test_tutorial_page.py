"""From a notebook to a served model in 15 minutes: the page is followed, and shows what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import snippets
from tests.docs.tutorial import ELSEWHERE, MLFLOW, SERVED, is_shown, judged, rounded, steps

PAGE = "docs/tutorial.md"
STEPS = steps(PAGE)


@pytest.mark.long
def test_the_page_is_followed_from_top_to_bottom(tmp_path: Path) -> None:
    from tests.docs.tutorial import Reader

    with Reader(tmp_path) as reader:
        for block, shown in STEPS:
            reader.follow(block, shown)


def test_every_block_of_the_page_is_followed() -> None:
    """The long test takes each of these steps, and none of them is one that it would pass over."""
    blocks = snippets.blocks(PAGE)
    assert [block for block, _ in STEPS] == [block for block in blocks if block.language != "text"]
    assert sum(bool(shown) for _, shown in STEPS) == sum(block.language == "text" for block in blocks)
    assert {block.language for block in blocks} == {"console", "python", "text", "yaml"}
    for block, _ in STEPS:
        if block.language == "console":
            assert block.text.strip(), block
    typed = [one.program for one in snippets.commands(PAGE)]
    assert set(typed) == {*ELSEWHERE, "export", "mlflow", "slipway", "curl"}


def test_the_ports_are_those_that_the_commands_take_by_themselves() -> None:
    from slipway.cli.parser import parse

    words = parse(["serve", "model.onnx"])
    assert (words.port, words.grpc_port, words.metrics_port) == SERVED
    [server] = [one.text for one in snippets.commands(PAGE) if one.program == "mlflow"]
    assert f"--port {MLFLOW}" in server


def test_the_commands_of_the_cluster_are_the_quickstarts() -> None:
    """Which is run as printed on a cluster."""
    quickstart = {one.text.replace("fraud", "digits") for one in snippets.commands("README.md")}
    typed = [one.text for one in snippets.commands(PAGE) if one.program == "kubectl"]
    assert [one for one in typed if not one.startswith("kubectl slipway ")]
    for one in typed:
        assert one in quickstart or one.startswith("kubectl slipway "), one


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        (["a 1.2e-07"], ["a 3e-08"], True),
        (["a 98.9%"], ["a 98.8%"], False),
        (["one", "two"], ["one"], False),
        (["one", "two", "three"], ["one", "…"], True),
        (["one and two"], ["one …"], True),
        (["two and one"], ["one …"], False),
    ],
)
def test_what_is_printed_is_compared_as_it_is(printed: list[str], shown: list[str], same: bool) -> None:
    assert is_shown(printed, shown, rounded) is same


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("17:05:21 1,116 requests answered by stable", "09:00:00 2 requests answered by stable", True),
        ("stable: digits, version 2 of", "stable: digits, version 3 of", False),
        ("  errors: Pass: 0 errors", "  errors: Inconclusive: 0 errors", False),
    ],
)
def test_of_what_serves_times_and_numbers_are_left_aside(printed: str, shown: str, same: bool) -> None:
    assert is_shown([printed], [shown], judged) is same
