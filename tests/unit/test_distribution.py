"""What pip installs is ours: PyPI's `slipway` is somebody else's package."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

from slipway.names import DISTRIBUTION

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def texts() -> dict[str, str]:
    """Every tracked text file but the lock and what is drawn or generated from elsewhere."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if not name.endswith((".svg", ".lock", ".json"))]
    found = {}
    for name in names:
        try:
            found[name] = (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError):  # a picture, or deleted and not yet committed
            continue
    return found


def test_the_distribution_has_the_name_that_the_code_and_the_metadata_know() -> None:
    assert PROJECT["name"] == DISTRIBUTION != "slipway"
    assert version(DISTRIBUTION) == PROJECT["version"]


def test_command_and_package_keep_their_names() -> None:
    assert PROJECT["scripts"]["slipway"] == PROJECT["scripts"]["kubectl-slipway"] == "slipway.cli.main:main"


def test_every_extra_that_a_text_names_is_one_of_ours() -> None:
    """`slipway[cli]` installs somebody else's package, and pip only warns of the extra that it lacks."""
    spelled = re.compile(rf"(?<![\w.-])({DISTRIBUTION}|\{{DISTRIBUTION\}}|slipway)\[([a-z]+(?:, ?[a-z]+)*)\]")
    found = [
        (name, distribution, extra)
        for name, text in texts().items()
        if Path(name) != Path(__file__).relative_to(ROOT)
        for distribution, extras in spelled.findall(text)
        for extra in re.split(", ?", extras)
    ]
    assert found
    known = set(PROJECT["optional-dependencies"])
    assert [one for one in found if one[1] == "slipway" or one[2] not in known] == []


def test_no_text_installs_a_package_by_the_name_that_is_not_ours() -> None:
    wrong = re.compile(
        r"(?:pip|uv|pipx)3? (?:tool )?(?:install|add) [^\n]*['\" ]slipway(?![\w.-]*\w)['\"\[ \n]"
    )
    assert [name for name, text in texts().items() if wrong.search(text)] == []
