"""`python -m release.site FOLDER`: the docs as a site with search, for a browser without a network.

Pages keep the paths that they have in the repository, so that the links which work on GitHub work here.
A link that leads nowhere fails.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from e2e.cluster.settings import read_settings
from e2e.cluster.tools import IFRAME_WORKER, MERMAID, Tools
from release.errors import ReleaseError

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "docs/site"
#: Lets search run in pages that are opened as files.
WORKER = "iframe-worker.js"
_WORKER_ADDRESS = "https://unpkg.com/iframe-worker/shim"
#: What pages are, and what they link to.
_SOURCES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "charts/slipway/*.md",
    "docs",
    "examples",
    "bench/results",
)


def build(folder: Path, root: Path = ROOT) -> None:
    """Write the site into the folder, in place of what it holds; raises ReleaseError with each fault."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        _lay_out(root, work / "pages")
        for name in ("zensical.toml", "site.css"):
            shutil.copy(root / CONFIG / name, work / (name if name.endswith(".toml") else f"pages/{name}"))
        tools = Tools(read_settings().cache)
        for file, name in ((MERMAID, "mermaid.min.js"), (IFRAME_WORKER, WORKER)):
            shutil.copy(tools.fetch_npm(file), work / "pages" / name)
        _generate(work)
        _take_in(work / "site")
        faults = list(broken_links(work / "site"))
        if faults:
            raise ReleaseError("\n".join(["the docs have broken links:", *faults]))
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(work / "site", folder)


def sources(root: Path = ROOT) -> list[str]:
    """Paths in the repository of what the site is made of."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_SOURCES]
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if not name.startswith(f"{CONFIG}/") and (root / name).is_file()]


def _lay_out(root: Path, pages: Path) -> None:
    for name in sources(root):
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, pages / name)


def _generate(work: Path) -> None:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        # The traceback below its own words says nothing of the pages.
        raise ReleaseError(f"{done.stdout}{done.stderr.partition('Traceback')[0]}")


def _take_in(site: Path) -> None:
    """Let pages load from the site what the generator's templates load from a network."""
    # It stands for pages of a web server whose root the site is; this one may lie anywhere.
    (site / "404.html").unlink()
    for path in site.rglob("*.html"):
        up = "../" * (len(path.relative_to(site).parts) - 1)
        path.write_text(path.read_text().replace(_WORKER_ADDRESS, f"{up}{WORKER}"))


def broken_links(site: Path) -> Iterator[str]:
    """Each link to a file or heading that is not there, and whatever would be loaded from a network."""
    pages = {path: _read(path) for path in site.rglob("*.html")}
    for path, page in sorted(pages.items()):
        for link, loads in page.links:
            where = urlsplit(link)
            if where.scheme or where.netloc:
                if loads and where.scheme != "data":
                    yield f"{path.relative_to(site)}: {link} would be loaded from a network"
                continue
            target = (path.parent / unquote(where.path)).resolve() if where.path else path
            anchors = pages[target].anchors if target in pages else None
            if not target.is_file() or (
                where.fragment and anchors is not None and unquote(where.fragment) not in anchors
            ):
                yield f"{path.relative_to(site)}: {link} leads nowhere"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        """Where links lead, and whether the browser follows them without being told to."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        for name in ("href", "src"):
            if value := found.get(name):
                self.links.append((value, tag != "a"))


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def main() -> int:
    """Build the site; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m release.site", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        build(folder.resolve())
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the docs are in {folder}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
