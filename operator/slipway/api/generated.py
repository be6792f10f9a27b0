"""Files that are generated from the types, committed, and checked for being up to date."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

#: The checkout; generated files exist there only, never in an installed wheel.
ROOT = Path(__file__).resolve().parents[3]


def write_or_check(module: str, files: Mapping[str, str], argv: list[str] | None = None) -> int:
    """Write ``files`` (path below the checkout → text) or compare them; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=f"Write {', '.join(files)}.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on a difference")
    check = parser.parse_args(argv).check
    if not (ROOT / "pyproject.toml").is_file():
        print(f"{ROOT} is not a checkout of Slipway: generate there", file=sys.stderr)
        return 2
    stale = False
    for name, text in files.items():
        path = ROOT / name
        before = path.read_text() if path.is_file() else ""
        if before == text:
            continue
        if check:
            stale = True
            diff = difflib.unified_diff(
                before.splitlines(), text.splitlines(), name, "generated", lineterm=""
            )
            print("\n".join(list(diff)[:60]), file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {name}")
    if stale:
        print(f"not up to date: run `python -m {module}` and commit the result", file=sys.stderr)
    return int(stale)
