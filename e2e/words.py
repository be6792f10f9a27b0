"""`python -m e2e.words`: hold the docs to the words of the field, by the rules in `docs/words`.

Code in pages is left out. Help texts, field descriptions, reasons, alerts and the chart's values are held
through the pages that are generated from them.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.settings import read_settings
from e2e.cluster.tools import VALE, Tools

ROOT = Path(__file__).resolve().parents[1]


def pages() -> list[str]:
    """Every page of the repository, below its root."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in found if name and (ROOT / name).is_file()]


def faults(paths: Iterable[str | Path]) -> list[str]:
    """A line for each word or sentence that a rule forbids: file, line, column, rule, and what to write.

    Raises:
        ClusterError: where the rules or a page cannot be read.
    """
    program = Tools(read_settings().cache).install(VALE)
    command = [program, f"--config={ROOT / '.vale.ini'}", "--output=line", "--no-global", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or done.stderr:
        raise ClusterError(f"vale: {done.stdout}{done.stderr}")
    return done.stdout.splitlines()


def main() -> int:
    """Print what is wrong; returns the exit code."""
    try:
        found = faults(pages())
    except ClusterError as error:
        found = [f"error: {error}"]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
