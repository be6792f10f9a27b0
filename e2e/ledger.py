"""The book of figures that tests measure: `python -m e2e.ledger` prints it, `--begin` empties it.

How long something takes depends on what else the machine does, so a bound of seconds fails no test of
`make test`: it is written down, with the load. `make test-long` holds each figure to its bound.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: Set by `make test-long`: tests are as large as they get, and bounds hold.
LONG = os.environ.get("SLIPWAY_LONG") == "1"
#: A test gives up after so many times the seconds of a quiet machine; one that passes waits no longer.
PATIENCE = 4.0
FILE = Path(__file__).resolve().parents[1] / "build/artifacts" / f"figures{'-long' * LONG}.jsonl"


def note(what: str) -> None:
    """Write down a figure in words."""
    _write({"what": what})


def hold(what: str, seconds: float, most: float) -> None:
    """Write down how long something took; AssertionError above `most` seconds, in `make test-long` alone."""
    _write({"what": what, "seconds": round(seconds, 2), "most": most})
    assert not LONG or seconds <= most, f"{what}: {seconds:.1f} s, of {most:g} s"


def lines(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each figure: what was measured, its bound, and the machine's load meanwhile."""
    told = []
    for entry in entries:
        words = entry["what"]
        if "most" in entry:
            over = "  ABOVE" if entry["seconds"] > entry["most"] else ""
            words += f": {entry['seconds']:.1f} s, of {entry['most']:g} s{over}"
        told.append(f"{words} (load {entry['load']:.0f})")
    return told


def read() -> list[dict[str, Any]]:
    """Every figure since the book was begun, oldest first."""
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def main() -> int:
    """Print the book, or begin a new one; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m e2e.ledger", description=__doc__)
    parser.add_argument("--begin", action="store_true", help="forget earlier figures")
    if parser.parse_args().begin:
        FILE.unlink(missing_ok=True)
        return 0
    print("\n".join(["Figures:", *(f"  {line}" for line in lines(read())), f"  ({FILE})"]))
    return 0


def _write(entry: dict[str, Any]) -> None:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]
    whole = {"at": round(time.time()), "test": test, "load": round(os.getloadavg()[0], 1), **entry}
    print(f"figure: {lines([whole])[0]}")
    FILE.parent.mkdir(parents=True, exist_ok=True)
    # One write of one line: several processes of tests share the book.
    with FILE.open("a") as book:
        book.write(json.dumps(whole) + "\n")


if __name__ == "__main__":
    sys.exit(main())
