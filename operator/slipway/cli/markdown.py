"""Text as GitHub's Markdown shows it: nothing in it is markup, mentions nobody and refers to nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Characters of a comment or a summary; GitHub refuses longer comments.
MOST = 65_535
#: After it, `@name` and `#1` are neither a mention nor a reference.
_APART = "\u200b"


def plain(text: str) -> str:
    """Text as itself, also in a table."""
    for mark in "\\`*_[]<>|~":
        text = text.replace(mark, f"\\{mark}")
    text = re.sub("([@#])", rf"\1{_APART}", text.replace("&", "&amp;"))
    return " ".join(text.split())


def code(text: str) -> str:
    """Text as it is typed; nothing for none."""
    text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    if not text:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def cell(text: str) -> str:
    """Text as it is typed, in a table."""
    return code(text).replace("|", "\\|")


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
