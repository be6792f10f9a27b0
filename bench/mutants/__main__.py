"""How many small faults in the command line its tests find.

``python -m bench.mutants`` puts faults into ``operator/slipway/cli``, one at a time, and runs the tests of
the module until one fails. ``--sample 100`` takes so many of them by chance, ``--module plan`` those of one
module. It prints each fault that no test found, and the share that was found; it gives up where tests fail
without one.

Each fault is tried in a process of its own, forked from one that has imported everything but the command
line. Tests that start the command as a program of its own run the code as it is, and find nothing.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "operator/slipway/cli"
TESTS = "tests/unit/cli"
#: Module → files of the tests that try it, the quick ones first.
TRIED_BY: dict[str, tuple[str, ...]] = {
    "ages": ("test_get_and_wait",),
    "candidates": ("test_version_and_completion",),
    "changes": ("test_changes_of_the_spec", "test_on_a_cluster_over_http"),
    "cluster": (
        "test_how_it_is_called",
        "test_plan_compares",
        "test_report_reads",
        "test_get_and_wait",
        "test_plan_reads_and_checks",
        "test_version_and_completion",
        "test_changes_of_the_spec",
        "test_on_a_cluster_over_http",
    ),
    "command": ("test_rollout_commands", "test_on_a_cluster_over_http"),
    "completion": ("test_version_and_completion",),
    "drawing": ("test_rollout_commands", "test_how_it_is_called"),
    "get": ("test_get_and_wait",),
    "main": ("test_how_it_is_called", "test_version_and_completion", "test_rollout_commands"),
    "manifests": ("test_plan_reads_and_checks", "test_on_a_cluster_over_http"),
    "output": ("test_get_and_wait", "test_plan_reads_and_checks"),
    "parser": ("test_how_it_is_called", "test_version_and_completion", "test_reference", "test_get_and_wait"),
    "plan": ("test_plan_reads_and_checks", "test_plan_compares", "test_on_a_cluster_over_http"),
    "planned": ("test_rollout_commands", "test_plan_compares", "test_plan_reads_and_checks"),
    "reference": ("test_reference",),
    "report": ("test_report_reads", "../report/test_live"),
    "schema": ("test_plan_reads_and_checks", "test_schema_without_a_cluster"),
    "set_model": ("test_changes_of_the_spec",),
    "status": ("test_rollout_commands", "test_get_and_wait", "test_on_a_cluster_over_http"),
    "terminal": ("test_how_it_is_called", "test_get_and_wait"),
    "undo": ("test_changes_of_the_spec",),
    "version": ("test_version_and_completion",),
    "waiting": ("test_get_and_wait",),
}
#: Imported before anything is forked.
PRELOADED = (
    "pytest",
    "kubernetes",
    "jsonschema.validators",
    "cel",
    "aiohttp.web",
    "yaml",
    "tests.unit.world",
)
#: Seconds after which a mutant counts as found: it runs for ever.
PATIENCE = 300
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """A module with one fault."""

    module: str
    line: int
    fault: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.fault}"


def mutants(module: str) -> Iterator[Mutant]:
    """Every small fault of a module."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    for number, node in enumerate(ast.walk(tree)):
        for fault, changed in _faults(node):
            mutated = copy.deepcopy(tree)
            place = list(ast.walk(mutated))[number]
            _put(mutated, place, changed)
            yield Mutant(module, getattr(node, "lineno", 0), fault, ast.fix_missing_locations(mutated))


def _faults(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """What a node may become, and how that is called; None for nothing."""
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in _COMPARISONS:
            changed = copy.deepcopy(node)
            changed.ops[0] = _COMPARISONS[type(op)]()
            yield f"{ast.unparse(node)} → {ast.unparse(changed)}", changed
        case ast.BoolOp():
            changed_bool = copy.deepcopy(node)
            changed_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield f"{ast.unparse(node)} → {ast.unparse(changed_bool)}", changed_bool
        case ast.UnaryOp(op=ast.Not()):
            yield f"{ast.unparse(node)} → {ast.unparse(node.operand)}", node.operand
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            changed_sum = copy.deepcopy(node)
            changed_sum.op = _ARITHMETIC[type(op)]()
            yield f"{ast.unparse(node)} → {ast.unparse(changed_sum)}", changed_sum
        case ast.Constant(value=bool(value)):
            yield f"{value} → {not value}", ast.Constant(not value)
        case ast.Constant(value=int(number)):
            yield f"{number} → {number + 1}", ast.Constant(number + 1)
        case ast.Constant(value=str(text)) if text:
            yield f"{text[:40]!r} → ''", ast.Constant("")
        case ast.IfExp():
            yield f"{ast.unparse(node)} → {ast.unparse(node.body)}", node.body
        case ast.Return(value=value) if value is not None:
            yield f"{ast.unparse(node)} → return None", ast.Return(ast.Constant(None))
        case ast.Raise():
            yield f"{ast.unparse(node)[:60]} → pass", ast.Pass()
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield f"{ast.unparse(node)[:60]} → pass", ast.Pass()
        case ast.If():
            for value in (True, False):
                changed_if = copy.deepcopy(node)
                changed_if.test = ast.Constant(value)
                yield f"if {ast.unparse(node.test)} → if {value}", changed_if


def _put(tree: ast.Module, place: ast.AST, changed: ast.AST | None) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is place:
                setattr(parent, name, changed)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if item is place:
                        value[index] = changed


def _is_worth_it(mutant: Mutant, documented: set[int]) -> bool:
    """Not in docstrings, nor in what only type checkers read."""
    return mutant.line not in documented and "TYPE_CHECKING" not in mutant.fault


def _documented(module: str) -> set[int]:
    """Lines of docstrings and annotations, and of what is run as a program."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse((FOLDER / f"{module}.py").read_text())):
        found: list[Any] = []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found = [node]
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            found = [node]
        for one in found:
            lines |= set(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    return lines


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the module with the fault in place of the one on disk."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, name: str, *_: Any) -> Any:
        """Of the one module."""
        path = FOLDER / f"{self._mutant.module}.py"
        if name != f"slipway.cli.{self._mutant.module}":
            return None
        return importlib.util.spec_from_file_location(name, path, loader=_Loader(name, self._mutant))


class _Loader(importlib.abc.Loader):
    def __init__(self, name: str, mutant: Mutant) -> None:
        self._name, self._mutant = name, mutant

    def exec_module(self, module: ModuleType) -> None:
        """Run the faulty code."""
        exec(compile(self._mutant.tree, f"{self._mutant.module}.py", "exec"), module.__dict__)


def is_found(mutant: Mutant) -> bool:
    """Whether a test fails with it."""
    pid = os.fork()
    if pid == 0:
        _try(mutant)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def _try(mutant: Mutant) -> None:
    import pytest

    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    sys.meta_path.insert(0, _Finder(mutant))
    files = [str(ROOT / TESTS / f"{name}.py") for name in TRIED_BY[mutant.module]]
    try:
        code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--no-header", *files]))
    except BaseException:
        code = 1
    os._exit(code)


def main() -> int:
    """Try faults, and print what no test found."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.add_argument("--module", action="append", choices=sorted(TRIED_BY), help="of these modules alone")
    parser.add_argument("--sample", type=int, help="so many, by chance")
    parser.add_argument("--seed", type=int, default=1, help="of chance")
    arguments = parser.parse_args()
    for name in PRELOADED:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.startswith("slipway.cli.")], "loaded before the fault"
    found = [
        mutant
        for module in arguments.module or sorted(TRIED_BY)
        for documented in [_documented(module)]
        for mutant in mutants(module)
        if _is_worth_it(mutant, documented)
    ]
    total = len(found)
    if arguments.sample is not None:
        found = random.Random(arguments.seed).sample(found, min(arguments.sample, total))
    for module in sorted({mutant.module for mutant in found}):
        tree = ast.parse((FOLDER / f"{module}.py").read_text())
        if is_found(Mutant(module, 0, "none", tree)):
            print(f"{module}.py: its tests fail without a fault", file=sys.stderr)
            return 1
    survivors = 0
    for number, mutant in enumerate(found, 1):
        if not is_found(mutant):
            survivors += 1
            print(f"not found: {mutant}", flush=True)
        print(f"{number - survivors} of {number} found; {total} in all", file=sys.stderr, flush=True)
    share = 1 - survivors / len(found)
    print(f"{len(found) - survivors} of {len(found)} faults found ({share:.0%}); there are {total}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
