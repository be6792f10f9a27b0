"""A page that is followed from top to bottom: cells of a notebook, commands of terminals, and files."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import nbformat
from nbclient import NotebookClient

from e2e.snippets import ROOT, SHELLS, Block, Command, blocks, commands_of
from tests.ports import free_ports
from tests.unit.local.serving import Serve, until

#: Where a page has MLflow, and REST, gRPC and metrics of a served model.
MLFLOW, SERVED = 5000, (8080, 9000, 8081)
#: Programs of a cluster and of an installation, which other tests run.
ELSEWHERE = ("kubectl", "pip")
#: In what a page shows: the rest of a line, and on a line of its own at the end all other lines.
REST = "…"
_SECONDS = 900.0


def steps(page: str) -> list[tuple[Block, str]]:
    """What a page has its reader do, in its order, with what a cell is said to print."""
    found: list[tuple[Block, str]] = []
    for block in blocks(page):
        if block.language == "text":
            cell, none = found.pop()
            assert (cell.language, none) == ("python", ""), f"{block} follows no cell"
            found.append((cell, block.text))
        else:
            found.append((block, ""))
    return found


class Reader:
    """Somebody with a notebook and terminals in one folder; only their ports are others than the page's.

    What comes of each step is compared with what the page shows. As printed has to be what cells and
    commands print, but for numbers with an exponent, which are rounding errors. What the server prints
    while requests come depends on when it reads: its lines have to be there one after the other, whatever the
    time of day and the numbers are, but for versions.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mlflow, *self._served = free_ports(1 + len(SERVED))
        self._serve: Serve | None = None
        self._seen = 0
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'server'}",
            # MLflow reports nothing, and takes its usual requirements rather than half a minute to find them.
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT": "1",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        self._notebook: NotebookClient | None = None
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def follow(self, block: Block, shown: str) -> None:
        """Do what a block says, and compare what comes of it; AssertionError where it is something else."""
        if block.language == "python":
            self.compare(block, self.run(block.text), shown)
        elif block.language == "yaml":
            name = re.match(r"# (\S+)\n", block.text)
            assert name, f"{block} does not begin with the name of a file"
            (self._folder / name[1]).write_text(block.text)
        elif block.text.startswith("$ "):
            assert block.language in SHELLS
            for command in commands_of(block):
                self.type(command)
        else:
            self.see(block)

    def compare(self, where: object, printed: str, shown: str) -> None:
        """What was printed, with what the page shows of it."""
        found, wanted = printed.splitlines(), shown.splitlines()
        assert is_shown(found, wanted, rounded), f"{where}: printed\n{printed}\nand not\n{shown}"

    def run(self, source: str) -> str:
        """What a cell of the notebook prints."""
        if self._notebook is None:
            self._notebook = NotebookClient(
                nbformat.v4.new_notebook(),  # type: ignore[no-untyped-call]
                timeout=_SECONDS,
                resources={"metadata": {"path": self._folder}},
            )
            self._ends.enter_context(self._notebook.setup_kernel(env=self._environment))
        cells = self._notebook.nb.cells
        cells.append(nbformat.v4.new_code_cell(self._here(source)))  # type: ignore[no-untyped-call]
        done: Any = self._notebook.execute_cell(cells[-1], len(cells) - 1)
        return "".join(one["text"] for one in done.outputs if one.get("name") == "stdout")

    def type(self, command: Command) -> None:
        """A command, and compare what it prints."""
        if command.program in ELSEWHERE:
            return
        if command.program == "export":
            name, _, value = command.text.removeprefix("export ").partition("=")
            self._environment[name] = self._here(value)
        elif command.program == "mlflow":
            self._start_mlflow(self._here(command.text))
        elif command.text.startswith("slipway serve "):
            self.serve(command.text.split()[2:])
            self.compare(command, self._printed(0, self._seen), command.output)
        else:
            self.compare(command, self.shell(command.text), command.output)

    def serve(self, words: Sequence[str]) -> None:
        """Serve until something else is served, once the request that is printed has been answered."""
        if self._serve is not None:
            assert self._serve.end(signal.SIGINT) == 0, self._serve.output
        before = dict(os.environ)
        os.environ.update(self._environment)
        try:
            serve = self._serve = Serve(self._folder, *words, given=self._served)
        finally:
            os.environ.clear()
            os.environ.update(before)
        self._ends.callback(serve.end)
        typed = serve.curl()
        self._seen = len(serve.lines)
        assert '"outputs"' in self.shell(f"{typed} --silent --fail")

    def shell(self, command: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(command)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return self._there(done.stdout)

    def see(self, block: Block) -> None:
        """Lines that the one that serves prints after those that were seen."""
        assert self._serve is not None
        serve, wanted = self._serve, block.text.splitlines()
        assert wanted, f"{block} shows nothing"

        def is_there() -> bool:
            for begin in range(self._seen, len(serve.lines) - len(wanted) + 1):
                end = begin + len(wanted)
                if is_shown(self._printed(begin, end).splitlines(), wanted, judged):
                    self._seen = end
                    return True
            return False

        until(is_there, _SECONDS, lambda: f"{block}\nis not among\n{serve.output}")

    def _printed(self, begin: int, end: int) -> str:
        assert self._serve is not None
        return self._there("\n".join(self._serve.lines[begin:end]))

    def _start_mlflow(self, command: str) -> None:
        with (self._folder / "mlflow.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._ends.callback(process.wait, 60)
        self._ends.callback(os.killpg, process.pid, signal.SIGTERM)

        def answers() -> bool:
            assert process.poll() is None, (self._folder / "mlflow.log").read_text()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://localhost:{self._mlflow}/health", timeout=5).close()
                return True
            return False

        until(answers, _SECONDS)

    def _ports(self) -> Iterator[tuple[int, int]]:
        """Ports of the page, and of this machine."""
        yield MLFLOW, self._mlflow
        yield from zip(SERVED, self._served, strict=True)

    def _here(self, text: str) -> str:
        for printed, port in self._ports():
            text = text.replace(f"localhost:{printed}", f"localhost:{port}")
            text = text.replace(f"--port {printed}", f"--port {port}")
        return text

    def _there(self, text: str) -> str:
        for printed, port in self._ports():
            text = text.replace(f"localhost:{port}", f"localhost:{printed}")
        return text


def rounded(line: str) -> str:
    """Without what processors round differently."""
    return re.sub(r"\b[0-9.]+e-[0-9]+", "N", line)


def judged(line: str) -> str:
    """Without times and numbers, but for versions."""
    return re.sub(r"(?<!version )(?<![\w@])-?[0-9]+([.,:][0-9]+)*(e-[0-9]+)?", "N", line)


def is_shown(printed: Sequence[str], shown: Sequence[str], masked: Callable[[str], str]) -> bool:
    """Whether lines are what a page shows of them."""
    if shown and shown[-1] == REST:
        shown = shown[:-1]
        printed = printed[: len(shown)]
    if len(printed) != len(shown):
        return False
    for line, wanted in zip(printed, shown, strict=True):
        found, begin = masked(line), masked(wanted)
        cut = begin.endswith(REST)
        if not (found.startswith(begin.removesuffix(REST)) if cut else found == begin):
            return False
    return True
