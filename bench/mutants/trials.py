"""Whether tests find a fault, each tried in a process forked from one that has imported no code of ours."""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.abc
import importlib.util
import os
import resource
import signal
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.mutants.faults import Mutant

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "operator"
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
#: Seconds of CPU after which a fault counts as found: the tests run for ever with it.
PATIENCE = 120
#: Exit codes of a trial from here on name the file of tests that failed.
_FILES = 10


class BrokenTestsError(Exception):
    """Tests fail without a fault."""


def prepare() -> None:
    """Import what all trials need.

    Raises:
        RuntimeError: where code of the operator's is imported already.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    # What is there now is no garbage in any of the processes, and not looked at again.
    gc.freeze()
    if loaded := [name for name in sys.modules if name.startswith(("slipway.core", "slipway.cli"))]:
        raise RuntimeError(f"imported before the fault: {', '.join(loaded)}")


def is_found(mutant: Mutant, files: Sequence[Path]) -> bool:
    """Whether a test of these files fails with it.

    Raises:
        BrokenTestsError: where that file fails without it, too.
    """
    code = _forked(mutant, files)
    if code >= _FILES and _without(files[code - _FILES]) != 0:
        raise BrokenTestsError(f"{files[code - _FILES].relative_to(ROOT)} fails without a fault")
    return code != 0


@cache
def _without(file: Path) -> int:
    return _forked(None, [file])


def _forked(mutant: Mutant | None, files: Sequence[Path]) -> int:
    pid = os.fork()
    if pid == 0:
        _try(mutant, files)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _try(mutant: Mutant | None, files: Sequence[Path]) -> None:
    import pytest

    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))
    words = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "-m", "not long"]
    first = _First()
    try:
        # 5 is of files in which all tests are long ones.
        failed = int(pytest.main([*words, *map(str, files)], plugins=[first])) not in (0, 5)
    except BaseException:
        failed = True
    if not failed:
        os._exit(0)
    os._exit(_FILES + files.index(first.file) if first.file in files else 1)


class _First:
    """Notes the file of the first test that fails, or that cannot be imported."""

    file: Path | None = None

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a test."""
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        """Of a file."""
        self._note(report)

    def _note(self, report: Any) -> None:
        if report.failed and self.file is None:
            self.file = (ROOT / report.nodeid.partition("::")[0]).resolve()


def module_of(path: Path) -> str:
    """The name by which a file of the operator is imported."""
    return ".".join(path.relative_to(OPERATOR).with_suffix("").parts)


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
