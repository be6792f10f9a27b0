"""The rounds: one server at a time, on core 0, its load on core 1."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.server.cases import Case, Protocol, make_case
from bench.server.load import LoadError, drive
from bench.server.results import Results
from bench.server.scenarios import Scenario
from bench.server.servers import SERVER_CORE, SLIPWAY, Running, ServerError

LOAD_CORE = "1"
_RAW = Path(__file__).with_name("raw.py")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, how often, and for how many seconds each time."""

    scenarios: Sequence[Scenario]
    servers: frozenset[str]
    rounds: int
    seconds: float
    warm_up: float
    models: Path
    scratch: Path
    say: Callable[[str], None]


def measure(plan: Plan, results: Results) -> None:
    """All rounds; what fails is written down, and the others go on."""
    cases = {
        each.name: make_case(plan.models, each.model, each.protocol, each.rows) for each in plan.scenarios
    }
    for turn in range(plan.rounds):
        for model in dict.fromkeys(each.model for each in plan.scenarios):
            mine = [each for each in plan.scenarios if each.model == model]
            for rows in dict.fromkeys(each.raw_rows for each in mine):
                results.raw[model, rows][turn] = _raw(plan, model, rows, (SERVER_CORE,))[0]
            for server in dict.fromkeys(name for each in mine for name in each.servers):
                borne = [each for each in mine if server in each.servers]
                if server in plan.servers:
                    plan.say(f"round {turn + 1} of {plan.rounds}: {model}, {server}")
                    _bear(plan, turn, server, borne, cases, results)


def measure_scaling(plan: Plan, results: Results) -> None:
    """One process and its load on one core, then two processes and twice the load on two.

    The load shares the cores, so that both times a core does the same work: what is lost is what two
    processes cost each other.
    """
    case = make_case(plan.models, "gbt", Protocol.JSON, 1)
    both = f"{SERVER_CORE},{LOAD_CORE}"
    for turn in range(plan.rounds):
        plan.say(f"round {turn + 1} of {plan.rounds}: one process and two")
        rates = []
        for count, cores in ((1, SERVER_CORE), (2, both)):
            with Running(SLIPWAY, plan.models, "gbt", plan.scratch, cores, count) as server:
                # Each time by a connection of its own, so that both processes are asked.
                for _ in range(20):
                    server.wait(case)
                load = (case, server.port, 32 * count)
                drive(*load, plan.warm_up, cores, plan.scratch, count)
                rates.append(drive(*load, plan.seconds, cores, plan.scratch, count).rate)
        results.scaling.append((rates[0], rates[1]))
        one = _raw(plan, "gbt", 1, (SERVER_CORE,))
        two = _raw(plan, "gbt", 1, (SERVER_CORE, LOAD_CORE))
        results.raw_scaling.append((sum(one), sum(two)))


def _bear(
    plan: Plan,
    turn: int,
    name: str,
    scenarios: Iterable[Scenario],
    cases: dict[str, Case],
    results: Results,
) -> None:
    with ExitStack() as stack:
        server = None
        answered = False
        for scenario in scenarios:
            case = cases[scenario.name]
            try:
                if server is None:
                    server = stack.enter_context(Running(name, plan.models, scenario.model, plan.scratch))
                    cold = server.wait(case)
                    if scenario.model == "gbt":
                        results.cold[name].append(cold)
                else:
                    server.ask(case)
                port = server.grpc_port if case.protocol is Protocol.GRPC else server.port
                load = (server.shown(case), port, scenario.clients)
                drive(*load, plan.warm_up, LOAD_CORE, plan.scratch)
                before = server.cpu_seconds()
                figures = drive(*load, plan.seconds, LOAD_CORE, plan.scratch)
                spent = server.cpu_seconds() - before
                server.ask(case)
            except (ServerError, LoadError) as error:
                results.failures.append(f"{scenario.name}, {name}, round {turn + 1}: {error}")
                continue
            results.rates[scenario.name][name][turn] = figures
            results.cpu[scenario.name][name][turn] = spent / (figures.rate * plan.seconds) * 1e6
            answered = True
        if server is not None and answered and scenario.model == "gbt":
            results.memory[name].append(server.memory())


def _raw(plan: Plan, model: str, rows: int, cores: Sequence[str]) -> list[float]:
    """Calls a second of onnxruntime alone, a process on each core at the same time."""
    command = [sys.executable, str(_RAW), str(plan.models), model, str(rows), str(plan.seconds)]
    started = [
        subprocess.Popen(["taskset", "-c", core, *command], stdout=subprocess.PIPE, text=True)
        for core in cores
    ]
    return [float(each.communicate()[0]) for each in started]
