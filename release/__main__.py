"""`python -m release`: build a release, cut its section of the changelog, print its notes."""

import argparse
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

from release.assets import ROOT, SUMS, build, left_out, try_out
from release.base import default_base, said_of
from release.errors import ReleaseError
from release.notes import cut, notes
from release.version import check_tag, version_of

_CHANGELOG, _DOCKERFILE = ROOT / "CHANGELOG.md", ROOT / "Dockerfile"


def main() -> int:
    """Run one verb; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, words in (
        ("build", "build what a tag offers for download"),
        ("dry-run", "the same without a tag, and install the wheel of it into a fresh environment"),
    ):
        verb = verbs.add_parser(name, help=words)
        verb.add_argument("folder", type=Path)
        verb.add_argument("--repository", default=_from_github("https://github.com/OWNER/slipway"))
        verb.add_argument("--registry", default="ghcr.io/OWNER/slipway")
        if name == "build":
            verb.add_argument("--tag", required=True, help="the tag, v and the version")
            verb.add_argument("--base", required=True, help="what the images are built on, by its digest")
    verbs.add_parser("base", help="print what the images are built on, without a digest")
    verbs.add_parser("cut", help="put what is unreleased into a section of this version, in CHANGELOG.md")
    verbs.add_parser("notes", help="print the section of this version")
    verbs.add_parser("version", help="print the version")
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    version = version_of(ROOT)
    match arguments.verb:
        case "version":
            print(version)
        case "base":
            print(default_base(_DOCKERFILE.read_text()))
        case "notes":
            print(notes(_CHANGELOG.read_text(), version), end="")
        case "cut":
            _CHANGELOG.write_text(cut(_CHANGELOG.read_text(), version, date.today()))
        case "build":
            check_tag(arguments.tag, version)
            base = said_of(arguments.base, _DOCKERFILE.read_text())
            build(arguments.folder, arguments.repository, arguments.registry, base)
        case "dry-run":
            build(arguments.folder, arguments.repository, arguments.registry)
            with tempfile.TemporaryDirectory() as scratch:
                print(f"installed from {arguments.folder}: {try_out(arguments.folder, Path(scratch))}")
            print(left_out())
            print((arguments.folder / SUMS).read_text(), end="")
    return 0


def _from_github(otherwise: str) -> str:
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{name}" if server and name else otherwise


if __name__ == "__main__":
    sys.exit(main())
