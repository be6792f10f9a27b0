"""Whether tests find a fault, each tried in a process of its own.

A fault in a function is put into the function, in a process forked from one that has imported all code and
tests already, so that a trial costs what its tests do. One that shows when a module is imported, and one that
was not found so, is put into the module, in a process forked from one that has imported no code of ours.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from bench.mutants.faults import Mutant
from bench.mutants.forked import ROOT, module_of, quietly, waited

#: Imported before anything is forked; nothing of the operator's is, for a fault may be in any of it.
PRELOADED = (
    "pytest",
    "kubernetes",
    "pydantic",
    "jsonschema.validators",
    "cel",
    "aiohttp.web",
    "yaml",
    "hypothesis",
)
#: Seconds of CPU for the tests of one fault: one that none of these finds counts as not found.
MOST_SECONDS = 25
#: What a single test may take more, before it is said to run for ever.
_PATIENCE = 60
FOR_EVER = "a test that ran for ever"
_WORDS = ("-q", "-p", "no:cacheprovider", "--no-header", "-m", "not long")


class BrokenTestsError(Exception):
    """Tests fail without a fault."""


def prepare() -> None:
    """Import what all trials need.

    Raises:
        RuntimeError: where code of the operator's is imported already.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    if loaded := [name for name in sys.modules if name.startswith(("slipway.core", "slipway.cli"))]:
        raise RuntimeError(f"imported before the fault: {', '.join(loaded)}")


def warm(files: Sequence[Path]) -> None:
    """Import files of tests, and with them the code that they try, before faults are put into it."""
    import pytest

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pytest.main([*_WORDS, "--collect-only", *map(str, files)])
    # What is there now is no garbage in any of the processes, and not looked at again.
    gc.freeze()


def function_of(mutant: Mutant) -> str:
    """The outermost function that a fault is in, by its qualified name; empty where it shows on import."""
    found = ""
    body: Sequence[ast.stmt] = ast.parse(mutant.path.read_text()).body
    while True:
        around = [one for one in body if one.lineno <= mutant.line <= (one.end_lineno or one.lineno)]
        match around:
            case [ast.ClassDef(name=name, body=inner)]:
                found, body = f"{found}{name}.", inner
            case [ast.FunctionDef(name=name, body=inner) | ast.AsyncFunctionDef(name=name, body=inner)]:
                return f"{found}{name}" if mutant.line >= inner[0].lineno else ""
            case _:
                return ""


def found_by(mutant: Mutant, files: Sequence[Path], first: str = "") -> str:
    """The test that fails with it first, nothing where none does.

    Args:
        mutant: the fault.
        files: of tests, in the order in which they are asked.
        first: a test that runs before all others; empty for none.

    Raises:
        BrokenTestsError: where that test fails without it, too.
    """
    failed = (_forked(mutant, [first]) if first else "") or _forked(mutant, [str(one) for one in files])
    if (ROOT / failed.partition("::")[0]).is_file() and _without(failed):
        raise BrokenTestsError(f"{failed} fails without a fault")
    return failed


@cache
def _without(test: str) -> str:
    return _forked(None, [test])


def _forked(mutant: Mutant | None, tests: Sequence[str]) -> str:
    """The first test that fails."""
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(theirs)
        _try(mutant, tests, ours)
    os.close(ours)
    with os.fdopen(theirs) as answer:
        told = answer.read()
    code = waited(pid)
    return told or ("" if code == 0 else FOR_EVER)


def _try(mutant: Mutant | None, tests: Sequence[str], answer: int) -> None:
    import pytest

    quietly()
    used = time.process_time()
    most = round(used + MOST_SECONDS + _PATIENCE)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    # For one that waits and does nothing, however busy the machine is.
    signal.alarm(60 * (MOST_SECONDS + _PATIENCE))
    watch = _Watch(used + MOST_SECONDS)
    try:
        if mutant is not None:
            _put(mutant)
        for some in tests:
            # 5 is of files of which no test is to run, 2 of a run that was ended.
            code = int(pytest.main([*_WORDS, "-x", some], plugins=[watch]))
            if watch.first or watch.is_over or code not in (0, 5):
                break
    except BaseException:
        watch.first = watch.first or "a failure outside of all tests"
    os.write(answer, watch.first.encode())
    os._exit(0)


class _Watch:
    """Notes the first test that fails, or file that cannot be imported, and ends what takes too long."""

    def __init__(self, end: float) -> None:
        self._end = end
        self.first = ""

    @property
    def is_over(self) -> bool:
        """Whether the time is."""
        return time.process_time() > self._end

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a test."""
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        """Of a file."""
        self._note(report)

    def pytest_runtest_protocol(self, item: Any) -> None:
        """Before a test."""
        if self.is_over:
            item.session.shouldstop = "no time is left"

    def _note(self, report: Any) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid


def _put(mutant: Mutant) -> None:
    """Into its function where that is there already, or into the module that is imported later."""
    if module_of(mutant.path) not in sys.modules:
        sys.meta_path.insert(0, _Finder(mutant))
        return
    name = function_of(mutant)
    faulty = next(one for one in _codes(compile(mutant.tree(), "", "exec")) if one.co_qualname == name)
    gc.unfreeze()
    sound = [
        one
        for one in gc.get_objects()
        if isinstance(one, FunctionType)
        and one.__module__ == module_of(mutant.path)
        and one.__code__.co_qualname == name
    ]
    gc.freeze()
    for one in sound:
        one.__code__ = faulty.replace(co_filename=one.__code__.co_filename)
    if not sound:
        raise LookupError(name)
    for module in [one for name, one in sys.modules.items() if name.startswith("slipway.")]:
        for one in vars(module).values():
            if callable(forget := getattr(one, "cache_clear", None)):
                forget()


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


class _Finder(importlib.abc.MetaPathFinder):
    """Gives the module with the fault in place of the one on disk."""

    def __init__(self, mutant: Mutant) -> None:
        self._name, self._path, self._tree = module_of(mutant.path), mutant.path, mutant.tree()

    def find_spec(self, name: str, *_: Any) -> Any:
        """Of the one module."""
        if name != self._name:
            return None
        loader = _Loader(self._tree, self._path)
        return importlib.util.spec_from_file_location(name, self._path, loader=loader)


class _Loader(importlib.abc.Loader):
    def __init__(self, tree: ast.Module, path: Path) -> None:
        self._tree, self._path = tree, path

    def exec_module(self, module: ModuleType) -> None:
        """Run the faulty code."""
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)
