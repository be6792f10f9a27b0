"""``python -m tests.fuzz``: atheris looks for bytes that make the server fail, target after target.

Each target runs in a process of its own, which a failure ends; what made it fail is kept in
``tests/fuzz/corpus``, where a test sends it for good.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
#: What a target may grow by once everything it does was done often; libFuzzer's own notes are among it.
MAX_GROWTH_MIB = 64
#: After so many cases each the count and the memory are noted.
STEP = 250


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one target: cases, seconds, and MiB of memory after a fifth of them and at the end."""

    target: str
    cases: int
    seconds: float
    rss: tuple[int, int]
    code: int
    log: str

    @property
    def problem(self) -> str:
        if self.code:
            return f"failed:\n{self.log[-4000:]}"
        if self.rss[1] - self.rss[0] > MAX_GROWTH_MIB:
            return f"grew from {self.rss[0]} to {self.rss[1]} MiB"
        return ""


def run(target: str, models: Path, cases: int, seed: int, keep: Path = CORPUS) -> Run:
    """Fuzz one target in a process of its own, with ``models`` as of :func:`save_models`."""
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

    kept = keep / target
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for number, case in enumerate(seeds()[target]):
            (Path(work) / f"seed-{number}").write_bytes(case)
        flags = {
            "runs": cases,
            "seed": seed,
            "max_len": TARGETS[target].max_bytes,
            "timeout": 20,
            "rss_limit_mb": 2048,
            "artifact_prefix": f"{kept}/",
        }
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--child", target, str(models)]
            + [f"-{name}={value}" for name, value in flags.items()]
            + [work, str(kept)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=HERE.parents[1],
        )
    log = done.stdout.decode("utf-8", "replace")
    steps = [(int(case), int(mib)) for case, mib in re.findall(r"^case (\d+): (\d+) MiB$", log, re.MULTILINE)]
    # The first fifth fills caches and finds most of what there is to find.
    settled = [mib for case, mib in steps if case >= cases // 5] or [0]
    last = max((case for case, _ in steps), default=0)
    return Run(target, last, time.monotonic() - began, (settled[0], settled[-1]), done.returncode, log)


def save_models(directory: Path) -> None:
    """The files of both models, each under its name."""
    import onnx

    from tests.fuzz.harness import MODELS
    from tests.server import onnx_models

    for name in MODELS:
        onnx.save(getattr(onnx_models, name)(), directory / f"{name}.onnx")


def _child(target: str, models: Path, flags: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["slipway_server"]):
        from tests.fuzz.harness import MODELS, Port
        from tests.fuzz.targets import TARGETS

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    ports = {name: Port(loop, models / f"{name}.onnx", profile) for name, profile in MODELS.items()}
    one, cases = TARGETS[target].run, 0

    def case(data: bytes) -> None:
        nonlocal cases
        one(ports, data)
        cases += 1
        if cases % STEP == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(f"case {cases}: {pages * resource.getpagesize() >> 20} MiB", flush=True)

    atheris.Setup([sys.argv[0], *flags], case)
    atheris.Fuzz()


def main() -> int:
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=60_000, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "targets", nargs="*", default=list(TARGETS), metavar="target", help=", ".join(TARGETS)
    )
    given = parser.parse_args()
    problems, total = 0, 0
    with tempfile.TemporaryDirectory() as models:
        save_models(Path(models))
        for target in given.targets:
            done = run(target, Path(models), given.cases, given.seed)
            total += done.cases
            print(
                f"{target:8} {done.cases:8} cases  {done.seconds:5.0f} s  "
                f"{done.rss[0]} → {done.rss[1]} MiB  {done.problem or 'well'}",
                flush=True,
            )
            problems += bool(done.problem)
    print(f"{total} cases, seed {given.seed}, {problems} targets failed")
    return 1 if problems else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        sys.exit(main())
