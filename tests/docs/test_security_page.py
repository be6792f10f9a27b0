"""The page on who can do what: each promise names tests that are there, and the values are the chart's."""

from __future__ import annotations

import re

from tests.docs.test_under_attack import ROOT, all_tests
from tests.unit.test_chart import VALUES

PAGE = (ROOT / "docs" / "security.md").read_text()


def test_each_promise_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.partition("## What holds it")[2].splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}
    assert len(named) >= 10
    assert named <= all_tests()
    assert all("`test_" in row or row.startswith(("| ---", "| Promise")) for row in rows)


def test_each_value_that_is_named_is_one_of_the_charts() -> None:
    named = set(re.findall(r"`((?:policies|access|modelServers|watchNamespaces)\b[.\w]*)`", PAGE))
    assert len(named) >= 6
    for path in named - {"access"}:
        node = VALUES
        for part in path.split("."):
            assert part in node, path
            node = node[part]
