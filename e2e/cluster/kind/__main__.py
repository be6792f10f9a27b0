"""`python -m e2e.cluster.kind`: the demo and tests of resources and commands on kind; nothing of it stays."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TypeVar

from e2e.cluster.command import exclusive, step, tell
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import shared_images
from e2e.cluster.kind import machine
from e2e.cluster.kind.docker import engine_answers, find_node_image
from e2e.cluster.kind.engine import Engine, engine_for, prepare
from e2e.cluster.kind.image import NodeImage, make_node_image
from e2e.cluster.settings import Settings, read_settings
from e2e.cluster.tools import KIND, Tools

NAME = "test-kind"
ROOT = Path(__file__).resolve().parents[3]
#: What the demo and the tests run.
IMAGES = ("operator", "server", "audit", "router", "mlflow", "prometheus", "alertmanager")
TESTS = ("e2e/tests/test_operator_resources.py", "e2e/tests/test_cli.py")
STAGES = {
    "cluster": ("e2e.cluster", "up"),
    "images": ("e2e.images", "build", *IMAGES),
    "demo": ("e2e.demo",),
    "tests": ("pytest", *TESTS, "-m", "not long"),
}
LOAD_SECONDS = 600.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """What nodes are made of: an image that Docker has, or one of this machine's making."""

    named: str | None
    made: NodeImage | None


def main() -> int:
    """Run all of it; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    took: dict[str, float] = {}
    try:
        settings = replace(read_settings(), name=NAME)
        settings = replace(settings, state=settings.state.with_name(NAME))
        lock = settings.cache / "clusters" / f"{NAME}-run.lock"
        with exclusive(lock, "testing on kind"):
            code = try_kind(settings, took)
    except ClusterError as problem:
        tell(f"error: {problem}")
        code = 1
    except KeyboardInterrupt:
        code = 130
    for stage, seconds in took.items():
        print(f"{stage:<14} {seconds:4.0f} s")
    return code


def try_kind(settings: Settings, took: dict[str, float]) -> int:
    """Every stage in turn until one fails, then the cluster's end; the exit code of what failed first."""
    plan = _timed(took, "preparing", lambda: _prepare(settings))
    # buildah's, which another command may be using.
    builds = settings.cache / "images"
    before = machine.look(builds)
    try:
        with engine_for(settings) as engine:
            code = _run_stages(engine, plan, took)
    finally:
        lines, same = machine.compare(before, machine.look(builds))
        print("\n== the machine, before and after")
        print("\n".join(lines))
    return code or (0 if same else 1)


def _prepare(settings: Settings) -> Plan:
    """Build and fetch what needs the machine's network."""
    tools = Tools(settings.cache)
    tools.expose()
    tools.install(KIND)
    shared_images(tools)
    builds = [sys.executable, "-m", "e2e.images", "build", "--no-load", *IMAGES]
    if Engine(own=False).call(builds, _builder(own=not engine_answers())):
        raise ClusterError("the images are not built")
    return choose_image(settings, tools)


def choose_image(settings: Settings, tools: Tools) -> Plan:
    """What Docker has or gets; else, or where there is no Docker to pull it, one that is made here."""
    if engine_answers():
        named = find_node_image(settings)
        return Plan(named, None if named else make_node_image(tools))
    if settings.kind_image:
        raise ClusterError(
            f"SLIPWAY_KIND_IMAGE={settings.kind_image} needs Docker's engine to be there: start it, "
            "or unset the variable to have an image made"
        )
    prepare(settings.cache)
    return Plan(None, make_node_image(tools))


def _run_stages(engine: Engine, plan: Plan, took: dict[str, float]) -> int:
    if plan.made:
        with step(f"loading {plan.made.name} into Docker"):
            engine.docker("load", "--quiet", "--input", plan.made.archive, seconds=LOAD_SECONDS)
    image = plan.named or (plan.made.name if plan.made else "")
    environment = {
        "SLIPWAY_CLUSTER": "kind",
        "SLIPWAY_CLUSTER_NAME": NAME,
        "SLIPWAY_KIND_IMAGE": image,
        **_builder(own=engine.own),
    }
    try:
        for stage, words in STAGES.items():
            print(f"\n== {stage}: python -m {shlex.join(words)}", flush=True)
            argv = [sys.executable, "-m", *words]
            if code := _timed(took, stage, lambda: engine.call(argv, environment)):  # noqa: B023
                return code
        return 0
    finally:
        print("\n== down", flush=True)
        engine.call([sys.executable, "-m", "e2e.cluster", "down"], environment)
        if plan.made:
            engine.docker("image", "rm", plan.made.name, seconds=LOAD_SECONDS)


def _builder(*, own: bool) -> dict[str, str]:
    """An engine for one run has no network to build with: what buildah built is in the cache."""
    return {"SLIPWAY_BUILDER": "buildah"} if own else {}


def _timed(took: dict[str, float], stage: str, act: Callable[[], Result]) -> Result:
    began = time.monotonic()
    try:
        return act()
    finally:
        took[stage] = time.monotonic() - began


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
