"""``python -m bench.suspects``: which rows of attacks count as suspect, and which of plain traffic."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.suspects.models import NAMES, Found, Served
from bench.suspects.senders import ATTACKS, PLAIN, Sender

RESULT = Path(__file__).parents[1] / "results" / "suspects.txt"


def main() -> int:
    """Print the table, and write it where the documentation has it from."""
    parser = argparse.ArgumentParser(prog="python -m bench.suspects")
    parser.add_argument("--senders", type=int, default=10, help="of each kind, for each model")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    lines = [
        "| Sent | Times | Rows `nearby` | Rows `turned` | Named in the log |",
        "| --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    for line in _rows(options.senders):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        RESULT.write_text("\n".join(lines) + "\n")
    return 0


def measure(sender: Sender, models: list[Served], senders: int) -> list[Found]:
    """Of so many senders to each model."""
    return [sender(served, number) for served in models for number in range(senders)]


def told(name: str, found: list[Found]) -> str:
    """A line of the table."""
    nearby, turned = np.mean([each.shares for each in found], axis=0)
    named = sum(each.is_named for each in found)
    return f"| {name} | {len(found)} | {nearby:.1%} | {turned:.1%} | {named} |"


def _rows(senders: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        models = [Served(name, Path(folder)) for name in NAMES]
        for name, sender in (ATTACKS | PLAIN).items():
            yield told(name, measure(sender, models, senders))


if __name__ == "__main__":
    sys.exit(main())
