"""What has to be true of the tree itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_source_root_is_no_package() -> None:
    """With an ``__init__.py`` it would take the place of the standard library's ``operator``."""
    assert (ROOT / "operator" / "slipway" / "__init__.py").is_file()
    assert not list((ROOT / "operator").glob("__init__.py*"))


def test_python_starts_in_the_root_of_the_tree() -> None:
    command = [sys.executable, "-c", "import operator, collections; print(operator.itemgetter)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "itemgetter" in done.stdout
