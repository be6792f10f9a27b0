"""How lines look on a terminal: their colour and their width."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

#: Narrower terminals are written to as if they had so many columns.
_LEAST = 40


class Tone(StrEnum):
    """What a line's colour says, by its ANSI code."""

    PLAIN = ""
    GOOD = "32"
    BAD = "31"
    WAITING = "33"
    TITLE = "1"


@dataclass(frozen=True)
class Line:
    """One line, and its tone; what does not fit into the terminal's width goes on below its own beginning."""

    text: str
    tone: Tone = Tone.PLAIN


def is_colored(choice: str) -> bool:
    """Whether standard output is written in colour, by ``--color`` and the environment (no-color.org)."""
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal, or None where standard output is none: then nothing is wrapped."""
    return max(shutil.get_terminal_size().columns, _LEAST) if sys.stdout.isatty() else None


def table(
    names: Sequence[str], rows: Sequence[Sequence[str]], tones: Sequence[Tone], *, headers: bool
) -> list[Line]:
    """A line for each row, with its tone, below the names of the columns."""
    shown = [[_harmless(cell) for cell in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(names, *shown, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    lines = [Line(line(row), tone) for row, tone in zip(shown, tones, strict=True)]
    return [Line(line(names), Tone.TITLE), *lines] if headers else lines


def lay_out(lines: Iterable[Line], columns: int | None, *, color: bool) -> str:
    """Lines as text. What would move a terminal's cursor or forge another line is replaced."""
    return "\n".join(
        paint(part, line.tone) if color else part
        for line in lines
        for part in _wrapped(_harmless(line.text), columns)
    )


def _harmless(text: str) -> str:
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)


def paint(text: str, tone: Tone) -> str:
    """Text with the codes of its tone around it."""
    return f"\033[{tone}m{text}\033[0m" if tone and text else text


def _wrapped(text: str, columns: int | None) -> list[str]:
    if columns is None or len(text) <= columns:
        return [text]
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return textwrap.wrap(
        text, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
