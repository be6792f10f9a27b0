"""Faults that are put into modules, and the tests that are to find them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bench.mutants.__main__ import PACKAGES, Tally, page
from bench.mutants.faults import mutants
from bench.mutants.forked import OPERATOR, ROOT
from bench.mutants.trials import function_of
from bench.mutants.tried_by import LEFT_OUT, files_for, modules

SOURCE = '''"""A docstring."""

def told(count: int, names: list[str]) -> str:
    """Another."""
    if not names and count > 3:
        raise ValueError("too many")
    names.append("x")
    return "none" if count == 0 else str(count - 1)
'''


def test_each_fault_is_one_change_of_code_that_still_compiles(tmp_path: Path) -> None:
    path = tmp_path / "told.py"
    path.write_text(SOURCE)
    found = mutants(path)
    written = [ast.unparse(one.tree()) for one in found]
    for text in written:
        compile(text, "told.py", "exec")
    assert ast.unparse(ast.parse(SOURCE)) not in written
    assert len(set(written)) == len(written)
    told = {one.fault for one in found}
    assert told >= {
        "count > 3 → count >= 3",
        "not names and count > 3 → not names or count > 3",
        "if not names and count > 3 → if True",
        "names.append('x') → pass",
        "raise ValueError('too many') → pass",
        "count - 1 → count + 1",
        "'none' if count == 0 else str(count - 1) → 'none'",
    }
    assert not [fault for fault in told if "docstring" in fault or "Another" in fault]


def test_a_fault_is_in_its_outermost_function_or_shows_on_import(tmp_path: Path) -> None:
    path = tmp_path / "told.py"
    path.write_text(
        'WORD = "a"\nclass One:\n    size = 3\n    def told(self, count=1):\n        def inner():\n'
        "            return 2\n        return inner() + count\n"
    )
    assert {one.fault: function_of(one) for one in mutants(path)} == {
        "'a' → ''": "",
        "3 → 4": "",
        "1 → 2": "",
        "return inner() + count → return None": "One.told",
        "inner() + count → inner() - count": "One.told",
        "return 2 → return None": "One.told",
        "2 → 3": "One.told",
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_tests_that_try_it(package: str) -> None:
    for path in modules(package):
        files = files_for(path)
        assert files, f"bench/mutants/tried_by.py does not tell which tests try {path}"
        assert [file for file in files if not file.is_file()] == [], path


def test_what_is_left_out_is_there() -> None:
    assert [one for one in LEFT_OUT if not (OPERATOR / "slipway" / one).is_file()] == []


@pytest.mark.parametrize(
    ("survivors", "tried", "verdict"), [(0, 60, "met"), (9, 60, "open"), (30, 60, "not met")]
)
def test_a_share_meets_the_target_only_with_its_whole_interval(
    survivors: int, tried: int, verdict: str
) -> None:
    [one, *_] = mutants(OPERATOR / "slipway/cli/ages.py")
    tally = Tally("cli", 5000, tried, [one] * survivors)
    assert tally.row()[-1] == verdict
    assert f"| {tried} | {tried - survivors} |" in page([tally], "drawn by seed 1")


@pytest.mark.long
def test_a_fault_is_put_into_what_the_tests_import() -> None:
    """All faults of a small module: its tests find most, and what is left is named."""
    words = ["--module", "ages.py", "--package", "cli", "--sample", "0", "--minutes", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.mutants", *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith("cli: "), done.stderr
    tried = len(mutants(OPERATOR / "slipway/cli/ages.py"))
    assert done.stderr.count("\nfound: ") > tried / 2
