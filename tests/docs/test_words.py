"""The rules of words find what they are for, and leave alone what they are not for."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.words import faults, pages

LONG = " ".join(["word"] * 61)


def found(folder: Path, text: str) -> list[str]:
    page = folder / "page.md"
    page.write_text(f"# A page\n\n{text}\n")
    return [line.split(":")[3] for line in faults([page])]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("It mends the pod.", "Slipway.Field"),
        ("It is mended by hand.", "Slipway.Field"),
        ("It counts anew.", "Slipway.Field"),
        ("The profile beside the model.", "Slipway.Field"),
        ("Taints that pods put up with.", "Slipway.Field"),
        ("An Event tells of it.", "Slipway.Field"),
        ("Each pod is asked once.", "Slipway.Field"),
        ("At the next look it passes.", "Slipway.Field"),
        ("After two looks it passes.", "Slipway.Field"),
        ("The status says it.", "Slipway.Says"),
        ("| Field | The status says it. |\n| --- | --- |", "Slipway.Says"),
        (f"The {LONG}.", "Slipway.Sentences"),
    ],
)
def test_a_word_that_readers_do_not_search_for_is_found(tmp_path: Path, text: str, rule: str) -> None:
    assert found(tmp_path, text) == [rule]


@pytest.mark.parametrize(
    "text",
    [
        "It fixes the pod, and counts again, next to the model.",
        "The field `status.rollout.looks` has the counts, and `anew` is code.",
        "Clients are told apart by address. Look at the pods.",
        "```sh\necho the status says it anew\n```",
        "You can say what you like.",
    ],
)
def test_code_and_plain_words_are_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


def test_every_page_is_held_to_them() -> None:
    held = set(pages())
    assert {"README.md", "CHANGELOG.md", "docs/cli.md", "docs/modeldeployment.md", "docs/reasons.md"} <= held
    assert {"docs/alerts.md", "docs/permissions.md", "charts/slipway/README.md"} <= held
