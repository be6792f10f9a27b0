"""What the documentation prints for readers to run: its fenced blocks, and the commands in them."""

import re
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Pages that readers follow; decisions and the changelog only tell.
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
    "charts/slipway/README.md",
    "charts/slipway/argocd/README.md",
)
SHELLS = ("console", "sh")
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, the line it begins at, its language, and its text without indentation."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What a reader types, and what the page shows of the answer."""

    where: str
    text: str
    output: str = ""

    @property
    def program(self) -> str:
        """Its first word."""
        return self.text.split()[0]

    def __str__(self) -> str:
        return f"{self.where} {self.text.splitlines()[0]}"


def blocks(page: str) -> list[Block]:
    """Fenced blocks that name a language."""
    text = (ROOT / page).read_text()
    return [
        Block(page, text[: found.start()].count("\n") + 1, found[2], textwrap.dedent(found[3]))
        for found in _FENCE.finditer(text)
    ]


def all_blocks(*languages: str) -> list[Block]:
    """Fenced blocks of all pages, of these languages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def manifests() -> list[Block]:
    """Manifests, and parts of them, that pages print; YAML of other tools is not among them."""
    return [block for block in all_blocks("yaml") if block.page != "docs/github.md"]


def commands(page: str) -> list[Command]:
    """Commands of the shell blocks of a page, in their order."""
    return [command for block in blocks(page) if block.language in SHELLS for command in commands_of(block)]


def commands_of(block: Block) -> list[Command]:
    """Commands of one block: of a console each begins with `$`, and what it prints follows."""
    console = block.language == "console"
    found: list[Command] = []
    typed: list[str] = []
    for line in block.text.splitlines():
        if typed:
            typed.append(line)
        elif console and line.startswith("$ "):
            typed = [line.removeprefix("$ ")]
        elif not console and line.strip() and not line.startswith("#"):
            typed = [line]
        elif console and found:
            last = found.pop()
            found.append(Command(last.where, last.text, f"{last.output}{line}\n"))
        if typed and _is_whole("\n".join(typed)):
            found.append(Command(str(block), "\n".join(typed)))
            typed = []
    if typed:
        raise ValueError(f"{block}: a command that does not end: {typed[0]}")
    return found


def inline_commands(page: str, *programs: str) -> Iterator[Command]:
    """Commands with arguments between backticks in the text, by these programs."""
    text = _FENCE.sub("", (ROOT / page).read_text())
    for span in _SPAN.findall(text):
        words = " ".join(span.split())
        if " " in words and words.split()[0] in programs:
            yield Command(page, words)


def _is_whole(text: str) -> bool:
    """Whether a shell would run it rather than wait for more."""
    if text.endswith("\\"):
        return False
    done = subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True, check=False)
    return done.returncode == 0 and b"here-document" not in done.stderr


def as_model_deployment(document: dict[str, Any]) -> dict[str, Any]:
    """A printed manifest, or one around a printed part of a spec."""
    if "apiVersion" in document:
        return document
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud"},
        "spec": {"model": {"uri": "mlflow://fraud@champion"}, **document},
    }
