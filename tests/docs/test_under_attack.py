"""The page on attacks: each promise names tests that are there, and the limits are those of the code."""

from __future__ import annotations

import ast
import re
from dataclasses import asdict
from pathlib import Path

from slipway_server.wire.limits import LIMITS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "under-attack.md").read_text()


def all_tests() -> set[str]:
    """Every test that there is, on the cluster too."""
    return {
        node.name
        for folder in ("tests", "e2e/tests")
        for path in (ROOT / folder).rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_each_promise_names_tests_that_exist() -> None:
    promises = [line for line in PAGE.splitlines() if line.startswith("| ") and "`test_" in line]
    named = {name for line in promises for name in re.findall(r"`(test_\w+)`", line)}
    assert len(promises) >= 20
    assert named <= all_tests()
    rows = [line for line in PAGE.partition("## The limits")[0].splitlines() if line.startswith("| ")]
    assert all("`test_" in row or row.startswith(("| ---", "| Promise")) for row in rows)


def test_the_table_of_limits_is_the_codes() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| ([0-9.]+) \|", PAGE, re.MULTILINE))
    assert told == {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in asdict(LIMITS).items()
    }
