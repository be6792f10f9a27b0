"""The docs as a site: every page is in it, every link leads somewhere, and nothing comes from a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release.errors import ReleaseError
from release.site import CONFIG, ROOT, WORKER, broken_links, build, sources


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    build(folder)
    return folder


def pages() -> set[str]:
    return {name for name in sources() if name.endswith(".md")}


def entries(nav: Any) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case dict():
            for value in nav.values():
                yield from entries(value)
        case list():
            for value in nav:
                yield from entries(value)


def test_every_page_but_single_decisions_is_in_the_navigation() -> None:
    config = tomllib.loads((ROOT / CONFIG / "zensical.toml").read_text())
    decisions = {name for name in pages() if name.startswith("docs/adr/0")}
    assert set(entries(config["project"]["nav"])) == pages() - decisions


def test_every_page_is_in_the_site_and_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search.json").read_text())
    found = {item["location"].partition("#")[0] for item in index["items"]}
    for page in pages():
        name = page.removesuffix("README.md") + "index.html" if page.endswith("README.md") else None
        name = name or f"{page.removesuffix('.md')}.html"
        assert (site / name).is_file(), page
        assert name in found, page
    text = json.dumps(index)
    for word in ("evidence", "hysteresis", "service account", "likelihood", "missing value"):
        assert word.casefold() in text.casefold(), f"nobody who searches for {word!r} finds anything"


def test_a_browser_gets_all_of_it_from_the_folder(site: Path) -> None:
    text = (site / "docs/rollouts.html").read_text()
    assert f'src="../{WORKER}"' in text
    assert 'src="../mermaid.min.js"' in text
    assert (site / "mermaid.min.js").stat().st_size > 1_000_000
    assert '<pre class="mermaid">' in text, "diagrams are drawn"


def page(folder: Path, name: str, body: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"<html><body>{body}</body></html>")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="nothing.html">a</a>', "nothing.html leads nowhere"),
        ('<a href="more/b.html#gone">a</a>', "more/b.html#gone leads nowhere"),
        ('<a href="#gone">a</a>', "#gone leads nowhere"),
        ('<a href="more">a</a>', "more leads nowhere"),
        ('<img src="gone.png">', "gone.png leads nowhere"),
        ('<script src="//cdn.example/x.js"></script>', "//cdn.example/x.js would be loaded from a network"),
        (
            '<link href="https://cdn.example/x.css">',
            "https://cdn.example/x.css would be loaded from a network",
        ),
    ],
)
def test_each_kind_of_broken_link_is_found(tmp_path: Path, body: str, fault: str) -> None:
    page(tmp_path, "more/b.html", '<h2 id="here">b</h2>')
    page(tmp_path, "a.html", body)
    assert list(broken_links(tmp_path)) == [f"a.html: {fault}"]


def test_links_that_lead_somewhere_are_fine(tmp_path: Path) -> None:
    page(tmp_path, "more/b.html", '<h2 id="here">b</h2><a href="../a.html">a</a>')
    page(tmp_path, "a.html", '<a href="more/b.html#here">b</a><a href="https://example.com/x">x</a>')
    assert list(broken_links(tmp_path)) == []


@pytest.mark.parametrize("link", ["nothing.md", "rollouts.md#nothing", "../examples/nothing.yaml"])
def test_a_broken_link_in_a_page_fails_the_build_and_leaves_the_site_before(
    tmp_path: Path, link: str
) -> None:
    tree, folder = tmp_path / "tree", tmp_path / "site"
    shutil.copytree(ROOT / CONFIG, tree / CONFIG)
    page(folder, "before.html", "")
    config = tree / CONFIG / "zensical.toml"
    config.write_text(config.read_text().partition("nav = [")[0] + "[project.plugins.offline]\n")
    for name in ("README.md", "docs/rollouts.md"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("# A page\n")
    (tree / "docs/serve.md").write_text(f"# Another\n\n[somewhere]({link})\n")
    subprocess.run(["git", "init", "--quiet", str(tree)], check=True)
    with pytest.raises(ReleaseError, match=r"serve"):
        build(folder, tree)
    assert (folder / "before.html").is_file()


def test_lists_of_decisions_and_examples_leave_none_out() -> None:
    for folder, pattern in (("docs/adr", "0*.md"), ("examples", "*.yaml"), ("examples", "notebooks/*.ipynb")):
        text = (ROOT / folder / "README.md").read_text()
        for path in (ROOT / folder).glob(pattern):
            assert f"({path.relative_to(ROOT / folder)})" in text, path
