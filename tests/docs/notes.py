"""What `helm install` prints at its end."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.snippets import Block, Command, commands_of
from tests.unit.test_chart import CHART, helm_program

_BEGIN, _END = " <<EOF\n", "\nEOF"


@dataclass(frozen=True)
class Notes:
    """The text, and what stands indented in it: a shell's commands, or Python."""

    text: str

    @property
    def commands(self) -> list[Command]:
        return [
            command
            for part in self._parts()
            if not part.startswith("import ")
            for command in commands_of(Block("NOTES.txt", 0, "sh", part))
        ]

    @property
    def python(self) -> list[str]:
        return [part for part in self._parts() if part.startswith("import ")]

    @property
    def manifests(self) -> list[str]:
        """What is applied from standard input."""
        return [
            command.text.partition(_BEGIN)[2].removesuffix(_END)
            for command in self.commands
            if _BEGIN in command.text
        ]

    def _parts(self) -> list[str]:
        parts: list[list[str]] = [[]]
        for line in self.text.splitlines():
            if line.startswith("  "):
                parts[-1].append(line)
            elif parts[-1]:
                parts.append([])
        return [textwrap.dedent("\n".join(part)) for part in parts if part]


def notes(*flags: str) -> Notes:
    """The notes with these flags; rendered as a template, since Helm prints them with a cluster only."""
    with tempfile.TemporaryDirectory() as scratch:
        chart = Path(shutil.copytree(CHART, Path(scratch) / "chart"))
        source = chart / "templates/NOTES.txt"
        (chart / "templates/_notes.tpl").write_text(
            f'{{{{ define "notes" }}}}{source.read_text()}{{{{ end }}}}'
        )
        (chart / "templates/notes.yaml").write_text('notes: {{ include "notes" . | toJson }}\n')
        source.unlink()
        command = [helm_program(), "template", "slipway", str(chart), "--show-only=templates/notes.yaml"]
        words = [*command, "--namespace=slipway-system", "--kube-version=v1.34.4", *flags]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    return Notes(str(yaml.safe_load(done.stdout)["notes"]))
